//! Which work must not overlap: the one analysis that ordering, placement and barriers share.

use std::collections::HashMap;

use ired_mlir::{Block, Op, Value};

use super::{Access, SLOT, accesses};

/// More work than this is never left to overlap; keeps the analysis linear.
const MAX_OVERLAPPING: usize = 512;

/// What the work recorded since the last barrier touches.
#[derive(Default)]
pub(super) struct Pending<'m> {
    touched: Vec<(Value<'m>, Access)>,
}

impl<'m> Pending<'m> {
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Whether work that touches this must wait for what is pending: one of the two writes what the other touches.
    pub(super) fn conflicts(&self, touched: &[(Value<'m>, Access)]) -> bool {
        self.touched.len() > MAX_OVERLAPPING
            || touched.iter().any(|(value, how)| {
                self.touched
                    .iter()
                    .any(|(other, before)| (how.writes || before.writes) && may_overlap(*value, *other))
            })
    }

    pub(super) fn add(&mut self, touched: Vec<(Value<'m>, Access)>) {
        self.touched.extend(touched);
    }

    pub(super) fn clear(&mut self) {
        self.touched.clear();
    }
}

/// Numbers the operations of a block by waves: work of one wave may overlap, work of a later wave waits for it.
/// Whatever has regions is a wave of its own.
pub(super) fn number_waves<'m>(block: Block<'m>) -> HashMap<Op<'m>, usize> {
    let mut waves = HashMap::new();
    let (mut wave, mut pending) = (0, Pending::default());
    for op in block.ops() {
        if op.is("ired.await") || op.region_count() > 0 {
            waves.insert(op, wave + 1);
            wave += 2;
            pending.clear();
            continue;
        }
        let touched = accesses(op);
        if pending.conflicts(&touched) {
            wave += 1;
            pending.clear();
        }
        waves.insert(op, wave);
        pending.add(touched);
    }
    waves
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
