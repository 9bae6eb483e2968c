//! Decides which nodes run together: what is computed in one kernel launch, what is only another view of the
//! same bytes, and in which order.
//!
//! Every root (a product, convolution, reduction…) takes the elementwise nodes after it; what elementwise and
//! data movement is left forms clusters of its own. Both then pull in what is cheap to compute again, and what
//! nobody else reads. A dispatch has one output, which all its nodes lead to, so dispatches cannot wait for
//! each other in a circle.

mod attention;
mod epilogue;
mod prologue;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use ired_graph::{DType, Graph, Node, NodeId, Op, RegionId, ValueId};

use crate::dispatch::Dispatch;

/// The steps of every region, in an order in which values are there before they are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) regions: HashMap<RegionId, Vec<Step>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Dispatch(Dispatch),
    /// `value` is the bytes of `of` under another shape.
    Alias {
        value: ValueId,
        of: ValueId,
    },
    /// Control flow; its regions have steps of their own.
    Control(NodeId),
    /// The host reads the sizes that a node's operand holds; its result is the bytes of that operand.
    Read(NodeId),
    /// The host runs a function on what a node's operands hold.
    Host(NodeId),
}

/// What of the graph formation looks at again and again.
pub(super) struct Facts<'g> {
    pub(super) graph: &'g Graph,
    /// Node that makes a value.
    pub(super) producer: Vec<Option<NodeId>>,
    /// Nodes that read a value, in any region; with repetition.
    pub(super) readers: Vec<Vec<NodeId>>,
    /// Values that are outputs of regions.
    pub(super) is_output: Vec<bool>,
    /// Values read from inside of a node's regions.
    pub(super) captured: HashMap<NodeId, Vec<ValueId>>,
    /// Position of a node in the whole graph: after whatever it reads, in its region or around it.
    pub(super) position: Vec<usize>,
    seen: usize,
    /// The region that a node is in.
    pub(super) home: Vec<RegionId>,
}

impl Plan {
    /// A line a step, in the order they run; regions of control flow follow the body.
    pub(super) fn describe(&self, graph: &Graph) -> String {
        let mut text = String::new();
        let mut regions: Vec<_> = self.regions.iter().collect();
        regions.sort_by_key(|(region, _)| **region);
        let name = |value: &ValueId| match graph.producer_op(*value) {
            Some(Op::Param(id)) => format!("@{}", graph.param(*id).name),
            _ => format!("%{}", value.0),
        };
        for (region, steps) in regions {
            let _ = writeln!(text, "// region {}", region.0);
            for step in steps {
                let _ = match step {
                    Step::Dispatch(d) => writeln!(
                        text,
                        "//   {} ({} nodes): {} -> {}",
                        d.name,
                        d.nodes.len(),
                        d.inputs.iter().map(name).collect::<Vec<_>>().join(", "),
                        d.outputs.iter().map(name).collect::<Vec<_>>().join(", "),
                    ),
                    Step::Alias { value, of } => writeln!(text, "//   view: {} -> {}", name(of), name(value)),
                    Step::Control(id) | Step::Read(id) | Step::Host(id) => {
                        writeln!(text, "//   {}", graph.node(*id).op.name())
                    }
                };
            }
        }
        text
    }
}

pub(crate) fn form_dispatches(graph: &Graph) -> Plan {
    let facts = Facts::new(graph);
    let mut plan = Plan::default();
    let mut regions = vec![graph.body];
    while let Some(region) = regions.pop() {
        for id in &graph.regions[region.index()].nodes {
            regions.extend(&graph.nodes[id.index()].regions);
        }
        plan.regions.insert(region, form_region(&facts, region));
    }
    plan
}

/// Products that are computed together with the softmax between them, as pairs.
pub(crate) fn attention_products(graph: &Graph) -> Vec<[NodeId; 2]> {
    let facts = Facts::new(graph);
    let softmaxes = graph.nodes.iter().zip(0..).filter(|(node, _)| matches!(node.op, Op::Softmax { .. }));
    let groups = softmaxes.filter_map(|(_, id)| attention::find(&facts, NodeId(id)));
    groups.filter_map(|group| Some([attention::first_product(&facts, &group)?, group.root])).collect()
}

