//! Separates work that must not overlap: a barrier stands before work that reads what is being written, or writes
//! what is being read or written, and nowhere else.

use ired_mlir::{Block, Builder, Op, Value};

use super::{Access, SLOT, accesses, entry_block};

/// More work than this is never left to overlap; keeps the analysis linear.
const MAX_OVERLAPPING: usize = 512;

pub(super) fn insert_barriers(function: Op<'_>) {
    if let Some(block) = entry_block(function) {
        separate(block);
    }
}

/// Whether any queue work is in `block`.
fn separate(block: Block<'_>) -> bool {
    let mut pending: Vec<(Value<'_>, Access)> = Vec::new();
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
        let conflict = pending.len() > MAX_OVERLAPPING
            || touched.iter().any(|(value, how)| {
                pending
                    .iter()
                    .any(|(other, before)| (how.writes || before.writes) && may_overlap(*value, *other))
            });
        if conflict {
            insert_before(op);
            pending.clear();
        }
        pending.extend(touched);
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

/// Whether two buffers may have a byte in common.
fn may_overlap<'m>(a: Value<'m>, b: Value<'m>) -> bool {
    if a == b {
        return true;
    }
    let (root_a, root_b) = (root(a), root(b));
    if root_a != root_b {
        return false;
    }
    let (Some(x), Some(y)) = (slice(a), slice(b)) else { return true };
    if let (Some(slot_x), Some(slot_y)) = (slot(x), slot(y)) {
        return slot_x == slot_y;
    }
    let range = |op: Op<'_>| Some((op.operand(1).as_constant()?, op.operand(2).as_constant()?));
    match (range(x), range(y)) {
        (Some((from_x, bytes_x)), Some((from_y, bytes_y))) => {
            from_x < from_y.saturating_add(bytes_y) && from_y < from_x.saturating_add(bytes_x)
        }
        _ => true,
    }
}

fn slice(value: Value<'_>) -> Option<Op<'_>> {
    value.definition().filter(|op| op.is("ired.slice"))
}

fn slot(slice: Op<'_>) -> Option<i64> {
    slice.attribute(SLOT)?.as_integer()
}

/// The allocation, input or parameter that a buffer is part of. Different ones are different memory, but for inputs,
/// which are never written.
fn root(mut value: Value<'_>) -> Value<'_> {
    while let Some(op) = slice(value) {
        value = op.operand(0);
    }
    value
}
