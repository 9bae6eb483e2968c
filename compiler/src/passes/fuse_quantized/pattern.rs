//! What quantisation and dequantisation look like once they are written out.

use ired_graph::{BinaryFn, Builder, DType, Dim, NodeId, Op, ReduceFn, ShapeError, Tensor, UnaryFn, ValueId};

use super::super::PassError;
use super::super::rewrite::Rewriter;

/// Scales and zero points of more channels are left alone.
const MAX_NUMBERS: u64 = 1 << 20;

/// How far a constant is followed through casts and reshapes.
const MAX_DEPTH: usize = 8;

/// A constant that is one number, or varies along one axis alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) numbers: Vec<f32>,
    /// Where they vary; `None` for one number.
    pub(super) axis: Option<usize>,
}

/// `(values - zero) * scale` in f32, of integers.
#[derive(Clone, Debug)]
pub(super) struct Dequantized {
    pub(super) values: ValueId,
    /// `None` for 0.
    pub(super) zero: Option<Spread>,
    pub(super) scale: Spread,
    /// How much more `values` and `zero` are than in the model.
    pub(super) shift: f32,
}

/// `round(real / scale) + zero`, saturating in `dtype`.
pub(super) struct Quantization {
    pub(super) real: ValueId,
    /// `round(real / scale)`.
    pub(super) rounded: ValueId,
    pub(super) scale: f32,
    pub(super) zero: f32,
    pub(super) dtype: DType,
}

impl Spread {
    pub(super) fn one(number: f32) -> Self {
        Self { numbers: vec![number], axis: None }
    }

    /// The number, if it is one.
    pub(super) fn as_one(&self) -> Option<f32> {
        if self.axis.is_none() { self.numbers.first().copied() } else { None }
    }

    pub(super) fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self { numbers: self.numbers.iter().map(|v| f(*v)).collect(), axis: self.axis }
    }

    /// `value` as one, if it is a constant that varies along no more than one of its axes.
    fn of(rw: &Rewriter<'_>, value: ValueId) -> Option<Self> {
        let rank = rw.ty(value).rank();
        let source = match rw.op(value)? {
            (Op::Broadcast { .. }, &[inner]) => inner,
            _ => value,
        };
        let (shape, numbers) = numbers(rw, source, 0)?;
        if numbers.len() == 1 {
            return Some(Self { numbers, axis: None });
        }
        let axis = shape.iter().position(|d| *d as usize == numbers.len())?;
        Some(Self { numbers, axis: Some(rank - shape.len() + axis) })
    }

    /// A constant of `dtype` that broadcasts to values of this rank as the numbers vary.
    pub(super) fn emit(&self, b: &mut Builder<'_>, dtype: DType, rank: usize) -> Result<ValueId, ShapeError> {
        let shape = match self.axis {
            None => Vec::new(),
            Some(axis) => [vec![self.numbers.len() as u64], vec![1; rank - 1 - axis]].concat(),
        };
        b.constant(self.to_tensor(dtype, &shape))
    }

    pub(super) fn to_tensor(&self, dtype: DType, shape: &[u64]) -> Tensor {
        let numbers: Vec<f64> = self.numbers.iter().map(|v| f64::from(*v)).collect();
        Tensor::from_f64s(dtype, shape, &numbers)
    }
}

/// The elements of a constant and its shape.
fn numbers(rw: &Rewriter<'_>, value: ValueId, depth: usize) -> Option<(Vec<u64>, Vec<f32>)> {
    let shape = rw.ty(value).static_shape()?;
    if depth > MAX_DEPTH || !(1..=MAX_NUMBERS).contains(&ired_graph::tensor::element_count(&shape)?) {
        return None;
    }
    if let Some(tensor) = rw.tensor(value) {
        return Some((shape, tensor.to_f64s().into_iter().map(|v| v as f32).collect()));
    }
    match rw.op(value)? {
        (Op::Cast(DType::F32) | Op::Reshape { .. }, &[inner]) => {
            numbers(rw, inner, depth + 1).map(|(_, numbers)| (shape, numbers))
        }
        _ => None,
    }
}

impl Dequantized {
    pub(super) fn of(rw: &Rewriter<'_>, value: ValueId) -> Option<Self> {
        if rw.ty(value).dtype != DType::F32 {
            return None;
        }
        let (Op::Binary(BinaryFn::Mul), &[centred, scale]) = rw.op(value)? else { return None };
        let (wide, zero) = match rw.op(centred)? {
            (Op::Binary(BinaryFn::Sub), &[wide, zero]) => (wide, Some(Spread::of(rw, zero)?)),
            _ => (centred, None),
        };
        let (Op::Cast(DType::F32), &[integers]) = rw.op(wide)? else { return None };
        if !matches!(rw.ty(integers).dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32) {
            return None;
        }
        let scale = Spread::of(rw, scale)?;
        let (values, shift) = unshifted(rw, integers);
        let zero = match (zero, shift) {
            (Some(zero), _) => Some(zero.map(|v| v + shift)),
            (None, 0.0) => None,
            (None, _) => Some(Spread::one(shift)),
        };
        let zero = zero.filter(|zero| zero.numbers.iter().any(|v| *v != 0.0));
        Some(Self { values, zero, scale, shift })
    }

