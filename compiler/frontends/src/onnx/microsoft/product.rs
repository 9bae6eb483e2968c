//! Products and convolutions with transposes, activations and sums fused in.

use ired_graph::{BinaryFn, Builder, DType, Dim, ReduceFn, UnaryFn, ValueId};

use super::super::activation::scale;
use super::super::call::{Call, Outcome, invalid, unsupported};
use super::super::{convolution, linear};
use super::activation::fused;

/// `alpha * op(a) * op(b)`, batches broadcast.
pub(in super::super) fn matmul(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let alpha = call.attributes.float_or("alpha", 1.0)?;
    let mut sides = [call.input(0)?, call.input(1)?];
    for (side, names) in sides.iter_mut().zip([["transA", "transBatchA"], ["transB", "transBatchB"]]) {
        let [rows, batches] =
            [call.attributes.flag(names[0], false)?, call.attributes.flag(names[1], false)?];
        let rank = b.ty(*side).rank();
        let mut perm: Vec<usize> = (0..rank).collect();
        // The first axis changes places with the batch, which stands after it.
        if batches && rank > 2 {
            perm[..rank - 1].rotate_left(1);
        }
        if rows && rank >= 2 {
            perm.swap(rank - 2, rank - 1);
        }
        *side = b.transpose(*side, perm)?;
    }
    let product = b.matmul_broadcast(sides[0], sides[1])?;
    scale(b, product, alpha)
}

pub(in super::super) fn matmul_activation(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let product = matmul(b, call)?;
    activate(b, call, product)
}

pub(in super::super) fn gemm(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let product = linear::gemm(b, call)?;
    activate(b, call, product)
}

fn activate(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId) -> Outcome {
    let numbers = [call.attributes.float("activation_alpha")?, call.attributes.float("activation_beta")?];
    fused(b, call, x, numbers)
}

/// A convolution, plus input 3, activated; with `channels_last` those of the input, the sum and the result.
pub(in super::super) fn conv(b: &mut Builder<'_>, call: &Call<'_>, channels_last: bool) -> Outcome {
    let front = |b: &mut Builder<'_>, value: ValueId| -> Outcome {
        let rank = b.ty(value).rank();
        if !channels_last || rank < 3 {
            return Ok(value);
        }
        Ok(b.transpose(value, [0, rank - 1].into_iter().chain(1..rank - 1).collect())?)
    };
    let x = front(b, call.input(0)?)?;
    let mut result = convolution::conv_of(b, call, x)?;
    if let Some(sum) = call.optional(3) {
        let sum = front(b, sum)?;
        result = b.binary_broadcast(BinaryFn::Add, result, sum)?;
    }
    let numbers = call.attributes.floats("activation_params")?.unwrap_or_default();
    let number = |i: usize| numbers.get(i).map(|number| f64::from(*number));
    let result = fused(b, call, result, [number(0), number(1)])?;
    let rank = b.ty(result).rank();
    match channels_last {
        true => Ok(b.transpose(result, [0].into_iter().chain(2..rank).chain([1]).collect())?),
        false => Ok(result),
    }
}

/// A product of 16-bit integers in 32 bits.
pub(in super::super) fn wide_integers(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, y) = (call.input(0)?, call.input(1)?);
    let unsigned = [x, y].iter().all(|side| b.ty(*side).dtype == DType::U16);
    let to = if unsigned { DType::U32 } else { DType::I32 };
    let (x, y) = (b.cast(x, to)?, b.cast(y, to)?);
    Ok(b.matmul_broadcast(x, y)?)
}

/// Distances of the rows of two matrices.
pub(in super::super) fn distances(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, y) = (call.input(0)?, call.input(1)?);
    if b.ty(x).rank() != 2 || b.ty(y).rank() != 2 {
        return invalid("distances of what are no matrices");
    }
    let root = match call.attributes.text("metric")?.unwrap_or("sqeuclidean") {
        "sqeuclidean" => false,
        "euclidean" => true,
        other => {
            return unsupported(format!("metric `{other}`"), "write the distance with standard operators");
        }
    };
    let (x, y) = (b.unsqueeze(x, &[1])?, b.unsqueeze(y, &[0])?);
    let difference = b.binary_broadcast(BinaryFn::Sub, x, y)?;
    let square = b.binary_broadcast(BinaryFn::Mul, difference, difference)?;
    let sum = b.reduce(ReduceFn::Sum, square, &[2], false)?;
    if root { Ok(b.unary(UnaryFn::Sqrt, sum)?) } else { Ok(sum) }
}

/// A product of complex numbers, whose parts are the last axis; `conjugate` negates the right one's imaginary part.
pub(in super::super) fn complex(b: &mut Builder<'_>, call: &Call<'_>, conjugate: bool) -> Outcome {
    let sides = [call.input(0)?, call.input(1)?];
    let mut parts = [[sides[0]; 2]; 2];
    for (side, parts) in sides.into_iter().zip(&mut parts) {
        let shape = b.ty(side).shape.clone();
        let Some(last) = shape.last() else { return invalid("a scalar has no two parts") };
        if b.graph.symbols.is_known_ne(last, &Dim::constant(2)) {
            return invalid("a last axis that does not hold two parts");
        }
        for (i, part) in parts.iter_mut().enumerate() {
            *part = b.slice_axis(side, shape.len() - 1, (i as i64).into(), 1.into())?;
        }
    }
    let [[a, bi], [c, d]] = parts;
    let d = if conjugate { b.unary(UnaryFn::Neg, d)? } else { d };
    let mut product = |x, y| b.binary_broadcast(BinaryFn::Mul, x, y);
    let (ac, bd, ad, bc) = (product(a, c)?, product(bi, d)?, product(a, d)?, product(bi, c)?);
    let real = b.binary_broadcast(BinaryFn::Sub, ac, bd)?;
    let imaginary = b.binary_broadcast(BinaryFn::Add, ad, bc)?;
    let last = b.ty(real).rank() - 1;
    Ok(b.concat(&[real, imaginary], last)?)
}

/// Whether no element of any input is infinite or NaN.
pub(in super::super) fn all_finite(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let infinity_only = call.attributes.flag("isinf_only", false)?;
    let nan_only = call.attributes.flag("isnan_only", false)?;
    let mut found = b.full(DType::Bool, Vec::new(), 0.0)?;
    for input in call.all_inputs()? {
        let all: Vec<usize> = (0..b.ty(input).rank()).collect();
        for (skipped, function) in [(nan_only, UnaryFn::IsInf), (infinity_only, UnaryFn::IsNan)] {
            if !skipped {
                let each = b.unary(function, input)?;
                let some = b.reduce(ReduceFn::Any, each, &all, false)?;
                found = b.binary_broadcast(BinaryFn::Or, found, some)?;
            }
        }
    }
    let finite = b.unary(UnaryFn::Not, found)?;
    Ok(b.reshape(finite, vec![1.into()])?)
}
