//! The interpreter: runs a verified function over scalars and regions, and writes what it wants done to a tape.
//!
//! It knows no device and never blocks. Where the schedule looks at results it stops, and its owner carries on.

use ired_hal::Pattern;
use ired_module::code::{Buffer, Function, Inst, Scalar};
use ired_module::{DType, TensorKind};

use crate::error::Fault;
use crate::tape::{Item, MAX_HELD, MAX_ITEMS, OutputRegion, Region, Space, Tape};

/// What a function is called with.
#[derive(Clone, Debug)]
pub(crate) struct InputShape {
    pub(crate) dims: Vec<u64>,
    pub(crate) bytes: u64,
}

/// Why the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Await,
    /// [`Machine::load`] takes the element.
    Load {
        dst: Scalar,
        dtype: DType,
        at: Region,
    },
    /// [`Machine::host_operands`] are what it is called with, [`Machine::host_results`] takes what it gives.
    HostCall {
        call: u32,
    },
    Return,
    ReturnScalar(i64),
    /// A condition of the model does not hold.
    Check {
        message: u32,
    },
}

/// Where in the function a fault happened.
#[derive(Clone, Debug)]
pub(crate) struct Crash {
    pub(crate) instruction: u32,
    pub(crate) fault: Fault,
}

/// What the machine looks things up in.
pub(crate) trait Params {
    /// Parameter `index` as a region of [`Space::Params`].
    fn param(&self, index: u32) -> Region;
}

/// What a buffer register holds: a region, and which of the allocations that bore its number it is of.
#[derive(Clone, Copy, Debug)]
struct Held {
    region: Region,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct Machine {
    next: usize,
    scalars: Vec<i64>,
    buffers: Vec<Option<Held>>,
    /// Stops with [`Stop::Await`] where the tape is full, for the owner to submit what is on it.
    splits: bool,
    fuel_limit: u64,
    fuel: u64,
    pub(crate) tape: Tape,
}

impl Machine {
    pub(crate) fn new(function: &Function, fuel: u64) -> Self {
        let outputs = function.output_ranks.iter().map(|_| None).collect();
        Self {
            next: 0,
            scalars: vec![0; usize::from(function.scalars)],
            buffers: vec![None; usize::from(function.buffers)],
            splits: false,
            fuel_limit: fuel,
            fuel,
            tape: Tape { outputs, ..Tape::default() },
        }
    }

    /// The same, for an owner that submits the tape piece by piece.
    pub(crate) fn in_pieces(function: &Function, fuel: u64) -> Self {
        Self { splits: true, ..Self::new(function, fuel) }
    }

    /// Runs until the function stops; call again to go on.
    pub(crate) fn run(
        &mut self,
        function: &Function,
        inputs: &[InputShape],
        params: &impl Params,
    ) -> Result<Stop, Crash> {
        loop {
            let at = self.next;
            self.next += 1;
            match self.step(&function.body[at], inputs, params) {
                Ok(None) => {}
                Ok(Some(stop)) => return Ok(stop),
                Err(Fault::TooMuchWork { .. }) if self.splits && !self.tape.items.is_empty() => {
                    self.next = at;
                    return Ok(Stop::Await);
                }
                Err(fault) => return Err(self.crash(at, fault)),
            }
        }
    }

    /// Gives the element that the machine stopped for; `bytes` are as many as its type has.
    pub(crate) fn load(&mut self, dst: Scalar, dtype: DType, bytes: [u8; 8]) -> Result<(), Crash> {
        let value = element(dtype, bytes).ok_or(Fault::LoadTooLarge);
        value
            .map(|value| self.scalars[usize::from(dst.0)] = value)
            .map_err(|fault| self.crash(self.next - 1, fault))
    }

