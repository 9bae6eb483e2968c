//! Which work must not overlap: the one analysis that ordering, placement and barriers share.

use std::collections::{HashMap, HashSet};

use ired_mlir::{Block, Op, Value};

use super::{Access, SLOT, accesses, passed_from};

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

/// The first and the last wave that each operation takes, nested ones included. Work of one wave may overlap, work of a
/// later wave waits for it. Whatever has regions takes a range of waves: those of its regions, one after the other.
pub(super) fn number_waves<'m>(block: Block<'m>) -> HashMap<Op<'m>, (usize, usize)> {
    let mut waves = HashMap::new();
    number_block(block, 0, &mut waves);
    waves
}

/// Numbers a block from wave `first` on; gives its last.
fn number_block<'m>(block: Block<'m>, first: usize, waves: &mut HashMap<Op<'m>, (usize, usize)>) -> usize {
    let (mut wave, mut pending) = (first, Pending::default());
    for op in block.ops() {
        if op.is("ired.await") || op.region_count() > 0 {
            let start = wave + 1;
            let blocks = op.regions().flat_map(|region| region.blocks());
            let end = blocks.fold(start, |last, block| number_block(block, last + 1, waves));
            waves.insert(op, (start, end));
            wave = end + 1;
            pending.clear();
            continue;
        }
        let touched = accesses(op);
        if pending.conflicts(&touched) {
            wave += 1;
            pending.clear();
        }
        waves.insert(op, (wave, wave));
        pending.add(touched);
    }
    wave
}

/// Whether two buffers may have a byte in common.
fn may_overlap<'m>(a: Value<'m>, b: Value<'m>) -> bool {
    if a == b {
        return true;
    }
    // What one loop carries is different memory, whatever it was made of.
    let home =
        |value: Value<'m>| root(value).block_argument().filter(|_| !passed_from(root(value)).is_empty());
    if let (Some((block_a, a)), Some((block_b, b))) = (home(a), home(b))
        && block_a == block_b
        && a != b
    {
        return false;
    }
    let (a, b) = (origins(a), origins(b));
    a.iter().any(|a| b.iter().any(|b| overlap(*a, *b)))
}

/// As [`may_overlap`], of buffers that no control flow has made.
fn overlap<'m>(a: Value<'m>, b: Value<'m>) -> bool {
    if a == b {
        return true;
    }
    if root(a) != root(b) {
        return false;
    }
    let (Some(x), Some(y)) = (outer_slice(a), outer_slice(b)) else { return true };
    if x == y {
        return true;
    }
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

/// What control flow may have made the buffer of; the buffer itself if none did.
fn origins(value: Value<'_>) -> Vec<Value<'_>> {
    let (mut seen, mut pending) = (HashSet::from([value]), vec![value]);
    let mut origins = Vec::new();
    while let Some(value) = pending.pop() {
        let from = passed_from(root(value));
        if from.is_empty() {
            origins.push(value);
        }
        pending.extend(from.into_iter().filter(|value| seen.insert(*value)));
    }
    origins
}

fn slice(value: Value<'_>) -> Option<Op<'_>> {
    value.definition().filter(|op| op.is("ired.slice"))
}

/// The slice of the whole allocation that a buffer is part of.
fn outer_slice(value: Value<'_>) -> Option<Op<'_>> {
    let mut outer = slice(value)?;
    while let Some(op) = slice(outer.operand(0)) {
        outer = op;
    }
    Some(outer)
}

fn slot(slice: Op<'_>) -> Option<i64> {
    slice.attribute(SLOT)?.as_integer()
}

/// The allocation, input or parameter that a buffer is part of, or what control flow gave. Different allocations are
/// different memory; so are inputs, which are never written.
fn root(mut value: Value<'_>) -> Value<'_> {
    while let Some(op) = slice(value) {
        value = op.operand(0);
    }
    value
}
