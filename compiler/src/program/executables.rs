//! Kernels of a program: one for each different dispatch, however often it is launched.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use ired_graph::{Graph, NodeId, Op, ValueId};
use ired_mlir::Module;
use ired_module::Access;

use super::host::may_share;
use crate::dispatch::{Binding, Dispatch, KernelInterface};
use crate::errors::{Diagnostic, DiagnosticKind};
use crate::kernels;
use crate::passes::form_dispatches::{Plan, Step};
use crate::targets::CpuTarget;

/// Different kernels of one model. Large ones need hundreds, as most of their layers are alike; each costs
/// milliseconds of compilation.
const MAX_EXECUTABLES: usize = 4096;

/// A kernel and its source, compiled on its own.
#[derive(Clone, Debug)]
pub(crate) struct Executable {
    /// Name of the executable and of the one function in it.
    pub(crate) symbol: String,
    /// MLIR text of the executable.
    pub(crate) source: String,
    /// The model's nodes whose dispatches run it, for profiles.
    pub(crate) origin: String,
    /// What it does to each of its bindings.
    pub(crate) bindings: Vec<Access>,
    /// How many constants it takes.
    pub(crate) constants: usize,
    /// Features of the target that it uses and most do not.
    pub(crate) features: &'static [&'static str],
}

/// The kernels of all dispatches.
pub(super) struct Kernels {
    executables: Vec<Executable>,
    /// By the dispatch's root, which is in one dispatch only.
    launches: HashMap<NodeId, (usize, KernelInterface)>,
}

impl Kernels {
    /// The executable that runs `dispatch`, and what it wants to be given.
    pub(super) fn of(&self, dispatch: &Dispatch) -> Option<(&Executable, &KernelInterface)> {
        let (index, interface) = self.launches.get(&dispatch.root)?;
        Some((&self.executables[*index], interface))
    }

    pub(super) fn launches(&self) -> usize {
        self.launches.len()
    }

    pub(super) fn into_executables(self) -> Vec<Executable> {
        self.executables
    }
}

/// Emits each different dispatch once, as an `ired.executable` of the program.
///
/// # Errors
/// One diagnostic a dispatch that no kernel family takes; one alone if there would be too many kernels.
pub(super) fn emit_kernels(
    graph: &Graph,
    plan: &Plan,
    target: &CpuTarget,
    program: &Module<'_>,
) -> Result<Kernels, Vec<Diagnostic>> {
    let mut kernels = Kernels { executables: Vec::new(), launches: HashMap::new() };
    let mut by_key: HashMap<String, usize> = HashMap::new();
    let mut problems = Vec::new();
    let mut regions: Vec<_> = plan.regions.iter().collect();
    regions.sort_by_key(|(region, _)| **region);
    let dispatches: Vec<_> = regions
        .into_iter()
        .flat_map(|(_, steps)| steps)
        .filter_map(|step| if let Step::Dispatch(dispatch) = step { Some(dispatch) } else { None })
        .map(|dispatch| (dispatch, key(graph, dispatch)))
        .collect();
    check_count(dispatches.iter().map(|(_, key)| key.as_str()))?;
    for (dispatch, key) in dispatches {
        let interface = match kernels::interface(graph, dispatch, target) {
            Ok(interface) => interface,
            Err(error) => {
                problems.push(unsupported(graph, dispatch, &error));
                continue;
            }
        };
        let index = match by_key.get(&key) {
            Some(&index) => {
                let executable = &mut kernels.executables[index];
                executable.origin.push_str(", ");
                executable.origin.push_str(&origin(graph, dispatch.root));
                index
            }
            None => {
                let symbol = symbol(&dispatch.name, kernels.executables.len());
                let mut outcome = Ok(());
                let op = program.builder().executable(&symbol, |b| {
                    outcome = kernels::emit(graph, dispatch, target, &interface, b, &symbol);
                });
                if let Err(error) = outcome {
                    op.erase();
                    problems.push(unsupported(graph, dispatch, &error));
                    continue;
                }
                let origin = origin(graph, dispatch.root);
                kernels.executables.push(Executable {
                    symbol,
                    source: op.to_local_string(),
                    origin,
                    bindings: interface.bindings.iter().map(|b| access(graph, dispatch, b)).collect(),
                    constants: interface.constants.len(),
                    features: interface.features,
                });
                by_key.insert(key, kernels.executables.len() - 1);
                kernels.executables.len() - 1
            }
        };
        kernels.launches.insert(dispatch.root, (index, interface));
    }
    if problems.is_empty() { Ok(kernels) } else { Err(problems) }
}