    /// Where the operands of the host call that the machine stopped for are, and their dimensions; `kinds` are theirs.
    pub(crate) fn host_operands(
        &self,
        function: &Function,
        kinds: &[TensorKind],
    ) -> Result<Vec<(Region, Vec<u64>)>, Crash> {
        let at = self.next - 1;
        let Inst::HostCall { operands, operand_dims, .. } = &function.body[at] else { return Ok(Vec::new()) };
        let mut dims = operand_dims.iter();
        let operand = |(&register, kind): (&Buffer, &TensorKind)| {
            let region = self.region(register)?;
            if self.tape.is_pending(region) {
                return Err(Fault::LoadBeforeAwait);
            }
            let dims = dims.by_ref().take(kind.rank).map(|&dim| self.size(dim, "dimension of an operand"));
            let dims = dims.collect::<Result<Vec<_>, _>>()?;
            let bytes = kind.dtype.tensor_bytes(&dims).unwrap_or(u64::MAX);
            if bytes > region.bytes {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                return Err(Fault::OutOfBounds { offset: 0, bytes, buffer_bytes: region.bytes });
            }
            Ok((Region { bytes, ..region }, dims))
        };
        let found = operands.iter().zip(kinds).map(operand).collect::<Result<Vec<_>, Fault>>();
        found.map_err(|fault| self.crash(at, fault))
    }

    /// Takes the results of the host call that the machine stopped for: bytes and dimensions of each. Gives the
    /// allocations that they are now.
    pub(crate) fn host_results(
        &mut self,
        function: &Function,
        given: &[(u64, &[u64])],
    ) -> Result<Vec<u32>, Crash> {
        let at = self.next - 1;
        let Inst::HostCall { results, dims, .. } = &function.body[at] else { return Ok(Vec::new()) };
        if self.tape.held + results.len() > MAX_HELD || self.tape.is_full(results.len()) {
            return Err(self.crash(at, Fault::TooManyAllocations { limit: MAX_HELD }));
        }
        let found = given.iter().flat_map(|(_, dims)| dims.iter());
        for (&register, &dim) in dims.iter().zip(found) {
            self.set(register, i64::try_from(dim).unwrap_or(i64::MAX));
        }
        let mut allocations = Vec::with_capacity(results.len());
        for (&register, &(bytes, _)) in results.iter().zip(given) {
            let index = self.tape.adopt(bytes);
            self.define(register, Region { space: Space::Allocation(index), offset: 0, bytes });
            allocations.push(index);
        }
        Ok(allocations)
    }

    /// `fault` at the instruction that the machine stopped at.
    pub(crate) fn crash_here(&self, fault: Fault) -> Crash {
        self.crash(self.next.saturating_sub(1), fault)
    }

    fn crash(&self, at: usize, fault: Fault) -> Crash {
        Crash { instruction: at as u32, fault }
    }

    fn burn(&mut self, amount: usize) -> Result<(), Fault> {
        match self.fuel.checked_sub(amount as u64) {
            Some(left) => self.fuel = left,
            None => return Err(Fault::OutOfFuel { limit: self.fuel_limit }),
        }
        Ok(())
    }

    fn scalar(&self, register: Scalar) -> i64 {
        self.scalars[usize::from(register.0)]
    }

    fn set(&mut self, register: Scalar, value: i64) {
        self.scalars[usize::from(register.0)] = value;
    }

    /// A scalar that is a size.
    fn size(&self, register: Scalar, what: &'static str) -> Result<u64, Fault> {
        let found = self.scalar(register);
        u64::try_from(found).map_err(|_| Fault::OutOfRange { what, found })
    }

    /// The region in a register. Verification has seen that there is one; that it still lives only we can know.
    fn region(&self, register: Buffer) -> Result<Region, Fault> {
        let Held { region, generation } = self.buffers[usize::from(register.0)].ok_or(Fault::Released)?;
        if let Space::Allocation(index) = region.space {
            let allocation = &self.tape.allocations[index as usize];
            if allocation.released || allocation.generation != generation {
                return Err(Fault::Released);
            }
        }
        Ok(region)
    }

    fn record(&mut self, item: Item) -> Result<(), Fault> {
        if self.tape.is_full(1) {
            return Err(Fault::TooMuchWork { limit: MAX_ITEMS });
        }
        self.tape.items.push(item);
        Ok(())
    }

