//! Two products with a softmax between them: computed together, their scores are never stored.

use std::collections::HashSet;

use ired_graph::{DType, Dim, NodeId, Op, UnaryFn, ValueId};

use super::epilogue::Group;
use super::{Facts, is_widening};

/// Elements of a query, key or value that a kernel keeps on its stack for a block of them.
const MAX_DEPTH: i64 = 256;

/// Nodes between the products, at most.
const MAX_NODES: usize = 24;

/// The group whose softmax is `softmax`: the product of queries and keys, what is done to the scores, and the product
/// with the values, which is the root.
pub(super) fn find(facts: &Facts<'_>, softmax: NodeId) -> Option<Group> {
    let graph = facts.graph;
    let node = facts.node(softmax);
    let (&scores, &weights) = (node.operands.first()?, node.results.first()?);
    let shape = &graph.ty(weights).shape;
    let last = shape.len().checked_sub(1)?;
    if !matches!(node.op, Op::Softmax { axis, log: false } if axis == last) || last == 0 {
        return None;
    }
    // One row has nothing to share its keys with.
    if shape[last - 1] == Dim::constant(1) {
        return None;
    }
    let mut inside = HashSet::from([softmax]);
    let used = match facts.only_reader(weights) {
        Some(_) => weights,
        None => {
            let [test, select] = zeroed_nans(facts, weights)?;
            inside.extend([test, select]);
            facts.node(select).results[0]
        }
    };
    let used = match rounded(facts, used) {
        Some([narrow, wide]) => {
            inside.extend([narrow, wide]);
            facts.node(wide).results[0]
        }
        None => used,
    };
    let root = facts.only_reader(used)?;
    let product = facts.node(root);
    if product.op != Op::MatMul || product.operands[0] != used || product.operands[1] == used {
        return None;
    }
    inside.insert(root);
    // The second product holds scores to as many keys as there are values. Where a mask of a length of its own makes
    // their number an expression of both, that is what it comes to; the run checks it before the kernel starts.
    let keys = graph.ty(product.operands[1]).shape.iter().rev().nth(1)?;
    let mut narrow = shape.clone();
    narrow[last].clone_from(keys);
    let (mut first, mut pending) = (None, vec![scores]);
    while let Some(value) = pending.pop() {
        let Some(id) =
            facts.producer[value.index()].filter(|id| facts.home[id.index()] == facts.home[root.index()])
        else {
            continue;
        };
        let op = &facts.node(id).op;
        let found = &graph.ty(value).shape;
        let widens = |id: NodeId| *found == *shape && graph.ty(facts.node(id).operands[0]).shape == narrow;
        let joins = match op {
            Op::MatMul => *found == narrow,
            Op::Broadcast { .. } => widens(id),
            op => op.is_elementwise() && (found == shape || *found == narrow),
        };
        let joins = joins
            && graph.ty(value).dtype.bits() >= 8
            && !facts.is_output[value.index()]
            && facts.readers[value.index()].iter().all(|reader| inside.contains(reader));
        if inside.contains(&id) || !joins {
            continue;
        }
        if *op == Op::MatMul {
            if first.replace(id).is_some() {
                return None;
            }
        } else {
            pending.extend(&facts.node(id).operands);
        }
        inside.insert(id);
    }
    let first = facts.node(first?);
    let [queries, keys, values] = [first.operands[0], first.operands[1], product.operands[1]];
    let depth_of = |value: ValueId, axis: usize| graph.ty(value).shape[axis].as_static();
    let depths = [depth_of(queries, last), depth_of(values, last)];
    let fits = depths.iter().all(|depth| depth.is_some_and(|depth| (1..=MAX_DEPTH).contains(&depth)));
    let of_f32 = [queries, keys, values, scores, weights, product.results[0]];
    let all_f32 = of_f32.iter().all(|value| graph.ty(*value).dtype == DType::F32);
    // Weights of the model are packed for products of their own.
    let computed = [keys, values].iter().all(|value| {
        !matches!(graph.producer_op(*value), Some(Op::Param(_) | Op::Constant(_) | Op::Broadcast { .. }))
    });
    if !fits || !all_f32 || !computed || inside.len() > MAX_NODES {
        return None;
    }
    let mut nodes: Vec<NodeId> = inside.into_iter().collect();
    nodes.sort_by_key(|id| facts.position[id.index()]);
    Some(Group { root, nodes })
}

/// The nodes that round `value` to bf16, if nothing else reads it.
fn rounded(facts: &Facts<'_>, value: ValueId) -> Option<[NodeId; 2]> {
    let narrow = facts.only_reader(value).filter(|id| facts.node(*id).op == Op::Cast(DType::BF16))?;
    let wide = facts.only_reader(facts.node(narrow).results[0])?;
    (facts.node(wide).op == Op::Cast(DType::F32)).then_some([narrow, wide])
}

/// The nodes of `select(is_nan(x), 0, x)`, if nothing else reads `value`, which is `x`: rows of which nothing is
/// attended to count as zero.
fn zeroed_nans(facts: &Facts<'_>, value: ValueId) -> Option<[NodeId; 2]> {
    let readers: HashSet<NodeId> = facts.readers[value.index()].iter().copied().collect();
    let find = |holds: &dyn Fn(&Op) -> bool| readers.iter().copied().find(|id| holds(&facts.node(*id).op));
    let test = find(&|op| matches!(op, Op::Unary(UnaryFn::IsNan)))?;
    let select = find(&|op| matches!(op, Op::Select))?;
    let &[condition, zero, other] = facts.node(select).operands.as_slice() else { return None };
    let ours = readers.len() == 2 && !facts.is_output[value.index()] && other == value && zero != value;
    let tested = facts.node(test).results[0];
    (ours && condition == tested && facts.only_reader(tested) == Some(select) && is_zero(facts, zero))
        .then_some([test, select])
}

fn is_zero(facts: &Facts<'_>, value: ValueId) -> bool {
    match facts.graph.producer(value).map(|id| facts.node(id)) {
        Some(node) => match &node.op {
            Op::Constant(tensor) => tensor.to_f64s().iter().all(|x| *x == 0.0),
            Op::Broadcast { .. } | Op::Reshape { .. } => is_zero(facts, node.operands[0]),
            _ => false,
        },
        None => false,
    }
}

/// Elements of keys that a kernel turns around at a time, on any machine.
const TURNED: i64 = 16;

/// The product of queries and keys of a group, if there may be one query only: copying keys and values to places where
/// many queries read them faster would take longer than that query does.
pub(super) fn first_product_of_few(facts: &Facts<'_>, group: &Group) -> Option<NodeId> {
    let first = first_product(facts, group)?;
    let queries = &facts.graph.ty(facts.node(first).operands[0]).shape;
    let (count, depth) = (&queries[queries.len() - 2], queries.last()?.as_static()?);
    (count.as_static().is_none() && depth % TURNED == 0).then_some(first)
}

/// The product of queries and keys in a group.
pub(super) fn first_product(facts: &Facts<'_>, group: &Group) -> Option<NodeId> {
    group.nodes.iter().copied().find(|id| *id != group.root && facts.node(*id).op == Op::MatMul)
}

/// The same, if the group rounds weights to bf16 as it does for tiles.
pub(super) fn first_rounded_product(facts: &Facts<'_>, group: &Group) -> Option<NodeId> {
    let weights = *facts.node(group.root).operands.first()?;
    let rounding = facts.producer[weights.index()]?;
    let rounds = group.nodes.contains(&rounding) && is_widening(facts.graph, facts.node(rounding));
    first_product(facts, group).filter(|_| rounds)
}
