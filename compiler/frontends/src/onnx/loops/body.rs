//! The body of a loop, whose state has types that hold in every iteration: imported again until they do.

use ired_graph::{Dim, RegionId, TensorType, ValueId};

use super::super::call::{Outcome, invalid, unsupported};
use super::super::import::{Binding, Frame, Importer, Scope};
use super::super::optional::{Held, Optional, truth};
use super::super::proto::GraphProto;

/// As often as this, each time with more sizes that may change; then nothing is left that could.
const MAX_ATTEMPTS: usize = 16;

/// The inputs of a body besides its state.
pub(super) struct Given {
    pub(super) before: Vec<Binding>,
    pub(super) after: Vec<Binding>,
}

/// A body once its types hold.
pub(super) struct Body {
    pub(super) region: RegionId,
    /// The outputs before the state.
    pub(super) leading: Vec<Binding>,
    /// The next state, of the kinds that the state has.
    pub(super) state: Vec<Binding>,
    /// The outputs after it.
    pub(super) slices: Vec<Binding>,
    /// Whether the body gives more than the optional value that it takes.
    certain: Vec<bool>,
    /// Symbols from this number on are the loop's own.
    first_symbol: usize,
}

impl Body {
    pub(super) fn slice(&self, slice: Binding) -> Outcome {
        match slice.value() {
            Some(value) => Ok(value),
            None => invalid("an output of the body that is stacked is no tensor"),
        }
    }

    /// Whether the sizes of a value of the body are the same in every iteration, and known before the loop.
    pub(super) fn is_known_outside(&self, importer: &Importer<'_>, value: ValueId) -> bool {
        let symbols = importer.graph.ty(value).shape.iter().flat_map(Dim::symbols);
        symbols.into_iter().all(|symbol| (symbol.0 as usize) < self.first_symbol)
    }

    /// The final state, what is certain to be there without its flag, and what follows.
    pub(super) fn unwrapped(&self, mut found: Vec<Binding>) -> Vec<Binding> {
        for (binding, _) in found.iter_mut().zip(&self.certain).filter(|(_, certain)| **certain) {
            *binding = match *binding {
                Binding::Optional(Optional { held: Held::Value(value), .. }) => Binding::Value(value),
                Binding::Optional(Optional { held: Held::Sequence(held), .. }) => Binding::Sequence(held),
                other => other,
            };
        }
        found
    }
}

/// Makes the inputs of a body besides its state in a new region.
type MakeGiven<'f> = dyn FnMut(&mut Importer<'_>, RegionId) -> Outcome<Given> + 'f;

/// What a body is made of.
#[derive(Clone, Copy)]
pub(super) struct Template<'t> {
    pub(super) graph: &'t GraphProto,
    pub(super) scope: &'t Scope<'t>,
    pub(super) frame: &'t Frame<'t>,
    /// Outputs before the state.
    pub(super) leading: usize,
    /// Symbols from this number on are the loop's own.
    pub(super) first_symbol: usize,
    /// The state keeps its sizes, whatever the body lets one know of them.
    pub(super) keeps_sizes: bool,
}

/// Imports a body with state that begins as `initial`, which takes on the rank of what the body makes of it. `None`
/// when something in it is refused.
pub(super) fn import_body(
    importer: &mut Importer<'_>,
    template: Template<'_>,
    initial: &mut [Binding],
    given: &mut MakeGiven<'_>,
) -> Outcome<Option<Body>> {
    let Template { graph, scope, frame, leading, first_symbol, keeps_sizes } = template;
    let mut types = types_of(importer, initial);
    for _ in 0..MAX_ATTEMPTS {
        let mark = importer.mark(frame.region);
        let region = importer.graph.add_region();
        let Given { before, after } = given(importer, region)?;
        let inputs = types.iter().map(|ty| importer.graph.add_region_input(region, ty.clone()));
        let mut inputs = inputs.collect::<Vec<_>>().into_iter();
        let state = initial.iter().map(|binding| binding.with_parts(&mut inputs));
        let all: Vec<Binding> = before.into_iter().chain(state).chain(after).collect();
        if graph.input.len() != all.len() {
            return invalid(format!("{} inputs of the body; expected {}", graph.input.len(), all.len()));
        }
        let outputs = importer.import_subgraph(graph, &all, scope, &frame.in_region(region))?;
        if importer.has_problems_since(&mark) || outputs.iter().any(|o| matches!(o, Binding::Unknown)) {
            return Ok(None);
        }
        if outputs.len() < leading + initial.len() {
            return invalid(format!(
                "{} outputs of the body for {} values carried",
                outputs.len(),
                initial.len()
            ));
        }
        let (head, slices) = outputs.split_at(leading + initial.len());
        let (head, next) = head.split_at(leading);
        let ranks: Vec<Option<usize>> =
            initial.iter().zip(next).map(|(from, to)| rank_taken_on(importer, *from, *to)).collect();
        if ranks.iter().any(Option::is_some) {
            importer.rollback(mark);
            for (binding, rank) in initial.iter_mut().zip(ranks) {
                if let Some(rank) = rank {
                    *binding = with_rank(importer, frame.region, *binding, rank)?;
                }
            }
            types = types_of(importer, initial);
            continue;
        }
        let mut state = Vec::with_capacity(next.len());
        for (from, to) in initial.iter().zip(next) {
            state.push(alike(importer, region, *from, *to)?);
        }
        if keeps_sizes {
            keep_sizes(importer, region, &types, &mut state)?;
        }
        if !widen(importer, &mut types, &types_of(importer, &state))? {
            let certain = next.iter().map(|to| !matches!(to, Binding::Optional(_))).collect();
            let (leading, slices) = (head.to_vec(), slices.to_vec());
            return Ok(Some(Body { region, leading, state, slices, certain, first_symbol }));
        }
        importer.rollback(mark);
    }
    unsupported("state whose sizes never settle", "give the body's values sizes that the state can have")
}

