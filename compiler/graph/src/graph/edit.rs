//! Rewriting: who uses a value, replacing it, removing what nobody uses, renumbering.

use std::collections::HashMap;

use super::{Definition, Graph, Node, NodeId, Region, RegionId, Value, ValueId};

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
    /// an effect besides its results.
    pub fn remove_dead_nodes(&mut self) -> usize {
        let mut live = vec![false; self.values.len()];
        let order = self.live_nodes();
        let mut pending: Vec<ValueId> = self.outputs().to_vec();
        while let Some(value) = pending.pop() {
            if std::mem::replace(&mut live[value.index()], true) {
                continue;
            }
            let Some(node) = self.producer(value) else { continue };
            let node = self.node(node);
            pending.extend(&node.operands);
            pending.extend(node.regions.iter().flat_map(|region| &self.region(*region).outputs));
        }
        let is_live = |node: &Node| node.results.iter().any(|result| live[result.index()]);
        let dead = |region: &Region, nodes: &[Node]| {
            region.nodes.iter().copied().filter(|n| is_live(&nodes[n.index()])).collect::<Vec<_>>()
        };
        for (region, _) in self.live_regions() {
            let kept = dead(self.region(region), &self.nodes);
            self.regions[region.index()].nodes = kept;
        }
        order.len() - self.live_nodes().len()
    }

    /// The same graph with only what is in use, everything numbered in order: values, nodes, regions and weights.
    pub fn compact(&self) -> Graph {
        Compaction::new(self).run()
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
