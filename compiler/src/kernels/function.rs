//! One kernel function under construction: its bindings as memrefs, its symbols as numbers, its errors.

use std::cell::RefCell;
use std::collections::HashMap;

use ired_graph::dim::{Atom, DimFn};
use ired_graph::{DType, Dim, Graph, Node, NodeId, Op, Shape, SymbolId, TensorType, ValueId};
use ired_mlir::{Builder, Compare, Type, Value};

use super::KernelError;
use super::arithmetic::storage_type;
use super::dot::has_bf16_tiles;
use crate::dispatch::{Binding, Dispatch, KernelInterface, Packing};
use crate::targets::CpuTarget;
use crate::targets::cpu::Isa;

/// What families share while they emit: the dispatch, and where its values are.
///
/// Emission does not stop at an error: the first is kept, a zero stands in, and [`Function::emit`] returns it.
pub(super) struct Function<'a, 'm> {
    pub(super) graph: &'a Graph,
    pub(super) dispatch: &'a Dispatch,
    /// Appends to the entry block, in front of the loop being built: what is made here can be used everywhere.
    pub(super) entry: Builder<'m>,
    /// Where functions and their constant arrays go.
    outer: Builder<'m>,
    symbol: String,
    /// Workgroup numbers x, y, z as index.
    pub(super) group: [Value<'m>; 3],
    memory: HashMap<ValueId, Value<'m>>,
    /// Addresses of what is in memory.
    pointers: HashMap<ValueId, Value<'m>>,
    /// Addresses of the kernel's own memory, in the order of its bindings.
    scratch: Vec<Value<'m>>,
    packed: HashMap<ValueId, Value<'m>>,
    symbols: HashMap<SymbolId, Value<'m>>,
    dims: RefCell<HashMap<Dim, Value<'m>>>,
    producers: HashMap<ValueId, NodeId>,
    globals: RefCell<HashMap<ValueId, String>>,
    /// Whose instructions may be named.
    pub(super) isa: Isa,
    /// Whether vectors of sixteen f32 are registers of AVX-512.
    pub(super) is_wide: bool,
    /// Whether vectors become bf16 by an instruction. It takes subnormal numbers as 0, as tiles do, and so is used for
    /// products and where there are tiles: for fast precision only.
    pub(super) rounds_at_once: bool,
    error: RefCell<Option<KernelError>>,
}

/// What a family needs to say where its function goes.
pub(super) struct Site<'a, 'm> {
    pub(super) graph: &'a Graph,
    pub(super) dispatch: &'a Dispatch,
    pub(super) target: &'a CpuTarget,
    pub(super) interface: &'a KernelInterface,
    pub(super) outer: &'a Builder<'m>,
    pub(super) symbol: &'a str,
}

impl Site<'_, '_> {
    /// The plan of a family that took the dispatch before.
    pub(super) fn planned<P>(&self, plan: Option<P>) -> Result<P, KernelError> {
        plan.ok_or_else(|| KernelError::NoFamily { dispatch: self.dispatch.name.clone() })
    }
}

/// What a kernel needs that reads and writes the dispatch's values as they stand in memory.
pub(super) fn plain_interface(graph: &Graph, dispatch: &Dispatch, grid: [Dim; 3]) -> KernelInterface {
    packed_interface(graph, dispatch, grid, &[])
}

/// The same, but for parameters that are read in an order of the kernel's own.
pub(super) fn packed_interface(
    graph: &Graph,
    dispatch: &Dispatch,
    grid: [Dim; 3],
    packed: &[(ValueId, Packing)],
) -> KernelInterface {
    let read = |value: &ValueId| match packed.iter().find(|(param, _)| param == value) {
        Some((_, packing)) => Binding::ReadPacked(*value, packing.clone()),
        None => Binding::Read(*value),
    };
    let mut bindings: Vec<_> = dispatch.inputs.iter().map(read).collect();
    bindings.extend(dispatch.outputs.iter().map(|v| Binding::Write(*v)));
    // Whoever asks a family knows which it is.
    KernelInterface { family: "", bindings, constants: symbols(graph, dispatch), grid, features: &[] }
}

/// Estimated instructions of one workgroup of a kernel that takes `all` of them, if that is known: some ten microseconds'
/// worth, or less where there would be few workgroups, but not so few that starting one takes as long.
pub(super) fn workgroup_work(all: Option<i64>) -> i64 {
    const MOST: i64 = 1 << 15;
    const LEAST: i64 = 1 << 13;
    const GROUPS: i64 = 16;
    all.map_or(MOST, |all| (all / GROUPS).clamp(LEAST, MOST))
}

/// A grid along x alone.
pub(super) fn line(groups: Dim) -> [Dim; 3] {
    [groups, Dim::constant(1), Dim::constant(1)]
}

impl<'a, 'm> Function<'a, 'm> {
    /// Adds the function, its body filled by `body`. `scalar_loops` asks for LLVM's loop vectoriser.
    pub(super) fn emit(
        site: &Site<'a, 'm>,
        scalar_loops: bool,
        body: impl FnOnce(&Function<'a, 'm>, &Builder<'m>),
    ) -> Result<(), KernelError> {
        let outer = site.outer;
        let (pointer, i32_type) = (outer.pointer_type(), outer.int_type(32));
        let mut error = None;
        let op = outer.func(
            site.symbol,
            &[pointer, pointer, i32_type, i32_type, i32_type],
            &[],
            |b, arguments| {
                let function = Function::open(site, b, arguments);
                body(&function, b);
                b.ret(&[]);
                error = function.error.take();
            },
        );
        if scalar_loops {
            op.set_attribute(crate::targets::cpu::SCALAR_LOOPS, outer.unit_attribute());
        }
        match error {
            None => Ok(()),
            Some(error) => {
                op.erase();
                Err(error)
            }
        }
    }

    fn open(site: &Site<'a, 'm>, b: &Builder<'m>, arguments: &[Value<'m>]) -> Self {
        let group = [2, 3, 4].map(|i| b.simple("arith.index_castui", &[arguments[i]], b.index_type()));
        let is_product = matches!(site.graph.node(site.dispatch.root).op, Op::MatMul | Op::Conv { .. });
        let mut function = Self {
            graph: site.graph,
            dispatch: site.dispatch,
            entry: b.clone(),
            outer: site.outer.clone(),
            symbol: site.symbol.to_owned(),
            group,
            memory: HashMap::new(),
            pointers: HashMap::new(),
            scratch: Vec::new(),
            packed: HashMap::new(),
            symbols: HashMap::new(),
            dims: RefCell::default(),
            producers: HashMap::new(),
            globals: RefCell::default(),
            isa: site.target.isa(),
            is_wide: site.target.has_avx512(),
            rounds_at_once: has_bf16_tiles(site.target) && is_product,
            error: RefCell::default(),
        };
        for (i, dim) in site.interface.constants.iter().enumerate() {
            let address = b.element_pointer(arguments[1], i as i32, b.int_type(64));
            let value = b.index_cast(b.load_pointer(address, b.int_type(64)), b.index_type());
            if let Some(symbol) = dim.as_symbol() {
                function.symbols.insert(symbol, value);
            }
        }
        for (i, binding) in site.interface.bindings.iter().enumerate() {
            let address = b.element_pointer(arguments[0], i as i32, b.pointer_type());
            let pointer = b.load_pointer(address, b.pointer_type());
            let memref = |value: &ValueId| b.memref_of(pointer, storage_type(b, function.dtype(*value)));
            match binding {
                Binding::Read(value) | Binding::Write(value) => {
                    let memref = memref(value);
                    function.memory.insert(*value, memref);
                    function.pointers.insert(*value, pointer);
                }
                Binding::ReadPacked(value, _) => {
                    let memref = memref(value);
                    function.packed.insert(*value, memref);
                }
                Binding::Scratch { .. } => function.scratch.push(pointer),
            }
        }
        for id in &site.dispatch.nodes {
            for result in &site.graph.nodes[id.index()].results {
                function.producers.insert(*result, *id);
            }
        }
        function
    }