fn types_of(importer: &Importer<'_>, bindings: &[Binding]) -> Vec<TensorType> {
    let parts = bindings.iter().flat_map(|binding| binding.parts());
    parts.map(|part| importer.graph.ty(part).clone()).collect()
}

/// Makes a symbol of the loop's own of every size that is not the same after an iteration; says whether there was one.
fn widen(importer: &mut Importer<'_>, types: &mut [TensorType], next: &[TensorType]) -> Outcome<bool> {
    if types.len() != next.len() {
        return unsupported("state that changes its kind", "keep tensors tensors and sequences sequences");
    }
    let mut changed = false;
    for (i, (ty, next)) in types.iter_mut().zip(next).enumerate() {
        if (ty.dtype, ty.rank()) != (next.dtype, next.rank()) {
            let text = |ty: &TensorType| ty.display(&importer.graph.symbols).to_string();
            return unsupported(
                format!("state {i} that is {} before the body and {} after it", text(ty), text(next)),
                "keep the element type and the rank of what a loop carries",
            );
        }
        for (dim, next) in ty.shape.iter_mut().zip(&next.shape) {
            let symbols = &mut importer.graph.symbols;
            let own = dim.as_symbol().is_some_and(|symbol| symbols.get(symbol).name.starts_with(OWN));
            if !symbols.is_known_eq(dim, next) && !own {
                *dim = Dim::symbol(symbols.fresh(OWN));
                changed = true;
            }
        }
    }
    Ok(changed)
}

/// Gives tensors the sizes that they have in `types`, where they may have them.
fn keep_sizes(
    importer: &mut Importer<'_>,
    region: RegionId,
    types: &[TensorType],
    state: &mut [Binding],
) -> Outcome<()> {
    let mut b = importer.builder("state", "Scan", region);
    for (binding, ty) in state.iter_mut().zip(types) {
        let Binding::Value(value) = *binding else { return Ok(()) };
        if b.ty(value).rank() == ty.rank() {
            *binding = Binding::Value(b.reshape(value, ty.shape.clone())?);
        }
    }
    Ok(())
}

/// What the names of symbols begin with that are sizes of a loop's state.
const OWN: &str = "carried";

/// The rank that the tensors of a sequence have in the body, where it has none yet.
fn rank_taken_on(importer: &mut Importer<'_>, from: Binding, to: Binding) -> Option<usize> {
    let body = importer.graph.body;
    let b = importer.builder("", "", body);
    let (from, to) = (from.sequence()?, to.sequence()?);
    // An empty sequence is one of scalars as it is.
    if from.rank(&b).is_some() { None } else { to.rank(&b).filter(|rank| *rank > 0) }
}

pub(in super::super) fn with_rank(
    importer: &mut Importer<'_>,
    region: RegionId,
    binding: Binding,
    rank: usize,
) -> Outcome<Binding> {
    let mut b = importer.builder("sequence", "Loop", region);
    Ok(match binding {
        Binding::Sequence(sequence) => Binding::Sequence(sequence.with_rank(&mut b, rank)?),
        Binding::Optional(Optional { present, held: Held::Sequence(sequence) }) => {
            let held = Held::Sequence(sequence.with_rank(&mut b, rank)?);
            Binding::Optional(Optional { present, held })
        }
        other => other,
    })
}

/// `to` as the kind of value that `from` is.
fn alike(importer: &mut Importer<'_>, region: RegionId, from: Binding, to: Binding) -> Outcome<Binding> {
    let rank = {
        let b = importer.builder("", "", region);
        from.sequence().and_then(|from| from.rank(&b))
    };
    let to = match rank {
        Some(rank) => with_rank(importer, region, to, rank)?,
        None => to,
    };
    let held = match (from, to) {
        (Binding::Optional(_), Binding::Value(value)) => Held::Value(value),
        (Binding::Optional(_), Binding::Sequence(sequence)) => Held::Sequence(sequence),
        _ => return Ok(to),
    };
    let present = truth(&mut importer.builder("optional", "Loop", region), true)?;
    Ok(Binding::Optional(Optional { present, held }))
}
