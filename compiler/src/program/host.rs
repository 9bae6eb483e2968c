//! The host function: buffers, launches and control flow in the order of the plan.

mod functions;
mod regions;

use std::collections::{HashMap, HashSet};

use ired_graph::{DType, Dim, Graph, Node, NodeId, Op, RegionId, TensorType, ValueId};
use ired_mlir::{Builder, Module, Value};
use ired_module::HostCallDraft;

use super::dims::{Dims, Unbound};
use super::executables::Kernels;
use super::{ENTRY, ParamTable, checks};
use crate::dispatch::{Binding, Dispatch};
use crate::errors::{Diagnostic, DiagnosticKind};
use crate::names::EntryNames;
use crate::passes::form_dispatches::{Plan, Step};
use crate::work::bytes_of;

use regions::Claim;
pub(crate) use regions::{OWN, OWNED};

/// Marks a dispatch whose single result may take the place of the bindings listed.
pub(crate) const IN_PLACE: &str = "ired.in_place";

/// The main node of a dispatch, by number, so that profiles can tell what a dispatch is of.
pub(crate) const ROOT: &str = "ired.root";

pub(super) fn build_main(
    graph: &Graph,
    plan: &Plan,
    names: &EntryNames,
    kernels: &Kernels,
    (params, host_calls): (&mut ParamTable, &mut Vec<HostCallDraft>),
    module: &Module<'_>,
) -> Result<(), Vec<Diagnostic>> {
    let mut outcome = Ok(());
    module.builder().entry(ENTRY, graph.inputs().len(), |b, inputs| {
        let mut host = Host {
            graph,
            plan,
            kernels,
            params,
            host_calls,
            dims: Dims::new(&graph.symbols, b.clone()),
            buffers: graph.inputs().iter().copied().zip(inputs.iter().copied()).collect(),
            claims: HashMap::new(),
            owned: HashSet::new(),
            same: HashMap::new(),
            taken: HashSet::new(),
        };
        outcome = host.body(names, inputs);
        b.ret(&[]);
    });
    outcome.map_err(|problem| vec![problem])
}

struct Host<'a, 'm> {
    graph: &'a Graph,
    plan: &'a Plan,
    kernels: &'a Kernels,
    params: &'a mut ParamTable,
    host_calls: &'a mut Vec<HostCallDraft>,
    /// Sizes, and with them the place where memory is made.
    dims: Dims<'a, 'm>,
    buffers: HashMap<ValueId, Value<'m>>,
    /// Values that dispatches to come write to where the region they are in says.
    claims: HashMap<ValueId, Claim<'m>>,
    /// Values that are allocations which a region handed over.
    owned: HashSet<ValueId>,
    /// Results of loops that are what the loop began with.
    same: HashMap<ValueId, ValueId>,
    /// Values whose buffer was already handed to the caller.
    taken: HashSet<ValueId>,
}

type Built<T = ()> = Result<T, Diagnostic>;

