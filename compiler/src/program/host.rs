//! The host function: buffers, launches and control flow in the order of the plan.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use ired_graph::{DType, Dim, Graph, Node, NodeId, Op, RegionId, TensorType, ValueId};
use ired_mlir::{Builder, Compare, Module, Value};

use super::dims::{Dims, Unbound};
use super::executables::Kernels;
use super::{ENTRY, ParamTable, checks};
use crate::dispatch::{Binding, Dispatch};
use crate::errors::{Diagnostic, DiagnosticKind};
use crate::names::EntryNames;
use crate::passes::form_dispatches::{Plan, Step};

/// Marks a dispatch whose single result may take the place of the bindings listed.
pub(crate) const IN_PLACE: &str = "ired.in_place";

pub(super) fn build_main(
    graph: &Graph,
    plan: &Plan,
    names: &EntryNames,
    kernels: &Kernels,
    params: &mut ParamTable,
    module: &Module<'_>,
) -> Result<(), Vec<Diagnostic>> {
    let mut outcome = Ok(());
    module.builder().entry(ENTRY, graph.inputs().len(), |b, inputs| {
        let mut host = Host {
            graph,
            plan,
            kernels,
            params,
            dims: Dims::new(b.clone()),
            buffers: graph.inputs().iter().copied().zip(inputs.iter().copied()).collect(),
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
    /// Sizes, and the builder of the entry block: allocations, parameters and arithmetic all go there, ahead of the
    /// control flow they are used in.
    dims: Dims<'m>,
    buffers: HashMap<ValueId, Value<'m>>,
    /// Values whose buffer was already handed to the caller.
    taken: HashSet<ValueId>,
}

type Built<T = ()> = Result<T, Diagnostic>;

impl<'m> Host<'_, 'm> {
    fn body(&mut self, names: &EntryNames, inputs: &[Value<'m>]) -> Built {
        let unbound = |graph: &Graph, e| unbound(graph, e);
        checks::bind_inputs(self.graph, names, inputs, &mut self.dims).map_err(|e| unbound(self.graph, e))?;
        checks::check_nodes(self.graph, self.graph.body, &mut self.dims)
            .map_err(|e| unbound(self.graph, e))?;
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

    fn steps(&mut self, region: RegionId, b: &Builder<'m>) -> Built {
        let plan = self.plan;
        for step in plan.regions.get(&region).into_iter().flatten() {
            match step {
                Step::Dispatch(dispatch) => self.dispatch(dispatch, b)?,
                Step::Alias { value, of } => {
                    let buffer = self.buffer(*of)?;
                    self.buffers.insert(*value, buffer);
                }
                Step::Control(id) => self.control(*id, b)?,
                Step::Read(id) => {
                    let message = "sizes that depend on data, not on the sizes of inputs, are not supported";
                    let problem = Diagnostic::new(DiagnosticKind::Unsupported, message);
                    return Err(at(problem, self.graph.node(*id)));
                }
            }
        }
        Ok(())
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
                    self.dims.builder().param(number, &name)
                }
                Binding::Write(value) => {
                    let buffer = self.allocate(self.graph.ty(value))?;
                    self.buffers.insert(value, buffer);
                    buffer
                }
                Binding::Scratch { bytes } => {
                    let bytes = self.size(&bytes)?;
                    self.dims.builder().alloc(bytes)
                }
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
        if !in_place.is_empty() {
            op.set_attribute(IN_PLACE, b.array_attribute(&in_place));
        }
        Ok(())
    }

    fn control(&mut self, id: NodeId, b: &Builder<'m>) -> Built {
        let graph = self.graph;
        let node = graph.node(id);
        match node.op {
            Op::If => self.branch(node, b),
            Op::While => self.repeat(node, b),
            Op::Repeat { .. } => {
                let message = "loops of a number of iterations are not supported";
                Err(at(Diagnostic::new(DiagnosticKind::Unsupported, message), node))
            }
            _ => Err(Diagnostic::new(DiagnosticKind::Internal, format!("`{}` has regions", node.op.name()))),
        }
    }

    /// Both branches write into buffers made ahead of them.
    fn branch(&mut self, node: &Node, b: &Builder<'m>) -> Built {
        let condition = self.buffer(node.operands[0])?;
        let results = self.allocate_all(&node.results)?;
        let taken = self.read_condition(condition, b);
        let (mut yes, mut no) = (Ok(()), Ok(()));
        // The two closures run one after the other, but both borrow the host.
        let host = RefCell::new(&mut *self);
        b.if_else(
            taken,
            &[],
            |b| {
                yes = host.borrow_mut().fill(node.regions[0], &results, b);
                Vec::new()
            },
            |b| {
                no = host.borrow_mut().fill(node.regions[1], &results, b);
                Vec::new()
            },
        );
        yes.and(no)?;
        self.buffers.extend(node.results.iter().copied().zip(results));
        Ok(())
    }

    /// The state lives in buffers of its own, which the condition and the body read and the body overwrites.
    fn repeat(&mut self, node: &Node, b: &Builder<'m>) -> Built {
        let (condition, body) = (node.regions[0], node.regions[1]);
        for (result, input) in node.results.iter().zip(&self.graph.region(body).inputs) {
            if self.graph.ty(*result).shape != self.graph.ty(*input).shape {
                let message = "a loop's state changes its shape, which is not supported";
                return Err(at(Diagnostic::new(DiagnosticKind::Unsupported, message), node));
            }
        }
        let state = self.allocate_all(&node.results)?;
        let next = self.allocate_all(&node.results)?;
        for (operand, buffer) in node.operands.iter().zip(&state) {
            let from = self.buffer(*operand)?;
            b.copy(from, *buffer);
        }
        for region in [condition, body] {
            let inputs = self.graph.region(region).inputs.iter().copied();
            self.buffers.extend(inputs.zip(state.iter().copied()));
        }
        let (mut tested, mut done) = (Ok(()), Ok(()));
        let host = RefCell::new(&mut *self);
        b.while_loop(
            &[],
            &[],
            |b, _| {
                let host = &mut **host.borrow_mut();
                let outcome = host.steps(condition, b).and_then(|()| {
                    let output = host.graph.region(condition).outputs[0];
                    let buffer = host.buffer(output)?;
                    Ok(host.read_condition(buffer, b))
                });
                match outcome {
                    Ok(value) => (value, Vec::new()),
                    Err(problem) => {
                        tested = Err(problem);
                        (b.bool(false), Vec::new())
                    }
                }
            },
            |b, _| {
                let host = &mut **host.borrow_mut();
                done = host.fill(body, &next, b);
                for (from, to) in next.iter().zip(&state) {
                    b.copy(*from, *to);
                }
                Vec::new()
            },
        );
        tested.and(done)?;
        self.buffers.extend(node.results.iter().copied().zip(state));
        Ok(())
    }

    /// Runs a region and copies its outputs into `targets`.
    fn fill(&mut self, region: RegionId, targets: &[Value<'m>], b: &Builder<'m>) -> Built {
        self.steps(region, b)?;
        let graph = self.graph;
        for (&output, &target) in graph.region(region).outputs.iter().zip(targets) {
            let buffer = self.buffer(output)?;
            b.copy(buffer, target);
        }
        Ok(())
    }

    fn read_condition(&self, buffer: Value<'m>, b: &Builder<'m>) -> Value<'m> {
        b.await_all();
        let value = b.load_scalar(buffer, b.index(0), DType::Bool.name());
        b.cmpi(Compare::Ne, value, b.index(0))
    }

    fn allocate_all(&mut self, values: &[ValueId]) -> Built<Vec<Value<'m>>> {
        let graph = self.graph;
        values.iter().map(|v| self.allocate(graph.ty(*v))).collect()
    }

    fn allocate(&mut self, ty: &TensorType) -> Built<Value<'m>> {
        let bytes = self.size(&bytes(ty))?;
        Ok(self.dims.builder().alloc(bytes))
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
        let buffer = self.dims.builder().param(number, &self.graph.param(*param).name);
        self.buffers.insert(value, buffer);
        Ok(buffer)
    }

    /// The value whose bytes `value` is.
    fn storage(&self, mut value: ValueId) -> ValueId {
        while let Some(id) = self.graph.producer(value) {
            let node = self.graph.node(id);
            match node.op {
                Op::Reshape { .. } => value = node.operands[0],
                _ => break,
            }
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

/// Bytes of a tensor, as an expression.
fn bytes(ty: &TensorType) -> Dim {
    let bits = ty.elements() * Dim::constant(ty.dtype.bits() as i64);
    bits.ceil_div(&Dim::constant(8))
}

/// Whether a kernel that reads `value` may write its result over it: each element is read where it is written.
fn may_share(graph: &Graph, dispatch: &Dispatch, value: ValueId) -> bool {
    let &[output] = dispatch.outputs.as_slice() else { return false };
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
