//! From instructions to words, with the label table that lets a reader verify in one pass.
//!
//! For every place that is jumped to, the table holds its word offset and which buffer registers and outputs are
//! defined there on every way. The reader only has to check these claims, which needs no allocator.

use std::vec;
use std::vec::Vec;

use super::decode::opcode;
use super::{Buffer, Function, Inst, OwnedInst, Scalar};
use crate::error::CodeProblem;
use crate::format::{MAX_BUFFERS, MAX_RANK};

/// A function in words: ranks, label table, instructions, as they stand in the code section.
#[derive(Debug)]
pub(crate) struct EncodedFunction {
    pub(crate) words: Vec<u32>,
    pub(crate) labels: u32,
}

/// Where an encoding failed: the instruction's index and why.
pub(crate) type EncodeProblem = (u32, CodeProblem);

pub(crate) fn encode(function: &Function) -> Result<EncodedFunction, EncodeProblem> {
    let tracked = usize::from(function.buffers) + function.output_ranks.len();
    if tracked > MAX_BUFFERS {
        return Err((0, CodeProblem::TooManyBuffers));
    }
    let targets = find_targets(function)?;
    let states = flow_definitions(function, tracked)?;

    let mut code = Vec::new();
    let mut starts = Vec::with_capacity(function.body.len());
    for (index, inst) in function.body.iter().enumerate() {
        starts.push(code.len() as u32);
        push_inst(&mut code, inst, &targets).map_err(|problem| (index as u32, problem))?;
    }

    let mut words = Vec::new();
    push_registers(&mut words, function.input_ranks.iter().copied());
    push_registers(&mut words, function.output_ranks.iter().copied());
    for &target in &targets {
        words.push(starts[target as usize]);
        words.extend_from_slice(&states[target as usize]);
    }
    words.extend_from_slice(&code);
    Ok(EncodedFunction { words, labels: targets.len() as u32 })
}

/// Every instruction that is jumped to, ascending.
fn find_targets(function: &Function) -> Result<Vec<u32>, EncodeProblem> {
    let mut targets = Vec::new();
    for (index, inst) in function.body.iter().enumerate() {
        if let Inst::Jump { to } | Inst::JumpIf { to, .. } = inst {
            if to.0 as usize >= function.body.len() {
                let problem = CodeProblem::Label { found: to.0, count: function.body.len() as u32 };
                return Err((index as u32, problem));
            }
            targets.push(to.0);
        }
    }
    targets.sort_unstable();
    targets.dedup();
    Ok(targets)
}

/// What is defined before each jump target on every way to it; other instructions' states stay empty.
///
/// Meets by intersection until nothing changes; each round removes at least one bit, and real functions need two
/// or three.
fn flow_definitions(function: &Function, tracked: usize) -> Result<Vec<Vec<u32>>, EncodeProblem> {
    let map_words = tracked.div_ceil(32);
    let mut at_target: Vec<Option<Vec<u32>>> = vec![None; function.body.len()];
    let is_target = {
        let mut marks = vec![false; function.body.len()];
        find_targets(function)?.iter().for_each(|&target| marks[target as usize] = true);
        marks
    };
    loop {
        let mut changed = false;
        let mut state = Some(vec![0u32; map_words]);
        for (index, inst) in function.body.iter().enumerate() {
            if is_target[index] {
                if let Some(falling) = &state {
                    changed |= meet(&mut at_target[index], falling);
                }
                state.clone_from(&at_target[index]);
            }
            let Some(reached) = &mut state else { continue };
            apply_definitions(inst, reached, usize::from(function.buffers));
            match inst {
                Inst::Jump { to } => {
                    changed |= meet(&mut at_target[to.0 as usize], reached);
                    state = None;
                }
                Inst::JumpIf { to, .. } => changed |= meet(&mut at_target[to.0 as usize], reached),
                Inst::Return | Inst::ReturnScalar { .. } => state = None,
                _ => {}
            }
        }
        if changed {
            continue;
        }
        // A target that only dead code jumps to: the verifier cannot know that, so it may claim everything, and
        // what follows is code like any other.
        match (0..function.body.len()).find(|&index| is_target[index] && at_target[index].is_none()) {
            Some(dead) => at_target[dead] = Some(everything(tracked)),
            None => return Ok(at_target.into_iter().map(Option::unwrap_or_default).collect()),
        }
    }
}

/// The map in which all `tracked` bits are set.
fn everything(tracked: usize) -> Vec<u32> {
    let mut map = vec![u32::MAX; tracked.div_ceil(32)];
    if let (Some(last), used @ 1..) = (map.last_mut(), tracked % 32) {
        *last = (1 << used) - 1;
    }
    map
}

/// Intersects `found` into `known`; true when that changed it.
fn meet(known: &mut Option<Vec<u32>>, found: &[u32]) -> bool {
    match known {
        None => {
            *known = Some(found.to_vec());
            true
        }
        Some(known) => {
            let mut changed = false;
            for (known, found) in known.iter_mut().zip(found) {
                changed |= *known & !found != 0;
                *known &= found;
            }
            changed
        }
    }
}

/// Updates what is defined after `inst`. Registers that the function does not have are for the verifier to name.
fn apply_definitions(inst: &OwnedInst, state: &mut [u32], buffers: usize) {
    if let Inst::HostCall { results, .. } = inst {
        for bit in results.iter().map(|result| usize::from(result.0)) {
            if let Some(word) = state.get_mut(bit / 32) {
                *word |= 1 << (bit % 32);
            }
        }
        return;
    }
    let (bit, defined) = match *inst {
        Inst::Input { dst, .. }
        | Inst::Param { dst, .. }
        | Inst::Allocate { dst, .. }
        | Inst::Slice { dst, .. }
        | Inst::MoveBuffer { dst, .. } => (usize::from(dst.0), true),
        Inst::Release { buffer } => (usize::from(buffer.0), false),
        Inst::Output { output, .. } => (buffers + usize::from(output), true),
        _ => return,
    };
    match state.get_mut(bit / 32) {
        Some(word) if defined => *word |= 1 << (bit % 32),
        Some(word) => *word &= !(1 << (bit % 32)),
        None => {}
    }
}

