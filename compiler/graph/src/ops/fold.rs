//! Folding: what a node gives that can be known without running the graph, as a constant or as symbolic
//! dimensions. This is what makes chains of shape arithmetic disappear while a graph is built.

use super::gather::gather_positions;
use super::interpret::{Environment, compute};
use super::movement;
use super::positions::count;
use super::reduce::destinations;
use crate::{
    BinaryFn, CompareFn, DType, Dim, Graph, NodeId, Op, ReduceFn, Symbols, Tensor, UnaryFn, ValueId,
};

/// What a node was found to give.
#[derive(Clone, Debug, PartialEq)]
pub enum Folded {
    Constant(Tensor),
    /// An i64 tensor of `shape`.
    Dims {
        values: Vec<Dim>,
        shape: Vec<u64>,
    },
}

impl Folded {
    /// The operation that gives it.
    pub fn into_op(self) -> Op {
        match self {
            Self::Constant(tensor) => Op::Constant(tensor),
            Self::Dims { values, shape } => Op::Dims { values, shape },
        }
    }
}

/// Folds only what is at most this large: shapes and small constants, never weights.
const MAX_ELEMENTS: usize = 1024;

/// How many unfolded nodes a chain of i32 shape arithmetic is followed through.
const MAX_DEPTH: usize = 16;

/// What `node` gives, if its operands are small constants or symbolic dimensions. Sources themselves do not fold.
pub fn fold(graph: &Graph, node: NodeId) -> Option<Folded> {
    let node = graph.node(node);
    fold_op(graph, &node.op, &node.operands)
}

/// As [`fold`], for a node not made yet.
pub fn fold_op(graph: &Graph, op: &Op, operands: &[ValueId]) -> Option<Folded> {
    match op {
        Op::Constant(_) | Op::Param(_) | Op::Host { .. } => return None,
        Op::If | Op::While | Op::Repeat { .. } => return None,
        // What it reads may be known; its symbols have their values from it all the same.
        Op::ReadDims { .. } => return None,
        // Not shape arithmetic, and their work is not bounded by their size.
        Op::MatMul | Op::Conv { .. } | Op::Pool { .. } | Op::SuppressOverlaps => return None,
        Op::Dims { values, .. } if values.iter().any(|d| d.as_static().is_none()) => return None,
        // A splat stays a broadcast scalar, which costs nothing; only shape arithmetic wants the elements.
        Op::Broadcast { .. }
            if !matches!(graph.ty(operands[0]).dtype, DType::I64 | DType::I32 | DType::Bool) =>
        {
            return None;
        }
        _ => {}
    }
    let sizes = graph.infer(op, operands).ok()?.static_shape()?;
    if crate::tensor::element_count(&sizes)? > MAX_ELEMENTS as u64 {
        return None;
    }
    if let Some(constants) = small_constants(graph, operands) {
        let environment = Environment::new(&graph.symbols, &graph.params, u64::MAX);
        if let Ok(tensor) = compute(op, &constants, &environment) {
            return Some(Folded::Constant(tensor));
        }
    }
    let folded = match op {
        Op::Compare(function) => compare(graph, *function, operands)?,
        _ => {
            let Symbolic { shape, values } = symbolic_op(graph, op, operands, 0)?;
            let statics: Option<Vec<i64>> = values.iter().map(Dim::as_static).collect();
            let dtype = graph.infer(op, operands).ok()?.dtype;
            match statics {
                Some(values) => {
                    let values: Vec<i128> = values.into_iter().map(i128::from).collect();
                    Folded::Constant(Tensor::from_integers(dtype, &shape, &values))
                }
                None if dtype == DType::I64 => Folded::Dims { values, shape },
                None => return None,
            }
        }
    };
    Some(folded)
}

/// The result of `node` if every operand is a constant, a weight or nothing and no symbol is involved; `None`
/// otherwise, and where the result is over `limit_bytes` or does not exist.
pub fn evaluate(graph: &Graph, node: NodeId, limit_bytes: u64) -> Option<Tensor> {
    let node = graph.node(node);
    let operands: Vec<Tensor> =
        node.operands.iter().map(|v| constant_tensor(graph, *v)).collect::<Option<_>>()?;
    let operands: Vec<&Tensor> = operands.iter().collect();
    compute(&node.op, &operands, &Environment::new(&graph.symbols, &graph.params, limit_bytes)).ok()
}

