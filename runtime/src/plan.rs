//! A whole schedule as one command buffer: places every allocation, records the work, and says what a call binds.
//!
//! Transient allocations share one arena. A released range is used again only behind a barrier, because work
//! between barriers may overlap. An allocation that is exactly an output becomes that output's buffer; other
//! outputs are copied at the end. So are those that a call has where an input is, unless the input is done with when
//! they are begun.

mod arena;
pub(crate) mod in_place;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ired_hal::{
    Access, AllocateError, Binding, Buffer, CommandBuffer, Dispatch, Pattern, RecordError, Recorder,
};

use self::arena::{ALIGNMENT, Arena};
use self::in_place::{Alias, Uses, copy_inputs};
use crate::error::{Fault, InvokeError};
use crate::inputs::{Entry, Symbols};
use crate::load::LoadedModule;
use crate::machine::{InputShape, Machine, Stop};
use crate::tape::{Allocation, Item, OutputRegion, Region, Space, Tape};

/// What a schedule does for inputs of given dimensions, ready to be submitted any number of times.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `None` when there is nothing to do.
    pub(crate) commands: Option<Arc<dyn CommandBuffer>>,
    /// Bytes of each input, in order; its slot is its position.
    pub(crate) input_bytes: Vec<u64>,
    /// The slot of output `i` is the number of inputs plus `i`.
    pub(crate) outputs: Vec<PlannedOutput>,
    /// Behind the last slot of outputs. May be 0 with work still bound to it, of no bytes.
    pub(crate) arena_bytes: u64,
    /// All that a call allocates.
    pub(crate) total_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct PlannedOutput {
    pub(crate) dims: Vec<u64>,
    pub(crate) tensor_bytes: u64,
    /// What to allocate; not less than the tensor.
    pub(crate) buffer_bytes: u64,
}

/// Far above any machine, and far below where offsets overflow.
const MAX_ARENA_BYTES: u64 = 1 << 56;

/// Where an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Arena { offset: u64 },
    Output(usize),
}

impl Plan {
    /// Interprets the schedule of `entry` for `shapes` and records it, for calls where `aliases` hold.
    pub(crate) fn build(
        module: &LoadedModule,
        entry: &Entry,
        shapes: &[InputShape],
        symbols: &Symbols,
        aliases: &[Alias],
        fuel: u64,
    ) -> Result<Self, InvokeError> {
        let function = module.function(entry.function);
        let mut machine = Machine::new(function, fuel);
        let stop = machine.run(function, shapes, module);
        match stop.map_err(|crash| module.fault(entry.function, crash))? {
            Stop::Check { message } => return Err(module.check_failed(message)),
            // A replayable function has no instruction for the others.
            Stop::Return
            | Stop::ReturnScalar(_)
            | Stop::Await
            | Stop::Load { .. }
            | Stop::HostCall { .. } => {}
        }
        let mut outputs = take_outputs(entry, &mut machine.tape, symbols)
            .map_err(|fault| module.fault(entry.function, machine.crash_here(fault)))?;
        if !aliases.is_empty() {
            copy_inputs(&mut machine.tape, &mut outputs);
        }
        let tape = &machine.tape;
        let uses = (!aliases.is_empty()).then(|| Uses::of(tape, shapes.len()));
        let may_fill = |output: usize, allocation: u32| {
            let inputs = aliases.iter().filter(|alias| alias.output == output).map(|alias| alias.input);
            let mut uses = inputs.zip(uses.iter().cycle());
            uses.all(|(input, uses)| uses.may_be(module, tape, allocation, input))
        };
        let (homes, arena_bytes) = place(tape, &outputs, &may_fill);
        if arena_bytes > module.device().info().memory_bytes.min(MAX_ARENA_BYTES) {
            return Err(InvokeError::Allocate(AllocateError::OutOfMemory { bytes: arena_bytes }));
        }

        let inputs = shapes.len() as u32;
        let arena_slot = inputs + outputs.len() as u32;
        let resolve = |region: Region| match region.space {
            Space::Input(input) => Some(bind_slot(u32::from(input), region.offset, region)),
            Space::Params => module.params().map(|buffer| bind_buffer(buffer, region)),
            Space::Allocation(index) => Some(match homes[index as usize] {
                Home::Arena { offset } => bind_slot(arena_slot, offset + region.offset, region),
                Home::Output(output) => bind_slot(inputs + output as u32, region.offset, region),
            }),
        };
        let mut recorder = Recorder::new();
        let mut empty = record(module, tape, &resolve, &mut recorder)?;
        recorder.barrier();
        for (index, output) in outputs.iter().enumerate() {
            if output.is_home(&homes, index) || output.bytes == 0 {
                continue;
            }
            if let Some(src) = resolve(output.source()) {
                recorder.copy(src, Binding::slot(inputs + index as u32, 0, output.bytes, Access::Write))?;
                empty = false;
            }
        }
        let commands = match empty {
            true => None,
            false => Some(module.device().create_command_buffer(recorder.finish())?),
        };
        let outputs: Vec<PlannedOutput> = outputs
            .into_iter()
            .enumerate()
            .map(|(index, output)| PlannedOutput {
                tensor_bytes: output.bytes,
                buffer_bytes: output.buffer_bytes(&homes, index, &tape.allocations),
                dims: output.dims,
            })
            .collect();
        let output_bytes = outputs.iter().try_fold(0u64, |sum, output| sum.checked_add(output.buffer_bytes));
        let total_bytes = output_bytes.and_then(|bytes| bytes.checked_add(arena_bytes)).unwrap_or(u64::MAX);
        let input_bytes = shapes.iter().map(|shape| shape.bytes).collect();
        Ok(Self { commands, input_bytes, outputs, arena_bytes, total_bytes })
    }
}

