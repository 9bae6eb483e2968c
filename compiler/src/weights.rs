//! How the weights of a product are stored, and what makes of them the numbers that are multiplied.
//!
//! The graph says so in operations: elements are cast to f32, and integers that were quantised are shifted and scaled
//! too, block by block along the sum. Whoever multiplies does that to what it reads; nobody stores the result.

use ired_graph::{BinaryFn, DType, Graph, Node, NodeId, Op, ValueId};

/// A right-hand side of a product, from the parameter that it is made of.
#[derive(Clone, Debug)]
pub(crate) struct StoredWeights {
    /// `[k, n]`, or `[n, k]`; of quantised ones `k` is cut into blocks: `[blocks, block, n]`, `[n, blocks, block]`.
    pub(crate) param: ValueId,
    pub(crate) transposed: bool,
    /// `None` where elements are cast at most.
    pub(crate) quantized: Option<Quantized>,
    /// What makes the right-hand side of parameters, these left out.
    pub(crate) nodes: Vec<NodeId>,
}

/// Integers that mean `(q - zero) * scale`, each block along `k` and each column with its own scale.
#[derive(Clone, Debug)]
pub(crate) struct Quantized {
    /// Length of a block. The last one may reach past the end of the sum.
    pub(crate) block: i64,
    pub(crate) blocks: i64,
    /// A parameter of f32, `[blocks, 1, n]` or `[n, blocks, 1]`; leading ones may be missing.
    pub(crate) scales: ValueId,
    pub(crate) zero: ZeroPoint,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ZeroPoint {
    One(f32),
    /// A parameter shaped as the scales are.
    Each(ValueId),
}

/// Follows a right-hand side to its parameter, by way of the nodes that `producer` knows.
pub(crate) fn stored_weights(
    graph: &Graph,
    rhs: ValueId,
    producer: &dyn Fn(ValueId) -> Option<NodeId>,
) -> Option<StoredWeights> {
    let mut path = Path { graph, producer, nodes: Vec::new() };
    let mut transposed = false;
    let mut value = rhs;
    loop {
        let shape = &graph.ty(value).shape;
        let Some(node) = path.node(value) else {
            let found = graph.ty(value).rank() == 2 && is_param(graph, value);
            return found.then_some(StoredWeights {
                param: value,
                transposed,
                quantized: None,
                nodes: path.nodes,
            });
        };
        let from = &graph.ty(*node.operands.first()?).shape;
        match &node.op {
            Op::Broadcast { .. } if from.len() >= 2 && shape.ends_with(&from[from.len() - 2..]) => {}
            Op::Transpose { perm } if perm[..] == [1, 0] => transposed = !transposed,
            // Panels are of the elements as they are stored.
            Op::Cast(DType::F32) if graph.ty(node.operands[0]).dtype == DType::BF16 => {}
            Op::Slice { .. } | Op::Reshape { .. } => {
                let (param, quantized) = path.quantized(value, transposed)?;
                return Some(StoredWeights {
                    param,
                    transposed,
                    quantized: Some(quantized),
                    nodes: path.nodes,
                });
            }
            _ => return None,
        }
        path.nodes.extend((path.producer)(value));
        value = node.operands[0];
    }
}

fn is_param(graph: &Graph, value: ValueId) -> bool {
    matches!(graph.producer_op(value), Some(Op::Param(_)))
}

fn without_leading_ones(shape: &[u64]) -> &[u64] {
    &shape[shape.iter().take_while(|d| **d == 1).count()..]
}

/// The nodes on the way to parameters.
struct Path<'a> {
    graph: &'a Graph,
    producer: &'a dyn Fn(ValueId) -> Option<NodeId>,
    nodes: Vec<NodeId>,
}

