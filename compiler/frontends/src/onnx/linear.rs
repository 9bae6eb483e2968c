//! Matrix products.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, ValueId};

use super::call::{Call, Outcome, invalid};

pub(super) fn matmul(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    Ok(b.matmul_broadcast(call.input(0)?, call.input(1)?)?)
}

/// `alpha * op(a) * op(b) + beta * c`; `c` broadcasts to the product.
pub(super) fn gemm(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    // Before version 7 `c` broadcast only on request; its shape says the same.
    call.attributes.ignore(&["broadcast"]);
    let mut lhs = call.input(0)?;
    let mut rhs = call.input(1)?;
    for (index, (side, name)) in [(&mut lhs, "transA"), (&mut rhs, "transB")].into_iter().enumerate() {
        if b.ty(*side).rank() != 2 {
            return invalid(format!("input {index} is of rank {}; expected a matrix", b.ty(*side).rank()));
        }
        if call.attributes.flag(name, false)? {
            *side = b.transpose(*side, vec![1, 0])?;
        }
    }
    let (alpha, beta) = (call.attributes.float_or("alpha", 1.0)?, call.attributes.float_or("beta", 1.0)?);
    let product = b.push(Op::MatMul, &[lhs, rhs])?;
    let product = scale(b, product, alpha)?;
    match call.optional(2) {
        Some(c) if beta != 0.0 => {
            let c = scale(b, c, beta)?;
            let c = b.broadcast_to(c, b.ty(product).shape.clone())?;
            Ok(b.binary_broadcast(BinaryFn::Add, product, c)?)
        }
        _ => Ok(product),
    }
}

fn scale(b: &mut Builder<'_>, x: ValueId, factor: f64) -> Outcome {
    if factor == 1.0 { Ok(x) } else { Ok(b.binary_scalar(BinaryFn::Mul, x, factor)?) }
}

/// A product of 8-bit integers in i32, each side less its zero point.
pub(super) fn matmul_integer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (lhs, rhs) = (call.input(0)?, call.input(1)?);
    if call.optional(2).is_none() && call.optional(3).is_none() {
        return Ok(b.matmul_broadcast(lhs, rhs)?);
    }
    let lhs = less_zero_point(b, lhs, call.optional(2), true)?;
    let rhs = less_zero_point(b, rhs, call.optional(3), false)?;
    // Differences of 8-bit integers take nine bits; products of them are exact in f64, and so are their sums.
    let lhs = b.cast(lhs, DType::F64)?;
    let rhs = b.cast(rhs, DType::F64)?;
    let product = b.matmul_broadcast(lhs, rhs)?;
    Ok(b.cast(product, DType::I32)?)
}

/// `x - zero_point` in i32. A zero point of rank 1 holds one for each row, or each column.
fn less_zero_point(b: &mut Builder<'_>, x: ValueId, zero_point: Option<ValueId>, rows: bool) -> Outcome {
    let wide = b.cast(x, DType::I32)?;
    let Some(zero_point) = zero_point else { return Ok(wide) };
    let mut zero = b.cast(zero_point, DType::I32)?;
    if rows && b.ty(zero).rank() == 1 && b.ty(zero).shape[0] != Dim::constant(1) {
        zero = b.unsqueeze(zero, &[1])?;
    }
    Ok(b.binary_broadcast(BinaryFn::Sub, wide, zero)?)
}
