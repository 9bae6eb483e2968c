//! Between floats and small integers, each number with its scale and zero point.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, axis, invalid, unsupported};
use super::cast;

/// `(x - zero_point) * scale`, computed in f32, which holds 16-bit integers exactly.
pub(super) fn dequantize(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let to = match call.dtype_attribute_nonzero("output_dtype")? {
        Some(to) => to,
        None if b.ty(scale).dtype.is_float() => b.ty(scale).dtype,
        None => return invalid("a scale of powers of two needs attribute `output_dtype`"),
    };
    let layout = Layout::of(b, call)?;
    // Not folded: quantised weights, however few, are to be found as such.
    let mut wide = match b.constant_of(x).is_some_and(|x| x.dtype().is_integer() && !x.shape().is_empty()) {
        true => b.push_with_regions(Op::Cast(DType::F32), &[x], Vec::new())?[0],
        false => b.cast(x, DType::F32)?,
    };
    if let Some(zero_point) = call.optional(2) {
        let zero_point = layout.spread(b, zero_point)?;
        wide = b.binary_broadcast(BinaryFn::Sub, wide, zero_point)?;
    }
    let scale = layout.spread(b, scale)?;
    let result = b.binary_broadcast(BinaryFn::Mul, wide, scale)?;
    Ok(b.cast(result, to)?)
}

/// `round(x / scale) + zero_point`, saturating; of the zero point's type, u8 without one. Floats round to what their
/// type has instead of to whole numbers.
pub(super) fn quantize(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let saturate = call.attributes.flag("saturate", true)?;
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let stated = call.dtype_attribute_nonzero("output_dtype")?;
    let zero_type = call.optional(2).map(|zero_point| b.ty(zero_point).dtype);
    let to = zero_type.or(stated).unwrap_or(DType::U8);
    if stated.is_some_and(|stated| stated != to) {
        return invalid(format!("`output_dtype` is not the zero point's type, {to}"));
    }
    let precision = match (call.dtype_attribute_nonzero("precision")?, b.ty(scale).dtype) {
        (Some(precision), _) => precision,
        (None, DType::F8E8M0 | DType::I32) => DType::F32,
        (None, dtype) => dtype,
    };
    if !precision.is_float() {
        return unsupported(format!("division in {precision}"), "divide in a float type");
    }
    let layout = Layout::of(b, call)?;
    let zero_point = call.optional(2).map(|zero_point| layout.spread(b, zero_point)).transpose()?;
    let scale = layout.spread(b, scale)?;
    let quotient = quotient(b, x, scale, precision)?;
    if to.is_integer() {
        return to_integers(b, quotient, zero_point, to);
    }
    let moved = match zero_point {
        Some(zero_point) => b.binary_broadcast(BinaryFn::Add, quotient, zero_point)?,
        None => quotient,
    };
    cast::cast_to(b, moved, to, saturate)
}

/// `x / scale` in f32 as it is in another precision; rounding to a narrower type afterwards gives the same.
fn quotient(b: &mut Builder<'_>, x: ValueId, scale: ValueId, precision: DType) -> Outcome {
    let [x, scale] = [x, scale].map(|v| b.cast(v, precision).and_then(|v| b.cast(v, DType::F32)));
    let quotient = b.binary_broadcast(BinaryFn::Div, x?, scale?)?;
    let rounded = b.cast(quotient, precision)?;
    Ok(b.cast(rounded, DType::F32)?)
}

fn to_integers(b: &mut Builder<'_>, quotient: ValueId, zero: Option<ValueId>, to: DType) -> Outcome {
    let mut rounded = b.unary(UnaryFn::Round, quotient)?;
    if let Some(zero) = zero {
        rounded = b.binary_broadcast(BinaryFn::Add, rounded, zero)?;
    }
    Ok(b.cast(rounded, to)?)
}

/// To u8, with the scale and zero point that fit the data and 0; all three are given.
pub(super) fn dynamic_quantize(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let x = call.input(0)?;
    Ok(quantize_to_range(b, x)?.to_vec())
}

