//! The reference interpreter: what every graph means, computed one plain node at a time.

use std::collections::HashMap;

use ired_host::StringTable;

use crate::ops::control::{introduced_symbols, iteration_symbols};
use crate::ops::{self, ComputeError, Environment, compute};
use crate::{Dim, Graph, NodeId, Op, RegionId, SymbolId, Tensor, TensorType, ValueId};

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of tensors alive at once, weights and constants aside. One operation may take up to sixteen times its
    /// operands' and its result's bytes besides, for its working copies.
    pub live_bytes: u64,
    /// Iterations of all loops together.
    pub iterations: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { live_bytes: 8 << 30, iterations: 1 << 20 }
    }
}

/// Why a graph has no result on these inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InterpretError {
    #[error("the graph takes {expected} inputs; found {found}")]
    InputCount { expected: usize, found: usize },
    #[error("input `{name}` is {found}; expected {expected}")]
    InputType { name: String, expected: String, found: String },
    #[error("symbol `{symbol}` is {found}; expected {expected}")]
    Symbol { symbol: String, expected: String, found: i64 },
    #[error("node {node}")]
    Node {
        node: String,
        #[source]
        cause: ComputeError,
    },
    #[error("node {node}: {found}; its type says {expected}")]
    ResultType { node: String, expected: String, found: String },
    #[error("the tensors alive at node {node} take {found_bytes} bytes; the limit is {limit_bytes}")]
    Memory { node: String, found_bytes: u64, limit_bytes: u64 },
    #[error("the loops run more than {limit} iterations")]
    Iterations { limit: u64 },
    #[error("value %{} is used before it is defined", .0.0)]
    Undefined(ValueId),
}

/// Runs a verified graph on inputs in the order of [`Graph::inputs`], with [`Limits::default`].
///
/// Symbols take their values from the inputs' shapes. Floats are summed in f64 and rounded once, on store.
///
/// # Errors
/// When the inputs do not fit the graph's types, sizes disagree, an index is out of range or a limit is passed.
pub fn interpret(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, InterpretError> {
    interpret_within(graph, inputs, Limits::default())
}

/// As [`interpret`], with limits of the caller's.
///
/// # Errors
/// As [`interpret`].
pub fn interpret_within(
    graph: &Graph,
    inputs: &[Tensor],
    limits: Limits,
) -> Result<Vec<Tensor>, InterpretError> {
    interpret_strings(graph, inputs, limits, &mut graph.call_strings())
}

/// As [`interpret_within`] with strings: the elements of string inputs are handles into `strings`, a table over the
/// graph's own ([`Graph::call_strings`]), and those of outputs are afterwards.
///
/// # Errors
/// As [`interpret`].
pub fn interpret_strings(
    graph: &Graph,
    inputs: &[Tensor],
    limits: Limits,
    strings: &mut StringTable,
) -> Result<Vec<Tensor>, InterpretError> {
    let mut run = Run {
        graph,
        environment: Environment::new(&graph.symbols, &graph.params, limits.live_bytes),
        values: HashMap::new(),
        last_uses: last_uses(graph),
        strings,
        live_bytes: 0,
        limits,
        iterations: 0,
    };
    let expected = graph.inputs();
    if expected.len() != inputs.len() {
        return Err(InterpretError::InputCount { expected: expected.len(), found: inputs.len() });
    }
    run.bind_inputs(expected, inputs, None)?;
    run.region(graph.body)
}

/// The values that each node is the last to use, among those its region defines.
fn last_uses(graph: &Graph) -> HashMap<NodeId, Vec<ValueId>> {
    let mut home: HashMap<ValueId, RegionId> = HashMap::new();
    let mut owner: HashMap<RegionId, (RegionId, NodeId)> = HashMap::new();
    for (region, node) in graph.live_nodes() {
        home.extend(graph.node(node).results.iter().map(|v| (*v, region)));
        owner.extend(graph.node(node).regions.iter().map(|nested| (*nested, (region, node))));
    }
    for (region, _) in graph.live_regions() {
        home.extend(graph.region(region).inputs.iter().map(|v| (*v, region)));
    }
    // The node of the value's own region that a use happens in, some regions further in.
    let user = |value: ValueId, mut region: RegionId, mut node: Option<NodeId>| {
        let home = home.get(&value)?;
        while region != *home {
            let (outer, holder) = *owner.get(&region)?;
            (region, node) = (outer, Some(holder));
        }
        node
    };
    let mut last: HashMap<ValueId, Option<NodeId>> = HashMap::new();
    for (region, node) in graph.live_nodes() {
        let used = graph.node(node);
        for &value in used.operands.iter().chain(&used.results) {
            last.insert(value, user(value, region, Some(node)));
        }
        for &nested in &used.regions {
            for &value in &graph.region(nested).outputs {
                last.insert(value, user(value, nested, None));
            }
        }
    }
    // An output of its own region lives as long as the region runs.
    for (region, _) in graph.live_regions() {
        let own = graph.region(region).outputs.iter().filter(|v| home.get(v) == Some(&region));
        last.extend(own.map(|v| (*v, None)));
    }
    let mut by_node: HashMap<NodeId, Vec<ValueId>> = HashMap::new();
    for (value, node) in last {
        if let Some(node) = node {
            by_node.entry(node).or_default().push(value);
        }
    }
    by_node
}

struct Run<'g> {
    graph: &'g Graph,
    environment: Environment<'g>,
    values: HashMap<ValueId, Tensor>,
    last_uses: HashMap<NodeId, Vec<ValueId>>,
    strings: &'g mut StringTable,
    live_bytes: u64,
    limits: Limits,
    iterations: u64,
}

