//! Optional values, which the graph does not have: a flag beside what is held.

use ired_graph::dim::UNBOUNDED;
use ired_graph::{Builder, DType, Dim, Tensor, ValueId};

use super::call::{Call, Outcome, invalid};
use super::import::Binding;
use super::sequence::Sequence;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Optional {
    /// A bool scalar.
    pub(crate) present: ValueId,
    pub(crate) held: Held,
}

/// What an optional value holds where it is present.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held {
    Nothing,
    Value(ValueId),
    Sequence(Sequence),
}

pub(super) fn optional(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    // What it would hold is of no consequence while it holds nothing.
    call.attributes.ignore(&["type"]);
    let held = match call.bindings.first() {
        None | Some(Binding::Absent) => Held::Nothing,
        Some(Binding::Value(value)) => Held::Value(*value),
        Some(Binding::Sequence(sequence)) => Held::Sequence(*sequence),
        Some(other) => return Ok(vec![*other]),
    };
    let present = truth(b, !matches!(held, Held::Nothing))?;
    Ok(vec![Binding::Optional(Optional { present, held })])
}

pub(super) fn truth(b: &mut Builder<'_>, value: bool) -> Outcome {
    Ok(b.constant(Tensor::from_bools(&[], &[value]))?)
}

/// What an optional value holds; that it holds something is checked when the model runs, where the node is reached.
pub(super) fn get_element(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let Optional { present, held } = match call.bindings.first() {
        Some(Binding::Optional(optional)) => *optional,
        Some(whole @ (Binding::Value(_) | Binding::Sequence(_))) => return Ok(vec![*whole]),
        _ => return invalid("the optional value holds nothing"),
    };
    let presence = match b.constant_of(present).map(|flag| flag.to_integers()[0] != 0) {
        Some(true) => Dim::constant(1),
        Some(false) => return invalid("the optional value holds nothing"),
        None => {
            let flag = b.cast(present, DType::I64)?;
            let read = b.read_dims_within(flag, "present", 1, UNBOUNDED)?;
            read.into_iter().next().unwrap_or(1.into())
        }
    };
    Ok(vec![match held {
        Held::Nothing => return invalid("the optional value holds nothing"),
        Held::Value(value) => Binding::Value(checked(b, value, presence)?),
        Held::Sequence(sequence) => {
            // As many as there are: less by nothing.
            let length = sequence.length(b) + 1.into() - presence;
            let shapes = b.slice_axis(sequence.shapes, 0, 0.into(), length)?;
            Binding::Sequence(Sequence { shapes, ..sequence })
        }
    }])
}

/// `value` as it is, but not to be had before `presence`, which is 1, was read.
fn checked(b: &mut Builder<'_>, value: ValueId, presence: Dim) -> Outcome {
    if presence == Dim::constant(1) {
        return Ok(value);
    }
    let shape = b.ty(value).shape.clone();
    let row = b.unsqueeze(value, &[0])?;
    let row = b.slice_axis(row, 0, presence - 1.into(), 1.into())?;
    Ok(b.reshape(row, shape)?)
}

pub(super) fn has_element(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let present = match call.bindings.first() {
        None | Some(Binding::Absent) => truth(b, false)?,
        Some(Binding::Optional(optional)) => optional.present,
        Some(_) => truth(b, true)?,
    };
    Ok(vec![Binding::Value(present)])
}