/// `x` in u8, its scale, its zero point.
pub(super) fn quantize_to_range(b: &mut Builder<'_>, x: ValueId) -> Outcome<[ValueId; 3]> {
    let all: Vec<usize> = (0..b.ty(x).rank()).collect();
    let (low, high) = (b.reduce(ReduceFn::Min, x, &all, false)?, b.reduce(ReduceFn::Max, x, &all, false)?);
    let low = b.binary_scalar(BinaryFn::Min, low, 0.0)?;
    let high = b.binary_scalar(BinaryFn::Max, high, 0.0)?;
    let range = b.binary_broadcast(BinaryFn::Sub, high, low)?;
    let scale = b.binary_scalar(BinaryFn::Div, range, 255.0)?;
    let below = b.binary_broadcast(BinaryFn::Div, low, scale)?;
    let below = b.unary(UnaryFn::Neg, below)?;
    let rounded = b.unary(UnaryFn::Round, below)?;
    let zero_point = b.cast(rounded, DType::U8)?;
    let wide = b.cast(zero_point, DType::F32)?;
    let quotient = quotient(b, x, scale, DType::F32)?;
    let y = to_integers(b, quotient, Some(wide), DType::U8)?;
    Ok([y, scale, zero_point])
}

/// Which numbers of the input share a scale.
enum Layout {
    All,
    /// Those of one index along an axis, of an input of this rank.
    Along {
        axis: usize,
        rank: usize,
    },
    /// Those of one block of indices along an axis.
    Blocks {
        axis: usize,
        size: i64,
        shape: Vec<Dim>,
    },
}

impl Layout {
    fn of(b: &Builder<'_>, call: &Call<'_>) -> Outcome<Self> {
        let (x, scale) = (call.input_type(b, 0)?, call.input_type(b, 1)?);
        let stated = call.attributes.int_or("axis", 1)?;
        let size = call.attributes.int_or("block_size", 0)?;
        if size == 0 && (scale.elements() == Dim::constant(1) || scale.rank() == 0) {
            return Ok(Self::All);
        }
        // Of one axis, whatever the attribute says.
        let along = if x.rank() == 1 { 0 } else { axis(stated, x.rank())? };
        match (scale.rank(), size) {
            (1, 0) => Ok(Self::Along { axis: along, rank: x.rank() }),
            (rank, 1..) if rank == x.rank() => Ok(Self::Blocks { axis: along, size, shape: x.shape }),
            (rank, _) => invalid(format!("a scale of rank {rank} for an input of rank {}", x.rank())),
        }
    }

    /// A scale or zero point in f32, shaped to broadcast to the input.
    fn spread(&self, b: &mut Builder<'_>, parameter: ValueId) -> Outcome {
        let parameter = b.cast(parameter, DType::F32)?;
        let shape = b.ty(parameter).shape.clone();
        match self {
            Self::All => Ok(b.reshape(parameter, Vec::new())?),
            Self::Along { axis, rank } => {
                let [count] = shape.as_slice() else {
                    return invalid("the zero point is not shaped as the scale");
                };
                let mut spread = vec![Dim::constant(1); *rank];
                spread[*axis] = count.clone();
                Ok(b.reshape(parameter, spread)?)
            }
            Self::Blocks { axis, size, shape: x } => {
                if shape.len() != x.len() {
                    return invalid("the zero point is not shaped as the scale");
                }
                let apart = b.unsqueeze(parameter, &[axis + 1])?;
                let mut repeated = b.ty(apart).shape.clone();
                repeated[axis + 1] = Dim::constant(*size);
                let repeated = b.broadcast_to(apart, repeated)?;
                let mut joined = shape;
                joined[*axis] = joined[*axis].clone() * Dim::constant(*size);
                let joined = b.reshape(repeated, joined)?;
                // The last block may reach past the end.
                match b.graph.symbols.is_known_ge(&b.ty(joined).shape[*axis], &x[*axis]) {
                    true => Ok(b.slice_axis(joined, *axis, 0.into(), x[*axis].clone())?),
                    false => {
                        // What is only known to be so at run time is looked up instead: index `i` is of block `i / size`.
                        let extent = vec![x[*axis].clone()];
                        let index = b.push(Op::Iota { dtype: DType::I64, shape: extent, axis: 0 }, &[])?;
                        let block = b.binary_scalar(BinaryFn::Div, index, *size as f64)?;
                        Ok(b.push(Op::Gather { axis: *axis }, &[parameter, block])?)
                    }
                }
            }
        }
    }
}
