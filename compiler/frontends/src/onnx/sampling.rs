//! Images read at computed points: GridSample, the grids it is given, and deformable convolution.

mod affine;
mod deform;
mod image;

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid};
use super::{complex, cubic};

pub(super) use affine::affine_grid;
pub(super) use deform::deform_conv;
use image::{Image, Tap};

/// Image `[n, c, spatial..]`, grid `[n, out.., rank]` of points within -1 to 1, the last axis first.
pub(super) fn grid_sample(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, grid) = (call.input(0)?, call.input(1)?);
    let (shape, points) = (b.ty(x).shape.clone(), b.ty(grid).shape.clone());
    if shape.len() < 3 || points.len() != shape.len() {
        return invalid(format!("an image of rank {} and a grid of rank {}", shape.len(), points.len()));
    }
    let rank = shape.len() - 2;
    let components = Dim::constant(rank as i64);
    if b.graph.symbols.is_known_ne(&points[rank + 1], &components) {
        return invalid(format!("points of another rank than {rank}"));
    }
    let sampler = Sampler {
        method: match call.attributes.text("mode")?.unwrap_or("linear") {
            "linear" | "bilinear" => Method::Linear,
            "nearest" => Method::Nearest,
            "cubic" | "bicubic" => Method::Cubic,
            other => return invalid(format!("mode `{other}`")),
        },
        outside: match call.attributes.text("padding_mode")?.unwrap_or("zeros") {
            "zeros" => Outside::Zeros,
            "border" => Outside::Border,
            "reflection" => Outside::Reflection,
            other => return invalid(format!("padding_mode `{other}`")),
        },
        align_corners: call.attributes.flag("align_corners", false)?,
    };
    let precise = b.ty(grid).dtype == DType::F64;
    let grid = b.cast(grid, if precise { DType::F64 } else { DType::F32 })?;
    let out = points[1..=rank].to_vec();
    let count = out.iter().fold(Dim::constant(1), |all, d| all * d.clone());
    let grid = b.reshape(grid, vec![points[0].clone(), count.clone(), components])?;
    let mut taps = Vec::new();
    for (axis, size) in shape[2..].iter().enumerate() {
        let component = b.slice_axis(grid, 2, ((rank - 1 - axis) as i64).into(), 1.into())?;
        let component = b.reshape(component, vec![points[0].clone(), count.clone()])?;
        taps.push(sampler.taps(b, component, size)?);
    }
    let weighted = !matches!(sampler.method, Method::Nearest);
    let sampled = complex::by_part(b, x, |b, x| Image::new(b, x, weighted)?.sample(b, &taps))?;
    Ok(b.reshape(sampled, [&shape[..2], &out].concat())?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Nearest,
    Linear,
    Cubic,
}

/// What is beyond an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// The parameter of the cubic filter.
const A: f64 = -0.75;

struct Sampler {
    method: Method,
    outside: Outside,
    align_corners: bool,
}

/// One axis of an image: its size, last position and borders as scalars of the positions' type.
struct Edge {
    size: ValueId,
    last: ValueId,
    low: ValueId,
    high: ValueId,
}

impl Sampler {
    /// The elements that count along an axis, of positions within -1 to 1.
    fn taps(&self, b: &mut Builder<'_>, normal: ValueId, size: &Dim) -> Outcome<Vec<Tap>> {
        let edge = self.edge(b, normal, size)?;
        let mut x = self.position(b, normal, &edge)?;
        if self.method == Method::Nearest {
            x = b.unary(UnaryFn::Round, x)?;
        }
        let x = match self.outside {
            Outside::Zeros => x,
            Outside::Border => {
                let inner = clamp(b, x, edge.last)?;
                edge.unless_inside(b, x, inner)?
            }
            Outside::Reflection => edge.reflect(b, x)?,
        };
        let base = b.unary(UnaryFn::Floor, x)?;
        let t = b.binary_broadcast(BinaryFn::Sub, x, base)?;
        let one = b.scalar_like(t, 1.0)?;
        let weights: Vec<(f64, Option<ValueId>)> = match self.method {
            Method::Nearest => vec![(0.0, None)],
            Method::Linear => {
                let rest = b.binary_broadcast(BinaryFn::Sub, one, t)?;
                vec![(0.0, Some(rest)), (1.0, Some(t))]
            }
            Method::Cubic => {
                let rest = b.binary_broadcast(BinaryFn::Sub, one, t)?;
                let (before, after) =
                    (b.binary_scalar(BinaryFn::Add, t, 1.0)?, b.binary_scalar(BinaryFn::Add, rest, 1.0)?);
                vec![
                    (-1.0, Some(cubic::far(b, before, A)?)),
                    (0.0, Some(cubic::near(b, t, A)?)),
                    (1.0, Some(cubic::near(b, rest, A)?)),
                    (2.0, Some(cubic::far(b, after, A)?)),
                ]
            }
        };
        let mut taps = Vec::new();
        for (offset, weight) in weights {
            let mut index = if offset == 0.0 { base } else { b.binary_scalar(BinaryFn::Add, base, offset)? };
            let inside = match self.outside {
                Outside::Zeros => Some(within(b, index, edge.last)?),
                Outside::Border => None,
                Outside::Reflection => {
                    index = edge.reflect(b, index)?;
                    None
                }
            };
            let index = clamp(b, index, edge.last)?;
            taps.push(Tap { index: b.cast(index, DType::I64)?, weight, inside });
        }
        Ok(taps)
    }

