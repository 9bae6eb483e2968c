//! The verifier: what every pass may rely on, and what a graph from outside is held to.

use std::collections::HashSet;

use crate::ops::{self, MAX_RANK, MAX_TENSOR_BYTES, ShapeError};
use crate::{Definition, Dim, Graph, NodeId, Op, RegionId, SymbolId, TensorType, ValueId};

/// Regions nest at most this deep.
pub const MAX_REGION_DEPTH: usize = 64;

/// No more problems than this are reported.
const MAX_ERRORS: usize = 100;

/// What is wrong with a graph, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("{place} names {found}; the graph has {available}")]
    Missing { place: String, found: String, available: usize },
    #[error("{place} appears twice")]
    Twice { place: String },
    #[error("{place} nests deeper than {MAX_REGION_DEPTH} regions")]
    TooDeep { place: String },
    #[error("{place} uses {value}, which is not defined before it")]
    Undefined { place: String, value: String },
    #[error("{value} is said to be defined by {found}; it is defined by {expected}")]
    Definition { value: String, expected: String, found: String },
    #[error("{place} has {found} results; expected {expected}")]
    ResultCount { place: String, expected: usize, found: usize },
    #[error("{place} gives {expected}; the type of its result {value} is {found}")]
    ResultType { place: String, value: String, expected: String, found: String },
    #[error("{place}")]
    Shape {
        place: String,
        #[source]
        cause: ShapeError,
    },
    #[error("{value} is {ty}; tensors over {MAX_TENSOR_BYTES} bytes or {MAX_RANK} axes are refused")]
    TooLarge { value: String, ty: String },
    #[error("{value} is {ty}, which has a negative dimension")]
    Negative { value: String, ty: String },
    #[error("param `{name}`: {cause}")]
    Param {
        name: String,
        #[source]
        cause: crate::tensor::TensorSizeError,
    },
    #[error("param `{name}` is named twice")]
    ParamName { name: String },
    #[error("{place} gives symbol `{symbol}` a value, which it has from elsewhere")]
    Rebound { place: String, symbol: String },
    #[error("{place} has the size {size}; nothing gives symbol `{symbol}` a value")]
    Unbound { place: String, size: String, symbol: String },
    #[error("symbol `{name}` has bounds {min} to {max} and divisor {divisor}")]
    Symbol { name: String, min: i64, max: i64, divisor: i64 },
}

/// Checks a whole graph.
///
/// # Errors
/// Every problem found, up to a hundred: ids that name nothing, values used before they are defined or outside of
/// their region, types that are not what the operation gives, attributes that do not fit, sizes too large.
pub fn verify(graph: &Graph) -> Result<(), Vec<VerifyError>> {
    let mut verifier = Verifier {
        graph,
        errors: Vec::new(),
        seen_regions: vec![false; graph.regions.len()],
        seen_nodes: vec![false; graph.nodes.len()],
        in_scope: vec![false; graph.values.len()],
    };
    verifier.tables();
    // What follows indexes by the ids that `tables` has checked.
    if verifier.errors.is_empty() {
        verifier.region(graph.body, "the body", 0);
    }
    // Symbols are looked for where regions are known to nest.
    if verifier.errors.is_empty() {
        verifier.symbols_have_values();
    }
    verifier.errors.truncate(MAX_ERRORS);
    if verifier.errors.is_empty() { Ok(()) } else { Err(verifier.errors) }
}

struct Verifier<'g> {
    graph: &'g Graph,
    errors: Vec<VerifyError>,
    seen_regions: Vec<bool>,
    seen_nodes: Vec<bool>,
    in_scope: Vec<bool>,
}