    /// Whether values are of eight bits, and scale and zero point one number each.
    pub(super) fn is_plain_byte(&self, rw: &Rewriter<'_>) -> bool {
        let one = |spread: &Spread| spread.axis.is_none();
        is_byte(rw.ty(self.values).dtype) && one(&self.scale) && self.zero.as_ref().is_none_or(one)
    }

    /// Whether this is a sum of products of bytes: scaled, but not shifted.
    pub(super) fn is_sum(&self, rw: &Rewriter<'_>) -> bool {
        self.is_scaled_i32(rw) && sums_bytes(rw, self.values, 0)
    }

    pub(super) fn is_scaled_i32(&self, rw: &Rewriter<'_>) -> bool {
        rw.ty(self.values).dtype == DType::I32 && self.zero.is_none()
    }

    /// The zero point where it is one number.
    pub(super) fn one_zero(&self) -> Option<f32> {
        self.zero.as_ref().map_or(Some(0.0), Spread::as_one)
    }

    pub(super) fn emit(&self, rw: &mut Rewriter<'_>) -> Result<ValueId, PassError> {
        rw.build(|b| {
            let rank = b.ty(self.values).rank();
            // As the model has it, so that it is found again.
            let integers = if self.shift == 0.0 { self.values } else { b.signed(self.values)? };
            let mut wide = b.cast(integers, DType::F32)?;
            let zero = match &self.zero {
                Some(zero) => zero.map(|v| v - self.shift),
                None => Spread::one(-self.shift),
            };
            if zero.numbers.iter().any(|v| *v != 0.0) {
                let zero = zero.emit(b, DType::F32, rank)?;
                wide = b.binary_broadcast(BinaryFn::Sub, wide, zero)?;
            }
            let scale = self.scale.emit(b, DType::F32, rank)?;
            b.binary_broadcast(BinaryFn::Mul, wide, scale)
        })
    }
}

/// Whether an i32 comes from a sum over bytes, which leaves room for more to be added.
fn sums_bytes(rw: &Rewriter<'_>, value: ValueId, depth: usize) -> bool {
    let Some((op, operands)) = rw.op(value).filter(|_| depth < MAX_DEPTH) else { return false };
    match op {
        Op::MatMul | Op::Conv { .. } => is_byte(rw.ty(operands[0]).dtype),
        Op::Reduce { function: ReduceFn::Sum, .. } => match rw.op(operands[0]) {
            Some((Op::Cast(DType::I32), &[bytes])) => is_byte(rw.ty(bytes).dtype),
            _ => false,
        },
        Op::Binary(BinaryFn::Add | BinaryFn::Sub)
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. } => sums_bytes(rw, operands[0], depth + 1),
        _ => false,
    }
}

pub(super) fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

impl Quantization {
    /// What node `id` quantises to eight bits.
    pub(super) fn of(rw: &Rewriter<'_>, id: NodeId) -> Option<Self> {
        let node = rw.node(id);
        let (Op::Cast(dtype), &[shifted]) = (&node.op, node.operands.as_slice()) else { return None };
        if !is_byte(*dtype) {
            return None;
        }
        let (rounded, zero) = match rw.op(shifted)? {
            (Op::Binary(BinaryFn::Add), &[rounded, zero]) => (rounded, Spread::of(rw, zero)?.as_one()?),
            _ => (shifted, 0.0),
        };
        let (Op::Unary(UnaryFn::Round), &[quotient]) = rw.op(rounded)? else { return None };
        let (Op::Binary(BinaryFn::Div), &[real, scale]) = rw.op(quotient)? else { return None };
        if rw.ty(real).dtype != DType::F32 {
            return None;
        }
        let scale = Spread::of(rw, scale)?.as_one()?;
        Some(Self { real, rounded, scale, zero, dtype: *dtype })
    }
}

/// How far u8 and i8 of the same bits but for the highest are apart.
pub(super) const SHIFT: f32 = 128.0;

/// The u8 behind an i8 that was made of one, and how much more it is.
fn unshifted(rw: &Rewriter<'_>, value: ValueId) -> (ValueId, f32) {
    match rw.graph.before_signed(value) {
        Some(bytes) => (bytes, SHIFT),
        None => (value, 0.0),
    }
}

/// The axis of a reshape's result along which it varies as its operand along `axis`.
pub(super) fn axis_after_reshape(from: &[Dim], to: &[Dim], axis: usize) -> Option<usize> {
    if axis + 1 == from.len() && from.last() == to.last() {
        return Some(to.len() - 1);
    }
    let one = Dim::constant(1);
    let kept = |shape: &[Dim]| -> Vec<usize> { (0..shape.len()).filter(|i| shape[*i] != one).collect() };
    let (before, after) = (kept(from), kept(to));
    let same = before.len() == after.len() && before.iter().zip(&after).all(|(i, j)| from[*i] == to[*j]);
    let position = before.iter().position(|i| *i == axis)?;
    same.then(|| after[position])
}
