//! Rewriting: who uses a value, replacing it, removing what nobody uses, renumbering.

use std::collections::HashMap;

use super::{Definition, Graph, Node, NodeId, RegionId, Value, ValueId};
use crate::{Dim, SymbolId, ops};

/// One use of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Operand `1` of node `0`.
    Operand(NodeId, usize),
    /// Output `1` of region `0`.
    Output(RegionId, usize),
}

impl Graph {
    /// Every region in use with its owner: the body first, each region before those nested in it.
    pub fn live_regions(&self) -> Vec<(RegionId, Option<NodeId>)> {
        let mut found = vec![(self.body, None)];
        let mut next = 0;
        while let Some(&(region, _)) = found.get(next) {
            next += 1;
            for &node in &self.region(region).nodes {
                found.extend(self.node(node).regions.iter().map(|&nested| (nested, Some(node))));
            }
        }
        found
    }

    /// Every node in use, with its region; operands come before their users within a region, and a node before the
    /// nodes of its regions.
    pub fn live_nodes(&self) -> Vec<(RegionId, NodeId)> {
        let mut found = Vec::new();
        let mut stack: Vec<(RegionId, usize)> = vec![(self.body, 0)];
        while let Some((region, position)) = stack.pop() {
            let Some(&node) = self.region(region).nodes.get(position) else { continue };
            found.push((region, node));
            stack.push((region, position + 1));
            stack.extend(self.node(node).regions.iter().rev().map(|&nested| (nested, 0)));
        }
        found
    }

    /// Every use of every value, by value.
    pub fn uses(&self) -> HashMap<ValueId, Vec<Use>> {
        let mut uses: HashMap<ValueId, Vec<Use>> = HashMap::new();
        for (_, node) in self.live_nodes() {
            for (i, &operand) in self.node(node).operands.iter().enumerate() {
                uses.entry(operand).or_default().push(Use::Operand(node, i));
            }
        }
        for (region, _) in self.live_regions() {
            for (i, &output) in self.region(region).outputs.iter().enumerate() {
                uses.entry(output).or_default().push(Use::Output(region, i));
            }
        }
        uses
    }

    /// The nodes that take `value` as an operand, each once. Linear in the graph; for many values see
    /// [`Graph::uses`].
    pub fn users(&self, value: ValueId) -> Vec<NodeId> {
        let takes = |node: &NodeId| self.node(*node).operands.contains(&value);
        self.live_nodes().into_iter().map(|(_, node)| node).filter(takes).collect()
    }

    /// Makes every use of `from` a use of `to`. The name of a model output that `from` had moves along.
    pub fn replace_all_uses(&mut self, from: ValueId, to: ValueId) {
        self.replace_uses(&HashMap::from([(from, to)]));
    }

    /// As [`Graph::replace_all_uses`] for many values in one walk. A replacement that is itself replaced is followed.
    pub fn replace_uses(&mut self, replacements: &HashMap<ValueId, ValueId>) {
        let resolve = |value: &mut ValueId| {
            // As many steps as there are replacements: a cycle among them ends.
            for _ in 0..replacements.len() {
                match replacements.get(value) {
                    Some(&to) => *value = to,
                    None => break,
                }
            }
        };
        self.nodes.iter_mut().flat_map(|node| &mut node.operands).for_each(resolve);
        self.regions.iter_mut().flat_map(|region| &mut region.outputs).for_each(resolve);
        for &from in replacements.keys() {
            let mut to = from;
            resolve(&mut to);
            if self.value(to).name.is_none() {
                self.values[to.index()].name = self.value(from).name.clone();
            }
        }
    }

    /// Removes nodes whose results nobody uses, and nodes that only those used; returns how many. No operation has
    /// an effect besides its results, and the values that it gives symbols.
    pub fn remove_dead_nodes(&mut self) -> usize {
        let order = self.live_nodes();
        let live = Liveness::of(self, &order).nodes;
        for (region, _) in self.live_regions() {
            let mut nodes = std::mem::take(&mut self.regions[region.index()].nodes);
            nodes.retain(|node| live[node.index()]);
            self.regions[region.index()].nodes = nodes;
        }
        order.len() - self.live_nodes().len()
    }

    /// The same graph with only what is in use, everything numbered in order: values, nodes, regions and weights.
    pub fn compact(&self) -> Graph {
        Compaction::new(self).run()
    }
}

/// What the outputs of a graph are computed from.
struct Liveness<'g> {
    graph: &'g Graph,
    /// The node that gives a symbol its value, where that is no input.
    introducer: HashMap<SymbolId, NodeId>,
    nodes: Vec<bool>,
    values: Vec<bool>,
    pending: Vec<ValueId>,
    pending_nodes: Vec<NodeId>,
}

