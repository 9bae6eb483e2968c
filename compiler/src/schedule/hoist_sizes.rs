//! Moves whatever is known before anything runs (sizes and their checks, parameters, allocations) to the front of the
//! entry block, so that work can change places freely and the arena's size is known where the arena is made.

use std::collections::HashSet;

use ired_mlir::Op;

use super::entry_block;
use crate::program::OWN;

pub(super) fn hoist_sizes(function: Op<'_>) {
    let Some(block) = entry_block(function) else { return };
    let mut early: HashSet<Op<'_>> = HashSet::new();
    let mut first_late = None;
    for op in block.ops().collect::<Vec<_>>() {
        let name = op.name();
        let movable = name.starts_with("arith.")
            || matches!(name.as_str(), "ired.input_dim" | "ired.check" | "ired.param" | "ired.alloc");
        let movable = movable && op.attribute(OWN).is_none();
        if !movable || !op.operands().all(|v| v.definition().is_none_or(|d| early.contains(&d))) {
            first_late.get_or_insert(op);
            continue;
        }
        early.insert(op);
        if let Some(late) = first_late {
            op.move_before(late);
        }
    }
}
