//! Which elementwise nodes are computed where a root's result still is in registers.

use std::collections::{HashMap, HashSet};

use ired_graph::{Graph, NodeId, Op, ValueId};

use super::{Facts, attention, is_root, is_widening};

/// How far after its root an epilogue is looked for, and how long it may get. Bounds the search, not real models.
const WINDOW: usize = 256;
const MAX_NODES: usize = 48;

/// Nodes computed together, in definition order; the last one's result is the output.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) root: NodeId,
    pub(super) nodes: Vec<NodeId>,
}

#[derive(Debug, Default)]
pub(super) struct Epilogues {
    groups: Vec<Group>,
    by_node: HashMap<NodeId, usize>,
}

impl Epilogues {
    fn add(&mut self, group: Group) {
        for &id in &group.nodes {
            self.by_node.insert(id, self.groups.len());
        }
        self.groups.push(group);
    }

    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.by_node.contains_key(&id)
    }

    pub(super) fn group_ending_at(&self, id: NodeId) -> Option<&Group> {
        self.by_node.get(&id).map(|&i| &self.groups[i]).filter(|g| g.nodes.last() == Some(&id))
    }
}

pub(super) fn grow_epilogues(facts: &Facts<'_>, nodes: &[NodeId]) -> Epilogues {
    let mut epilogues = Epilogues::default();
    let softmaxes = nodes.iter().filter(|id| matches!(facts.node(**id).op, Op::Softmax { .. }));
    for group in softmaxes.filter_map(|id| attention::find(facts, *id)) {
        epilogues.add(group);
    }
    for (position, &root) in nodes.iter().enumerate() {
        if !is_root(&facts.node(root).op) || epilogues.contains(root) {
            continue;
        }
        let window = &nodes[position + 1..nodes.len().min(position + 1 + WINDOW)];
        let group = grow(facts, &epilogues, root, window);
        epilogues.add(group);
    }
    epilogues
}

/// The longest run of elementwise nodes after `root`, each reading only the group or what does not wait for it,
/// of which one value is left to read from outside.
fn grow(facts: &Facts<'_>, taken: &Epilogues, root: NodeId, window: &[NodeId]) -> Group {
    let graph = facts.graph;
    let result = facts.node(root).results[0];
    let mut nodes = vec![root];
    if matches!(facts.node(root).op, Op::ScatterNd { .. }) {
        // Its result is in memory only: later updates read what earlier ones wrote.
        return Group { root, nodes };
    }
    let mut best = 1;
    let mut inside: HashSet<ValueId> = HashSet::from([result]);
    // Reads from inside the group, by value; and values that wait for the group from outside of it.
    let mut reads: HashMap<ValueId, usize> = HashMap::new();
    let mut waiting: HashSet<ValueId> = HashSet::new();
    for &id in window {
        let node = facts.node(id);
        let captured = facts.captured.get(&id).map_or(&[][..], Vec::as_slice);
        let mut operands = node.operands.iter().chain(captured);
        if !operands.clone().any(|v| inside.contains(v) || waiting.contains(v)) {
            continue;
        }
        let joins = nodes.len() < MAX_NODES
            && node.op.is_elementwise()
            // Several elements of one byte are written together, which roots' kernels do not do.
            && graph.ty(node.results[0]).dtype.bits() >= 8
            && !taken.contains(id)
            // What is read as bf16 is stored as bf16.
            && !is_widening(graph, node)
            && same_shape(graph, node.results[0], result)
            && !operands.any(|v| waiting.contains(v));
        if !joins {
            waiting.extend(&node.results);
            continue;
        }
        for operand in node.operands.iter().filter(|v| inside.contains(v)) {
            *reads.entry(*operand).or_default() += 1;
        }
        inside.insert(node.results[0]);
        nodes.push(id);
        let outputs = inside
            .iter()
            .filter(|v| {
                facts.is_output[v.index()]
                    || facts.readers[v.index()].len() > reads.get(v).copied().unwrap_or_default()
            })
            .count();
        if outputs <= 1 {
            best = nodes.len();
        }
    }
    nodes.truncate(best);
    Group { root, nodes }
}

fn same_shape(graph: &Graph, a: ValueId, b: ValueId) -> bool {
    graph.values[a.index()].ty.shape == graph.values[b.index()].ty.shape
}
