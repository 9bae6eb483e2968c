//! Making graphs: inputs, weights, typed nodes, regions, outputs; and reading them.

use super::{Definition, Graph, Node, NodeId, Origin, Param, ParamId, Region, RegionId, Value, ValueId};
use crate::ops::{self, Context, ShapeError};
use crate::{Op, Symbols, TensorType};

impl Graph {
    /// A graph with an empty body.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            symbols: Symbols::default(),
            strings: Default::default(),
            params: Vec::new(),
            values: Vec::new(),
            nodes: Vec::new(),
            regions: vec![Region::default()],
            body: RegionId(0),
        }
    }

    /// Adds an input of the model.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        let value = self.add_region_input(self.body, ty);
        self.values[value.index()].name = Some(name.into());
        value
    }

    /// Adds an input to a region, such as the state of a loop.
    pub fn add_region_input(&mut self, region: RegionId, ty: TensorType) -> ValueId {
        let position = self.regions[region.index()].inputs.len();
        let value = self.add_value(ty, Definition::Input(region, position));
        self.regions[region.index()].inputs.push(value);
        value
    }

    /// Adds an empty region, to be filled and then given to one control-flow node.
    pub fn add_region(&mut self) -> RegionId {
        self.regions.push(Region::default());
        RegionId(self.regions.len() as u32 - 1)
    }

    pub fn add_param(&mut self, param: Param) -> ParamId {
        self.params.push(param);
        ParamId(self.params.len() as u32 - 1)
    }

    /// Appends a node to a region and gives its results.
    ///
    /// # Errors
    /// When the operands do not fit the operation; the graph is unchanged then.
    pub fn push(
        &mut self,
        region: RegionId,
        op: Op,
        operands: &[ValueId],
        origin: Option<Origin>,
    ) -> Result<Vec<ValueId>, ShapeError> {
        self.push_with_regions(region, op, operands, Vec::new(), origin)
    }

    /// Appends a control-flow node that owns `regions`.
    ///
    /// # Errors
    /// As [`Graph::push`], and when the regions' inputs and outputs do not fit.
    pub fn push_with_regions(
        &mut self,
        region: RegionId,
        op: Op,
        operands: &[ValueId],
        regions: Vec<RegionId>,
        origin: Option<Origin>,
    ) -> Result<Vec<ValueId>, ShapeError> {
        let end = self.regions[region.index()].nodes.len();
        self.insert(region, end, op, operands, regions, origin)
    }

    /// Inserts a node before position `index` of a region's nodes.
    ///
    /// # Errors
    /// As [`Graph::push_with_regions`].
    pub fn insert(
        &mut self,
        region: RegionId,
        index: usize,
        op: Op,
        operands: &[ValueId],
        regions: Vec<RegionId>,
        origin: Option<Origin>,
    ) -> Result<Vec<ValueId>, ShapeError> {
        let types = match op {
            _ if op.is_control() => ops::control::infer(self, &op, operands, &regions)?,
            Op::Host { ref results, .. } => {
                ops::host::check(self, &op, operands)?;
                results.clone()
            }
            _ => vec![self.infer(&op, operands)?],
        };
        let node = NodeId(self.nodes.len() as u32);
        let results: Vec<ValueId> = types
            .into_iter()
            .enumerate()
            .map(|(position, ty)| self.add_value(ty, Definition::Result(node, position)))
            .collect();
        self.nodes.push(Node { op, operands: operands.to_vec(), results: results.clone(), regions, origin });
        self.regions[region.index()].nodes.insert(index, node);
        Ok(results)
    }

    /// The type that `op` would give on these operands.
    ///
    /// # Errors
    /// As [`ops::infer`].
    pub fn infer(&self, op: &Op, operands: &[ValueId]) -> Result<TensorType, ShapeError> {
        let types: Vec<&TensorType> = operands.iter().map(|v| self.ty(*v)).collect();
        ops::infer(op, &types, self.context())
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context { symbols: &self.symbols, params: &self.params }
    }

    /// Sets what a region gives: the model's outputs for the body.
    pub fn set_outputs(&mut self, region: RegionId, outputs: Vec<ValueId>) {
        self.regions[region.index()].outputs = outputs;
    }

    pub fn set_name(&mut self, value: ValueId, name: impl Into<String>) {
        self.values[value.index()].name = Some(name.into());
    }

    fn add_value(&mut self, ty: TensorType, definition: Definition) -> ValueId {
        self.values.push(Value { ty, name: None, definition });
        ValueId(self.values.len() as u32 - 1)
    }

    /// The model's inputs.
    pub fn inputs(&self) -> &[ValueId] {
        &self.region(self.body).inputs
    }

    /// The model's outputs.
    pub fn outputs(&self) -> &[ValueId] {
        &self.region(self.body).outputs
    }

    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.values[id.index()].ty
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[id.index()]
    }

    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// The node that computes a value; `None` for an input.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        match self.value(value).definition {
            Definition::Result(node, _) => Some(node),
            Definition::Input(..) => None,
        }
    }

    /// The operation that computes a value; `None` for an input.
    pub fn producer_op(&self, value: ValueId) -> Option<&Op> {
        self.producer(value).map(|node| &self.node(node).op)
    }
}