impl<'a> Path<'a> {
    fn node(&self, value: ValueId) -> Option<&'a Node> {
        let node = self.graph.node((self.producer)(value)?);
        (!matches!(node.op, Op::Param(_))).then_some(node)
    }

    /// The node that makes `value`, which is on the way.
    fn step(&mut self, value: ValueId) -> Option<&'a Node> {
        let node = self.node(value)?;
        self.nodes.extend((self.producer)(value));
        Some(node)
    }

    /// `slice(reshape((cast(q) - zero) * scale))`, of which the slice and the difference may be missing.
    fn quantized(&mut self, value: ValueId, transposed: bool) -> Option<(ValueId, Quantized)> {
        let graph = self.graph;
        let mut node = self.step(value)?;
        if let Op::Slice { start, stride, .. } = &node.op {
            let kept = usize::from(!transposed);
            let (from, to) = (&graph.ty(node.operands[0]).shape, &graph.ty(value).shape);
            let is_prefix = start.iter().all(|s| s.as_static() == Some(0)) && stride.iter().all(|s| *s == 1);
            if !is_prefix || from.get(kept) != to.get(kept) {
                return None;
            }
            node = self.step(node.operands[0])?;
        }
        if !matches!(node.op, Op::Reshape { .. }) {
            return None;
        }
        let (flat, scaled) = (graph.ty(node.results[0]).static_shape()?, node.operands[0]);
        let shape = graph.ty(scaled).static_shape()?;
        let [first, blocks, block] = match (shape.as_slice(), transposed) {
            (&[n, blocks, block], true) if flat == [n, blocks * block] => [n, blocks, block],
            (&[blocks, block, n], false) if flat == [blocks * block, n] => [n, blocks, block],
            _ => return None,
        };
        let spread = match transposed {
            true => [first, blocks, 1],
            false => [blocks, 1, first],
        };
        let product = self.step(scaled).filter(|node| node.op == Op::Binary(BinaryFn::Mul))?;
        let &[centred, scales] = product.operands.as_slice() else { return None };
        let scales = self.spread(scales, &spread)?;
        if graph.ty(scales).dtype != DType::F32 || !is_param(graph, scales) {
            return None;
        }
        let mut wide = self.step(centred)?;
        let mut zero = ZeroPoint::One(0.0);
        if wide.op == Op::Binary(BinaryFn::Sub) {
            let &[minuend, subtrahend] = wide.operands.as_slice() else { return None };
            zero = self.zero_point(subtrahend, &spread)?;
            wide = self.step(minuend)?;
        }
        let param = *wide.operands.first()?;
        let dtype = graph.ty(param).dtype;
        let fits = wide.op == Op::Cast(DType::F32)
            && matches!(dtype, DType::I4 | DType::U4 | DType::I8 | DType::U8)
            && is_param(graph, param);
        let quantized = Quantized { block: block as i64, blocks: blocks as i64, scales, zero };
        fits.then_some((param, quantized))
    }

    fn zero_point(&mut self, value: ValueId, spread: &[u64]) -> Option<ZeroPoint> {
        let mut inner = self.spread(value, spread).or_else(|| self.one(value))?;
        if let Some(Node { op: Op::Constant(tensor), .. }) = self.node(inner) {
            self.step(inner);
            return Some(ZeroPoint::One(*tensor.to_f32s().first()?));
        }
        if let Some(Node { op: Op::Cast(DType::F32), operands, .. }) = self.node(inner) {
            self.step(inner);
            inner = operands[0];
        }
        let known = matches!(self.graph.ty(inner).dtype, DType::I8 | DType::U8 | DType::F32);
        (known && is_param(self.graph, inner)).then_some(ZeroPoint::Each(inner))
    }

    /// What is broadcast from a number a block and column.
    fn spread(&mut self, value: ValueId, spread: &[u64]) -> Option<ValueId> {
        let inner = self.broadcast_of(value)?;
        let shape = self.graph.ty(inner).static_shape()?;
        let fits = without_leading_ones(&shape) == without_leading_ones(spread);
        fits.then(|| self.step(value))??;
        Some(inner)
    }

    /// What is broadcast from a scalar.
    fn one(&mut self, value: ValueId) -> Option<ValueId> {
        let inner = self.broadcast_of(value).filter(|inner| self.graph.ty(*inner).rank() == 0)?;
        self.step(value)?;
        Some(inner)
    }

    fn broadcast_of(&self, value: ValueId) -> Option<ValueId> {
        match self.node(value)? {
            Node { op: Op::Broadcast { .. }, operands, .. } => operands.first().copied(),
            _ => None,
        }
    }
}