/// An output that has been checked against the signature.
#[derive(Debug)]
pub(crate) struct CheckedOutput {
    pub(crate) region: Region,
    pub(crate) dims: Vec<u64>,
    /// What the tensor takes; not more than the region.
    pub(crate) bytes: u64,
}

impl CheckedOutput {
    /// The bytes of the tensor.
    pub(crate) fn source(&self) -> Region {
        Region { bytes: self.bytes, ..self.region }
    }

    /// The allocation that this output fills but for padding, if it does.
    pub(crate) fn fills(&self, allocations: &[Allocation]) -> Option<u32> {
        let Space::Allocation(index) = self.region.space else { return None };
        let allocated = allocations[index as usize].bytes;
        let filled = self.region.offset == 0 && allocated - self.bytes < ALIGNMENT;
        filled.then_some(index)
    }

    fn is_home(&self, homes: &[Home], index: usize) -> bool {
        let Space::Allocation(allocation) = self.region.space else { return false };
        homes[allocation as usize] == Home::Output(index)
    }

    fn buffer_bytes(&self, homes: &[Home], index: usize, allocations: &[Allocation]) -> u64 {
        match self.region.space {
            Space::Allocation(allocation) if self.is_home(homes, index) => {
                allocations[allocation as usize].bytes
            }
            _ => self.bytes,
        }
    }
}

/// Checks what the schedule gave as outputs. Verification has seen that all are set at the return.
pub(crate) fn take_outputs(
    entry: &Entry,
    tape: &mut Tape,
    symbols: &Symbols,
) -> Result<Vec<CheckedOutput>, Fault> {
    let outputs = std::mem::take(&mut tape.outputs);
    let mut checked = Vec::with_capacity(outputs.len());
    for (index, output) in outputs.into_iter().enumerate() {
        let Some(OutputRegion { region, dims }) = output else { continue };
        let number = index as u16;
        if !entry.allows_output(index, &dims, symbols) {
            return Err(Fault::OutputDims { output: number, found: dims });
        }
        let needed_bytes = entry.outputs[index].dtype.tensor_bytes(&dims).unwrap_or(u64::MAX);
        if needed_bytes > region.bytes {
            return Err(Fault::OutputTooShort { output: number, needed_bytes, buffer_bytes: region.bytes });
        }
        checked.push(CheckedOutput { region, dims, bytes: needed_bytes });
    }
    Ok(checked)
}

