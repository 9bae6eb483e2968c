//! Loops that an operator brings with it.

use ired_graph::{Builder, Dim, Op, RegionId, ValueId};

use super::call::Outcome;

/// What one step makes of the state: the next state, and slices of what is stacked.
pub(super) struct Step {
    pub(super) state: Vec<ValueId>,
    pub(super) slices: Vec<ValueId>,
}

/// The state after `count` steps from `initial` on, then for each slice a stack `[count] ++ slice`. `step` is called
/// once, with the number of the step and the state before it.
pub(super) fn repeat(
    b: &mut Builder<'_>,
    count: Dim,
    initial: &[ValueId],
    step: impl FnOnce(&mut Builder<'_>, &Dim, &[ValueId]) -> Outcome<Step>,
) -> Outcome<Vec<ValueId>> {
    let region = b.graph.add_region();
    let index = b.graph.symbols.fresh("step");
    let before: Vec<ValueId> =
        initial.iter().map(|value| b.graph.add_region_input(region, b.graph.ty(*value).clone())).collect();
    let origin = b.origin.clone();
    let mut body = Builder::in_region(b.graph, region);
    body.origin = origin;
    let mut outputs = step(&mut body, &Dim::symbol(index), &before)?;
    for (next, before) in outputs.state.iter_mut().zip(&before) {
        *next = body.reshape(*next, body.ty(*before).shape.clone())?;
    }
    outputs.state.append(&mut outputs.slices);
    b.graph.set_outputs(region, outputs.state);
    Ok(b.push_with_regions(Op::Repeat { count, index }, initial, vec![region])?)
}

/// The state once `condition`, a bool scalar of the state, does not hold, from `initial` on. Both functions are called
/// once.
pub(super) fn repeat_while(
    b: &mut Builder<'_>,
    initial: &[ValueId],
    condition: impl FnOnce(&mut Builder<'_>, &[ValueId]) -> Outcome,
    step: impl FnOnce(&mut Builder<'_>, &[ValueId]) -> Outcome<Vec<ValueId>>,
) -> Outcome<Vec<ValueId>> {
    let regions = [b.graph.add_region(), b.graph.add_region()];
    let origin = b.origin.clone();
    let mut state = |region: RegionId| -> Vec<ValueId> {
        initial.iter().map(|value| b.graph.add_region_input(region, b.graph.ty(*value).clone())).collect()
    };
    let [before, during] = regions.map(&mut state);
    let mut inner = Builder::in_region(b.graph, regions[0]);
    inner.origin = origin.clone();
    let holds = condition(&mut inner, &before)?;
    b.graph.set_outputs(regions[0], vec![holds]);
    let mut inner = Builder::in_region(b.graph, regions[1]);
    inner.origin = origin;
    let after = step(&mut inner, &during)?;
    b.graph.set_outputs(regions[1], after);
    Ok(b.push_with_regions(Op::While, initial, regions.to_vec())?)
}
