//! Separates work that must not overlap: a barrier stands before work that reads what is being written, or writes
//! what is being read or written, and nowhere else.

use ired_mlir::{Block, Builder, Op};

use super::hazards::Pending;
use super::{accesses, entry_block};

pub(super) fn insert_barriers(function: Op<'_>) {
    if let Some(block) = entry_block(function) {
        separate(block);
    }
}

/// Whether any queue work is in `block`.
fn separate(block: Block<'_>) -> bool {
    let mut pending = Pending::default();
    let mut works = false;
    for op in block.ops().collect::<Vec<_>>() {
        if op.is("ired.await") {
            pending.clear();
            continue;
        }
        if op.region_count() > 0 {
            // What is inside starts and ends with nothing pending.
            let inside = op.regions().flat_map(|r| r.blocks()).map(separate).fold(false, |a, b| a | b);
            if inside && !pending.is_empty() {
                insert_before(op);
                pending.clear();
            }
            works |= inside;
            continue;
        }
        let touched = accesses(op);
        if touched.is_empty() {
            continue;
        }
        works = true;
        if pending.conflicts(&touched) {
            insert_before(op);
            pending.clear();
        }
        pending.add(touched);
    }
    let nested = block.parent().is_some_and(|op| !op.is("func.func"));
    if nested
        && !pending.is_empty()
        && let Some(end) = block.terminator()
    {
        insert_before(end);
    }
    works
}

fn insert_before(op: Op<'_>) {
    if let Some(b) = Builder::before(op) {
        b.barrier();
    }
}
