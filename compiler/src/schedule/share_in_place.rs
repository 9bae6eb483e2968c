//! Lets an elementwise kernel write over an operand that nobody reads afterwards.

use std::collections::HashMap;

use ired_mlir::{Block, Op, Value};

use super::{WRITE, accesses, ancestor_in, bindings, entry_block};
use crate::program::IN_PLACE;

pub(super) fn share_in_place(function: Op<'_>) {
    let Some(block) = entry_block(function) else { return };
    let positions: HashMap<Op<'_>, usize> = block.ops().enumerate().map(|(i, op)| (op, i)).collect();
    for op in block.ops().filter(|op| op.is("ired.dispatch")).collect::<Vec<_>>() {
        let Some(candidates) = op.attribute(IN_PLACE).and_then(|a| a.as_array()) else { continue };
        let (bound, accesses) = (bindings(op), accesses(op));
        let mut written = accesses.iter().filter(|(_, how)| *how == WRITE).map(|(value, _)| *value);
        let (Some(result), None) = (written.next(), written.next()) else { continue };
        let shared = candidates
            .iter()
            .filter_map(|i| bound.get(usize::try_from(i.as_integer()?).ok()?).copied())
            .find(|&operand| can_share(op, operand, result, block, &positions));
        if let Some(operand) = shared
            && let Some(allocation) = result.definition()
        {
            result.replace_all_uses(operand);
            allocation.erase();
        }
    }
}

fn can_share<'m>(
    dispatch: Op<'m>,
    operand: Value<'m>,
    result: Value<'m>,
    block: Block<'m>,
    positions: &HashMap<Op<'m>, usize>,
) -> bool {
    let (Some(from), Some(to)) = (operand.definition(), result.definition()) else { return false };
    let both_allocated = from.is("ired.alloc") && to.is("ired.alloc");
    let here = positions.get(&dispatch);
    let position = |op: Op<'m>| ancestor_in(op, block).and_then(|op| positions.get(&op));
    both_allocated
        && from != to
        && from.operand(0) == to.operand(0)
        // Read once here, and not after.
        && operand.uses().into_iter().filter(|(op, _)| *op == dispatch).count() == 1
        && operand.uses().into_iter().all(|(op, _)| !op.is("ired.output") && position(op) <= here)
        // Not touched before.
        && result.uses().into_iter().all(|(op, _)| position(op) >= here)
}