impl<'g> Liveness<'g> {
    fn of(graph: &'g Graph, order: &[(RegionId, NodeId)]) -> Self {
        let introducer = order.iter().flat_map(|&(_, id)| {
            let symbols = ops::control::introduced_symbols(graph, graph.node(id));
            symbols.into_iter().map(move |symbol| (symbol, id))
        });
        let mut live = Self {
            graph,
            introducer: introducer.collect(),
            nodes: vec![false; graph.nodes.len()],
            values: vec![false; graph.values.len()],
            pending: graph.outputs().to_vec(),
            pending_nodes: Vec::new(),
        };
        live.run();
        live
    }

    fn run(&mut self) {
        loop {
            if let Some(value) = self.pending.pop() {
                if !std::mem::replace(&mut self.values[value.index()], true) {
                    self.dims(&self.graph.ty(value).shape);
                    self.pending_nodes.extend(self.graph.producer(value));
                }
            } else if let Some(id) = self.pending_nodes.pop() {
                if !std::mem::replace(&mut self.nodes[id.index()], true) {
                    self.node(self.graph.node(id));
                }
            } else {
                return;
            }
        }
    }

    fn node(&mut self, node: &'g Node) {
        self.dims(&node.op.to_dims());
        // All results are there while one of them is used, and so have their sizes.
        self.pending.extend(node.operands.iter().chain(&node.results));
        for region in node.regions.iter().map(|region| self.graph.region(*region)) {
            self.pending.extend(region.inputs.iter().chain(&region.outputs));
        }
    }

    fn dims(&mut self, dims: &[Dim]) {
        if self.introducer.is_empty() {
            return;
        }
        let symbols = dims.iter().flat_map(Dim::symbols);
        self.pending_nodes.extend(symbols.filter_map(|symbol| self.introducer.get(&symbol)));
    }
}

/// A copy of a graph in the making, and where each old value went.
struct Compaction<'a> {
    old: &'a Graph,
    new: Graph,
    values: HashMap<ValueId, ValueId>,
    params: HashMap<super::ParamId, super::ParamId>,
}

impl<'a> Compaction<'a> {
    fn new(old: &'a Graph) -> Self {
        let mut new = Graph::new(old.name.clone());
        new.symbols = old.symbols.clone();
        new.strings = old.strings.clone();
        Self { old, new, values: HashMap::new(), params: HashMap::new() }
    }

    fn run(mut self) -> Graph {
        self.copy_region(self.old.body, self.new.body);
        self.new
    }

    fn copy_region(&mut self, from: RegionId, to: RegionId) {
        let old = self.old.region(from);
        for (position, &input) in old.inputs.iter().enumerate() {
            let new = self.copy_value(input, Definition::Input(to, position));
            self.new.regions[to.index()].inputs.push(new);
        }
        for &node in &old.nodes {
            self.copy_node(node, to);
        }
        let outputs = old.outputs.iter().map(|v| self.mapped(*v)).collect();
        self.new.set_outputs(to, outputs);
    }

    fn copy_node(&mut self, node: NodeId, to: RegionId) {
        let old = self.old.node(node);
        let regions: Vec<RegionId> = old.regions.iter().map(|_| self.new.add_region()).collect();
        for (&from, &region) in old.regions.iter().zip(&regions) {
            self.copy_region(from, region);
        }
        let op = match &old.op {
            crate::Op::Param(param) => crate::Op::Param(self.copy_param(*param)),
            op => op.clone(),
        };
        let id = NodeId(self.new.nodes.len() as u32);
        let operands = old.operands.iter().map(|v| self.mapped(*v)).collect();
        let results: Vec<ValueId> = old
            .results
            .iter()
            .enumerate()
            .map(|(i, v)| self.copy_value(*v, Definition::Result(id, i)))
            .collect();
        self.new.nodes.push(Node { op, operands, results, regions, origin: old.origin.clone() });
        self.new.regions[to.index()].nodes.push(id);
    }

    fn copy_param(&mut self, old: super::ParamId) -> super::ParamId {
        if let Some(&new) = self.params.get(&old) {
            return new;
        }
        let new = self.new.add_param(self.old.param(old).clone());
        self.params.insert(old, new);
        new
    }

    fn copy_value(&mut self, old: ValueId, definition: Definition) -> ValueId {
        let Value { ty, name, .. } = self.old.value(old).clone();
        self.new.values.push(Value { ty, name, definition });
        let new = ValueId(self.new.values.len() as u32 - 1);
        self.values.insert(old, new);
        new
    }

    /// A value that nothing defines stays undefined: the verifier's to report.
    fn mapped(&self, old: ValueId) -> ValueId {
        self.values.get(&old).copied().unwrap_or(ValueId(u32::MAX))
    }
}
