//! Puts all transient buffers into one allocation, the arena, so that buffers that do not live at the same time
//! share its bytes.
//!
//! With sizes all known, every buffer gets the offset that fits best. Otherwise buffers are grouped into slots as
//! large as the largest of their members turns out to be, and a slot starts where the one before ends: the
//! size of the arena then is one expression, computed before anything runs.

use std::collections::HashMap;

use ired_mlir::{Block, Builder, Op, Value};

use super::hazards::number_waves;
use super::{ARENA, SLOT, accesses, ancestor_in, entry_block, users};
use crate::program::OWN;

/// What the bindings of kernels may count on.
const ALIGNMENT: i64 = 64;

/// What an unknown size is taken for where only an order is wanted.
const NOMINAL_SIZE: i64 = 32;

/// A buffer and when it lives: the first and the last wave of work that touch it. Work of one wave may overlap, so
/// buffers of one wave never share.
struct Buffer<'m> {
    allocation: Op<'m>,
    bytes: Value<'m>,
    first: usize,
    last: usize,
}

pub(super) fn place_buffers(function: Op<'_>) {
    let Some(block) = entry_block(function) else { return };
    // Sizes that are known before anything runs stand ahead of the first work; other buffers are no part of this.
    let looks = |op: &Op<'_>| op.is("ired.await") || op.is("ired.load") || op.is("ired.host_call");
    let work = block.ops().find(|op| op.region_count() > 0 || !accesses(*op).is_empty() || looks(op));
    let Some(work) = work else { return };
    let buffers = transient_buffers(block, work);
    let Some(b) = Builder::before(work).filter(|_| !buffers.is_empty()) else { return };
    let sizes: Option<Vec<i64>> = buffers.iter().map(|buffer| buffer.bytes.as_constant()).collect();
    match sizes {
        Some(sizes) => place_at_offsets(&buffers, &sizes, &b),
        None => place_in_slots(&buffers, &b),
    }
    for buffer in buffers {
        buffer.allocation.erase();
    }
}

/// Allocations ahead of `work` that end with the invocation. Those that callers get stay on their own.
fn transient_buffers<'m>(block: Block<'m>, work: Op<'m>) -> Vec<Buffer<'m>> {
    let waves = number_waves(block);
    let mut buffers = Vec::new();
    let early: Vec<Op<'m>> = block.ops().take_while(|op| *op != work).collect();
    for op in early.into_iter().filter(|op| op.is("ired.alloc") && op.attribute(OWN).is_none()) {
        let users = users(op.result(0));
        if users.is_empty() {
            op.erase();
            continue;
        }
        if users.iter().any(|user| user.is("ired.output")) {
            continue;
        }
        // What only one iteration uses lives within one.
        let Some(home) = common_block(&users) else { continue };
        let at = || users.iter().filter_map(|user| waves.get(&ancestor_in(*user, home)?));
        let (first, last) = (at().map(|at| at.0).min(), at().map(|at| at.1).max());
        let (Some(first), Some(last)) = (first, last) else { continue };
        buffers.push(Buffer { allocation: op, bytes: op.operand(0), first, last });
    }
    buffers
}

/// The innermost block that all of `ops` are in.
fn common_block<'m>(ops: &[Op<'m>]) -> Option<Block<'m>> {
    let mut block = ops.first()?.block()?;
    while !ops.iter().all(|op| ancestor_in(*op, block).is_some()) {
        block = block.parent()?.block()?;
    }
    Some(block)
}

fn align(bytes: i64) -> i64 {
    bytes.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

/// Largest first, each at the lowest free offset among those that live at the same time.
fn place_at_offsets<'m>(buffers: &[Buffer<'m>], sizes: &[i64], b: &Builder<'m>) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), buffers[i].first));
    let mut placed: Vec<(usize, i64)> = Vec::new();
    let mut total = 0;
    for i in order {
        let size = align(sizes[i]);
        let mut busy: Vec<(i64, i64)> = placed
            .iter()
            .filter(|(other, _)| overlap(&buffers[i], &buffers[*other]))
            .map(|&(other, offset)| (offset, offset.saturating_add(align(sizes[other]))))
            .collect();
        busy.sort_unstable();
        // The tightest gap that fits, or the end.
        let (mut offset, mut best) = (0i64, None);
        for (from, to) in busy {
            let gap = from - offset;
            if gap >= size && best.is_none_or(|(tightest, _)| gap < tightest) {
                best = Some((gap, offset));
            }
            offset = offset.max(to);
        }
        let offset = best.map_or(offset, |(_, offset)| offset);
        total = total.max(offset.saturating_add(size));
        placed.push((i, offset));
    }
    let arena = make_arena(b.index(total), b);
    for (i, offset) in placed {
        replace(&buffers[i], arena, b.index(offset), None, b);
    }
}