impl<'m> Host<'_, 'm> {
    fn body(&mut self, names: &EntryNames, inputs: &[Value<'m>]) -> Built {
        checks::bind_inputs(self.graph, names, inputs, &mut self.dims).map_err(|e| unbound(self.graph, e))?;
        let b = self.dims.builder().clone();
        self.steps(self.graph.body, &b)?;
        for (number, &value) in self.graph.outputs().iter().enumerate() {
            let mut buffer = self.buffer(value)?;
            if !self.is_own(value) || !self.taken.insert(self.storage(value)) {
                let copy = self.allocate(self.graph.ty(value))?;
                b.copy(buffer, copy);
                buffer = copy;
            }
            let shape = self.graph.ty(value).shape.clone();
            let dims = shape.iter().map(|d| self.size(d)).collect::<Result<Vec<_>, _>>()?;
            b.output(number, buffer, &dims);
        }
        Ok(())
    }

    /// Checks and launches in the order of the region's nodes.
    fn steps(&mut self, region: RegionId, b: &Builder<'m>) -> Built {
        let (graph, plan) = (self.graph, self.plan);
        let mut steps = plan.regions.get(&region).into_iter().flatten().peekable();
        for &id in &graph.region(region).nodes {
            let node = graph.node(id);
            checks::check_node(graph, node, &mut self.dims).map_err(|e| at(unbound(graph, e), node))?;
            while let Some(step) = steps.next_if(|step| anchor(graph, step) == Some(id)) {
                self.step(step, b)?;
            }
        }
        steps.try_for_each(|step| self.step(step, b))
    }

    fn step(&mut self, step: &Step, b: &Builder<'m>) -> Built {
        match step {
            Step::Dispatch(dispatch) => self.dispatch(dispatch, b),
            Step::Alias { value, of } => {
                let buffer = self.buffer(*of)?;
                self.buffers.insert(*value, buffer);
                Ok(())
            }
            Step::Control(id) => self.control(*id, b),
            Step::Read(id) => self.read(*id, b),
            Step::Host(id) => self.host_call(*id, b),
        }
    }

    /// Waits for a node's operand, unless it was there before the call, and reads the sizes in it. What the host
    /// computed itself it knows without.
    fn read(&mut self, id: NodeId, b: &Builder<'m>) -> Built {
        let graph = self.graph;
        let node = graph.node(id);
        let (Op::ReadDims { symbols }, &[operand]) = (&node.op, node.operands.as_slice()) else {
            let message = format!("`{}` reads no sizes", node.op.name());
            return Err(Diagnostic::new(DiagnosticKind::Internal, message));
        };
        if let Some(Op::Dims { values, .. }) = graph.producer_op(operand) {
            for (&symbol, value) in symbols.iter().zip(values) {
                let early = self.dims.is_early(value);
                let size = self.size(value)?;
                self.dims.bind_as(symbol, size, early);
                checks::check_read(graph, node, symbol, size, &self.dims);
            }
            if let Some(buffer) = self.buffers.get(&operand) {
                self.buffers.insert(node.results[0], *buffer);
            }
            return Ok(());
        }
        let buffer = self.buffer(operand)?;
        self.await_values(&[operand], b);
        for (i, &symbol) in symbols.iter().enumerate() {
            let size = b.load_scalar(buffer, b.index(i as i64 * 8), DType::I64.name());
            self.dims.bind(symbol, size);
            checks::check_read(graph, node, symbol, size, &self.dims);
        }
        self.buffers.insert(node.results[0], buffer);
        Ok(())
    }

    /// Waits for values, unless they all were there before the call.
    fn await_values(&self, values: &[ValueId], b: &Builder<'m>) {
        let graph = self.graph;
        let is_there = |value: &ValueId| {
            let storage = self.storage(*value);
            graph.inputs().contains(&storage) || matches!(graph.producer_op(storage), Some(Op::Param(_)))
        };
        if !values.iter().all(is_there) {
            b.await_all();
        }
    }

    fn dispatch(&mut self, dispatch: &Dispatch, b: &Builder<'m>) -> Built {
        let kernels = self.kernels;
        let Some((executable, interface)) = kernels.of(dispatch) else {
            return Err(Diagnostic::new(
                DiagnosticKind::Internal,
                format!("`{}` has no kernel", dispatch.name),
            ));
        };
        let mut bindings = Vec::with_capacity(interface.bindings.len());
        let mut access = Vec::with_capacity(interface.bindings.len());
        let mut in_place = Vec::new();
        for (i, binding) in interface.bindings.iter().enumerate() {
            let buffer = match binding.clone() {
                Binding::Read(value) => {
                    if may_share(self.graph, dispatch, value) {
                        in_place.push(self.dims.builder().i64_attribute(i as i64));
                    }
                    self.buffer(value)?
                }
                Binding::ReadPacked(value, packing) => {
                    let Some(Op::Param(param)) = self.graph.producer_op(self.storage(value)) else {
                        let message = format!("`{}` packs what is no parameter", dispatch.name);
                        return Err(Diagnostic::new(DiagnosticKind::Internal, message));
                    };
                    let number = self.params.number(*param, Some(packing));
                    let name = self.graph.param(*param).name.clone();
                    self.dims.entry_builder().param(number, &name)
                }
                Binding::Write(value) => {
                    let ty = self.graph.ty(value);
                    let buffer = match self.claims.remove(&value) {
                        Some(Claim::Into(memory)) => memory,
                        Some(Claim::Own) => self.allocate_own(ty, b)?,
                        None => self.allocate(ty)?,
                    };
                    self.buffers.insert(value, buffer);
                    buffer
                }
                Binding::Scratch { bytes } => self.allocate_bytes(&bytes)?,
            };
            bindings.push(buffer);
            access.push(binding.access().name());
        }
        let constants = interface.constants.iter().map(|d| self.size(d)).collect::<Result<Vec<_>, _>>()?;
        let grid =
            [self.size(&interface.grid[0])?, self.size(&interface.grid[1])?, self.size(&interface.grid[2])?];
        let symbol = executable.symbol.as_str();
        let b = match &self.graph.node(dispatch.root).origin {
            Some(origin) => b.named(&origin.name),
            None => b.clone(),
        };
        let op = b.dispatch([symbol, symbol], grid, &bindings, &access, &constants);
        op.set_attribute(ROOT, b.i64_attribute(dispatch.root.0.into()));
        if !in_place.is_empty() {
            op.set_attribute(IN_PLACE, b.array_attribute(&in_place));
        }
        Ok(())
    }

    fn allocate(&mut self, ty: &TensorType) -> Built<Value<'m>> {
        self.allocate_bytes(&bytes_of(ty))
    }

    fn allocate_bytes(&mut self, bytes: &Dim) -> Built<Value<'m>> {
        self.dims.allocate(bytes).map_err(|e| unbound(self.graph, e))
    }

    fn size(&mut self, dim: &Dim) -> Built<Value<'m>> {
        self.dims.get(dim).map_err(|e| unbound(self.graph, e))
    }

    /// The buffer that holds `value`; a parameter as it is in the model.
    fn buffer(&mut self, value: ValueId) -> Built<Value<'m>> {
        if let Some(buffer) = self.buffers.get(&value) {
            return Ok(*buffer);
        }
        let Some(Op::Param(param)) = self.graph.producer_op(value) else {
            let message = format!("value {} is read but never stored", value.0);
            return Err(Diagnostic::new(DiagnosticKind::Internal, message));
        };
        let number = self.params.number(*param, None);
        let buffer = self.dims.entry_builder().param(number, &self.graph.param(*param).name);
        self.buffers.insert(value, buffer);
        Ok(buffer)
    }

    /// The value whose bytes `value` is.
    fn storage(&self, mut value: ValueId) -> ValueId {
        while let Some(id) = self.graph.producer(value) {
            let node = self.graph.node(id);
            value = match node.op {
                Op::Reshape { .. } | Op::ReadDims { .. } => node.operands[0],
                _ => match self.same.get(&value) {
                    Some(first) => *first,
                    None => break,
                },
            };
        }
        value
    }

    /// Whether `value`'s bytes were written by the program, so that they can be the caller's.
    fn is_own(&self, value: ValueId) -> bool {
        match self.graph.producer(self.storage(value)) {
            Some(id) => !matches!(self.graph.node(id).op, Op::Param(_)),
            None => false,
        }
    }
}