fn constant_tensor(graph: &Graph, value: ValueId) -> Option<Tensor> {
    match graph.producer_op(value)? {
        Op::Constant(tensor) => Some(tensor.clone()),
        Op::Param(id) => graph.param(*id).to_tensor().ok(),
        _ => None,
    }
}

/// The elements of an integer tensor as dimensions, and its shape, if they are known: constants, symbolic
/// dimensions, and arithmetic on them.
pub fn dims_of_value(graph: &Graph, value: ValueId) -> Option<(Vec<u64>, Vec<Dim>)> {
    symbolic(graph, value, 0).map(|s| (s.shape, s.values))
}

fn small_constants<'g>(graph: &'g Graph, operands: &[ValueId]) -> Option<Vec<&'g Tensor>> {
    let constant = |value: &ValueId| match graph.producer_op(*value)? {
        Op::Constant(tensor) if tensor.len() <= MAX_ELEMENTS => Some(tensor),
        _ => None,
    };
    operands.iter().map(constant).collect()
}

/// An integer tensor of which every element is known as an expression.
struct Symbolic {
    shape: Vec<u64>,
    values: Vec<Dim>,
}

fn symbolic(graph: &Graph, value: ValueId, depth: usize) -> Option<Symbolic> {
    if depth > MAX_DEPTH || !matches!(graph.ty(value).dtype, DType::I64 | DType::I32) {
        return None;
    }
    let node = graph.node(graph.producer(value)?);
    match &node.op {
        Op::Constant(tensor) if tensor.len() <= MAX_ELEMENTS => {
            let values = tensor.to_i64s().into_iter().map(Dim::constant).collect();
            Some(Symbolic { shape: tensor.shape().to_vec(), values })
        }
        Op::Dims { values, shape } => Some(Symbolic { shape: shape.clone(), values: values.clone() }),
        Op::ReadDims { symbols } => Some(Symbolic {
            shape: vec![symbols.len() as u64],
            values: symbols.iter().copied().map(Dim::symbol).collect(),
        }),
        op => symbolic_op(graph, op, &node.operands, depth + 1),
    }
}

/// What an operation gives on operands that are known as expressions. Dimensions are taken to fit where a model
/// narrows them to i32.
fn symbolic_op(graph: &Graph, op: &Op, operands: &[ValueId], depth: usize) -> Option<Symbolic> {
    let ty = graph.infer(op, operands).ok()?;
    let shape = ty.static_shape()?;
    if crate::tensor::element_count(&shape)? > MAX_ELEMENTS as u64 {
        return None;
    }
    let operand = |i: usize| symbolic(graph, *operands.get(i)?, depth);
    let values = match op {
        Op::Cast(DType::I64 | DType::I32) | Op::Reshape { .. } => operand(0)?.values,
        Op::Broadcast { .. } | Op::Transpose { .. } | Op::Slice { .. } => {
            let sized = Environment::new(&graph.symbols, &[], 0).with_sizes(op).ok()?;
            let x = operand(0)?;
            movement::positions(&sized, &x.shape, &shape).collect(&x.values, None)
        }
        Op::Concat { axis } => {
            let parts: Vec<Symbolic> = (0..operands.len()).map(operand).collect::<Option<_>>()?;
            let parts: Vec<(&[u64], &[Dim])> = parts.iter().map(|p| (&p.shape[..], &p.values[..])).collect();
            movement::concat(&parts, *axis)
        }
        Op::Gather { axis } => {
            let (x, indices) = (operand(0)?, operand(1)?);
            let indices: Vec<i64> = indices.values.iter().map(Dim::as_static).collect::<Option<_>>()?;
            gather_positions(op.name(), &x.shape, &indices, *axis).ok()?.collect(&x.values, None)
        }
        Op::Unary(UnaryFn::Neg) => operand(0)?.values.into_iter().map(|d| -d).collect(),
        Op::Binary(function) => {
            let (lhs, rhs) = (operand(0)?.values, operand(1)?.values);
            let pairs = lhs.iter().zip(&rhs);
            pairs.map(|(l, r)| binary(&graph.symbols, *function, l, r)).collect::<Option<_>>()?
        }
        Op::Select => {
            let condition = constant_tensor(graph, operands[0])?.to_bools();
            let (if_true, if_false) = (operand(1)?.values, operand(2)?.values);
            let choices = condition.into_iter().zip(if_true.into_iter().zip(if_false));
            choices.map(|(condition, (t, f))| if condition { t } else { f }).collect()
        }
        Op::Reduce { function, axes } => {
            let x = operand(0)?;
            reduce(&graph.symbols, *function, &x, axes, count(&shape))?
        }
        _ => return None,
    };
    let bounded = values.iter().all(|d| d.complexity() <= Dim::MAX_COMPLEXITY);
    bounded.then_some(Symbolic { shape, values })
}