impl Run<'_> {
    /// Binds the symbols that are dimensions of their own first, then checks every dimension.
    fn bind_inputs(
        &mut self,
        ids: &[ValueId],
        tensors: &[Tensor],
        own: Option<&[SymbolId]>,
    ) -> Result<(), InterpretError> {
        for (&id, tensor) in ids.iter().zip(tensors) {
            self.bind_symbols(self.graph.ty(id), tensor, own)?;
        }
        for (&id, tensor) in ids.iter().zip(tensors) {
            if !self.fits(self.graph.ty(id), tensor) {
                let name = self.graph.value(id).name.clone().unwrap_or_else(|| format!("%{}", id.0));
                let (expected, found) = self.type_texts(id, tensor);
                return Err(InterpretError::InputType { name, expected, found });
            }
            self.define(id, tensor.clone());
        }
        Ok(())
    }

    /// Gives the symbols that are dimensions of `ty`, and in `own` where that is given, the sizes of `tensor`.
    fn bind_symbols(
        &mut self,
        ty: &TensorType,
        tensor: &Tensor,
        own: Option<&[SymbolId]>,
    ) -> Result<(), InterpretError> {
        for (dim, &size) in ty.shape.iter().zip(tensor.shape()) {
            if let Some(id) = dim.as_symbol().filter(|id| own.is_none_or(|own| own.contains(id))) {
                self.bind_symbol(id, i64::try_from(size).unwrap_or(i64::MAX))?;
            }
        }
        Ok(())
    }

    fn bind_symbol(&mut self, id: SymbolId, size: i64) -> Result<(), InterpretError> {
        let symbol = self.graph.symbols.get(id);
        let expected = match self.environment.sizes.get(&id) {
            Some(&known) if known != size => format!("{known}, as elsewhere"),
            _ if size < symbol.min || size > symbol.max => format!("{} to {}", symbol.min, symbol.max),
            _ if size % symbol.divisor.max(1) != 0 => format!("a multiple of {}", symbol.divisor),
            _ => {
                self.environment.sizes.insert(id, size);
                return Ok(());
            }
        };
        Err(InterpretError::Symbol { symbol: symbol.name.clone(), expected, found: size })
    }

    fn fits(&self, ty: &TensorType, tensor: &Tensor) -> bool {
        ty.dtype == tensor.dtype()
            && ty.rank() == tensor.shape().len()
            && ty.shape.iter().zip(tensor.shape()).all(|(dim, &size)| {
                self.environment.size(dim).and_then(|d| u64::try_from(d).ok()) == Some(size)
            })
    }

    fn type_texts(&self, id: ValueId, tensor: &Tensor) -> (String, String) {
        let expected = self.graph.ty(id).display(&self.graph.symbols).to_string();
        (expected, format!("{}{:?}", tensor.dtype(), tensor.shape()))
    }

    fn region(&mut self, region: RegionId) -> Result<Vec<Tensor>, InterpretError> {
        let graph = self.graph;
        for &node in &graph.region(region).nodes {
            self.node(node)?;
            for value in self.last_uses.get(&node).cloned().unwrap_or_default() {
                self.forget(value);
            }
        }
        let outputs = graph.region(region).outputs.iter().map(|v| self.value(*v)).collect();
        // What a region defines is gone when it ends; a loop defines it anew.
        let region = graph.region(region);
        let results = region.nodes.iter().flat_map(|node| &graph.node(*node).results);
        region.inputs.iter().chain(results).for_each(|v| self.forget(*v));
        outputs
    }

    fn node(&mut self, id: NodeId) -> Result<(), InterpretError> {
        let node = self.graph.node(id);
        let operands: Vec<Tensor> = node.operands.iter().map(|v| self.value(*v)).collect::<Result<_, _>>()?;
        let results = match node.op {
            Op::If => self.branch(&operands, &node.regions)?,
            Op::While => self.repeat_while(id, operands)?,
            Op::Repeat { ref count, index } => self.repeat(id, count, index, operands)?,
            Op::Host { .. } => {
                let computed = ops::host::compute(&node.op, &operands, self.strings, self.limits.live_bytes);
                computed.map_err(|cause| InterpretError::Node { node: self.node_text(id), cause })?
            }
            _ => {
                let operands: Vec<&Tensor> = operands.iter().collect();
                let result = compute(&node.op, &operands, &self.environment);
                vec![result.map_err(|cause| InterpretError::Node { node: self.node_text(id), cause })?]
            }
        };
        let introduced = introduced_symbols(self.graph, node);
        introduced.iter().for_each(|symbol| _ = self.environment.sizes.remove(symbol));
        if let (Op::ReadDims { symbols }, [sizes]) = (&node.op, results.as_slice()) {
            for (&symbol, size) in symbols.iter().zip(sizes.to_i64s()) {
                self.bind_symbol(symbol, size)?;
            }
        }
        for (&value, result) in node.results.iter().zip(results) {
            self.bind_symbols(self.graph.ty(value), &result, Some(&introduced))?;
            if !self.fits(self.graph.ty(value), &result) {
                let (expected, found) = self.type_texts(value, &result);
                return Err(InterpretError::ResultType { node: self.node_text(id), expected, found });
            }
            if !matches!(node.op, Op::Param(_) | Op::Constant(_)) {
                self.live_bytes += result.data().len() as u64;
            }
            self.values.insert(value, result);
            self.within_limit(id)?;
        }
        Ok(())
    }

    fn within_limit(&self, id: NodeId) -> Result<(), InterpretError> {
        let (found_bytes, limit_bytes) = (self.live_bytes, self.limits.live_bytes);
        match found_bytes > limit_bytes {
            true => Err(InterpretError::Memory { node: self.node_text(id), found_bytes, limit_bytes }),
            false => Ok(()),
        }
    }

    fn branch(&mut self, operands: &[Tensor], regions: &[RegionId]) -> Result<Vec<Tensor>, InterpretError> {
        let taken = if is_true(operands) { regions[0] } else { regions[1] };
        self.region(taken)
    }

    fn repeat_while(&mut self, id: NodeId, mut state: Vec<Tensor>) -> Result<Vec<Tensor>, InterpretError> {
        let regions = &self.graph.node(id).regions;
        loop {
            self.enter(id, regions[0], &state)?;
            if !is_true(&self.region(regions[0])?) {
                return Ok(state);
            }
            self.count_iteration()?;
            self.enter(id, regions[1], &state)?;
            state = self.region(regions[1])?;
        }
    }

    fn repeat(
        &mut self,
        id: NodeId,
        count: &Dim,
        index: SymbolId,
        mut state: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, InterpretError> {
        let (graph, node) = (self.graph, self.graph.node(id));
        let body = node.regions[0];
        let iterations = self.environment.size(count).filter(|&n| n >= 0);
        let Some(iterations) = iterations else {
            let size = count.display(&graph.symbols).to_string();
            let cause = ComputeError::UnknownSize { op: node.op.name(), size };
            return Err(InterpretError::Node { node: self.node_text(id), cause });
        };
        let carried = state.len();
        let mut stacks = vec![Vec::new(); node.results.len().saturating_sub(carried)];
        let before = self.live_bytes;
        for i in 0..iterations {
            self.count_iteration()?;
            self.environment.sizes.insert(index, i);
            self.enter(id, body, &state)?;
            let outputs = self.region(body)?;
            let (next, slices) = outputs.split_at(carried);
            state = next.to_vec();
            for (stack, slice) in stacks.iter_mut().zip(slices) {
                stack.extend_from_slice(slice.data());
                self.live_bytes += slice.data().len() as u64;
            }
            self.within_limit(id)?;
        }
        self.live_bytes = before;
        for (&result, stack) in node.results[carried..].iter().zip(stacks) {
            let shape = graph.ty(result).shape.iter();
            let sizes: Option<Vec<u64>> =
                shape.map(|d| self.environment.size(d).and_then(|d| u64::try_from(d).ok())).collect();
            let dtype = graph.ty(result).dtype;
            let tensor = sizes.map(|sizes| Tensor::new(dtype, sizes, stack.into()));
            match tensor {
                Some(Ok(tensor)) => state.push(tensor),
                Some(Err(cause)) => {
                    let cause = ComputeError::Data(cause);
                    return Err(InterpretError::Node { node: self.node_text(id), cause });
                }
                None => {
                    let size = graph.ty(result).display(&graph.symbols).to_string();
                    let cause = ComputeError::UnknownSize { op: node.op.name(), size };
                    return Err(InterpretError::Node { node: self.node_text(id), cause });
                }
            }
        }
        Ok(state)
    }

    fn count_iteration(&mut self) -> Result<(), InterpretError> {
        self.iterations += 1;
        match self.iterations > self.limits.iterations {
            true => Err(InterpretError::Iterations { limit: self.limits.iterations }),
            false => Ok(()),
        }
    }

    /// Defines a loop region's inputs. Symbols of the loop's own take their sizes anew.
    fn enter(&mut self, id: NodeId, region: RegionId, state: &[Tensor]) -> Result<(), InterpretError> {
        let graph = self.graph;
        let mut own = iteration_symbols(graph, graph.node(id));
        if let Op::Repeat { index, .. } = graph.node(id).op {
            own.retain(|symbol| *symbol != index);
        }
        own.iter().for_each(|symbol| _ = self.environment.sizes.remove(symbol));
        self.bind_inputs(&graph.region(region).inputs, state, Some(&own))
    }

    fn define(&mut self, id: ValueId, tensor: Tensor) {
        self.live_bytes += tensor.data().len() as u64;
        self.values.insert(id, tensor);
    }

    fn forget(&mut self, id: ValueId) {
        let Some(tensor) = self.values.remove(&id) else { return };
        if !matches!(self.graph.producer_op(id), Some(Op::Param(_) | Op::Constant(_))) {
            self.live_bytes -= tensor.data().len() as u64;
        }
    }

    fn value(&self, id: ValueId) -> Result<Tensor, InterpretError> {
        self.values.get(&id).cloned().ok_or(InterpretError::Undefined(id))
    }

    fn node_text(&self, id: NodeId) -> String {
        let node = self.graph.node(id);
        match &node.origin {
            Some(origin) => format!("`{}` ({}, from {})", origin.name, node.op.name(), origin.op),
            None => format!("{} ({})", id.0, node.op.name()),
        }
    }
}

fn is_true(tensors: &[Tensor]) -> bool {
    tensors.first().is_some_and(|t| t.to_bools().first() == Some(&true))
}
