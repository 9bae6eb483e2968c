//! Ends the life of allocations that have a buffer of their own, after the last use: those whose size is known only
//! when the call is under way, and those that regions hand over. A loop thus holds what one iteration needs.

use std::collections::HashMap;

use ired_mlir::{Block, Builder, Op, Value};

use super::{ARENA, all_blocks, ancestor_in, entry_block, owned, users};
use crate::program::OWN;

pub(super) fn release_buffers(function: Op<'_>) {
    let Some(entry) = entry_block(function) else { return };
    for block in all_blocks(entry) {
        release_in(block);
    }
}

fn release_in(block: Block<'_>) {
    let ops: Vec<Op<'_>> = block.ops().collect();
    let positions: HashMap<Op<'_>, usize> = ops.iter().enumerate().map(|(i, op)| (*op, i)).collect();
    for (buffer, made) in held(block, &ops) {
        let users = users(buffer);
        // Who gets it releases it: the caller, or what is around the block.
        let leaves = users.iter().any(|op| op.is("ired.output"))
            || buffer.uses().iter().any(|(op, _)| Some(*op) == block.terminator());
        if leaves {
            continue;
        }
        let last = users.iter().filter_map(|op| positions.get(&ancestor_in(*op, block)?).copied()).max();
        let next = last.or(made).map_or(0, |last| last + 1);
        if let Some(b) = ops.get(next).copied().and_then(Builder::before) {
            b.release(buffer);
        }
    }
}

/// The allocations that the block holds, and the position of what made them; those of a loop's body come with it.
fn held<'m>(block: Block<'m>, ops: &[Op<'m>]) -> Vec<(Value<'m>, Option<usize>)> {
    let mut held: Vec<(Value<'m>, Option<usize>)> = Vec::new();
    if let Some(parent) = block.parent()
        && parent.is("scf.while")
        && parent.region(1).first_block() == Some(block)
    {
        held.extend(owned(parent).into_iter().map(|number| (block.argument(number), None)));
    }
    for (at, op) in ops.iter().enumerate() {
        if op.region_count() > 0 {
            held.extend(owned(*op).into_iter().map(|number| (op.result(number), Some(at))));
        } else if op.is("ired.host_call") {
            held.extend(
                op.results().filter(|result| !result.ty().is_index()).map(|result| (result, Some(at))),
            );
        } else if op.is("ired.alloc") && op.attribute(ARENA).is_none() && op.attribute(OWN).is_none() {
            held.push((op.result(0), Some(at)));
        }
    }
    held
}
