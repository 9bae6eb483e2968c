//! What profiles say of dispatches: the nodes they compute, and how much work that is.

use std::collections::HashMap;

use ired_graph::dim::{Atom, DimFn};
use ired_graph::{Dim, Graph, NodeId, Op, SymbolId};
use ired_module::code::ArithOp;
use ired_module::notes::{DispatchNote, DispatchNotes, Expression, Size, Term};

use crate::dispatch::Dispatch;
use crate::kernels;
use crate::passes::form_dispatches::{Plan, Step};
use crate::targets::CpuTarget;
use crate::work;

/// Notes on `dispatches`: instructions of the entry point, and their main nodes.
pub(super) fn notes(
    graph: &Graph,
    plan: &Plan,
    dispatches: &[(u32, NodeId)],
    target: &CpuTarget,
) -> DispatchNotes {
    let by_root: HashMap<NodeId, &Dispatch> = plan
        .regions
        .values()
        .flatten()
        .filter_map(
            |step| if let Step::Dispatch(dispatch) = step { Some((dispatch.root, dispatch)) } else { None },
        )
        .collect();
    let mut sizes = Sizes::new(graph);
    let mut notes = Vec::with_capacity(dispatches.len());
    for (instruction, root) in dispatches {
        let Some(dispatch) = by_root.get(root) else { continue };
        let Some(result) = graph.node(*root).results.first().map(|value| graph.ty(*value)) else { continue };
        notes.push(DispatchNote {
            function: 0,
            instruction: *instruction,
            nodes: work::origins(graph, dispatch).join(", "),
            problem: kernels::tunable(graph, dispatch, target).map_or_else(String::new, |t| t.problem),
            dtype: result.dtype.name().to_owned(),
            shape: result.shape.iter().map(|dim| sizes.expression(dim)).collect(),
            operations: sizes.expression(&work::operations(graph, dispatch)),
            bytes: sizes.expression(&work::bytes(graph, dispatch)),
        });
    }
    DispatchNotes { sizes: sizes.table, notes }
}

/// Numbers the sizes that expressions are of.
struct Sizes {
    /// Where the dimensions of inputs, or other sizes, say what a symbol is.
    known: HashMap<SymbolId, Known>,
    numbers: HashMap<SymbolId, u16>,
    /// The first is not known.
    table: Vec<Size>,
    /// Names of sizes that are being written, each in the one before.
    depth: usize,
}

/// Names within names; what is nested deeper is not known to profiles.
const MAX_DEPTH: usize = 64;

#[derive(Clone)]
enum Known {
    Input {
        input: u16,
        axis: u16,
    },
    /// A name for a size that was long to write.
    Named(Dim),
}

impl Sizes {
    fn new(graph: &Graph) -> Self {
        let mut known = HashMap::new();
        for node in &graph.nodes {
            let read = node.operands.first().and_then(|read| graph.producer_op(*read));
            if let (Op::ReadDims { symbols }, Some(Op::Dims { values, .. })) = (&node.op, read) {
                known.extend(symbols.iter().copied().zip(values.iter().cloned().map(Known::Named)));
            }
        }
        for (input, value) in (0..).zip(graph.inputs()) {
            for (axis, dim) in (0..).zip(&graph.ty(*value).shape) {
                if let Some(symbol) = dim.as_symbol() {
                    known.entry(symbol).or_insert(Known::Input { input, axis });
                }
            }
        }
        Self { known, numbers: HashMap::new(), table: vec![Size::Unknown], depth: 0 }
    }

    fn expression(&mut self, dim: &Dim) -> Expression {
        let mut terms = Vec::new();
        self.sum(dim, &mut terms);
        Expression(terms)
    }

    fn sum(&mut self, dim: &Dim, terms: &mut Vec<Term>) {
        terms.push(Term::Value(dim.offset()));
        for (atoms, coefficient) in dim.terms() {
            terms.push(Term::Value(coefficient));
            for atom in atoms {
                self.atom(atom, terms);
                terms.push(Term::Apply(ArithOp::Mul));
            }
            terms.push(Term::Apply(ArithOp::Add));
        }
    }

    fn atom(&mut self, atom: &Atom, terms: &mut Vec<Term>) {
        let (function, lhs, rhs) = match atom {
            Atom::Symbol(symbol) => {
                let size = self.number(*symbol);
                return terms.push(size);
            }
            Atom::Call(function, lhs, rhs) => (function, lhs, rhs),
        };
        self.sum(lhs, terms);
        self.sum(rhs, terms);
        terms.push(Term::Apply(match function {
            DimFn::FloorDiv => ArithOp::FloorDiv,
            DimFn::Mod => ArithOp::Mod,
            DimFn::Max => ArithOp::Max,
            DimFn::Min => ArithOp::Min,
        }));
    }

    fn number(&mut self, symbol: SymbolId) -> Term {
        if let Some(number) = self.numbers.get(&symbol) {
            return Term::Size(*number);
        }
        // What it is said to be is numbered first: a size refers to earlier ones.
        let size = match self.known.remove(&symbol) {
            Some(Known::Input { input, axis }) => Some(Size::Input { input, axis }),
            Some(Known::Named(dim)) if self.depth < MAX_DEPTH => {
                self.depth += 1;
                let expression = self.expression(&dim);
                self.depth -= 1;
                Some(Size::Expression(expression))
            }
            Some(Known::Named(_)) | None => None,
        };
        let number = match (size, u16::try_from(self.table.len())) {
            (Some(size), Ok(number)) => {
                self.table.push(size);
                number
            }
            _ => 0,
        };
        self.numbers.insert(symbol, number);
        Term::Size(number)
    }
}
