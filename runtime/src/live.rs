//! A schedule that looks at results: submitted in pieces, carried on by whichever thread completes a piece.
//!
//! Allocations that end in the piece they begin in share an arena of that piece; each other has a buffer of its own
//! from the instance's pool. Nothing here waits.

mod host_call;

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use ired_hal::{
    Access, AllocateError, Binding, BufferRange, CommandBuffer, Failure, Inline, Operation, Recorder,
    Semaphore, Submission, Timepoint, timeline,
};
use ired_module::DType;
use ired_module::code::Scalar;

use crate::error::{Fault, InvokeError};
use crate::inputs::{Entry, Symbols};
use crate::instance::{InvokeOptions, Shared};
use crate::invocation::{DONE, Invocation, Lease, State};
use crate::machine::{InputShape, Machine, Stop};
use crate::outputs::{OutputMemory, aliases, allocate_output};
use crate::plan::in_place::copy_inputs;
use crate::plan::{CheckedOutput, bind_buffer, bind_slot, place_piece, record, take_outputs};
use crate::pool::round_up;
use crate::strings::CallStrings;
use crate::tape::{Item, Region, Space};
use crate::tensor::BoundTensor;

/// A call between two pieces.
struct Live {
    instance: Arc<Shared>,
    entry: usize,
    machine: Machine,
    shapes: Vec<InputShape>,
    symbols: Symbols,
    inputs: Vec<BoundTensor>,
    deadline: Option<Instant>,
    strings: CallStrings,
    output_memory: Option<Arc<dyn OutputMemory>>,
    /// By allocation; empty before the piece that it belongs to, and after its release.
    memory: Vec<Lease>,
    /// Where in [`Live::arena`] allocations of the piece are that end in it.
    places: HashMap<u32, u64>,
    arena: Lease,
    memory_bytes: u64,
    /// Counts pieces.
    step: Arc<dyn Semaphore>,
    pieces: u64,
    state: Arc<State>,
    /// The end has been told, or submitted work will tell it.
    settled: bool,
}

/// What is to happen next.
enum Next {
    /// The piece has run already.
    GoOn,
    /// The piece signals this.
    After(Timepoint),
    Settled,
}

/// Starts a call whose inputs have been checked.
pub(crate) fn start(
    instance: Arc<Shared>,
    entry: usize,
    inputs: Vec<BoundTensor>,
    shapes: Vec<InputShape>,
    symbols: Symbols,
    options: &InvokeOptions,
) -> Result<Invocation, InvokeError> {
    let device = instance.module.device().clone();
    let function = instance.module.function(instance.module.entry_at(entry).function);
    let state = State::new(instance.clone(), device.create_semaphore(0));
    let live = Box::new(Live {
        machine: Machine::in_pieces(function, options.fuel),
        entry,
        shapes,
        symbols,
        inputs,
        deadline: options.deadline,
        strings: options.strings.clone().unwrap_or_else(|| instance.call_strings()),
        output_memory: options.outputs.clone(),
        memory: Vec::new(),
        places: HashMap::new(),
        arena: Lease::default(),
        memory_bytes: 0,
        step: device.create_semaphore(0),
        pieces: 0,
        state: state.clone(),
        settled: false,
        instance,
    });
    if options.waits.is_empty() {
        live.advance(options.inline);
    } else {
        timeline::when_all_reached(&options.waits, move |outcome| live.resume(outcome));
    }
    Ok(Invocation::new(state))
}

