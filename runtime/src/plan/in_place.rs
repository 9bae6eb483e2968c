//! Outputs that a caller puts where inputs are, such as a cache that is updated: whether the schedule may write the
//! output there while it runs.
//!
//! It may where all that reads the input is over before the output is begun, or where the kernel that begins it takes
//! its operand and its result in the same bytes. Where it may not, the output is made elsewhere and copied at the end.

use std::ops::Range;

use ired_module::Access;

use crate::load::LoadedModule;
use crate::plan::CheckedOutput;
use crate::tape::{Item, Region, Space, Tape};

/// An output and an input that are the same bytes in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) output: usize,
    pub(crate) input: usize,
}

/// An item of the tape, and how many barriers stand before it.
#[derive(Clone, Copy, Debug)]
struct Place {
    item: usize,
    epoch: usize,
}

/// What the tape does to inputs and allocations, as far as it matters here.
#[derive(Debug)]
pub(super) struct Uses {
    /// By input: its last reader, and the one before.
    readers: Vec<[Option<Place>; 2]>,
    /// By allocation.
    first: Vec<Option<Place>>,
}

impl Uses {
    pub(super) fn of(tape: &Tape, inputs: usize) -> Self {
        let mut uses = Self { readers: vec![[None; 2]; inputs], first: vec![None; tape.allocations.len()] };
        let mut epoch = 0;
        for (item, recorded) in tape.items.iter().enumerate() {
            let place = Place { item, epoch };
            match recorded {
                Item::Barrier => epoch += 1,
                Item::Allocate(_) | Item::Release(_) => {}
                Item::Dispatch { bindings, .. } => {
                    tape.bindings(bindings).iter().for_each(|region| uses.note(*region, place));
                }
                Item::Copy { src, dst } => [src, dst].into_iter().for_each(|r| uses.note(*r, place)),
                Item::Fill { dst, .. } => uses.note(*dst, place),
            }
        }
        uses
    }

    fn note(&mut self, region: Region, place: Place) {
        match region.space {
            Space::Input(input) => {
                let [last, before] = &mut self.readers[usize::from(input)];
                if last.is_none_or(|last| last.item != place.item) {
                    *before = last.replace(place);
                }
            }
            Space::Allocation(index) => {
                self.first[index as usize].get_or_insert(place);
            }
            Space::Params => {}
        }
    }

    /// Whether `allocation` may be the very bytes of `input`.
    pub(super) fn may_be(&self, module: &LoadedModule, tape: &Tape, allocation: u32, input: usize) -> bool {
        let Some(first) = self.first[allocation as usize] else { return true };
        let over = |reader: &Option<Place>| reader.is_none_or(|reader| reader.epoch < first.epoch);
        let [last, before] = &self.readers[input];
        let begins = |reader: &Place| reader.item == first.item && over(before);
        let in_place = || works_in_place(module, tape, &tape.items[first.item], allocation, input);
        over(last) || (last.as_ref().is_some_and(begins) && in_place())
    }
}

/// Whether the work reads the input where it writes the allocation, byte for byte, and is made for that.
fn works_in_place(module: &LoadedModule, tape: &Tape, item: &Item, allocation: u32, input: usize) -> bool {
    let Item::Dispatch { entry, bindings, .. } = item else { return false };
    let bindings = tape.bindings(bindings);
    let only = |space: Space| {
        let mut bound = bindings.iter().zip(module.accesses(*entry)).filter(|(r, _)| r.space == space);
        bound.next().filter(|_| bound.next().is_none())
    };
    let read = only(Space::Input(input as u16));
    let written = only(Space::Allocation(allocation));
    let (Some((read, Access::ReadInPlace)), Some((written, Access::Write))) = (read, written) else {
        return false;
    };
    read.offset == written.offset
}

/// Makes outputs that are inputs themselves copies, which are placed like other outputs: where memory is shared, an
/// input may be gone when outputs are copied.
pub(crate) fn copy_inputs(tape: &mut Tape, outputs: &mut [CheckedOutput]) {
    for output in outputs.iter_mut().filter(|output| matches!(output.region.space, Space::Input(_))) {
        let src = output.source();
        let index = tape.allocate(src.bytes);
        let dst = Region { space: Space::Allocation(index), offset: 0, bytes: src.bytes };
        if src.bytes > 0 {
            tape.touch(dst);
            tape.items.push(Item::Copy { src, dst });
        }
        output.region = dst;
    }
}

/// Which outputs are where inputs are; `Err` says which output overlaps another tensor without being it: an input's
/// number, or behind them an output's.
///
/// Ranges are of places of the same kind: equal `memory` is the same buffer.
pub(crate) fn find_aliases<M: PartialEq>(
    inputs: &[(M, Range<u64>)],
    outputs: &[(M, Range<u64>, u64)],
) -> Result<Vec<Alias>, (usize, usize)> {
    let mut aliases = Vec::new();
    let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
    for (output, (memory, written, tensor_bytes)) in outputs.iter().enumerate() {
        for (input, (read_memory, read)) in inputs.iter().enumerate() {
            if memory != read_memory || !overlap(written, read) {
                continue;
            }
            if written.start != read.start || *tensor_bytes != read.end - read.start {
                return Err((output, input));
            }
            aliases.push(Alias { output, input });
        }
        for (other, (other_memory, other_written, _)) in outputs[..output].iter().enumerate() {
            if memory == other_memory && overlap(written, other_written) {
                return Err((output, inputs.len() + other));
            }
        }
    }
    Ok(aliases)
}
