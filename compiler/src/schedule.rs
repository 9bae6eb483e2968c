//! The schedule phase: which buffers share memory and which work may overlap, decided on the program's MLIR.

mod batch_work;
mod drop_awaits;
mod hazards;
mod hoist_sizes;
mod insert_barriers;
mod place_buffers;
mod release_buffers;
mod share_in_place;

use std::collections::{HashMap, HashSet};

use ired_graph::dim::DimFn;
use ired_mlir::{Block, Error, Module, Op, Value};

use crate::program::OWNED;

/// A pass over the host functions of a program.
pub(crate) struct SchedulePass {
    pub(crate) name: &'static str,
    run: for<'m> fn(Op<'m>),
}

/// Every schedule pass, in the order they run.
pub(crate) const PASSES: &[SchedulePass] = &[
    SchedulePass { name: "hoist_sizes", run: hoist_sizes::hoist_sizes },
    SchedulePass { name: "batch_work", run: batch_work::batch_work },
    SchedulePass { name: "share_in_place", run: share_in_place::share_in_place },
    SchedulePass { name: "place_buffers", run: place_buffers::place_buffers },
    SchedulePass { name: "release_buffers", run: release_buffers::release_buffers },
    SchedulePass { name: "drop_awaits", run: drop_awaits::drop_awaits },
    SchedulePass { name: "insert_barriers", run: insert_barriers::insert_barriers },
];

/// The one allocation that all transient buffers are slices of; its size is the entry point's peak.
pub(crate) const ARENA: &str = "ired.arena";

/// On slices of the arena: slices with different numbers never overlap.
const SLOT: &str = "ired.slot";

/// # Errors
/// When a pass left a program that does not verify.
pub(crate) fn schedule(module: &Module<'_>) -> Result<(), Error> {
    for pass in PASSES {
        for function in host_functions(module) {
            (pass.run)(function);
        }
        if cfg!(debug_assertions) {
            module.verify().inspect_err(|_| tracing::error!(pass = pass.name, "program does not verify"))?;
        }
    }
    module.verify()
}

/// The host functions of a program.
pub(crate) fn host_functions<'m>(module: &'m Module<'_>) -> Vec<Op<'m>> {
    module.body().ops().filter(|op| op.is("func.func")).collect()
}

/// A function's entry block.
pub(crate) fn entry_block(function: Op<'_>) -> Option<Block<'_>> {
    function.region(0).first_block()
}

/// Bytes of the arena when dimension `a` of input `i` is `dim(i, a)`; `None` where that does not decide it.
pub(crate) fn arena_bytes(module: &Module<'_>, dim: &dyn Fn(usize, usize) -> Option<i64>) -> Option<i64> {
    let Some(block) = host_functions(module).into_iter().find_map(entry_block) else { return Some(0) };
    match block.ops().find(|op| op.is("ired.alloc") && op.attribute(ARENA).is_some()) {
        Some(arena) => evaluate(arena.operand(0), dim, &mut HashMap::new()),
        None => Some(0),
    }
}

fn evaluate<'m>(
    value: Value<'m>,
    dim: &dyn Fn(usize, usize) -> Option<i64>,
    known: &mut HashMap<Value<'m>, i64>,
) -> Option<i64> {
    if let Some(found) = value.as_constant().or_else(|| known.get(&value).copied()) {
        return Some(found);
    }
    let op = value.definition()?;
    let found = match op.name().as_str() {
        "ired.input_dim" => {
            let (_, input) = op.operand(0).block_argument()?;
            dim(input, usize::try_from(op.attribute("axis")?.as_integer()?).ok()?)?
        }
        name => {
            let (x, y) = (evaluate(op.operand(0), dim, known)?, evaluate(op.operand(1), dim, known)?);
            match name {
                "arith.addi" => x.checked_add(y)?,
                "arith.subi" => x.checked_sub(y)?,
                "arith.muli" => x.checked_mul(y)?,
                "arith.maxsi" => x.max(y),
                "arith.minsi" => x.min(y),
                "arith.floordivsi" => DimFn::FloorDiv.apply(x, y)?,
                _ => return None,
            }
        }
    };
    known.insert(value, found);
    Some(found)
}

/// What an operation does to one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    reads: bool,
    writes: bool,
}

const READ: Access = Access { reads: true, writes: false };
const WRITE: Access = Access { reads: false, writes: true };

/// The buffers that queue work touches; empty for all else.
fn accesses(op: Op<'_>) -> Vec<(Value<'_>, Access)> {
    match op.name().as_str() {
        "ired.dispatch" => bindings(op).into_iter().zip(binding_accesses(op)).collect(),
        "ired.copy" => vec![(op.operand(0), READ), (op.operand(1), WRITE)],
        "ired.fill" => vec![(op.operand(0), WRITE)],
        _ => Vec::new(),
    }
}

