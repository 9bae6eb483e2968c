//! Operators that hold graphs.

use ired_graph::{Builder, Op, RegionId};

use super::call::{Call, Outcome, invalid, unsupported};
use super::elementwise::constant_bool;
use super::import::{Binding, Frame, Importer, Scope};
use super::loops;
use super::optional::{Held, Optional, truth};
use super::sequence::Sequence;

/// A condition that is known picks its branch now; the other one is not even looked at.
pub(super) fn if_else(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
) -> Outcome<Vec<Binding>> {
    let condition = call.input(0)?;
    let (then, otherwise) = (call.attributes.graph("then_branch")?, call.attributes.graph("else_branch")?);
    let known = constant_bool(&Builder::in_region(&mut importer.graph, frame.region), condition);
    if let Some(known) = known {
        return importer.import_subgraph(if known { then } else { otherwise }, &[], scope, frame);
    }
    // Both branches before any fault of one, so that one report names what either of them lacks.
    let branches = [then, otherwise].map(|branch| {
        let region = importer.graph.add_region();
        (region, importer.import_subgraph(branch, &[], scope, &frame.in_region(region)))
    });
    let (mut regions, mut found) = (Vec::new(), Vec::new());
    for (region, outputs) in branches {
        found.push(outputs?);
        regions.push(region);
    }
    let is_known = |binding: &Binding| !matches!(binding, Binding::Unknown | Binding::Absent);
    if !found.iter().flatten().all(is_known) || found[0].len() != found[1].len() {
        return Ok(vec![Binding::Unknown; call.outputs.len()]);
    }
    let (mut kinds, mut values) = (Vec::new(), [Vec::new(), Vec::new()]);
    for (then, otherwise) in found[0].clone().into_iter().zip(found[1].clone()) {
        let both = alike(importer, [(regions[0], then), (regions[1], otherwise)])?;
        if let [Binding::Value(then), Binding::Value(otherwise)] = both {
            let [then, otherwise] = [then, otherwise].map(|value| importer.graph.ty(value).rank());
            if then != otherwise {
                let reason = format!("its branches give tensors of ranks {then} and {otherwise}");
                return unsupported(reason, "if sizes of inputs decide it, state them: `--shape NAME=2x3`");
            }
        }
        kinds.push(both[0]);
        for (values, binding) in values.iter_mut().zip(both) {
            values.extend(binding.parts());
        }
    }
    for (region, values) in regions.iter().copied().zip(values) {
        importer.graph.set_outputs(region, values);
    }
    let mut b = importer.builder(call.name, "If", frame.region);
    if b.ty(condition).elements().as_static() != Some(1) {
        return invalid("the condition is not a scalar");
    }
    let condition = b.reshape(condition, Vec::new())?;
    let results = b.push_with_regions(Op::If, &[condition], regions)?;
    let mut results = results.into_iter();
    Ok(kinds.into_iter().map(|kind| kind.with_parts(&mut results)).collect())
}

/// What two branches give in one place, as things of one kind: sequences of tensors of one rank, and both optional if
/// one of them is.
fn alike(importer: &mut Importer<'_>, mut both: [(RegionId, Binding); 2]) -> Outcome<[Binding; 2]> {
    let ranks = both.map(|(region, binding)| {
        let b = importer.builder("", "", region);
        binding.sequence().and_then(|sequence| sequence.rank(&b))
    });
    if let Some(rank) = ranks[0].or(ranks[1]) {
        for (region, binding) in &mut both {
            *binding = loops::with_rank(importer, *region, *binding, rank)?;
        }
    }
    let optional = both.iter().any(|(_, binding)| matches!(binding, Binding::Optional(_)));
    for (region, binding) in both.iter_mut().filter(|_| optional) {
        let held = match *binding {
            Binding::Value(value) => Held::Value(value),
            Binding::Sequence(sequence) => Held::Sequence(sequence),
            _ => continue,
        };
        let present = truth(&mut importer.builder("optional", "If", *region), true)?;
        *binding = Binding::Optional(Optional { present, held });
    }
    let helds = both.map(|(_, binding)| match binding {
        Binding::Optional(optional) => optional.held,
        _ => Held::Nothing,
    });
    for i in [0, 1] {
        let (region, binding) = both[i];
        if let (Binding::Optional(Optional { present, held: Held::Nothing }), Some(other)) =
            (binding, helds.get(1 - i))
        {
            let held = nothing_like(importer, region, *other)?;
            both[i].1 = Binding::Optional(Optional { present, held });
        }
    }
    let both = both.map(|(_, binding)| binding);
    if both[0].parts().len() != both[1].parts().len() {
        return invalid("the branches give values of different kinds");
    }
    Ok(both)
}

/// What stands in for something like `other` where nothing is held.
fn nothing_like(importer: &mut Importer<'_>, region: RegionId, other: Held) -> Outcome<Held> {
    let mut b = importer.builder("optional", "If", region);
    Ok(match other {
        Held::Nothing => Held::Nothing,
        Held::Value(value) => {
            let ty = b.ty(value).clone();
            Held::Value(b.full(ty.dtype, vec![0.into(); ty.rank()], 0.0)?)
        }
        Held::Sequence(sequence) => {
            let (dtype, rank) = (b.ty(sequence.values).dtype, sequence.rank(&b));
            let empty = Sequence::empty(&mut b, dtype)?;
            Held::Sequence(match rank {
                Some(rank) => empty.with_rank(&mut b, rank)?,
                None => empty,
            })
        }
    })
}
