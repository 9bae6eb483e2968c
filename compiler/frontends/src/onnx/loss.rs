//! Losses of classification.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid};

/// Of log-probabilities, with classes along axis 1.
pub(super) fn negative_log_likelihood(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    loss_of(b, call, call.input(0)?)
}

/// Of scores; the second output is their log-softmax.
pub(super) fn softmax_cross_entropy(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let scores = call.input(0)?;
    if b.ty(scores).rank() < 2 {
        return invalid(format!("scores of rank {}; expected at least 2", b.ty(scores).rank()));
    }
    let log = b.softmax(scores, 1, true)?;
    Ok(vec![loss_of(b, call, log)?, log])
}

/// `-log[n, labels[n, ..], ..]`, weighted by class and reduced; input 1 holds the labels, input 2 the weights.
fn loss_of(b: &mut Builder<'_>, call: &Call<'_>, log: ValueId) -> Outcome {
    let ty = b.ty(log).clone();
    let labels = call.input(1)?;
    if ty.rank() < 2 || b.ty(labels).rank() + 1 != ty.rank() {
        let found = b.ty(labels).rank();
        return invalid(format!("labels of rank {found} for scores of rank {}", ty.rank()));
    }
    let labels = b.cast(labels, DType::I64)?;
    let zero = b.scalar(DType::I64, 0.0)?;
    let ignored = match call.attributes.int("ignore_index")? {
        Some(ignored) => {
            let ignored = b.dim(ignored.into())?;
            Some(b.compare_broadcast(CompareFn::Eq, labels, ignored)?)
        }
        None => None,
    };
    // What is ignored need not be a class.
    let class = match ignored {
        Some(ignored) => b.select_broadcast(ignored, zero, labels)?,
        None => labels,
    };
    let place = b.unsqueeze(class, &[1])?;
    let chosen = b.push(ired_graph::Op::GatherElements { axis: 1 }, &[log, place])?;
    let chosen = b.squeeze(chosen, &[1])?;
    let mut loss = b.unary(UnaryFn::Neg, chosen)?;
    let mut weight = match call.optional(2) {
        Some(weights) => Some(b.gather(weights, class, 0)?),
        None if ignored.is_some() => Some(b.scalar(ty.dtype, 1.0)?),
        None => None,
    };
    let none = b.scalar(ty.dtype, 0.0)?;
    if let Some(weight) = &mut weight {
        let shape = b.ty(loss).shape.clone();
        *weight = b.broadcast_to(*weight, shape)?;
        loss = b.binary_broadcast(BinaryFn::Mul, loss, *weight)?;
        if let Some(ignored) = ignored {
            *weight = b.select_broadcast(ignored, none, *weight)?;
            loss = b.select_broadcast(ignored, none, loss)?;
        }
    }
    let all: Vec<usize> = (0..b.ty(loss).rank()).collect();
    match (call.attributes.text("reduction")?.unwrap_or("mean"), weight) {
        ("none", _) => Ok(loss),
        ("sum", _) => Ok(b.reduce(ReduceFn::Sum, loss, &all, false)?),
        ("mean", None) => Ok(b.reduce(ReduceFn::Mean, loss, &all, false)?),
        ("mean", Some(weight)) => {
            let sum = b.reduce(ReduceFn::Sum, loss, &all, false)?;
            let weight = b.reduce(ReduceFn::Sum, weight, &all, false)?;
            Ok(b.binary_broadcast(BinaryFn::Div, sum, weight)?)
        }
        (other, _) => invalid(format!("reduction `{other}`; expected none, sum or mean")),
    }
}