    /// Runs `body` for this workgroup's `per_group` of the numbers below `count`.
    pub(super) fn for_own(
        &self,
        b: &Builder<'m>,
        per_group: i64,
        count: &Dim,
        body: impl FnOnce(&Builder<'m>, Value<'m>),
    ) {
        let (first, end) = self.own_range(b, per_group, count);
        b.for_each(first, end, body);
    }

    /// The first of these numbers, and the one after the last.
    pub(super) fn own_range(&self, b: &Builder<'m>, per_group: i64, count: &Dim) -> (Value<'m>, Value<'m>) {
        let per_group = b.index(per_group);
        let first = b.muli(self.group[0], per_group);
        (first, b.minsi(b.addi(first, per_group), self.dim(count)))
    }

    pub(super) fn fail(&self, error: KernelError) {
        self.error.borrow_mut().get_or_insert(error);
    }

    /// Fails with what `node` cannot do in `dtype`.
    pub(super) fn unsupported(&self, node: &Node, dtype: DType, why: &str) {
        self.fail(KernelError::unsupported(node, dtype, why));
    }

    pub(super) fn root(&self) -> &'a Node {
        &self.graph.nodes[self.dispatch.root.index()]
    }

    pub(super) fn node(&self, id: NodeId) -> &'a Node {
        &self.graph.nodes[id.index()]
    }

    /// The node of this dispatch that makes `value`.
    pub(super) fn producer(&self, value: ValueId) -> Option<&'a Node> {
        self.producers.get(&value).map(|id| self.node(*id))
    }

    pub(super) fn ty(&self, value: ValueId) -> &'a TensorType {
        &self.graph.values[value.index()].ty
    }

    pub(super) fn shape(&self, value: ValueId) -> &'a Shape {
        &self.ty(value).shape
    }

    pub(super) fn dtype(&self, value: ValueId) -> DType {
        self.ty(value).dtype
    }

    /// The dispatch's output; families with several ask for them by number themselves.
    pub(super) fn output(&self) -> ValueId {
        self.dispatch.outputs[0]
    }

    /// Whether nothing else of the dispatch reads an output.
    pub(super) fn is_only_written(&self, value: ValueId) -> bool {
        let mut nodes = self.dispatch.nodes.iter().map(|id| self.node(*id));
        self.dispatch.outputs.contains(&value) && nodes.all(|node| !node.operands.contains(&value))
    }

    pub(super) fn memory(&self, value: ValueId) -> Option<Value<'m>> {
        self.memory.get(&value).copied()
    }

    /// Whether two values lie in the same memory, which is decided when the program's buffers are placed.
    pub(super) fn is_shared(&self, b: &Builder<'m>, x: ValueId, y: ValueId) -> Value<'m> {
        let address = |value: ValueId| {
            let pointer = self.pointers.get(&value)?;
            Some(b.simple("llvm.ptrtoint", &[*pointer], b.int_type(64)))
        };
        match (address(x), address(y)) {
            (Some(x), Some(y)) => b.cmpi(Compare::Eq, x, y),
            _ => b.bool(false),
        }
    }

    /// Memory of the kernel's own, as elements of a type.
    pub(super) fn scratch(&self, b: &Builder<'m>, number: usize, element: Type<'m>) -> Value<'m> {
        b.memref_of(self.scratch[number], element)
    }

    pub(super) fn packed(&self, value: ValueId) -> Option<Value<'m>> {
        self.packed.get(&value).copied()
    }

    /// A dimension as a number; made once, at the function's entry.
    pub(super) fn dim(&self, dim: &Dim) -> Value<'m> {
        let b = &self.entry;
        if let Some(known) = dim.as_static() {
            return b.index(known);
        }
        if let Some(found) = self.dims.borrow().get(dim) {
            return *found;
        }
        let mut sum = b.index(dim.offset());
        for (atoms, coefficient) in dim.terms() {
            let mut product = b.index(coefficient);
            for atom in atoms {
                product = b.muli(self.atom(atom), product);
            }
            sum = b.addi(product, sum);
        }
        self.dims.borrow_mut().insert(dim.clone(), sum);
        sum
    }

    fn atom(&self, atom: &Atom) -> Value<'m> {
        let b = &self.entry;
        match atom {
            Atom::Symbol(id) => self.symbols.get(id).copied().unwrap_or_else(|| {
                self.fail(KernelError::MissingSymbol { symbol: self.graph.symbols.get(*id).name.clone() });
                b.index(0)
            }),
            Atom::Call(function, lhs, rhs) => {
                let (lhs, rhs) = (self.dim(lhs), self.dim(rhs));
                match function {
                    DimFn::FloorDiv => b.floor_div(lhs, rhs),
                    DimFn::Mod => b.floor_mod(lhs, rhs),
                    DimFn::Max => b.maxsi(lhs, rhs),
                    DimFn::Min => b.minsi(lhs, rhs),
                }
            }
        }
    }

    /// The array behind a constant of several elements, as a memref.
    pub(super) fn constant_array(&self, b: &Builder<'m>, value: ValueId) -> Option<Value<'m>> {
        let Op::Constant(tensor) = &self.producer(value)?.op else { return None };
        let (bytes, element) = (tensor.data(), storage_type(b, tensor.dtype()));
        let count = bytes.len() / element.bits()?.div_ceil(8);
        let ty = b.parse_type(&format!("memref<{count}x{element}>"));
        let mut globals = self.globals.borrow_mut();
        let next = globals.len();
        let symbol = globals.entry(value).or_insert_with(|| {
            let symbol = format!("{}.{next}", self.symbol);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            let text = format!("dense<\"0x{hex}\"> : tensor<{count}x{element}>");
            self.outer.global(&symbol, ty, self.outer.parse_attribute(&text));
            symbol
        });
        Some(self.entry.get_global(symbol, ty))
    }
}