/// What a kernel does to a binding, and whether callers may have its result where they have the operand.
fn access(graph: &Graph, dispatch: &Dispatch, binding: &Binding) -> Access {
    match binding {
        Binding::Read(value) if may_share(graph, dispatch, *value) => Access::ReadInPlace,
        _ => binding.access(),
    }
}

/// Refuses what would take very long, before any of it is done.
fn check_count<'a>(keys: impl Iterator<Item = &'a str>) -> Result<(), Vec<Diagnostic>> {
    let count = keys.collect::<HashSet<_>>().len();
    if count <= MAX_EXECUTABLES {
        return Ok(());
    }
    let message = format!("the model needs {count} different kernels; the limit is {MAX_EXECUTABLES}");
    Err(vec![Diagnostic::new(DiagnosticKind::ResourceLimit, message)])
}

fn unsupported(graph: &Graph, dispatch: &Dispatch, error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic::new(DiagnosticKind::Unsupported, crate::errors::chain(error)).at(origin(graph, dispatch.root))
}

fn origin(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    match &node.origin {
        Some(origin) => format!("{} ({})", origin.name, origin.op),
        None => node.op.name().to_owned(),
    }
}

fn symbol(name: &str, number: usize) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{name}_{number}")
}

/// Everything a kernel depends on, with values named by order of appearance: equal keys are the same kernel.
fn key(graph: &Graph, dispatch: &Dispatch) -> String {
    let mut key = String::new();
    let mut numbers: HashMap<ValueId, usize> = HashMap::new();
    let mut number = |value: ValueId| {
        let next = numbers.len();
        *numbers.entry(value).or_insert(next)
    };
    for &input in &dispatch.inputs {
        let ty = graph.ty(input);
        let is_param = matches!(graph.producer_op(input), Some(Op::Param(_)));
        let _ = write!(key, "{}:{}{:?}{is_param};", number(input), ty.dtype, ty.shape);
    }
    for &id in &dispatch.nodes {
        let node = graph.node(id);
        let _ = write!(key, "{:?}(", node.op);
        for &operand in &node.operands {
            let _ = write!(key, "{},", number(operand));
        }
        let root = id == dispatch.root;
        for &result in &node.results {
            let ty = graph.ty(result);
            let output = dispatch.outputs.contains(&result);
            let _ = write!(key, "){}:{}{:?}{root}{output};", number(result), ty.dtype, ty.shape);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::{DiagnosticKind, MAX_EXECUTABLES, check_count, symbol};

    #[test]
    fn symbols_are_plain_words() {
        assert_eq!(symbol("conv-add.relu", 3), "conv_add_relu_3");
    }

    #[test]
    fn only_different_kernels_count_and_too_many_are_refused() {
        let keys: Vec<String> = (0..=MAX_EXECUTABLES).map(|i| i.to_string()).collect();
        let at_limit = keys.iter().skip(1).chain(keys.last());
        assert!(check_count(at_limit.map(String::as_str)).is_ok());
        let refused = check_count(keys.iter().map(String::as_str)).unwrap_err();
        assert_eq!(refused[0].kind, DiagnosticKind::ResourceLimit);
    }
}