fn push_registers(words: &mut Vec<u32>, registers: impl Iterator<Item = u16>) {
    let mut low = None;
    for register in registers {
        match low.take() {
            None => low = Some(register),
            Some(low) => words.push(u32::from(low) | u32::from(register) << 16),
        }
    }
    words.extend(low.map(u32::from));
}

fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

fn push_inst(words: &mut Vec<u32>, inst: &OwnedInst, targets: &[u32]) -> Result<(), CodeProblem> {
    let first =
        |op: u8, small: u8, register: u16| u32::from(op) | u32::from(small) << 8 | u32::from(register) << 16;
    let label = |to: super::Label| targets.partition_point(|&target| target < to.0) as u32;
    match inst {
        &Inst::Constant { dst, value } => {
            words.extend([first(opcode::CONSTANT, 0, dst.0), value as u32, (value as u64 >> 32) as u32]);
        }
        &Inst::Arith { op, dst, lhs, rhs } => {
            words.extend([first(opcode::ARITH, op as u8, dst.0), pair(lhs.0, rhs.0)]);
        }
        &Inst::Select { dst, condition, then, otherwise } => {
            words.extend([
                first(opcode::SELECT, 0, dst.0),
                pair(condition.0, then.0),
                u32::from(otherwise.0),
            ]);
        }
        &Inst::Move { dst, src } => words.extend([first(opcode::MOVE, 0, dst.0), u32::from(src.0)]),
        &Inst::Jump { to } => words.extend([first(opcode::JUMP, 0, 0), label(to)]),
        &Inst::JumpIf { condition, to } => {
            words.extend([first(opcode::JUMP_IF, 0, condition.0), label(to)]);
        }
        &Inst::Check { condition, message } => {
            words.extend([first(opcode::CHECK, 0, condition.0), message]);
        }
        &Inst::InputDim { dst, input, axis } => {
            words.extend([first(opcode::INPUT_DIM, 0, dst.0), pair(input, axis)]);
        }
        &Inst::Input { dst, input } => words.extend([first(opcode::INPUT, 0, dst.0), u32::from(input)]),
        &Inst::Param { dst, param } => words.extend([first(opcode::PARAM, 0, dst.0), param]),
        &Inst::Allocate { dst, bytes } => {
            words.extend([first(opcode::ALLOCATE, 0, dst.0), u32::from(bytes.0)]);
        }
        &Inst::Release { buffer } => words.push(first(opcode::RELEASE, 0, buffer.0)),
        &Inst::Slice { dst, src, offset, bytes } => {
            words.extend([first(opcode::SLICE, 0, dst.0), pair(src.0, offset.0), u32::from(bytes.0)]);
        }
        &Inst::MoveBuffer { dst, src } => {
            words.extend([first(opcode::MOVE_BUFFER, 0, dst.0), u32::from(src.0)]);
        }
        Inst::Output { output, src, dims } => {
            if dims.len() > MAX_RANK {
                return Err(CodeProblem::Rank);
            }
            words.extend([first(opcode::OUTPUT, dims.len() as u8, *output), u32::from(src.0)]);
            push_registers(words, dims.iter().map(|&Scalar(register)| register));
        }
        Inst::Dispatch { entry, grid: [x, y, z], bindings, constants } => {
            let bindings_len = u16::try_from(bindings.len()).map_err(|_| CodeProblem::ListTooLong)?;
            let constants_len = u16::try_from(constants.len()).map_err(|_| CodeProblem::ListTooLong)?;
            words.extend([
                first(opcode::DISPATCH, 0, bindings_len),
                pair(constants_len, x.0),
                pair(y.0, z.0),
                *entry,
            ]);
            push_registers(words, bindings.iter().map(|&Buffer(register)| register));
            push_registers(words, constants.iter().map(|&Scalar(register)| register));
        }
        &Inst::Copy { src, dst } => words.extend([first(opcode::COPY, 0, src.0), u32::from(dst.0)]),
        &Inst::Fill { dst, pattern, width } => {
            words.extend([first(opcode::FILL, width, dst.0), u32::from(pattern.0)]);
        }
        Inst::Barrier => words.push(first(opcode::BARRIER, 0, 0)),
        Inst::Await => words.push(first(opcode::AWAIT, 0, 0)),
        &Inst::Load { dst, src, offset, dtype } => {
            words.extend([first(opcode::LOAD, dtype as u8, dst.0), pair(src.0, offset.0)]);
        }
        Inst::HostCall { call, operands, operand_dims, results, dims } => {
            let length = |length: usize| u16::try_from(length).map_err(|_| CodeProblem::ListTooLong);
            words.extend([
                first(opcode::HOST_CALL, 0, length(operands.len())?),
                pair(length(operand_dims.len())?, length(results.len())?),
                u32::from(length(dims.len())?),
                *call,
            ]);
            push_registers(words, operands.iter().map(|&Buffer(register)| register));
            push_registers(words, operand_dims.iter().map(|&Scalar(register)| register));
            push_registers(words, results.iter().map(|&Buffer(register)| register));
            push_registers(words, dims.iter().map(|&Scalar(register)| register));
        }
        Inst::Return => words.push(first(opcode::RETURN, 0, 0)),
        &Inst::ReturnScalar { value } => words.push(first(opcode::RETURN_SCALAR, 0, value.0)),
    }
    Ok(())
}