/// Gives every allocation its place; also the bytes of the arena. `may_fill` says whether the memory of an output may
/// be that of an allocation.
fn place(tape: &Tape, outputs: &[CheckedOutput], may_fill: &impl Fn(usize, u32) -> bool) -> (Vec<Home>, u64) {
    let mut homes: Vec<Option<Home>> = vec![None; tape.allocations.len()];
    for (index, output) in outputs.iter().enumerate() {
        if let Some(allocation) = output.fills(&tape.allocations)
            && may_fill(index, allocation)
        {
            homes[allocation as usize].get_or_insert(Home::Output(index));
        }
    }
    let mut arena = Arena::default();
    for item in &tape.items {
        match *item {
            Item::Allocate(index) => {
                let bytes = tape.allocations[index as usize].bytes;
                homes[index as usize].get_or_insert_with(|| Home::Arena { offset: arena.take(bytes) });
            }
            Item::Release(index) => {
                if let Some(Home::Arena { offset }) = homes[index as usize] {
                    arena.release(offset, tape.allocations[index as usize].bytes);
                }
            }
            Item::Barrier => arena.barrier(),
            _ => {}
        }
    }
    // Every allocation has its item on the tape.
    (homes.into_iter().map(|home| home.unwrap_or(Home::Arena { offset: 0 })).collect(), arena.bytes)
}

/// A place in one arena for every allocation that ends within the piece on the tape, by number; also the arena's bytes.
pub(crate) fn place_piece(tape: &Tape) -> (HashMap<u32, u64>, u64) {
    let ends = |item: &Item| if let Item::Release(index) = item { Some(*index) } else { None };
    let ends: HashSet<u32> = tape.items.iter().filter_map(ends).collect();
    let (mut arena, mut places) = (Arena::default(), HashMap::new());
    for item in &tape.items {
        match *item {
            Item::Allocate(index) if ends.contains(&index) => {
                places.insert(index, arena.take(tape.allocations[index as usize].bytes));
            }
            Item::Release(index) => {
                if let Some(&offset) = places.get(&index) {
                    arena.release(offset, tape.allocations[index as usize].bytes);
                }
            }
            Item::Barrier => arena.barrier(),
            _ => {}
        }
    }
    (places, arena.bytes)
}

/// `region` of a slot; what is done to it, [`record`] says.
pub(crate) fn bind_slot(slot: u32, offset: u64, region: Region) -> Binding {
    Binding::slot(slot, offset, region.bytes, Access::Unknown)
}

/// `region` of `buffer`; what is done to it, [`record`] says.
pub(crate) fn bind_buffer(buffer: &Arc<dyn Buffer>, region: Region) -> Binding {
    Binding::buffer(buffer, region.offset, region.bytes, Access::Unknown)
}

/// Records the work on a tape; true when there was none.
pub(crate) fn record(
    module: &LoadedModule,
    tape: &Tape,
    resolve: &impl Fn(Region) -> Option<Binding>,
    recorder: &mut Recorder,
) -> Result<bool, RecordError> {
    let mut empty = true;
    for item in &tape.items {
        match item {
            Item::Allocate(_) | Item::Release(_) => continue,
            Item::Barrier => {
                recorder.barrier();
                continue;
            }
            Item::Dispatch { instruction, entry, grid, bindings, constants } => {
                // A module without kernels has no dispatches: verification bounds their entries.
                let Some(executable) = module.executable() else { continue };
                let bindings = tape.bindings(bindings).iter().zip(module.accesses(*entry));
                let bindings = bindings.filter_map(|(&region, &access)| {
                    resolve(region).map(|binding| Binding { access: done_by(access), ..binding })
                });
                recorder.dispatch(Dispatch {
                    executable: executable.clone(),
                    entry: *entry,
                    grid: *grid,
                    bindings: bindings.collect(),
                    constants: tape.constants(constants).to_vec(),
                    tag: *instruction,
                })?;
            }
            Item::Copy { src, dst } => {
                if let (Some(src), Some(dst)) = (resolve(*src), resolve(*dst)) {
                    recorder.copy(src, dst)?;
                }
            }
            Item::Fill { dst, pattern } => fill(*dst, *pattern, resolve, recorder)?,
        }
        empty = false;
    }
    Ok(empty)
}

/// What a kernel does, as the device is told.
fn done_by(access: ired_module::Access) -> Access {
    match access {
        ired_module::Access::Read | ired_module::Access::ReadInPlace => Access::Read,
        ired_module::Access::Write => Access::Write,
        ired_module::Access::ReadWrite => Access::ReadWrite,
    }
}

fn fill(
    dst: Region,
    pattern: Pattern,
    resolve: &impl Fn(Region) -> Option<Binding>,
    recorder: &mut Recorder,
) -> Result<(), RecordError> {
    match resolve(dst) {
        Some(dst) => recorder.fill(dst, pattern),
        None => Ok(()),
    }
}
