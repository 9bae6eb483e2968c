//! The geometry of sliding windows as ONNX states it, in sizes that may be symbols: what convolution and pooling of
//! every kind share.

use ired_graph::{BinaryFn, Builder, DType, Dim, PadMode, ValueId, Window};

use super::call::{Call, Outcome, invalid};

/// Strides and dilations beyond this are refused: sums of products of two stay far from overflow.
const MAX_STEP: i64 = 1 << 28;

/// Windows over the spatial axes of a tensor `[n, c, spatial..]`.
pub(super) struct Windows {
    spatial: Vec<Dim>,
    pub(super) extent: Vec<Dim>,
    stride: Vec<i64>,
    dilation: Vec<i64>,
    low: Vec<Dim>,
    high: Vec<Dim>,
    ceil: bool,
}

impl Windows {
    /// What the attributes describe over axes of sizes `spatial`.
    pub(super) fn of(call: &Call<'_>, spatial: &[Dim], extent: Vec<Dim>) -> Outcome<Self> {
        let rank = spatial.len();
        if extent.len() != rank {
            return invalid(format!("a window of rank {} over {rank} axes", extent.len()));
        }
        let list = |name: &str, length: usize, default: i64| match call.attributes.ints(name)? {
            None => Outcome::Ok(vec![default; length]),
            Some(list) if list.len() != length => {
                invalid(format!("`{name}` has {} numbers; expected {length}", list.len()))
            }
            Some(list) => match list.iter().find(|v| !(-MAX_STEP..=MAX_STEP).contains(*v) || **v < default) {
                Some(v) if name != "pads" || v.unsigned_abs() > MAX_STEP.unsigned_abs() => {
                    invalid(format!("`{name}` has {v}; expected {default} to {MAX_STEP}"))
                }
                _ => Ok(list.to_vec()),
            },
        };
        let pads: Vec<Dim> = list("pads", 2 * rank, 0)?.into_iter().map(Dim::constant).collect();
        let mut windows = Self {
            spatial: spatial.to_vec(),
            extent,
            stride: list("strides", rank, 1)?,
            dilation: list("dilations", rank, 1)?,
            low: pads[..rank].to_vec(),
            high: pads[rank..].to_vec(),
            ceil: call.attributes.flag("ceil_mode", false)?,
        };
        let none = || vec![Dim::constant(0); rank];
        match call.attributes.text("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "" => {}
            "VALID" => (windows.low, windows.high) = (none(), none()),
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                for axis in 0..rank {
                    let padding = windows.same_padding(axis);
                    let less = padding.floor_div(&2.into());
                    let more = padding - less.clone();
                    let upper = same == "SAME_UPPER";
                    (windows.low[axis], windows.high[axis]) = if upper { (less, more) } else { (more, less) };
                }
            }
            other => return invalid(format!("auto_pad is `{other}`")),
        }
        Ok(windows)
    }

    /// Windows of stride 1 without gaps.
    pub(super) fn padded(spatial: &[Dim], extent: Vec<Dim>, low: Vec<Dim>, high: Vec<Dim>) -> Self {
        let ones = vec![1; spatial.len()];
        let spatial = spatial.to_vec();
        Self { spatial, extent, stride: ones.clone(), dilation: ones, low, high, ceil: false }
    }

    /// Windows of stride 1 without padding.
    pub(super) fn dilated(spatial: &[Dim], extent: Vec<Dim>, dilation: Vec<i64>) -> Self {
        let none = vec![Dim::constant(0); spatial.len()];
        Self { dilation, ..Self::padded(spatial, extent, none.clone(), none) }
    }

    /// How much padding makes the result `ceil(size / stride)` long.
    fn same_padding(&self, axis: usize) -> Dim {
        let stride = Dim::constant(self.stride[axis]);
        if self.stride[axis] == 1 {
            return self.reach(axis) - 1.into();
        }
        let size = &self.spatial[axis];
        let covered = (size.ceil_div(&stride) - 1.into()) * stride + self.reach(axis);
        (covered - size.clone()).maximum(&0.into())
    }

    /// How many elements one window spans.
    fn reach(&self, axis: usize) -> Dim {
        (self.extent[axis].clone() - 1.into()) * self.dilation[axis].into() + 1.into()
    }

    /// As the graph's operations take it, where padding and extents are numbers.
    pub(super) fn as_window(&self) -> Option<Window> {
        let numbers = |dims: &[Dim]| -> Option<Vec<u64>> {
            dims.iter().map(|d| d.as_static().and_then(|d| u64::try_from(d).ok())).collect()
        };
        let (pad_low, pad_high) = (numbers(&self.low)?, numbers(&self.high)?);
        Some(Window { pad_low, pad_high, ceil: self.ceil, ..self.over_padded()? })
    }

    /// The window over what [`Self::pad`] gives, where the extents are numbers.
    pub(super) fn over_padded(&self) -> Option<Window> {
        let extent: Option<Vec<u64>> =
            self.extent.iter().map(|d| d.as_static().and_then(|d| u64::try_from(d).ok())).collect();
        let steps = |list: &[i64]| list.iter().map(|v| v.unsigned_abs()).collect();
        Some(Window {
            stride: steps(&self.stride),
            dilation: steps(&self.dilation),
            ..Window::dense(extent?)
        })
    }

    /// How many windows there are along an axis.
    pub(super) fn count(&self, axis: usize) -> Dim {
        let stride = Dim::constant(self.stride[axis]);
        let size = self.spatial[axis].clone() + self.low[axis].clone();
        let slack = size.clone() + self.high[axis].clone() - self.reach(axis);
        match self.ceil {
            false => slack.floor_div(&stride) + 1.into(),
            // A window that would start in the upper padding is left out.
            true => (slack.ceil_div(&stride) + 1.into()).minimum(&size.ceil_div(&stride)),
        }
    }

    pub(super) fn counts(&self) -> Vec<Dim> {
        (0..self.spatial.len()).map(|axis| self.count(axis)).collect()
    }

    /// `x` with `fill` around it, such that the windows cover it exactly.
    pub(super) fn pad(&self, b: &mut Builder<'_>, x: ValueId, fill: ValueId) -> Outcome {
        let (mut low, mut high) = (vec![Dim::constant(0); 2], vec![Dim::constant(0); 2]);
        for axis in 0..self.spatial.len() {
            let covered = (self.count(axis) - 1.into()) * self.stride[axis].into() + self.reach(axis);
            low.push(self.low[axis].clone());
            let rest = covered - self.spatial[axis].clone() - self.low[axis].clone();
            high.push(b.graph.symbols.simplify(&rest));
        }
        Ok(b.pad(x, low, high, PadMode::Constant, Some(fill))?)
    }

    /// As [`Self::pad`], but only the padding that is stated: not what rounding up adds.
    pub(super) fn pad_as_stated(&self, b: &mut Builder<'_>, x: ValueId, fill: ValueId) -> Outcome {
        let zeros = vec![Dim::constant(0); 2];
        let (low, high) = ([&zeros[..], &self.low].concat(), [&zeros[..], &self.high].concat());
        Ok(b.pad(x, low, high, PadMode::Constant, Some(fill))?)
    }

    /// The same windows over what [`Self::pad_as_stated`] gives.
    pub(super) fn without_padding(&self) -> Self {
        let none = vec![Dim::constant(0); self.spatial.len()];
        let padded = |axis: usize| {
            let covered = (self.count(axis) - 1.into()) * self.stride[axis].into() + self.reach(axis);
            let stated = self.spatial[axis].clone() + self.low[axis].clone() + self.high[axis].clone();
            (stated.clone(), covered - stated)
        };
        let (spatial, high) = (0..self.spatial.len()).map(padded).unzip();
        Self {
            spatial,
            high,
            low: none,
            ceil: false,
            extent: self.extent.clone(),
            stride: self.stride.clone(),
            dilation: self.dilation.clone(),
        }
    }

    /// Every window of `padded`, which [`Self::pad`] gave: `[n, c, (extent, count)..]`.
    pub(super) fn patches(&self, b: &mut Builder<'_>, padded: ValueId) -> Outcome {
        let mut patches = padded;
        for axis in 0..self.spatial.len() {
            let index = self.padded_positions(b, axis)?;
            patches = b.gather(patches, index, 2 + 2 * axis)?;
        }
        Ok(patches)
    }

    /// Where along `axis` every element of every window lies, `[extent, count]` in i64; may be outside of it.
    pub(super) fn positions(&self, b: &mut Builder<'_>, axis: usize) -> Outcome {
        let index = self.padded_positions(b, axis)?;
        let low = b.dim(self.low[axis].clone())?;
        Ok(b.binary_broadcast(BinaryFn::Sub, index, low)?)
    }

    fn padded_positions(&self, b: &mut Builder<'_>, axis: usize) -> Outcome {
        let table = vec![self.extent[axis].clone(), self.count(axis)];
        let tap = b.iota(DType::I64, table.clone(), 0)?;
        let tap = b.binary_scalar(BinaryFn::Mul, tap, self.dilation[axis] as f64)?;
        let start = b.iota(DType::I64, table, 1)?;
        let start = b.binary_scalar(BinaryFn::Mul, start, self.stride[axis] as f64)?;
        Ok(b.binary_broadcast(BinaryFn::Add, start, tap)?)
    }

    /// Where along `axis` element `tap` of window `index` lies, kept within the axis; all i64.
    pub(super) fn position(&self, b: &mut Builder<'_>, axis: usize, index: ValueId, tap: ValueId) -> Outcome {
        let start = b.binary_scalar(BinaryFn::Mul, index, self.stride[axis] as f64)?;
        let tap = b.binary_scalar(BinaryFn::Mul, tap, self.dilation[axis] as f64)?;
        let at = b.binary_broadcast(BinaryFn::Add, start, tap)?;
        let low = b.dim(self.low[axis].clone())?;
        let at = b.binary_broadcast(BinaryFn::Sub, at, low)?;
        let last = b.dim(self.spatial[axis].clone() - 1.into())?;
        let at = b.binary_broadcast(BinaryFn::Min, at, last)?;
        Ok(b.binary_scalar(BinaryFn::Max, at, 0.0)?)
    }

    pub(super) fn spatial(&self) -> &[Dim] {
        &self.spatial
    }
}
