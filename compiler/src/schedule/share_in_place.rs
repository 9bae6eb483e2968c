//! Lets an elementwise kernel write over an operand that nobody reads afterwards.

use std::collections::HashMap;

use ired_mlir::{Block, Op, Value};

use super::{WRITE, accesses, all_blocks, ancestor_in, bindings, entry_block, users};
use crate::program::{IN_PLACE, OWN};

pub(super) fn share_in_place(function: Op<'_>) {
    for block in entry_block(function).into_iter().flat_map(all_blocks) {
        share_in(block);
    }
}

fn share_in(block: Block<'_>) {
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
    // An iteration that neither reads what came before nor leaves anything is like a call of its own.
    let position = |op: Op<'m>| ancestor_in(op, block).and_then(|op| positions.get(&op));
    both_allocated
        && from != to
        && from.operand(0) == to.operand(0)
        && to.attribute(OWN).is_none()
        // Read once here, and not after.
        && operand.uses().into_iter().filter(|(op, _)| *op == dispatch).count() == 1
        && users(operand)
            .into_iter()
            .all(|op| !op.is("ired.output") && position(op).is_some_and(|at| Some(at) <= here))
        // Not touched before.
        && users(result).into_iter().all(|op| position(op) >= here)
}