/// The bindings of a dispatch: operands between the grid and the constants, as many as `access` has words.
pub(crate) fn bindings(dispatch: Op<'_>) -> Vec<Value<'_>> {
    let count = dispatch.attribute("access").and_then(|a| a.as_array()).map_or(0, |a| a.len());
    dispatch.operands().skip(3).take(count).collect()
}

fn binding_accesses(dispatch: Op<'_>) -> Vec<Access> {
    let words = dispatch.attribute("access").and_then(|a| a.as_array()).unwrap_or_default();
    words
        .into_iter()
        .map(|word| match word.as_string().as_deref() {
            Some("r") => READ,
            Some("w") => WRITE,
            _ => Access { reads: true, writes: true },
        })
        .collect()
}

/// The ancestor of `op` that stands in `block` itself.
fn ancestor_in<'m>(mut op: Op<'m>, block: Block<'m>) -> Option<Op<'m>> {
    loop {
        if op.block()? == block {
            return Some(op);
        }
        op = op.parent()?;
    }
}

/// The block and every block nested in it, each before what it holds.
fn all_blocks(block: Block<'_>) -> Vec<Block<'_>> {
    let mut found = vec![block];
    let mut next = 0;
    while let Some(&block) = found.get(next) {
        found.extend(block.ops().flat_map(|op| op.regions()).flat_map(|region| region.blocks()));
        next += 1;
    }
    found
}

/// Every operation that takes the buffer, a part of it, or what control flow makes of it.
fn users(buffer: Value<'_>) -> Vec<Op<'_>> {
    let (mut seen, mut pending) = (HashSet::from([buffer]), vec![buffer]);
    let mut users = Vec::new();
    while let Some(value) = pending.pop() {
        for (op, number) in value.uses() {
            users.push(op);
            pending.extend(passed_on(op, number).into_iter().filter(|value| seen.insert(*value)));
        }
    }
    users
}

/// The values that have bytes of operand `number` of `op`.
fn passed_on(op: Op<'_>, number: usize) -> Vec<Value<'_>> {
    match op.name().as_str() {
        "ired.slice" => vec![op.result(0)],
        "scf.while" => argument(op, 0, number).into_iter().collect(),
        "scf.condition" if number > 0 => match op.parent() {
            Some(parent) => {
                argument(parent, 1, number - 1).into_iter().chain([parent.result(number - 1)]).collect()
            }
            None => Vec::new(),
        },
        "scf.yield" => match op.parent() {
            Some(parent) if parent.is("scf.while") => argument(parent, 0, number).into_iter().collect(),
            Some(parent) => vec![parent.result(number)],
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn argument(op: Op<'_>, region: usize, number: usize) -> Option<Value<'_>> {
    op.region(region).first_block().map(|block| block.argument(number))
}

/// What the end of a region passes on in place `number`.
fn passed(op: Op<'_>, region: usize, number: usize) -> Option<Value<'_>> {
    op.region(region).first_block()?.terminator().map(|end| end.operand(number))
}

/// The values that control flow makes `value` of; none for what is made in place or handed over, which is memory that
/// nothing else is.
fn passed_from(value: Value<'_>) -> Vec<Value<'_>> {
    if let Some(op) = value.definition() {
        let number = op.results().position(|result| result == value).unwrap_or(0);
        return match op.name().as_str() {
            _ if is_owned(op, number) => Vec::new(),
            "scf.while" => passed(op, 0, number + 1).into_iter().collect(),
            "scf.if" => (0..2).filter_map(|region| passed(op, region, number)).collect(),
            _ => Vec::new(),
        };
    }
    let Some((block, number)) = value.block_argument() else { return Vec::new() };
    match block.parent() {
        Some(op) if op.is("scf.while") && !is_owned(op, number) => {
            if op.region(0).first_block() == Some(block) {
                passed(op, 1, number).into_iter().chain([op.operand(number)]).collect()
            } else {
                passed(op, 0, number + 1).into_iter().collect()
            }
        }
        _ => Vec::new(),
    }
}

/// Whether value `number` of control flow is an allocation that is handed over.
fn is_owned(op: Op<'_>, number: usize) -> bool {
    owned(op).contains(&number)
}

fn owned(op: Op<'_>) -> Vec<usize> {
    let numbers = op.attribute(OWNED).and_then(|a| a.as_array()).unwrap_or_default();
    numbers.into_iter().filter_map(|n| usize::try_from(n.as_integer()?).ok()).collect()
}
