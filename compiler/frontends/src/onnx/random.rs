//! Random numbers, the same ones in every call and on every device: element `i` of a node is a hash of `i` and the
//! node's seed. The hash is SplitMix64, <https://doi.org/10.1145/2714064.2660195>.
//!
//! The seed is attribute `seed`; without one, ONNX leaves the choice open, and it is a hash of the node's name.

use ired_graph::{
    BinaryFn, Builder, CompareFn, CumulativeFn, DType, Dim, ReduceFn, Shape, Tensor, UnaryFn, ValueId,
    product,
};

use super::call::{Call, Outcome, invalid, unsupported};

/// The step of SplitMix64's counter: 2^64 over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Draws of one node; each has numbers of its own.
struct Source {
    seed: u64,
    draws: u64,
}

impl Source {
    fn of(call: &Call<'_>) -> Outcome<Self> {
        let seed = match call.attributes.float("seed")? {
            Some(seed) => seed.to_bits(),
            // FNV-1a.
            None => call.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            }),
        };
        Ok(Self { seed: mix(seed), draws: 0 })
    }

    /// 64 random bits an element.
    fn bits(&mut self, b: &mut Builder<'_>, shape: &[Dim]) -> Outcome {
        self.draws += 1;
        let start = mix(self.seed.wrapping_add(self.draws.wrapping_mul(STEP)));
        let number = b.iota(DType::U64, vec![product(shape)], 0)?;
        let counter = constant(b, BinaryFn::Mul, number, STEP)?;
        let counter = constant(b, BinaryFn::Add, counter, start)?;
        let folded = fold(b, counter, 30)?;
        let mixed = constant(b, BinaryFn::Mul, folded, 0xbf58_476d_1ce4_e5b9)?;
        let folded = fold(b, mixed, 27)?;
        let mixed = constant(b, BinaryFn::Mul, folded, 0x94d0_49bb_1331_11eb)?;
        let bits = fold(b, mixed, 31)?;
        Ok(b.reshape(bits, shape.to_vec())?)
    }

    /// Uniform in `[0, 1)`, as fine as f64 is.
    fn uniform(&mut self, b: &mut Builder<'_>, shape: &[Dim]) -> Outcome {
        let bits = self.bits(b, shape)?;
        let top = constant(b, BinaryFn::ShiftRight, bits, 11)?;
        let number = b.cast(top, DType::F64)?;
        Ok(b.binary_scalar(BinaryFn::Mul, number, (-53f64).exp2())?)
    }

    /// Of the standard normal distribution, by the method of Box and Muller.
    fn normal(&mut self, b: &mut Builder<'_>, shape: &[Dim]) -> Outcome {
        let (radius, angle) = (self.uniform(b, shape)?, self.uniform(b, shape)?);
        // In (0, 1], of which there is a logarithm.
        let one = b.scalar(DType::F64, 1.0)?;
        let radius = b.binary_broadcast(BinaryFn::Sub, one, radius)?;
        let radius = b.unary(UnaryFn::Log, radius)?;
        let radius = b.binary_scalar(BinaryFn::Mul, radius, -2.0)?;
        let radius = b.unary(UnaryFn::Sqrt, radius)?;
        let angle = b.binary_scalar(BinaryFn::Mul, angle, std::f64::consts::TAU)?;
        let side = b.unary(UnaryFn::Cos, angle)?;
        Ok(b.binary_broadcast(BinaryFn::Mul, radius, side)?)
    }
}

/// SplitMix64 of one number.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(STEP);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn constant(b: &mut Builder<'_>, function: BinaryFn, x: ValueId, number: u64) -> Outcome {
    let number = b.constant(Tensor::from_integers(DType::U64, &[], &[i128::from(number)]))?;
    Ok(b.binary_broadcast(function, x, number)?)
}

/// `x ^ (x >> by)`.
fn fold(b: &mut Builder<'_>, x: ValueId, by: u64) -> Outcome {
    let shifted = constant(b, BinaryFn::ShiftRight, x, by)?;
    Ok(b.binary_broadcast(BinaryFn::Xor, x, shifted)?)
}