impl Live {
    fn resume(mut self: Box<Self>, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => self.advance(Inline::Forbidden),
            Err(failure) => self.settle(Err(InvokeError::Failed(failure))),
        }
    }

    /// Runs until a piece has to be waited for, or the end.
    fn advance(mut self: Box<Self>, inline: Inline) {
        loop {
            match self.next(inline) {
                Ok(Next::GoOn) => {}
                Ok(Next::Settled) => return self.settle(Ok(())),
                Ok(Next::After(point)) => {
                    let resume = Box::new(move |outcome| self.resume(outcome));
                    return point.semaphore.when_reached(point.value, resume);
                }
                Err(error) => return self.settle(Err(error)),
            }
        }
    }

    fn settle(&mut self, outcome: Result<(), InvokeError>) {
        self.settled = true;
        if let Err(error) = outcome {
            self.state.fail(error);
        }
    }

    fn next(&mut self, inline: Inline) -> Result<Next, InvokeError> {
        let module = self.instance.module.clone();
        let entry = module.entry_at(self.entry);
        let function = module.function(entry.function);
        self.give_back_released();
        loop {
            if let Some(error) = self.given_up() {
                return Err(error);
            }
            let stop = self.machine.run(function, &self.shapes, &*module);
            match stop.map_err(|crash| module.fault(entry.function, crash))? {
                Stop::Load { dst, dtype, at } => self.load(entry, dst, dtype, at)?,
                Stop::HostCall { call } => self.call_host(entry, function, call)?,
                Stop::Check { message } => return Err(module.check_failed(message)),
                Stop::Await => return self.submit_piece(inline),
                Stop::Return | Stop::ReturnScalar(_) => {
                    self.submit_last(entry, inline)?;
                    return Ok(Next::Settled);
                }
            }
        }
    }

    /// Why nobody waits for the call any more, if so.
    fn given_up(&self) -> Option<InvokeError> {
        if self.state.is_cancelled() {
            return Some(InvokeError::Cancelled);
        }
        let passed = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        passed.then_some(InvokeError::DeadlinePassed)
    }

    /// Memory released by the pieces that have run.
    fn give_back_released(&mut self) {
        self.places.clear();
        let released = self.machine.tape.take_released();
        let leases = released.into_iter().map(|index| mem::take(&mut self.memory[index as usize]));
        for lease in leases.chain([mem::take(&mut self.arena)]) {
            if let Some(buffer) = lease.buffer {
                self.memory_bytes -= buffer.len_bytes();
                self.instance.pool.give(buffer);
            }
        }
    }

    fn load(&mut self, entry: &Entry, dst: Scalar, dtype: DType, at: Region) -> Result<(), InvokeError> {
        let module = &self.instance.module;
        let range = self.range(at.space);
        let bytes = (dtype.bits() / 8) as usize;
        let mut element = [0; 8];
        let outcome = match range {
            Some(range) => range.buffer.read(range.offset_bytes + at.offset, &mut element[..bytes]),
            None => return Err(module.fault(entry.function, self.machine.crash_here(Fault::LoadBeforeAwait))),
        };
        outcome.map_err(|error| module.fault(entry.function, self.machine.crash_here(Fault::Load(error))))?;
        self.machine.load(dst, dtype, element).map_err(|crash| module.fault(entry.function, crash))
    }

    /// The bytes of a space.
    fn range(&self, space: Space) -> Option<BufferRange> {
        match space {
            Space::Input(input) => {
                let bytes = self.shapes[usize::from(input)].bytes;
                let range = self.inputs[usize::from(input)].buffer.clone();
                Some(BufferRange { len_bytes: bytes, ..range })
            }
            Space::Params => self.instance.module.params().map(BufferRange::whole),
            Space::Allocation(index) => {
                let lease = match self.places.get(&index) {
                    Some(_) => &self.arena,
                    None => self.memory.get(index as usize)?,
                };
                lease.buffer.as_ref().map(BufferRange::whole)
            }
        }
    }

    /// Gives memory to the allocations of this piece.
    fn allocate(&mut self) -> Result<(), InvokeError> {
        let tape = &self.machine.tape;
        self.memory.resize_with(tape.allocations.len(), Lease::default);
        let (places, arena_bytes) = place_piece(tape);
        let begins = |item: &Item| if let Item::Allocate(index) = item { Some(*index) } else { None };
        let own: Vec<(u32, u64)> = tape
            .items
            .iter()
            .filter_map(begins)
            .filter(|index| !places.contains_key(index))
            .map(|index| (index, tape.allocations[index as usize].bytes))
            .collect();
        if !places.is_empty() {
            self.arena = self.lease(arena_bytes)?;
            self.places = places;
        }
        for (index, bytes) in own {
            self.memory[index as usize] = self.lease(bytes)?;
        }
        Ok(())
    }

    fn lease(&mut self, bytes: u64) -> Result<Lease, InvokeError> {
        let (device, bytes) = (self.instance.module.device(), round_up(bytes));
        let total = self.memory_bytes.saturating_add(bytes);
        if total > device.info().memory_bytes {
            return Err(InvokeError::Allocate(AllocateError::OutOfMemory { bytes: total }));
        }
        let reservation = self.instance.reserve(bytes)?;
        let buffer = self.instance.pool.take(&**device, bytes)?;
        self.memory_bytes = self.memory_bytes.saturating_add(buffer.len_bytes());
        Ok(Lease { buffer: Some(buffer), _reservation: reservation })
    }

    fn submit_piece(&mut self, inline: Inline) -> Result<Next, InvokeError> {
        self.allocate()?;
        let recorded = self.record(&[])?;
        self.machine.tape.end_piece();
        let Some(recorded) = recorded else { return Ok(Next::GoOn) };
        self.pieces += 1;
        let done = Timepoint::new(&self.step, self.pieces);
        self.submit(Some(recorded), &done, inline)?;
        match self.step.value() {
            Ok(value) if value >= self.pieces => Ok(Next::GoOn),
            _ => Ok(Next::After(done)),
        }
    }

    /// The rest of the work, and copies to the outputs.
    fn submit_last(&mut self, entry: &Entry, inline: Inline) -> Result<(), InvokeError> {
        let module = self.instance.module.clone();
        let mut outputs = take_outputs(entry, &mut self.machine.tape, &self.symbols)
            .map_err(|fault| module.fault(entry.function, self.machine.crash_here(fault)))?;
        let bytes = outputs.iter().try_fold(0u64, |sum, output| sum.checked_add(output.bytes));
        let reservation = self.instance.reserve(bytes.unwrap_or(u64::MAX))?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for (index, output) in outputs.iter().enumerate() {
            let memory = self.output_memory.as_ref();
            let range = allocate_output(&**module.device(), entry, index, output.bytes, memory)?;
            tensors.push(BoundTensor {
                dtype: entry.outputs[index].dtype,
                dims: output.dims.clone(),
                buffer: BufferRange { len_bytes: output.bytes, ..range },
            });
        }
        if self.output_memory.is_some() {
            let bytes = outputs.iter().map(|output| output.bytes);
            // Outputs are written when all else is done; only inputs that become outputs must be out of the way then.
            if !aliases(entry, &self.inputs, &tensors, bytes)?.is_empty() {
                copy_inputs(&mut self.machine.tape, &mut outputs);
            }
        }
        self.allocate()?;
        let copies: Vec<_> = outputs
            .iter()
            .map(CheckedOutput::source)
            .zip(tensors.iter().map(|tensor| &tensor.buffer))
            .collect();
        let recorded = self.record(&copies)?;
        let mut leases = mem::take(&mut self.memory);
        leases.extend([mem::take(&mut self.arena), Lease { buffer: None, _reservation: reservation }]);
        // Before the work, which may be done when `submit` returns.
        self.state.promise(tensors, leases);
        self.submit(recorded, &Timepoint::new(&self.state.done, DONE), inline)
    }

    /// The work on the tape, then `copies`; `None` when there is none.
    fn record(&self, copies: &[(Region, &BufferRange)]) -> Result<Option<Recorded>, InvokeError> {
        let module = &self.instance.module;
        let table = RefCell::new(Table::default());
        let resolve = |region: Region| {
            if region.space == Space::Params {
                return module.params().map(|buffer| bind_buffer(buffer, region));
            }
            let place = match region.space {
                Space::Allocation(index) => self.places.get(&index),
                _ => None,
            };
            let (home, offset) = match place {
                Some(offset) => (None, offset + region.offset),
                None => (Some(region.space), region.offset),
            };
            let mut table = table.borrow_mut();
            let slot = match table.slots.get(&home) {
                Some(&slot) => slot,
                None => {
                    let slot = table.push(self.range(region.space)?);
                    table.slots.insert(home, slot);
                    slot
                }
            };
            Some(bind_slot(slot, offset, region))
        };
        let mut recorder = Recorder::new();
        let mut empty = record(module, &self.machine.tape, &resolve, &mut recorder)?;
        recorder.barrier();
        for (source, to) in copies.iter().filter(|(source, _)| source.bytes > 0) {
            let Some(src) = resolve(*source) else { continue };
            let slot = table.borrow_mut().push((*to).clone());
            recorder.copy(src, Binding::slot(slot, 0, source.bytes, Access::Write))?;
            empty = false;
        }
        if empty {
            return Ok(None);
        }
        let commands = module.device().create_command_buffer(recorder.finish())?;
        Ok(Some(Recorded { commands, bindings: table.into_inner().bindings }))
    }

    fn submit(
        &self,
        recorded: Option<Recorded>,
        done: &Timepoint,
        inline: Inline,
    ) -> Result<(), InvokeError> {
        let operation = match &recorded {
            Some(Recorded { commands, bindings }) => Operation::Execute { commands, bindings },
            None => Operation::Barrier,
        };
        let submission = Submission::new(operation).signals(std::slice::from_ref(done)).inline(inline);
        let outcome = self.instance.module.device().submit(submission);
        outcome.map_err(|error| InvokeError::Submit(Arc::new(error)))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if !self.settled {
            self.state.fail(InvokeError::Failed(Failure::Abandoned));
        }
    }
}

struct Recorded {
    commands: Arc<dyn CommandBuffer>,
    bindings: Vec<BufferRange>,
}

/// A binding table on its way.
#[derive(Default)]
struct Table {
    /// By what is bound; the piece's arena is `None`.
    slots: HashMap<Option<Space>, u32>,
    bindings: Vec<BufferRange>,
}

impl Table {
    fn push(&mut self, range: BufferRange) -> u32 {
        self.bindings.push(range);
        self.bindings.len() as u32 - 1
    }
}
