//! The program phase: one MLIR module in the `ired` dialect with the host's schedule and every kernel.
//!
//! The host function computes sizes, allocates each value a buffer of its own and launches dispatches in order;
//! what may overlap and what may share memory is decided later, by the schedule phase.

mod checks;
mod dims;
mod executables;
mod host;

use std::collections::HashMap;

use ired_graph::{Graph, ParamId};
use ired_mlir::{Context, Module};
use ired_module::HostCallDraft;

use crate::dispatch::Packing;
use crate::errors::Diagnostic;
use crate::names::EntryNames;
use crate::passes::form_dispatches::Plan;
use crate::targets::CpuTarget;

pub(crate) use executables::Executable;
pub(crate) use host::{IN_PLACE, OWN, OWNED, ROOT};

/// The one entry point, and the function that callers invoke.
pub(crate) const ENTRY: &str = "main";

/// A program: the module, and what it refers to by number.
pub(crate) struct Program<'c> {
    pub(crate) module: Module<'c>,
    /// `ired.param` counts these.
    pub(crate) params: Vec<ProgramParam>,
    pub(crate) executables: Vec<Executable>,
    /// `ired.host_call` counts these.
    pub(crate) host_calls: Vec<HostCallDraft>,
    /// Ranks of the entry point's inputs.
    pub(crate) input_ranks: Vec<usize>,
    /// Dispatches in all regions.
    pub(crate) dispatch_count: usize,
}

/// A weight as kernels read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProgramParam {
    pub(crate) param: ParamId,
    pub(crate) packing: Option<Packing>,
}

/// Numbers the parameters in order of first use.
#[derive(Debug, Default)]
pub(crate) struct ParamTable {
    numbers: HashMap<ProgramParam, u32>,
    params: Vec<ProgramParam>,
}

impl ParamTable {
    fn number(&mut self, param: ParamId, packing: Option<Packing>) -> u32 {
        let entry = ProgramParam { param, packing };
        let next = self.params.len() as u32;
        *self.numbers.entry(entry.clone()).or_insert_with(|| {
            self.params.push(entry);
            next
        })
    }
}

/// Builds the program of `plan`, kernels included.
///
/// # Errors
/// Every dispatch no kernel family takes, and every size that cannot be known before the model runs.
pub(crate) fn build_program<'c>(
    graph: &Graph,
    plan: &Plan,
    names: &EntryNames,
    target: &CpuTarget,
    context: &'c Context,
) -> Result<Program<'c>, Vec<Diagnostic>> {
    let module = Module::new(context);
    let kernels = executables::emit_kernels(graph, plan, target, &module)?;
    let (mut params, mut host_calls) = (ParamTable::default(), Vec::new());
    host::build_main(graph, plan, names, &kernels, (&mut params, &mut host_calls), &module)?;
    module.verify().map_err(|e| vec![Diagnostic::internal("the program does not verify", &e)])?;
    Ok(Program {
        module,
        params: params.params,
        host_calls,
        input_ranks: graph.inputs().iter().map(|v| graph.ty(*v).rank()).collect(),
        dispatch_count: kernels.launches(),
        executables: kernels.into_executables(),
    })
}