impl Verifier<'_> {
    /// Every id anywhere names something, and symbols, weights and types make sense on their own.
    fn tables(&mut self) {
        let graph = self.graph;
        self.region_id("the graph", graph.body);
        for (_, symbol) in graph.symbols.iter() {
            if symbol.min > symbol.max || symbol.divisor < 1 {
                let (name, min, max, divisor) = (symbol.name.clone(), symbol.min, symbol.max, symbol.divisor);
                self.errors.push(VerifyError::Symbol { name, min, max, divisor });
            }
        }
        let mut names = HashSet::new();
        for param in &graph.params {
            if let Err(cause) = param.to_tensor() {
                self.errors.push(VerifyError::Param { name: param.name.clone(), cause });
            }
            if !names.insert(&param.name) {
                self.errors.push(VerifyError::ParamName { name: param.name.clone() });
            }
        }
        for (i, region) in graph.regions.iter().enumerate() {
            let place = format!("region {i}");
            region.inputs.iter().chain(&region.outputs).for_each(|v| self.value_id(&place, *v));
            for node in &region.nodes {
                self.in_table(&place, "node", node.index(), graph.nodes.len());
            }
        }
        for i in 0..graph.nodes.len() {
            self.node_table(NodeId(i as u32));
        }
        for (i, value) in graph.values.iter().enumerate() {
            let place = format!("the type of {}", self.value_text(ValueId(i as u32)));
            self.symbols_exist(&place, &value.ty.shape);
        }
    }

    fn node_table(&mut self, id: NodeId) {
        let (graph, place) = (self.graph, self.node_text(id));
        let node = graph.node(id);
        node.operands.iter().chain(&node.results).for_each(|v| self.value_id(&place, *v));
        node.regions.iter().for_each(|r| self.region_id(&place, *r));
        self.symbols_exist(&place, &node.op.to_dims());
        match &node.op {
            Op::ReadDims { symbols } => self.symbol_ids(&place, symbols.iter().copied()),
            Op::Host { results, symbols, .. } => {
                self.symbol_ids(&place, symbols.iter().copied());
                results.iter().for_each(|ty| self.symbols_exist(&place, &ty.shape));
            }
            Op::Repeat { index, .. } => self.symbol_ids(&place, std::iter::once(*index)),
            _ => {}
        }
    }

    fn in_table(&mut self, place: &str, what: &str, index: usize, available: usize) {
        if index >= available {
            let (place, found) = (place.to_owned(), format!("{what} {index}"));
            self.errors.push(VerifyError::Missing { place, found, available });
        }
    }

    fn value_id(&mut self, place: &str, id: ValueId) {
        self.in_table(place, "value", id.index(), self.graph.values.len());
    }

    fn region_id(&mut self, place: &str, id: RegionId) {
        self.in_table(place, "region", id.index(), self.graph.regions.len());
    }

    fn symbols_exist(&mut self, place: &str, dims: &[Dim]) {
        self.symbol_ids(place, dims.iter().flat_map(Dim::symbols));
    }

    fn symbol_ids(&mut self, place: &str, symbols: impl Iterator<Item = SymbolId>) {
        for symbol in symbols {
            self.in_table(place, "symbol", symbol.0 as usize, self.graph.symbols.len());
        }
    }

    fn region(&mut self, id: RegionId, place: &str, depth: usize) {
        if std::mem::replace(&mut self.seen_regions[id.index()], true) {
            return self.errors.push(VerifyError::Twice { place: format!("region {}", id.0) });
        }
        if depth > MAX_REGION_DEPTH {
            return self.errors.push(VerifyError::TooDeep { place: place.to_owned() });
        }
        let region = self.graph.region(id);
        let mut defined = Vec::new();
        for (position, &input) in region.inputs.iter().enumerate() {
            self.define(input, Definition::Input(id, position), &mut defined);
            self.value_type(input);
        }
        for &node in &region.nodes {
            if self.errors.len() >= MAX_ERRORS {
                return;
            }
            self.node(node, depth, &mut defined);
        }
        for &output in &region.outputs {
            self.used(place, output);
        }
        // A region's values are not known outside of it.
        defined.into_iter().for_each(|v: ValueId| self.in_scope[v.index()] = false);
    }

    fn node(&mut self, id: NodeId, depth: usize, defined: &mut Vec<ValueId>) {
        let place = self.node_text(id);
        if std::mem::replace(&mut self.seen_nodes[id.index()], true) {
            return self.errors.push(VerifyError::Twice { place });
        }
        let node = self.graph.node(id);
        let before = self.errors.len();
        for &operand in &node.operands {
            self.used(&place, operand);
        }
        for &region in &node.regions {
            self.region(region, &format!("a region of {place}"), depth + 1);
        }
        for (position, &result) in node.results.iter().enumerate() {
            self.define(result, Definition::Result(id, position), defined);
        }
        // Types of values that are not there, or of regions that repeat, would only repeat the complaint.
        if self.errors.len() == before {
            self.node_types(id, &place);
        }
    }

    fn used(&mut self, place: &str, value: ValueId) {
        if !self.in_scope[value.index()] {
            let value = self.value_text(value);
            self.errors.push(VerifyError::Undefined { place: place.to_owned(), value });
        }
    }

    fn define(&mut self, id: ValueId, expected: Definition, defined: &mut Vec<ValueId>) {
        if std::mem::replace(&mut self.in_scope[id.index()], true) {
            self.errors.push(VerifyError::Twice { place: self.value_text(id) });
        }
        defined.push(id);
        let found = self.graph.value(id).definition;
        if found != expected {
            let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
            self.errors.push(VerifyError::Definition { value: self.value_text(id), expected, found });
        }
    }

    fn node_types(&mut self, id: NodeId, place: &str) {
        let graph = self.graph;
        let node = graph.node(id);
        let shape_error = |cause| VerifyError::Shape { place: place.to_owned(), cause };
        if node.op.is_control() {
            let checked =
                ops::control::check_results(graph, &node.op, &node.operands, &node.regions, &node.results);
            self.errors.extend(checked.err().map(shape_error));
            return node.results.iter().for_each(|v| self.value_type(*v));
        }
        if let Op::Host { results, .. } = &node.op {
            return self.host_types(id, place, results);
        }
        let &[result] = node.results.as_slice() else {
            let (place, found) = (place.to_owned(), node.results.len());
            return self.errors.push(VerifyError::ResultCount { place, expected: 1, found });
        };
        match graph.infer(&node.op, &node.operands) {
            Err(cause) => self.errors.push(shape_error(cause)),
            Ok(_) if !node.regions.is_empty() => {
                let attribute = "regions";
                let problem = format!("are {}; expected none", node.regions.len());
                self.errors.push(shape_error(ShapeError::Attribute {
                    op: node.op.name(),
                    attribute,
                    problem,
                }));
            }
            Ok(expected) if !same_type(graph, &expected, graph.ty(result)) => {
                self.errors.push(VerifyError::ResultType {
                    place: place.to_owned(),
                    value: self.value_text(result),
                    expected: expected.display(&graph.symbols).to_string(),
                    found: graph.ty(result).display(&graph.symbols).to_string(),
                });
            }
            Ok(_) => self.value_type(result),
        }
    }

    fn host_types(&mut self, id: NodeId, place: &str, expected: &[TensorType]) {
        let graph = self.graph;
        let node = graph.node(id);
        let checked = ops::host::check(graph, &node.op, &node.operands);
        self.errors.extend(checked.err().map(|cause| VerifyError::Shape { place: place.to_owned(), cause }));
        if node.results.len() != expected.len() {
            let (expected, found) = (expected.len(), node.results.len());
            return self.errors.push(VerifyError::ResultCount { place: place.to_owned(), expected, found });
        }
        for (&result, expected) in node.results.iter().zip(expected) {
            if !same_type(graph, expected, graph.ty(result)) {
                self.errors.push(VerifyError::ResultType {
                    place: place.to_owned(),
                    value: self.value_text(result),
                    expected: expected.display(&graph.symbols).to_string(),
                    found: graph.ty(result).display(&graph.symbols).to_string(),
                });
            }
            self.value_type(result);
        }
    }

    /// The sizes of a type can exist.
    fn value_type(&mut self, id: ValueId) {
        let (graph, ty) = (self.graph, self.graph.ty(id));
        let text = || ty.display(&graph.symbols).to_string();
        if ty.shape.iter().any(|d| graph.symbols.range(d).max < 0) {
            self.errors.push(VerifyError::Negative { value: self.value_text(id), ty: text() });
        } else if ty.rank() > MAX_RANK
            || ops::smallest_bytes(ty, &graph.symbols).is_none_or(|bytes| bytes > MAX_TENSOR_BYTES)
        {
            self.errors.push(VerifyError::TooLarge { value: self.value_text(id), ty: text() });
        }
    }

    /// Inputs that have a symbol as a dimension give it its value, and so do nodes that read sizes, and control flow;
    /// nothing else can.
    fn symbols_have_values(&mut self) {
        let graph = self.graph;
        let inputs = graph.inputs().iter().flat_map(|v| &graph.ty(*v).shape);
        let mut bound: HashSet<SymbolId> = inputs.filter_map(Dim::as_symbol).collect();
        let mut ever = bound.clone();
        self.region_symbols(graph.body, &mut bound, &mut ever);
    }

    /// `bound` are the symbols that have a value where the region is; `ever` those that anything so far gives one.
    fn region_symbols(
        &mut self,
        region: RegionId,
        bound: &mut HashSet<SymbolId>,
        ever: &mut HashSet<SymbolId>,
    ) {
        let graph = self.graph;
        for &input in &graph.region(region).inputs {
            self.are_bound(&self.value_text(input), &graph.ty(input).shape, bound);
        }
        let mut own = Vec::new();
        for &id in &graph.region(region).nodes {
            let (node, place) = (graph.node(id), self.node_text(id));
            let introduced = ops::control::introduced_symbols(graph, node);
            let inside = ops::control::iteration_symbols(graph, node);
            for &symbol in introduced.iter().chain(inside.iter().filter(|s| !introduced.contains(s))) {
                if !ever.insert(symbol) {
                    let (place, symbol) = (place.clone(), graph.symbols.get(symbol).name.clone());
                    self.errors.push(VerifyError::Rebound { place, symbol });
                }
            }
            self.are_bound(&place, &node.op.to_dims(), bound);
            bound.extend(&inside);
            for &nested in &node.regions {
                self.region_symbols(nested, bound, ever);
            }
            inside.iter().for_each(|symbol| _ = bound.remove(symbol));
            bound.extend(&introduced);
            own.extend(introduced);
            for &result in &node.results {
                self.are_bound(&place, &graph.ty(result).shape, bound);
            }
        }
        // What a region reads is not known outside of it.
        own.iter().for_each(|symbol| _ = bound.remove(symbol));
    }

    fn are_bound(&mut self, place: &str, dims: &[Dim], bound: &HashSet<SymbolId>) {
        for dim in dims {
            if let Some(symbol) = dim.symbols().into_iter().find(|symbol| !bound.contains(symbol)) {
                let symbols = &self.graph.symbols;
                let (size, symbol) = (dim.display(symbols).to_string(), symbols.get(symbol).name.clone());
                return self.errors.push(VerifyError::Unbound { place: place.to_owned(), size, symbol });
            }
        }
    }

    fn value_text(&self, id: ValueId) -> String {
        match self.graph.values.get(id.index()).and_then(|v| v.name.as_ref()) {
            Some(name) => format!("%{} `{name}`", id.0),
            None => format!("%{}", id.0),
        }
    }

    fn node_text(&self, id: NodeId) -> String {
        let node = self.graph.node(id);
        match &node.origin {
            Some(origin) => {
                format!("node {} `{}` from `{}` ({})", id.0, node.op.name(), origin.name, origin.op)
            }
            None => format!("node {} `{}`", id.0, node.op.name()),
        }
    }
}

/// One dtype, and dimensions that are provably equal.
pub(crate) fn same_type(graph: &Graph, a: &TensorType, b: &TensorType) -> bool {
    let equal = |(a, b)| graph.symbols.is_known_eq(a, b);
    a.dtype == b.dtype && a.rank() == b.rank() && a.shape.iter().zip(&b.shape).all(equal)
}
