//! Computes products of one operand by several weights as one, by the weights side by side: queries, keys and values of
//! attention. Workgroups then share the work of all of them, and stream weights without a break.
//!
//! Only where what follows each moves it elsewhere: that reads its part of the whole in place.

use std::collections::HashMap;

use ired_graph::{DType, Dim, Graph, Node, NodeId, Op, ParamId, Tensor, ValueId};

use super::PassError;
use super::form_dispatches::Facts;
use super::rewrite::rewrite;

pub(super) fn merge_products(graph: &mut Graph) -> Result<(), PassError> {
    let groups = groups(graph);
    let mut parts: HashMap<NodeId, ValueId> = HashMap::new();
    rewrite(graph, &mut |rw, id| {
        if let Some(part) = parts.get(&id) {
            return Ok(Some(vec![*part]));
        }
        let Some(members) = groups.get(&id) else { return Ok(None) };
        let Some(weights) = side_by_side(rw.graph, members) else { return Ok(None) };
        let left = rw.node(id).operands[0];
        let weights = rw.add_param("merged", weights)?;
        let whole = rw.add(Op::MatMul, &[left, weights])?;
        let mut start = 0;
        for member in members {
            let size = rw.ty(rw.node(member.product).results[0]).shape.clone();
            let op =
                Op::Slice { start: vec![Dim::constant(0), Dim::constant(start)], size, stride: vec![1, 1] };
            parts.insert(member.product, rw.add(op, &[whole])?);
            start += member.columns;
        }
        Ok(Some(vec![parts[&id]]))
    })?;
    Ok(())
}

struct Member {
    product: NodeId,
    weights: ParamId,
    columns: i64,
}

/// Products that can be one, by the first of them.
fn groups(graph: &Graph) -> HashMap<NodeId, Vec<Member>> {
    let facts = Facts::new(graph);
    let mut groups = HashMap::new();
    for region in &graph.regions {
        let mut by_left: HashMap<ValueId, Vec<Member>> = HashMap::new();
        for &id in &region.nodes {
            let node = graph.node(id);
            if let Some(member) = member(&facts, id).filter(|_| is_moved(&facts, node)) {
                by_left.entry(node.operands[0]).or_default().push(member);
            }
        }
        let several = by_left.into_values().filter(|members| members.len() > 1);
        groups.extend(several.map(|members| (members[0].product, members)));
    }
    groups
}

/// A product of matrices by a parameter that nothing else reads.
fn member(facts: &Facts<'_>, product: NodeId) -> Option<Member> {
    let graph = facts.graph;
    let node = graph.node(product);
    let (Op::MatMul, &[left, right]) = (&node.op, node.operands.as_slice()) else { return None };
    let Some(Op::Param(weights)) = graph.producer_op(right) else { return None };
    facts.only_reader(right)?;
    let [left, ty] = [left, right].map(|value| graph.ty(value));
    let fits = ty.dtype == DType::F32 && left.rank() == 2 && ty.rank() == 2;
    let columns = ty.shape.get(1)?.as_static().filter(|columns| fits && *columns > 0)?;
    Some(Member { product, weights: *weights, columns })
}

/// Whether a node's result is moved to other places, with little done to it before.
fn is_moved(facts: &Facts<'_>, node: &Node) -> bool {
    const MOST_STEPS: usize = 4;
    let mut value = node.results[0];
    for _ in 0..MOST_STEPS {
        let Some(reader) = facts.only_reader(value) else { return false };
        let node = facts.node(reader);
        match &node.op {
            Op::Transpose { .. } => return true,
            Op::Reshape { .. } => {}
            op if op.is_elementwise()
                && node.operands.iter().all(|o| *o == value || is_spread(facts.graph, *o)) => {}
            _ => return false,
        }
        value = node.results[0];
    }
    false
}

/// Whether a value is the same few numbers again and again, as a bias is.
fn is_spread(graph: &Graph, value: ValueId) -> bool {
    matches!(graph.producer_op(value), Some(Op::Broadcast { .. } | Op::Constant(_)))
}

/// The weights of all members as one matrix.
fn side_by_side(graph: &Graph, members: &[Member]) -> Option<Tensor> {
    let params: Vec<_> = members.iter().map(|member| graph.param(member.weights)).collect();
    let rows = *params.first()?.shape.first()?;
    let bytes = |columns: i64| usize::try_from(columns).ok()?.checked_mul(size_of::<f32>());
    let columns: i64 = members.iter().map(|member| member.columns).sum();
    let row_bytes = members.iter().map(|member| bytes(member.columns)).collect::<Option<Vec<_>>>()?;
    let total = bytes(columns)?.checked_mul(usize::try_from(rows).ok()?)?;
    let mut data = Vec::with_capacity(total);
    for row in 0..usize::try_from(rows).ok()? {
        for (param, bytes) in params.iter().zip(&row_bytes) {
            data.extend_from_slice(param.data.get(row * bytes..(row + 1) * bytes)?);
        }
    }
    Tensor::new(DType::F32, vec![rows, u64::try_from(columns).ok()?], data.into()).ok()
}
