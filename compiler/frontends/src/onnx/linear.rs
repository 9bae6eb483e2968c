//! Matrix products.

use ired_graph::{BinaryFn, Builder, Op, ValueId};

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
