//! Random ONNX models: every operator the importer knows, on operands, attributes and graphs that may or may not suit
//! it. A node that is refused is left out again, so that models grow beyond the first of these.

use arbitrary::{Result, Unstructured};
use ired_frontends::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use ired_frontends::onnx::proto::{
    AttributeProto, GraphProto, HeldTypeProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use ired_frontends::{MemorySource, import};
use prost::Message;

use crate::schema::{Kind, Schema, schema_of, schemas};
use crate::values::{attribute, count, element_type, number, sizes, tensor};

/// Graphs in attributes nest this deep.
const MAX_DEPTH: usize = 2;

/// Nodes that are tried for a model.
const TRIES: usize = 24;

/// A bool and a number that every model has, for its branches and loops.
const HOLDS: &str = "holds";
const TIMES: &str = "times";

/// Most nodes of graphs in attributes, which are not tried one by one.
const SIMPLE: [&str; 16] = [
    "Add",
    "Sub",
    "Mul",
    "Neg",
    "Relu",
    "Identity",
    "Concat",
    "Cast",
    "Shape",
    "Greater",
    "Not",
    "ReduceSum",
    "Unsqueeze",
    "Transpose",
    "SequenceInsert",
    "Slice",
];

/// A model of a few nodes, which the importer accepts; of one node that it does not, if it refused all.
///
/// # Errors
/// When the fuzzer's bytes do not suffice.
pub fn random_model(u: &mut Unstructured<'_>) -> Result<ModelProto> {
    let dtype = if u.arbitrary()? { 1 } else { element_type(u)? };
    let mut composer = Composer { dtype, base: sizes(u, 4)?, names: Vec::new(), made: 0, u };
    let mut model = ModelProto {
        ir_version: Some(10),
        opset_import: operator_sets(composer.u)?,
        ..ModelProto::default()
    };
    let mut graph = GraphProto { name: Some("fuzz".to_owned()), ..GraphProto::default() };
    for _ in 0..composer.u.int_in_range(1..=4)? {
        let input = composer.input()?;
        graph.input.push(input);
    }
    for _ in 0..composer.u.int_in_range(0..=3)? {
        let weight = composer.weight()?;
        graph.initializer.push(weight);
    }
    // What decides branches, known or not; and a number of times.
    match composer.u.arbitrary()? {
        true => graph.input.push(dense(HOLDS, 9, Vec::new())),
        false => graph.initializer.push(tensor(composer.u, HOLDS, 9, Vec::new())?),
    }
    match composer.u.arbitrary()? {
        true => graph.input.push(dense(TIMES, 7, Vec::new())),
        false => graph.initializer.push(tensor(composer.u, TIMES, 7, Vec::new())?),
    }
    let most = composer.u.int_in_range(1..=6)?;
    model.graph = Some(graph);
    for tried in 0..TRIES {
        let known = composer.names.len();
        let node = composer.node(0)?;
        let graph = model.graph.get_or_insert_default();
        let outputs = graph.output.len();
        graph.output.extend(node.output.iter().take(1).map(|name| untyped(name)));
        graph.node.push(node);
        let grown = graph.node.len();
        if import(&MemorySource::new("model.onnx", model.encode_to_vec().into())).is_ok() {
            if grown == most {
                break;
            }
        } else if tried + 1 < TRIES || grown > 1 {
            let graph = model.graph.get_or_insert_default();
            graph.node.pop();
            graph.output.truncate(outputs);
            composer.names.truncate(known);
        }
    }
    // Not all that is computed is wanted.
    if let Some(graph) = model.graph.as_mut().filter(|graph| graph.output.len() > 1) {
        let skipped = composer.u.int_in_range(0..=graph.output.len() - 1)?;
        graph.output.drain(..skipped);
    }
    Ok(model)
}

fn operator_sets(u: &mut Unstructured<'_>) -> Result<Vec<OperatorSetIdProto>> {
    let versions = [
        ("", if u.ratio(3, 4)? { u.int_in_range(13..=28)? } else { u.int_in_range(1..=28)? }),
        ("ai.onnx.ml", u.int_in_range(1..=5)?),
        ("com.microsoft", 1),
        ("ai.onnx.preview", 1),
        ("ai.onnx.preview.training", 1),
    ];
    let set = |(domain, version): (&str, i64)| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    Ok(versions.map(set).to_vec())
}

/// A node of some operator on these names, which gives names that begin with `prefix`.
///
/// # Errors
/// When the fuzzer's bytes do not suffice.
pub(crate) fn random_node(u: &mut Unstructured<'_>, names: &[String], prefix: &str) -> Result<NodeProto> {
    let names = names.iter().map(|name| (name.clone(), Held::Tensor)).collect();
    let mut composer = Composer { dtype: element_type(u)?, base: sizes(u, 3)?, names, made: 0, u };
    let mut node = composer.node(1)?;
    for output in node.output.iter_mut().filter(|output| !output.is_empty()) {
        *output = format!("{prefix}{output}");
    }
    Ok(node)
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Tensor,
    Sequence,
    Optional,
}

struct Composer<'u, 'd> {
    /// What most tensors are made of, or binary operators would mostly meet two types.
    dtype: i32,
    /// The shape of many tensors, for the same reason.
    base: Vec<i64>,
    names: Vec<(String, Held)>,
    made: usize,
    u: &'u mut Unstructured<'d>,
}

impl Composer<'_, '_> {
    fn fresh(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    fn dtype(&mut self) -> Result<i32> {
        if self.u.ratio(3, 4)? { Ok(self.dtype) } else { element_type(self.u) }
    }

    /// The base shape, or one that broadcasts to it, or another.
    fn sizes(&mut self) -> Result<Vec<i64>> {
        let mut shape = self.base.clone();
        match self.u.int_in_range(0..=5)? {
            0..=2 => {}
            3 if !shape.is_empty() => drop(shape.drain(..self.u.int_in_range(0..=shape.len() - 1)?)),
            4 if !shape.is_empty() => {
                let axis = self.u.int_in_range(0..=shape.len() - 1)?;
                shape[axis] = 1;
            }
            _ if shape.is_empty() || self.u.arbitrary()? => shape = sizes(self.u, 4)?,
            // Sizes that match some of the base's, as weights' do.
            _ => {
                for size in &mut shape {
                    *size = if self.u.ratio(1, 4)? { 1 } else { *self.u.choose(&self.base)? };
                }
            }
        }
        Ok(shape)
    }

    /// An input: a list of sizes or axes, or a tensor whose sizes may be names, or several tensors in one.
    fn input(&mut self) -> Result<ValueInfoProto> {
        let name = self.fresh("x");
        let held = match self.u.int_in_range(0..=11)? {
            0 => Held::Sequence,
            1 => Held::Optional,
            _ => Held::Tensor,
        };
        let (dtype, shape) = match self.u.int_in_range(0..=4)? {
            0 => (7, vec![self.u.int_in_range(0..=4)?]),
            _ => (self.dtype()?, self.sizes()?),
        };
        let dim = shape.into_iter().map(|size| self.dimension(size)).collect::<Result<_>>()?;
        let dense = type_proto::Tensor { elem_type: Some(dtype), shape: Some(TensorShapeProto { dim }) };
        let dense = TypeProto { value: Some(type_proto::Value::TensorType(dense)) };
        let holder = HeldTypeProto { elem_type: Some(dense.clone()) }.encode_to_vec();
        let value = match held {
            Held::Tensor => dense.value,
            Held::Sequence => Some(type_proto::Value::SequenceType(holder.into())),
            Held::Optional => Some(type_proto::Value::OptionalType(holder.into())),
        };
        self.names.push((name.clone(), held));
        Ok(ValueInfoProto { name: Some(name), r#type: Some(TypeProto { value }) })
    }

    fn dimension(&mut self, size: i64) -> Result<Dimension> {
        let value = match self.u.int_in_range(0..=7)? {
            0 => Some(dimension::Value::DimParam("n".to_owned())),
            1 => Some(dimension::Value::DimParam("m".to_owned())),
            2 => None,
            _ => Some(dimension::Value::DimValue(size)),
        };
        Ok(Dimension { value })
    }

    /// Integers often: shapes, axes and indices are what decides types.
    fn weight(&mut self) -> Result<TensorProto> {
        let name = self.fresh("w");
        let (dtype, shape) = match self.u.int_in_range(0..=7)? {
            0 | 1 => (7, vec![self.u.int_in_range(0..=4)?]),
            2 => (7, vec![]),
            3 => (9, vec![]),
            4 => (self.dtype()?, vec![]),
            _ => (self.dtype()?, self.sizes()?),
        };
        self.names.push((name.clone(), Held::Tensor));
        tensor(self.u, &name, dtype, shape)
    }

    fn nodes(&mut self, most: usize, depth: usize) -> Result<Vec<NodeProto>> {
        (0..most).map(|_| self.node(depth)).collect()
    }

    fn node(&mut self, depth: usize) -> Result<NodeProto> {
        let mut schema = self.u.choose(schemas())?;
        if depth > 0 && self.u.ratio(3, 4)? {
            let simple = self.u.choose(&SIMPLE)?;
            schema = schema_of("", simple).unwrap_or(schema);
        }
        let mut node = NodeProto {
            op_type: Some(schema.op.to_owned()),
            domain: Some(schema.domain.to_owned()),
            name: Some(self.fresh("n")),
            ..NodeProto::default()
        };
        let (mut fewest, mut most) = (schema.min_inputs, schema.max_inputs.min(schema.min_inputs + 3));
        if self.u.ratio(1, 24)? {
            (fewest, most) = (0, schema.max_inputs + 1);
        }
        for i in 0..self.u.int_in_range(fewest..=most.max(fewest))? {
            let operand = self.operand(schema, i)?;
            node.input.push(operand);
        }
        let often = *self.u.choose(&[1, 8, 32, 56])?;
        let rank = self.base.len();
        for &(name, kind) in &schema.attributes {
            // What a graph needs is there as a rule, and most of the rest has a default.
            let given =
                if kind == Kind::Graph { !self.u.ratio(1, 16)? } else { self.u.ratio(often, 64u8)? };
            if given {
                let attribute = match kind {
                    Kind::Graph => self.graph_attribute(schema.op, name, node.input.len(), depth)?,
                    _ => attribute(self.u, name, kind, rank)?,
                };
                node.attribute.push(attribute);
            }
        }
        let outputs = self.u.int_in_range(1..=schema.max_outputs.clamp(1, 4))?;
        for _ in 0..outputs {
            let name = self.fresh("y");
            self.names.push((name.clone(), given_by(schema.op)));
            node.output.push(name);
        }
        Ok(node)
    }

    /// The name of something defined, lately as a rule, and of what the operator takes there.
    fn operand(&mut self, schema: &Schema, position: usize) -> Result<String> {
        if position >= schema.min_inputs && self.u.ratio(1, 6)? {
            return Ok(String::new());
        }
        match (schema.op, position) {
            ("If", 0) | ("Loop", 1) if !self.u.ratio(1, 6)? => return Ok(HOLDS.to_owned()),
            ("Loop", 0) if !self.u.ratio(1, 6)? => return Ok(TIMES.to_owned()),
            _ => {}
        }
        let wanted = taken_by(schema.op, position);
        let suits = |(_, held): &&(String, Held)| *held == wanted;
        let suiting: Vec<&(String, Held)> = self.names.iter().filter(suits).collect();
        let (all, latest) = (self.names.len(), self.u.ratio(1, 3)?);
        Ok(match suiting.last() {
            Some((name, _)) if latest => name.clone(),
            Some(_) if !self.u.ratio(1, 24)? => self.u.choose(&suiting)?.0.clone(),
            _ if all > 0 => self.u.choose(&self.names)?.0.clone(),
            _ => "nothing".to_owned(),
        })
    }

    /// A graph that has the inputs and outputs which the operator expects of it, but for some of the time.
    fn graph_attribute(
        &mut self,
        op: &str,
        name: &str,
        inputs: usize,
        depth: usize,
    ) -> Result<AttributeProto> {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(Kind::Graph as i32),
            ..AttributeProto::default()
        };
        let mut graph = GraphProto { name: Some("inner".to_owned()), ..GraphProto::default() };
        if depth >= MAX_DEPTH {
            return Ok(attribute);
        }
        let outer = self.names.len();
        let inputs = match op {
            "If" => 0,
            "Loop" => inputs.max(2),
            _ => inputs.max(1),
        };
        let inputs = if self.u.ratio(1, 24)? { self.u.int_in_range(0..=5)? } else { inputs };
        for _ in 0..inputs {
            let input = self.fresh("i");
            graph.input.push(untyped(&input));
            self.names.push((input, Held::Tensor));
        }
        if self.u.ratio(1, 3)? {
            let weight = self.weight()?;
            graph.initializer.push(weight);
        }
        let nodes = self.u.int_in_range(0..=3)?;
        graph.node = self.nodes(nodes, depth + 1)?;
        let outputs = match op {
            "If" => self.u.int_in_range(1..=2)?,
            "Loop" => inputs - inputs.min(1) + count(self.u, 2)?,
            _ => inputs.max(1) + count(self.u, 1)? - count(self.u, 1)?.min(inputs),
        };
        for i in 0..outputs {
            // What goes round a loop comes back as it went in, or as something new.
            let passed = graph.input.get(i + usize::from(op == "Loop")).map(|input| input.name().to_owned());
            let passed = passed.filter(|_| (op == "Loop" && i == 0) || i % 2 == 0);
            let output = match passed {
                Some(name) if self.u.ratio(2, 3)? => name,
                _ if self.names.is_empty() => "nothing".to_owned(),
                _ if self.u.arbitrary()? => self.names[self.names.len() - 1].0.clone(),
                _ => self.u.choose(&self.names)?.0.clone(),
            };
            graph.output.push(untyped(&output));
        }
        self.names.truncate(outer);
        Ok(AttributeProto { g: Some(graph), ..attribute })
    }
}

fn given_by(op: &str) -> Held {
    match op {
        "SequenceConstruct" | "SequenceEmpty" | "SequenceInsert" | "SequenceErase" | "SplitToSequence"
        | "SequenceMap" => Held::Sequence,
        "Optional" => Held::Optional,
        _ => Held::Tensor,
    }
}

fn taken_by(op: &str, position: usize) -> Held {
    match (op, position) {
        ("OptionalGetElement" | "OptionalHasElement", 0) => Held::Optional,
        ("SequenceInsert" | "SequenceErase" | "SequenceAt" | "SequenceLength" | "ConcatFromSequence", 0) => {
            Held::Sequence
        }
        ("SequenceMap", _) => Held::Sequence,
        _ => Held::Tensor,
    }
}

pub(crate) fn untyped(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() }
}

/// The type of a tensor with these sizes.
pub(crate) fn dense(name: &str, dtype: i32, dims: Vec<Dimension>) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(dtype), shape: Some(TensorShapeProto { dim: dims }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { value }) }
}

/// A size as a model states it: anything, within reason.
pub(crate) fn random_dimension(u: &mut Unstructured<'_>) -> Result<Dimension> {
    let value = match u.int_in_range(0..=5)? {
        0 => None,
        1 => Some(dimension::Value::DimParam((*u.choose(&["n", "m", "seq"])?).to_owned())),
        2 => Some(dimension::Value::DimValue(number(u)?)),
        _ => Some(dimension::Value::DimValue(u.int_in_range(0..=5)?)),
    };
    Ok(Dimension { value })
}
