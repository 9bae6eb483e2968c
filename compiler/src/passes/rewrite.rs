//! One forward sweep that rebuilds a graph: every node is either kept, with its operands renamed, or replaced by
//! values that a rule computed. Dead nodes are dropped at the end. Every graph pass but dispatch formation is
//! a rule for this sweep.

use std::collections::HashSet;

use ired_graph::{
    Builder, Definition, Dim, Graph, Node, NodeId, Op, Origin, Param, ParamId, RegionId, ShapeError, Tensor,
    TensorType, Value, ValueId,
};

use super::PassError;

/// What a rule made of a node: values in place of its results, or `None` to keep it.
pub(super) type Rewritten = Result<Option<Vec<ValueId>>, PassError>;

/// The graph in the middle of a sweep. Nodes before the current one are already rebuilt.
pub(super) struct Rewriter<'g> {
    pub(super) graph: &'g mut Graph,
    replaced: Vec<Option<ValueId>>,
    uses: Vec<u32>,
    block: Vec<NodeId>,
    /// The region of `block`, which has no nodes meanwhile.
    region: RegionId,
    origin: Option<Origin>,
    /// Filled when the first parameter is added.
    param_names: HashSet<String>,
    changed: bool,
}

/// Sweeps over all regions, outer before inner, and says whether `rule` changed anything.
pub(super) fn rewrite(
    graph: &mut Graph,
    rule: &mut dyn FnMut(&mut Rewriter<'_>, NodeId) -> Rewritten,
) -> Result<bool, PassError> {
    let body = graph.body;
    let mut rewriter = Rewriter {
        replaced: vec![None; graph.values.len()],
        uses: count_uses(graph),
        block: Vec::new(),
        region: body,
        origin: None,
        param_names: HashSet::new(),
        changed: false,
        graph,
    };
    rewriter.sweep(body, rule)?;
    let changed = rewriter.changed;
    graph.remove_dead_nodes();
    Ok(changed)
}

impl Rewriter<'_> {
    fn sweep(
        &mut self,
        region: RegionId,
        rule: &mut dyn FnMut(&mut Rewriter<'_>, NodeId) -> Rewritten,
    ) -> Result<(), PassError> {
        let old = std::mem::take(&mut self.graph.regions[region.index()].nodes);
        let outer = std::mem::replace(&mut self.block, Vec::with_capacity(old.len()));
        let outer_region = std::mem::replace(&mut self.region, region);
        for id in old {
            for i in 0..self.graph.nodes[id.index()].operands.len() {
                let operand = self.graph.nodes[id.index()].operands[i];
                self.graph.nodes[id.index()].operands[i] = self.current(operand);
            }
            self.origin = self.graph.nodes[id.index()].origin.clone();
            if let Some(values) = rule(self, id)? {
                self.changed = true;
                let results = self.graph.nodes[id.index()].results.clone();
                for (result, value) in results.into_iter().zip(values) {
                    let shape = self.shape(result).to_vec();
                    let value = self.reshape(value, shape)?;
                    self.replace(result, value);
                }
                continue;
            }
            for region in self.graph.nodes[id.index()].regions.clone() {
                self.sweep(region, rule)?;
            }
            self.block.push(id);
        }
        self.graph.regions[region.index()].nodes = std::mem::replace(&mut self.block, outer);
        self.region = outer_region;
        for i in 0..self.graph.regions[region.index()].outputs.len() {
            let output = self.graph.regions[region.index()].outputs[i];
            self.graph.regions[region.index()].outputs[i] = self.current(output);
        }
        Ok(())
    }

    fn replace(&mut self, old: ValueId, new: ValueId) {
        self.replaced[old.index()] = Some(new);
        self.uses[new.index()] += self.uses[old.index()];
        if self.graph.values[new.index()].name.is_none() {
            self.graph.values[new.index()].name = self.graph.values[old.index()].name.clone();
        }
    }

    /// What `value` is called after the replacements so far.
    fn current(&self, mut value: ValueId) -> ValueId {
        while let Some(next) = self.replaced.get(value.index()).copied().flatten() {
            value = next;
        }
        value
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.graph.nodes[id.index()]
    }

    /// The node that makes `value`; `None` for inputs of regions.
    pub(super) fn producer(&self, value: ValueId) -> Option<&Node> {
        match self.graph.values[value.index()].definition {
            Definition::Result(id, _) => Some(self.node(id)),
            Definition::Input(..) => None,
        }
    }

    /// The operation that makes `value`, with its operands.
    pub(super) fn op(&self, value: ValueId) -> Option<(&Op, &[ValueId])> {
        self.producer(value).map(|n| (&n.op, n.operands.as_slice()))
    }

    pub(super) fn ty(&self, value: ValueId) -> &TensorType {
        &self.graph.values[value.index()].ty
    }

    pub(super) fn shape(&self, value: ValueId) -> &[Dim] {
        &self.ty(value).shape
    }

    /// An upper bound of how often `value` is used.
    pub(super) fn uses(&self, value: ValueId) -> u32 {
        self.uses[value.index()]
    }

    /// Adds a node with one result before the current one.
    pub(super) fn add(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId, PassError> {
        let ty = self.graph.infer(&op, operands)?;
        let value = ValueId(self.graph.values.len() as u32);
        let id = NodeId(self.graph.nodes.len() as u32);
        self.graph.values.push(Value { ty, name: None, definition: Definition::Result(id, 0) });
        for operand in operands {
            self.uses[operand.index()] += 1;
        }
        self.graph.nodes.push(Node {
            op,
            operands: operands.to_vec(),
            results: vec![value],
            regions: Vec::new(),
            origin: self.origin.clone(),
        });
        self.replaced.push(None);
        self.uses.push(0);
        self.block.push(id);
        Ok(value)
    }

    /// Adds what `build` makes before the current node.
    pub(super) fn build<T>(
        &mut self,
        build: impl FnOnce(&mut Builder<'_>) -> Result<T, ShapeError>,
    ) -> Result<T, PassError> {
        let params = self.graph.params.len();
        let mut builder = Builder::in_region(self.graph, self.region);
        builder.origin = self.origin.clone();
        let made = build(&mut builder);
        self.replaced.resize(self.graph.values.len(), None);
        self.uses.resize(self.graph.values.len(), 0);
        for id in std::mem::take(&mut self.graph.regions[self.region.index()].nodes) {
            for operand in &self.graph.nodes[id.index()].operands {
                self.uses[operand.index()] += 1;
            }
            self.block.push(id);
        }
        if self.graph.params.len() != params {
            self.param_names.clear();
        }
        Ok(made?)
    }

    pub(super) fn add_constant(&mut self, tensor: Tensor) -> Result<ValueId, PassError> {
        self.add(Op::Constant(tensor), &[])
    }

    /// Adds a parameter computed at compile time, and a node that reads it. The name is `prefix` and a number.
    pub(super) fn add_param(&mut self, prefix: &str, tensor: Tensor) -> Result<ValueId, PassError> {
        let id = ParamId(self.graph.params.len() as u32);
        let mut number = id.index();
        let mut name = format!("{prefix}.{number}");
        if self.param_names.is_empty() {
            self.param_names = self.graph.params.iter().map(|p| p.name.clone()).collect();
        }
        while !self.param_names.insert(name.clone()) {
            number += 1;
            name = format!("{prefix}.{number}");
        }
        self.graph.params.push(Param {
            name,
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            data: tensor.data().clone(),
        });
        self.add(Op::Param(id), &[])
    }

    pub(super) fn reshape(&mut self, value: ValueId, shape: Vec<Dim>) -> Result<ValueId, PassError> {
        if self.shape(value) == shape.as_slice() {
            return Ok(value);
        }
        self.add(Op::Reshape { shape }, &[value])
    }

    pub(super) fn transpose(&mut self, value: ValueId, perm: Vec<usize>) -> Result<ValueId, PassError> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(value);
        }
        self.add(Op::Transpose { perm }, &[value])
    }

    pub(super) fn broadcast(&mut self, value: ValueId, shape: Vec<Dim>) -> Result<ValueId, PassError> {
        if self.shape(value) == shape.as_slice() {
            return Ok(value);
        }
        self.add(Op::Broadcast { shape }, &[value])
    }

    /// The value of a [`Op::Constant`] or [`Op::Param`], sharing its bytes.
    pub(super) fn tensor(&self, value: ValueId) -> Option<Tensor> {
        match self.op(value)?.0 {
            Op::Constant(tensor) => Some(tensor.clone()),
            Op::Param(id) => self.graph.params[id.index()].to_tensor().ok(),
            _ => None,
        }
    }
}

/// How often each value is used, by nodes and as an output of regions.
pub(crate) fn count_uses(graph: &Graph) -> Vec<u32> {
    let mut uses = vec![0; graph.values.len()];
    let mut regions = vec![graph.body];
    while let Some(region) = regions.pop() {
        let region = &graph.regions[region.index()];
        for output in &region.outputs {
            uses[output.index()] += 1;
        }
        for id in &region.nodes {
            let node = &graph.nodes[id.index()];
            for operand in &node.operands {
                uses[operand.index()] += 1;
            }
            regions.extend(&node.regions);
        }
    }
    uses
}