/// The symbols that a kernel of `dispatch` may need, in order of first appearance.
pub(super) fn symbols(graph: &Graph, dispatch: &Dispatch) -> Vec<Dim> {
    let mut found = Vec::new();
    for id in &dispatch.nodes {
        let node = &graph.nodes[id.index()];
        for value in node.operands.iter().chain(&node.results) {
            graph.values[value.index()].ty.shape.iter().for_each(|d| collect(d, &mut found));
        }
        match &node.op {
            Op::Dims { values, .. } => values.iter().for_each(|d| collect(d, &mut found)),
            Op::Slice { start, size, .. } => start.iter().chain(size).for_each(|d| collect(d, &mut found)),
            Op::Pad { low, high, .. } => low.iter().chain(high).for_each(|d| collect(d, &mut found)),
            _ => {}
        }
    }
    found.into_iter().map(Dim::symbol).collect()
}

fn collect(dim: &Dim, found: &mut Vec<SymbolId>) {
    for (atoms, _) in dim.terms() {
        for atom in atoms {
            match atom {
                Atom::Symbol(id) if found.contains(id) => {}
                Atom::Symbol(id) => found.push(*id),
                Atom::Call(_, lhs, rhs) => {
                    collect(lhs, found);
                    collect(rhs, found);
                }
            }
        }
    }
}

/// The product of dimensions.
pub(super) fn product<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> Dim {
    dims.into_iter().fold(Dim::constant(1), |product, d| product * d.clone())
}