/// The shape in attribute `shape`, or that of input 0; and the element type asked for, or that of input 0.
fn result_type(b: &Builder<'_>, call: &Call<'_>, like: bool) -> Outcome<(Shape, DType)> {
    let stated = call.dtype_attribute("dtype")?;
    let (shape, default) = if like {
        let ty = call.input_type(b, 0)?;
        (ty.shape, ty.dtype)
    } else {
        let Some(sizes) = call.attributes.ints("shape")? else {
            return invalid("attribute `shape` is missing");
        };
        if let Some(size) = sizes.iter().find(|size| **size < 0) {
            return invalid(format!("size {size} in attribute `shape`"));
        }
        (sizes.iter().map(|size| Dim::constant(*size)).collect(), DType::F32)
    };
    let dtype = stated.unwrap_or(default);
    match dtype.is_float() {
        true => Ok((shape, dtype)),
        false => {
            unsupported(format!("random numbers of type {dtype}"), "state a float type in attribute `dtype`")
        }
    }
}

/// `RandomUniform`, and `RandomUniformLike` with `like`: in `low..high`.
pub(super) fn uniform(b: &mut Builder<'_>, call: &Call<'_>, like: bool) -> Outcome {
    let (shape, dtype) = result_type(b, call, like)?;
    let (low, high) = (call.attributes.float_or("low", 0.0)?, call.attributes.float_or("high", 1.0)?);
    let drawn = Source::of(call)?.uniform(b, &shape)?;
    let scaled = b.binary_scalar(BinaryFn::Mul, drawn, high - low)?;
    let moved = b.binary_scalar(BinaryFn::Add, scaled, low)?;
    Ok(b.cast(moved, dtype)?)
}

/// `RandomNormal`, and `RandomNormalLike` with `like`.
pub(super) fn normal(b: &mut Builder<'_>, call: &Call<'_>, like: bool) -> Outcome {
    let (shape, dtype) = result_type(b, call, like)?;
    let (mean, scale) = (call.attributes.float_or("mean", 0.0)?, call.attributes.float_or("scale", 1.0)?);
    let drawn = Source::of(call)?.normal(b, &shape)?;
    let scaled = b.binary_scalar(BinaryFn::Mul, drawn, scale)?;
    let moved = b.binary_scalar(BinaryFn::Add, scaled, mean)?;
    Ok(b.cast(moved, dtype)?)
}

/// 1 with the probability that the input says, else 0.
pub(super) fn bernoulli(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let probability = call.input(0)?;
    let ty = b.ty(probability).clone();
    let to = call.dtype_attribute("dtype")?.unwrap_or(ty.dtype);
    let drawn = Source::of(call)?.uniform(b, &ty.shape)?;
    let probability = b.cast(probability, DType::F64)?;
    let hit = b.compare_broadcast(CompareFn::Lt, drawn, probability)?;
    Ok(b.cast(hit, to)?)
}

/// Classes drawn with the probabilities whose logarithms, up to a constant, are the rows of `[batch, classes]`.
pub(super) fn multinomial(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let logits = call.input(0)?;
    let [batch, classes] = b.ty(logits).shape.clone().try_into().or_else(|shape: Shape| {
        invalid(format!("input of rank {}; expected [batch, classes]", shape.len()))
    })?;
    let to = call.dtype_attribute("dtype")?.unwrap_or(DType::I32);
    if !matches!(to, DType::I32 | DType::I64) {
        return invalid(format!("dtype {to}; expected i32 or i64"));
    }
    let samples = call.attributes.int_or("sample_size", 1)?;
    if samples < 0 {
        return invalid(format!("sample_size {samples}"));
    }
    let samples = Dim::constant(samples);
    let logits = b.cast(logits, DType::F64)?;
    let shares = b.softmax(logits, 1, false)?;
    let bounds = b.cumulative(CumulativeFn::Sum, shares, 1)?;
    let bounds = b.unsqueeze(bounds, &[1])?;
    let drawn = Source::of(call)?.uniform(b, &[batch, samples])?;
    let drawn = b.unsqueeze(drawn, &[2])?;
    // As many classes are passed as have their bound at or before what was drawn.
    let passed = b.compare_broadcast(CompareFn::Le, bounds, drawn)?;
    let passed = b.cast(passed, DType::I64)?;
    let index = b.reduce(ReduceFn::Sum, passed, &[2], false)?;
    // The last bound may be rounded to just under 1.
    let last = b.dim(classes - Dim::constant(1))?;
    let index = b.binary_broadcast(BinaryFn::Min, index, last)?;
    Ok(b.cast(index, to)?)
}