fn form_region(facts: &Facts<'_>, region: RegionId) -> Vec<Step> {
    let nodes = &facts.graph.regions[region.index()].nodes;
    let epilogues = epilogue::grow_epilogues(facts, nodes);
    let mut needed: HashSet<ValueId> = facts.graph.regions[region.index()].outputs.iter().copied().collect();
    let mut steps = Vec::new();
    for &id in nodes.iter().rev() {
        let node = facts.node(id);
        if let Some(group) = epilogues.group_ending_at(id) {
            steps.push(Step::Dispatch(prologue::complete(facts, &epilogues, group, &mut needed)));
        } else if epilogues.contains(id) {
            // Part of a group that ends later.
        } else if !node.regions.is_empty() {
            needed.extend(&node.operands);
            needed.extend(facts.captured.get(&id).into_iter().flatten());
            steps.push(Step::Control(id));
        } else if matches!(node.op, Op::Host { .. }) {
            needed.extend(&node.operands);
            steps.push(Step::Host(id));
        } else if matches!(node.op, Op::ReadDims { .. }) {
            // What the host knows it need not read.
            let known = node
                .operands
                .iter()
                .all(|read| matches!(facts.graph.producer_op(*read), Some(Op::Dims { .. })));
            if !known || node.results.iter().any(|result| needed.contains(result)) {
                needed.extend(&node.operands);
            }
            steps.push(Step::Read(id));
        } else if !node.results.iter().any(|r| needed.contains(r)) {
            // Computed inside its readers.
        } else {
            match (&node.op, node.operands.as_slice()) {
                (Op::Param(_), _) => {}
                (Op::Reshape { .. }, &[of]) => {
                    needed.insert(of);
                    steps.push(Step::Alias { value: node.results[0], of });
                }
                _ => {
                    let group = epilogue::Group { root: id, nodes: vec![id] };
                    steps.push(Step::Dispatch(prologue::complete(facts, &epilogues, &group, &mut needed)));
                }
            }
        }
    }
    steps.reverse();
    steps
}

impl<'g> Facts<'g> {
    /// The one node that reads `value`, if it is in the same region and nothing else does.
    pub(super) fn only_reader(&self, value: ValueId) -> Option<NodeId> {
        let producer = self.producer[value.index()]?;
        let &[reader] = self.readers[value.index()].as_slice() else { return None };
        let same = self.home[reader.index()] == self.home[producer.index()];
        (same && !self.is_output[value.index()] && self.node(reader).regions.is_empty()).then_some(reader)
    }

    pub(super) fn new(graph: &'g Graph) -> Self {
        let mut facts = Self {
            graph,
            producer: vec![None; graph.values.len()],
            readers: vec![Vec::new(); graph.values.len()],
            is_output: vec![false; graph.values.len()],
            captured: HashMap::new(),
            position: vec![0; graph.nodes.len()],
            seen: 0,
            home: vec![graph.body; graph.nodes.len()],
        };
        facts.enter(graph.body);
        facts
    }

    /// Walks a region and returns what it reads of the regions around it.
    fn enter(&mut self, home: RegionId) -> Vec<ValueId> {
        let region = &self.graph.regions[home.index()];
        let mut own: HashSet<ValueId> = region.inputs.iter().copied().collect();
        let mut outside = Vec::new();
        for &id in &region.nodes {
            let node = &self.graph.nodes[id.index()];
            self.position[id.index()] = self.seen;
            self.seen += 1;
            self.home[id.index()] = home;
            let mut read = node.operands.clone();
            for &nested in &node.regions {
                let captured = self.enter(nested);
                read.extend(&captured);
                self.captured.entry(id).or_default().extend(captured);
            }
            for value in read {
                self.readers[value.index()].push(id);
                if !own.contains(&value) {
                    outside.push(value);
                }
            }
            for &result in &node.results {
                self.producer[result.index()] = Some(id);
                own.insert(result);
            }
        }
        for &output in &region.outputs {
            self.is_output[output.index()] = true;
            if !own.contains(&output) {
                outside.push(output);
            }
        }
        outside.sort_unstable();
        outside.dedup();
        outside
    }

    pub(super) fn node(&self, id: NodeId) -> &'g Node {
        &self.graph.nodes[id.index()]
    }
}

/// Whether a node reads bf16 as f32.
fn is_widening(graph: &Graph, node: &Node) -> bool {
    node.op == Op::Cast(DType::F32) && graph.ty(node.operands[0]).dtype == DType::BF16
}

/// Roots decide a kernel's family.
pub(super) fn is_root(op: &Op) -> bool {
    matches!(
        op,
        Op::MatMul
            | Op::Conv { .. }
            | Op::Pool { .. }
            | Op::ScatterNd { .. }
            | Op::Cumulative { .. }
            | Op::Sort { .. }
            | Op::SuppressOverlaps
            | Op::Reduce { .. }
            | Op::ArgReduce { .. }
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
    )
}