    fn step(
        &mut self,
        inst: &ired_module::code::OwnedInst,
        inputs: &[InputShape],
        params: &impl Params,
    ) -> Result<Option<Stop>, Fault> {
        self.burn(1)?;
        match inst {
            &Inst::Constant { dst, value } => self.set(dst, value),
            &Inst::Arith { op, dst, lhs, rhs } => {
                let value = op.apply(self.scalar(lhs), self.scalar(rhs)).ok_or(Fault::Arithmetic)?;
                self.set(dst, value);
            }
            &Inst::Select { dst, condition, then, otherwise } => {
                let chosen = if self.scalar(condition) != 0 { then } else { otherwise };
                self.set(dst, self.scalar(chosen));
            }
            &Inst::Move { dst, src } => self.set(dst, self.scalar(src)),
            &Inst::Jump { to } => self.next = to.0 as usize,
            &Inst::JumpIf { condition, to } => {
                if self.scalar(condition) != 0 {
                    self.next = to.0 as usize;
                }
            }
            &Inst::Check { condition, message } => {
                if self.scalar(condition) == 0 {
                    return Ok(Some(Stop::Check { message }));
                }
            }
            &Inst::InputDim { dst, input, axis } => {
                let dim = inputs[usize::from(input)].dims[usize::from(axis)];
                self.set(dst, i64::try_from(dim).map_err(|_| Fault::Arithmetic)?);
            }
            &Inst::Input { dst, input } => {
                let bytes = inputs[usize::from(input)].bytes;
                self.define(dst, Region { space: Space::Input(input), offset: 0, bytes });
            }
            &Inst::Param { dst, param } => self.define(dst, params.param(param)),
            &Inst::Allocate { dst, bytes } => self.allocate(dst, bytes)?,
            &Inst::Release { buffer } => self.release(buffer)?,
            &Inst::Slice { dst, src, offset, bytes } => {
                let sliced = self.slice(src, self.scalar(offset), self.scalar(bytes))?;
                self.define(dst, sliced);
            }
            &Inst::MoveBuffer { dst, src } => {
                self.buffers[usize::from(dst.0)] = self.buffers[usize::from(src.0)];
            }
            Inst::Output { output, src, dims } => self.output(*output, *src, dims)?,
            Inst::Dispatch { entry, grid, bindings, constants } => {
                self.dispatch(*entry, grid, bindings, constants)?;
            }
            &Inst::Copy { src, dst } => self.copy(src, dst)?,
            &Inst::Fill { dst, pattern, width } => {
                let dst = self.region(dst)?;
                let pattern = Pattern::new(self.scalar(pattern) as u64, width)
                    .ok_or(Fault::OutOfRange { what: "fill width", found: i64::from(width) })?;
                if dst.bytes > 0 {
                    self.tape.touch(dst);
                    self.record(Item::Fill { dst, pattern })?;
                }
            }
            Inst::Barrier => self.record(Item::Barrier)?,
            Inst::Await => return Ok(Some(Stop::Await)),
            &Inst::Load { dst, src, offset, dtype } => {
                let at = self.slice(src, self.scalar(offset), (dtype.bits() / 8) as i64)?;
                if self.tape.is_pending(at) {
                    return Err(Fault::LoadBeforeAwait);
                }
                return Ok(Some(Stop::Load { dst, dtype, at }));
            }
            &Inst::HostCall { call, .. } => return Ok(Some(Stop::HostCall { call })),
            Inst::Return => return Ok(Some(Stop::Return)),
            &Inst::ReturnScalar { value } => return Ok(Some(Stop::ReturnScalar(self.scalar(value)))),
        }
        Ok(None)
    }

    fn define(&mut self, register: Buffer, region: Region) {
        let generation = match region.space {
            Space::Allocation(index) => self.tape.allocations[index as usize].generation,
            Space::Input(_) | Space::Params => 0,
        };
        self.buffers[usize::from(register.0)] = Some(Held { region, generation });
    }

    fn allocate(&mut self, dst: Buffer, bytes: Scalar) -> Result<(), Fault> {
        let bytes = self.size(bytes, "size of an allocation")?;
        if self.splits && self.tape.held >= MAX_HELD {
            return Err(Fault::TooManyAllocations { limit: MAX_HELD });
        }
        if self.tape.is_full(2) {
            return Err(Fault::TooMuchWork { limit: MAX_ITEMS });
        }
        let index = self.tape.allocate(bytes);
        self.define(dst, Region { space: Space::Allocation(index), offset: 0, bytes });
        Ok(())
    }

    fn release(&mut self, register: Buffer) -> Result<(), Fault> {
        let region = self.region(register)?;
        self.buffers[usize::from(register.0)] = None;
        let Space::Allocation(index) = region.space else { return Ok(()) };
        let allocation = &mut self.tape.allocations[index as usize];
        if region.offset != 0 || region.bytes != allocation.bytes {
            return Err(Fault::ReleasesSlice);
        }
        allocation.released = true;
        self.tape.held -= 1;
        if allocation.pinned { Ok(()) } else { self.record(Item::Release(index)) }
    }