/// The last of the nodes that a step computes.
fn anchor(graph: &Graph, step: &Step) -> Option<NodeId> {
    match step {
        Step::Dispatch(dispatch) => dispatch.nodes.last().copied(),
        Step::Alias { value, .. } => graph.producer(*value),
        Step::Control(id) | Step::Read(id) | Step::Host(id) => Some(*id),
    }
}

/// Whether a kernel that reads `value` may write its result over it: each element is read where it is written, or,
/// of a scatter's data, only where it stays.
pub(super) fn may_share(graph: &Graph, dispatch: &Dispatch, value: ValueId) -> bool {
    let &[output] = dispatch.outputs.as_slice() else { return false };
    let root = graph.node(dispatch.root);
    if let (Op::ScatterNd { .. }, [data, ..]) = (&root.op, root.operands.as_slice()) {
        let reads = dispatch.nodes.iter().flat_map(|id| &graph.node(*id).operands);
        return *data == value && reads.filter(|read| **read == value).count() == 1;
    }
    let (from, to) = (graph.ty(value), graph.ty(output));
    from.shape == to.shape
        && from.dtype.bits() == to.dtype.bits()
        && from.dtype.bits() % 8 == 0
        && dispatch.nodes.iter().all(|id| {
            let node = graph.node(*id);
            node.op.is_elementwise() || !node.operands.contains(&value)
        })
        && dispatch.nodes.iter().all(|id| {
            let op = &graph.node(*id).op;
            let made_anywhere =
                matches!(op, Op::Broadcast { .. } | Op::Constant(_) | Op::Dims { .. } | Op::Iota { .. });
            op.is_elementwise() || made_anywhere
        })
}

fn unbound(graph: &Graph, Unbound(symbol): Unbound) -> Diagnostic {
    let name = &graph.symbols.get(symbol).name;
    Diagnostic::new(
        DiagnosticKind::Unsupported,
        format!("size `{name}` depends on data, not on the sizes of inputs, which is not supported"),
    )
}

fn at(diagnostic: Diagnostic, node: &Node) -> Diagnostic {
    match &node.origin {
        Some(origin) => diagnostic.at(format!("{} ({})", origin.name, origin.op)),
        None => diagnostic,
    }
}