fn binary(symbols: &Symbols, function: BinaryFn, l: &Dim, r: &Dim) -> Option<Dim> {
    // Truncation, flooring and both remainders agree where nothing is negative.
    let divides = symbols.range(l).min >= 0 && symbols.range(r).min > 0;
    let value = match function {
        BinaryFn::Add => l.clone() + r.clone(),
        BinaryFn::Sub => l.clone() - r.clone(),
        BinaryFn::Mul => l.clone() * r.clone(),
        BinaryFn::Max => l.maximum(r),
        BinaryFn::Min => l.minimum(r),
        BinaryFn::Div if divides => l.floor_div(r),
        BinaryFn::Rem | BinaryFn::Mod if divides => l.modulo(r),
        _ => return None,
    };
    Some(symbols.simplify(&value))
}

fn reduce(
    symbols: &Symbols,
    function: ReduceFn,
    x: &Symbolic,
    axes: &[usize],
    results: usize,
) -> Option<Vec<Dim>> {
    let join = match function {
        ReduceFn::Sum => BinaryFn::Add,
        ReduceFn::Product => BinaryFn::Mul,
        ReduceFn::Max => BinaryFn::Max,
        ReduceFn::Min => BinaryFn::Min,
        ReduceFn::Mean | ReduceFn::All | ReduceFn::Any => return None,
    };
    let mut totals: Vec<Option<Dim>> = vec![None; results];
    let mut elements = x.values.iter();
    let mut known = true;
    destinations(&x.shape, axes).for_each(&mut |to| {
        let Some(element) = elements.next() else { return };
        let joined = match totals[to].take() {
            None => Some(element.clone()),
            Some(total) => binary(symbols, join, &total, element),
        };
        known &= joined.as_ref().is_some_and(|d| d.complexity() <= Dim::MAX_COMPLEXITY);
        totals[to] = if known { joined } else { None };
    });
    if known { totals.into_iter().collect() } else { None }
}

/// The comparison of two integer tensors if bounds decide every element.
fn compare(graph: &Graph, function: CompareFn, operands: &[ValueId]) -> Option<Folded> {
    let (lhs, rhs) = (symbolic(graph, operands[0], 0)?, symbolic(graph, operands[1], 0)?);
    let symbols = &graph.symbols;
    let decide = |holds: bool, fails: bool| (holds || fails).then_some(holds);
    let known = |(l, r): (&Dim, &Dim)| match function {
        CompareFn::Eq => decide(symbols.is_known_eq(l, r), symbols.is_known_ne(l, r)),
        CompareFn::Ne => decide(symbols.is_known_ne(l, r), symbols.is_known_eq(l, r)),
        CompareFn::Lt => decide(symbols.is_known_lt(l, r), symbols.is_known_ge(l, r)),
        CompareFn::Le => decide(symbols.is_known_le(l, r), symbols.is_known_gt(l, r)),
        CompareFn::Gt => decide(symbols.is_known_gt(l, r), symbols.is_known_le(l, r)),
        CompareFn::Ge => decide(symbols.is_known_ge(l, r), symbols.is_known_lt(l, r)),
    };
    let values: Vec<bool> = lhs.values.iter().zip(&rhs.values).map(known).collect::<Option<_>>()?;
    Some(Folded::Constant(Tensor::from_bools(&lhs.shape, &values)))
}