    fn slice(&self, src: Buffer, offset: i64, bytes: i64) -> Result<Region, Fault> {
        let src = self.region(src)?;
        let outside = Fault::OutOfBounds { offset, bytes, buffer_bytes: src.bytes };
        let (Ok(offset), Ok(bytes)) = (u64::try_from(offset), u64::try_from(bytes)) else {
            return Err(outside);
        };
        match offset.checked_add(bytes) {
            Some(end) if end <= src.bytes => Ok(Region { offset: src.offset + offset, bytes, ..src }),
            _ => Err(outside),
        }
    }

    /// Keeps where output `output` is; its element type, and so its bytes, are the caller's to check.
    fn output(&mut self, output: u16, src: Buffer, dims: &[Scalar]) -> Result<(), Fault> {
        let region = self.region(src)?;
        let dims = dims.iter().map(|&dim| self.size(dim, "dimension of an output"));
        let dims = dims.collect::<Result<Vec<_>, _>>()?;
        if let Space::Allocation(index) = region.space {
            self.tape.allocations[index as usize].pinned = true;
        }
        self.tape.outputs[usize::from(output)] = Some(OutputRegion { region, dims });
        Ok(())
    }

    fn dispatch(
        &mut self,
        entry: u32,
        grid: &[Scalar; 3],
        bindings: &[Buffer],
        constants: &[Scalar],
    ) -> Result<(), Fault> {
        let size = bindings.len() + constants.len();
        self.burn(size)?;
        let mut workgroups = [0; 3];
        for (workgroups, &register) in workgroups.iter_mut().zip(grid) {
            let found = self.scalar(register);
            *workgroups =
                u32::try_from(found).map_err(|_| Fault::OutOfRange { what: "dimension of a grid", found })?;
        }
        if self.tape.is_full(size + 1) {
            return Err(Fault::TooMuchWork { limit: MAX_ITEMS });
        }
        let first_region = self.tape.regions.len() as u32;
        for &register in bindings {
            let region = self.region(register)?;
            self.tape.touch(region);
            self.tape.regions.push(region);
        }
        let first_constant = self.tape.constants.len() as u32;
        for &register in constants {
            self.tape.constants.push(self.scalars[usize::from(register.0)]);
        }
        if workgroups.contains(&0) {
            self.tape.regions.truncate(first_region as usize);
            self.tape.constants.truncate(first_constant as usize);
            return Ok(());
        }
        let bindings = first_region..self.tape.regions.len() as u32;
        let constants = first_constant..self.tape.constants.len() as u32;
        let instruction = self.next as u32 - 1;
        self.tape.items.push(Item::Dispatch { instruction, entry, grid: workgroups, bindings, constants });
        Ok(())
    }

    fn copy(&mut self, src: Buffer, dst: Buffer) -> Result<(), Fault> {
        let (src, dst) = (self.region(src)?, self.region(dst)?);
        if src.bytes > dst.bytes {
            return Err(Fault::CopyTooLong { src_bytes: src.bytes, dst_bytes: dst.bytes });
        }
        if src.bytes == 0 {
            return Ok(());
        }
        self.tape.touch(src);
        self.tape.touch(dst);
        self.record(Item::Copy { src, dst: Region { bytes: src.bytes, ..dst } })
    }
}

/// A whole number in memory as a scalar; `None` when it is too large. Verification admits only these types.
fn element(dtype: DType, bytes: [u8; 8]) -> Option<i64> {
    let [a, b, c, d, ..] = bytes;
    Some(match dtype {
        DType::Bool => i64::from(a != 0),
        DType::I8 => i64::from(a as i8),
        DType::U8 => i64::from(a),
        DType::I16 => i64::from(i16::from_le_bytes([a, b])),
        DType::U16 => i64::from(u16::from_le_bytes([a, b])),
        DType::I32 => i64::from(i32::from_le_bytes([a, b, c, d])),
        DType::U32 => i64::from(u32::from_le_bytes([a, b, c, d])),
        DType::I64 => i64::from_le_bytes(bytes),
        DType::U64 => i64::try_from(u64::from_le_bytes(bytes)).ok()?,
        _ => return None,
    })
}