    fn edge(&self, b: &mut Builder<'_>, like: ValueId, size: &Dim) -> Outcome<Edge> {
        let dtype = b.ty(like).dtype;
        let size = b.dim(size.clone())?;
        let size = b.cast(size, dtype)?;
        let last = b.binary_scalar(BinaryFn::Sub, size, 1.0)?;
        let (low, high) = match self.align_corners {
            true => (b.scalar(dtype, 0.0)?, last),
            false => (b.scalar(dtype, -0.5)?, b.binary_scalar(BinaryFn::Sub, size, 0.5)?),
        };
        Ok(Edge { size, last, low, high })
    }

    /// -1 to 1 as positions of elements.
    fn position(&self, b: &mut Builder<'_>, normal: ValueId, edge: &Edge) -> Outcome {
        let from_zero = b.binary_scalar(BinaryFn::Add, normal, 1.0)?;
        if self.align_corners {
            let half = b.binary_scalar(BinaryFn::Mul, from_zero, 0.5)?;
            return Ok(b.binary_broadcast(BinaryFn::Mul, half, edge.last)?);
        }
        let position = b.binary_broadcast(BinaryFn::Mul, from_zero, edge.size)?;
        let position = b.binary_scalar(BinaryFn::Sub, position, 1.0)?;
        Ok(b.binary_scalar(BinaryFn::Mul, position, 0.5)?)
    }
}

impl Edge {
    /// `x` where it is between the borders, else `otherwise`.
    fn unless_inside(&self, b: &mut Builder<'_>, x: ValueId, otherwise: ValueId) -> Outcome {
        let before = b.compare_broadcast(CompareFn::Lt, x, self.low)?;
        let after = b.compare_broadcast(CompareFn::Gt, x, self.high)?;
        let outside = b.binary_broadcast(BinaryFn::Or, before, after)?;
        Ok(b.select_broadcast(outside, otherwise, x)?)
    }

    /// `x` thrown back at the borders until it is between them.
    fn reflect(&self, b: &mut Builder<'_>, x: ValueId) -> Outcome {
        let range = b.binary_broadcast(BinaryFn::Sub, self.high, self.low)?;
        // Between equal borders everything is the one element; any range will do.
        let range = b.binary_scalar(BinaryFn::Max, range, 0.5)?;
        let period = b.binary_scalar(BinaryFn::Mul, range, 2.0)?;
        let way = b.binary_broadcast(BinaryFn::Sub, x, self.low)?;
        let way = b.binary_broadcast(BinaryFn::Mod, way, period)?;
        let back = b.binary_broadcast(BinaryFn::Sub, period, way)?;
        let way = b.binary_broadcast(BinaryFn::Min, way, back)?;
        let inner = b.binary_broadcast(BinaryFn::Add, way, self.low)?;
        self.unless_inside(b, x, inner)
    }
}

fn clamp(b: &mut Builder<'_>, x: ValueId, last: ValueId) -> Outcome {
    let x = b.binary_broadcast(BinaryFn::Min, x, last)?;
    Ok(b.binary_scalar(BinaryFn::Max, x, 0.0)?)
}

/// Whether a whole position is that of an element.
fn within(b: &mut Builder<'_>, x: ValueId, last: ValueId) -> Outcome {
    let zero = b.scalar_like(x, 0.0)?;
    let from = b.compare_broadcast(CompareFn::Ge, x, zero)?;
    let to = b.compare_broadcast(CompareFn::Le, x, last)?;
    Ok(b.binary_broadcast(BinaryFn::And, from, to)?)
}

/// Taps of a position in elements, between the two elements around it; beyond the image are zeros.
fn linear_taps(b: &mut Builder<'_>, x: ValueId, size: &Dim) -> Outcome<Vec<Tap>> {
    let last = b.dim(size.clone() - 1.into())?;
    let last = b.cast(last, b.ty(x).dtype)?;
    let base = b.unary(UnaryFn::Floor, x)?;
    let t = b.binary_broadcast(BinaryFn::Sub, x, base)?;
    let one = b.scalar_like(t, 1.0)?;
    let rest = b.binary_broadcast(BinaryFn::Sub, one, t)?;
    let next = b.binary_broadcast(BinaryFn::Add, base, one)?;
    let mut taps = Vec::new();
    for (index, weight) in [(base, rest), (next, t)] {
        let inside = within(b, index, last)?;
        let index = clamp(b, index, last)?;
        taps.push(Tap { index: b.cast(index, DType::I64)?, weight: Some(weight), inside: Some(inside) });
    }
    Ok(taps)
}