fn overlap(a: &Buffer<'_>, b: &Buffer<'_>) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// Largest first, by what sizes are when every unknown is the same number; a slot takes what does not live at the
/// same time as its members.
fn place_in_slots<'m>(buffers: &[Buffer<'m>], b: &Builder<'m>) {
    let mut known = HashMap::new();
    let estimates: Vec<i64> = buffers.iter().map(|buffer| estimate(buffer.bytes, &mut known)).collect();
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(estimates[i]), buffers[i].first));
    let mut slots: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let free = |slot: &Vec<usize>| slot.iter().all(|&j| !overlap(&buffers[i], &buffers[j]));
        // Slots were opened from large to small: the last free one is the tightest. One with a member of the very
        // same size costs nothing whatever the unknowns are.
        let same = |slot: &Vec<usize>| slot.iter().any(|&j| buffers[j].bytes == buffers[i].bytes);
        let tightest =
            slots.iter().rposition(|slot| free(slot) && same(slot)).or_else(|| slots.iter().rposition(&free));
        match tightest {
            Some(slot) => slots[slot].push(i),
            None => slots.push(vec![i]),
        }
    }
    let mut aligned: HashMap<Value<'m>, Value<'m>> = HashMap::new();
    let mut offset = b.index(0);
    let mut offsets = Vec::with_capacity(slots.len());
    for slot in &slots {
        offsets.push(offset);
        let mut sizes: Vec<Value<'m>> = Vec::new();
        for &i in slot {
            if !sizes.contains(&buffers[i].bytes) {
                sizes.push(buffers[i].bytes);
            }
        }
        let largest = sizes.iter().skip(1).fold(sizes[0], |a, s| b.maxsi(a, *s));
        let rounded = *aligned.entry(largest).or_insert_with(|| {
            let more = b.addi(largest, b.index(ALIGNMENT - 1));
            let units = b.simple("arith.floordivsi", &[more, b.index(ALIGNMENT)], b.index_type());
            b.muli(units, b.index(ALIGNMENT))
        });
        offset = b.addi(offset, rounded);
    }
    let arena = make_arena(offset, b);
    for (number, (slot, offset)) in slots.iter().zip(offsets).enumerate() {
        for &i in slot {
            replace(&buffers[i], arena, offset, Some(number), b);
        }
    }
}

fn make_arena<'m>(bytes: Value<'m>, b: &Builder<'m>) -> Value<'m> {
    let arena = b.alloc(bytes);
    if let Some(op) = arena.definition() {
        op.set_attribute(ARENA, b.unit_attribute());
    }
    arena
}

fn replace<'m>(
    buffer: &Buffer<'m>,
    arena: Value<'m>,
    offset: Value<'m>,
    slot: Option<usize>,
    b: &Builder<'m>,
) {
    let slice = b.slice(arena, offset, buffer.bytes);
    if let (Some(slot), Some(op)) = (slot, slice.definition()) {
        op.set_attribute(SLOT, b.i64_attribute(slot as i64));
    }
    buffer.allocation.result(0).replace_all_uses(slice);
}

/// What a size is when every unknown is [`NOMINAL_SIZE`].
fn estimate<'m>(value: Value<'m>, known: &mut HashMap<Value<'m>, i64>) -> i64 {
    if let Some(found) = known.get(&value) {
        return *found;
    }
    let Some(op) = value.definition() else { return NOMINAL_SIZE };
    let estimated = if let Some(constant) = value.as_constant() {
        constant
    } else if op.operand_count() == 2 {
        let (x, y) = (estimate(op.operand(0), known), estimate(op.operand(1), known));
        match op.name().as_str() {
            "arith.addi" => x.saturating_add(y),
            "arith.subi" => x.saturating_sub(y),
            "arith.muli" => x.saturating_mul(y),
            "arith.maxsi" => x.max(y),
            "arith.minsi" => x.min(y),
            _ => x.checked_div(y).unwrap_or(x),
        }
    } else {
        NOMINAL_SIZE
    };
    known.insert(value, estimated);
    estimated
}
