//! The schedule phase: which buffers share memory and which work may overlap, decided on the program's MLIR.

mod batch_work;
mod hazards;
mod hoist_sizes;
mod insert_barriers;
mod place_buffers;
mod share_in_place;

use ired_mlir::{Block, Error, Module, Op, Value};

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
