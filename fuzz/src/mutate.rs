//! Changes to a model that leave it a model: a size, an attribute, an operand, an element type, a node; at any depth.

use arbitrary::{Result, Unstructured};
use ired_frontends::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, type_proto};

use crate::model::{dense, random_dimension, random_node, untyped};
use crate::schema::{Kind, schema_of, schemas};
use crate::values::{attribute, element_type, float, number, tensor, word};

/// Nodes of a graph after which none is added.
const MAX_NODES: usize = 64;

/// Changes a few things.
///
/// # Errors
/// When the fuzzer's bytes do not suffice.
pub fn mutate_model(model: &mut ModelProto, u: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..u.int_in_range(1..=3)? {
        if u.ratio(1, 16)? {
            if let Some(set) = pick(&mut model.opset_import, u)? {
                set.version = Some(u.int_in_range(1..=28)?);
            }
            continue;
        }
        let mut graphs = 1 + model.graph.as_ref().map_or(0, inner_graphs);
        if !model.functions.is_empty() && u.ratio(1, 3)? {
            let function = u.int_in_range(0..=model.functions.len() - 1)?;
            let function = &mut model.functions[function];
            // A function is changed as the graph it nearly is.
            let mut graph = GraphProto { node: std::mem::take(&mut function.node), ..GraphProto::default() };
            mutate_graph(&mut graph, u)?;
            function.node = graph.node;
            continue;
        }
        graphs = if u.arbitrary()? { 1 } else { graphs };
        let mut position = u.int_in_range(0..=graphs - 1)?;
        if let Some(graph) = model.graph.as_mut().and_then(|graph| graph_at(graph, &mut position)) {
            mutate_graph(graph, u)?;
        }
    }
    Ok(())
}

/// Adds some nodes of `other`, working on values of `model`, and makes the last of them an output.
///
/// # Errors
/// When the fuzzer's bytes do not suffice.
pub fn cross_models(model: &mut ModelProto, other: &ModelProto, u: &mut Unstructured<'_>) -> Result<()> {
    let (Some(graph), Some(other)) = (&mut model.graph, &other.graph) else { return Ok(()) };
    if other.node.is_empty() || graph.node.len() > MAX_NODES {
        return Ok(());
    }
    let first = u.int_in_range(0..=other.node.len() - 1)?;
    let taken = u.int_in_range(1..=4usize)?;
    let prefix = format!("c{}_", graph.node.len());
    let renamed = |name: &str| format!("{prefix}{name}");
    let names = defined(graph);
    for initializer in &other.initializer {
        let mut initializer = initializer.clone();
        initializer.name = Some(renamed(initializer.name()));
        graph.initializer.push(initializer);
    }
    let mut known: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    let mut last = None;
    for node in other.node.iter().skip(first).take(taken) {
        let mut node = node.clone();
        for input in node.input.iter_mut().filter(|input| !input.is_empty()) {
            let same = renamed(input);
            *input = if known.contains(&same) || names.is_empty() { same } else { u.choose(&names)?.clone() };
        }
        for output in node.output.iter_mut().filter(|output| !output.is_empty()) {
            *output = renamed(output);
            known.push(output.clone());
            last = Some(output.clone());
        }
        graph.node.push(node);
    }
    graph.output.extend(last.map(|name| untyped(&name)));
    for set in &mut model.opset_import {
        set.version = set.version.map(|version| version.clamp(1, 28));
    }
    Ok(())
}

fn pick<'a, T>(list: &'a mut [T], u: &mut Unstructured<'_>) -> Result<Option<&'a mut T>> {
    if list.is_empty() {
        return Ok(None);
    }
    let index = u.int_in_range(0..=list.len() - 1)?;
    Ok(Some(&mut list[index]))
}

fn inner_graphs(graph: &GraphProto) -> usize {
    let inner = graph.node.iter().flat_map(|node| &node.attribute).filter_map(|a| a.g.as_ref());
    inner.map(|graph| 1 + inner_graphs(graph)).sum()
}

/// The graph at `position`, outer ones first.
fn graph_at<'g>(graph: &'g mut GraphProto, position: &mut usize) -> Option<&'g mut GraphProto> {
    if *position == 0 {
        return Some(graph);
    }
    *position -= 1;
    let mut inner = graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|a| a.g.as_mut());
    inner.find_map(|graph| {
        let all = 1 + inner_graphs(graph);
        if *position >= all {
            *position -= all;
            return None;
        }
        graph_at(graph, position)
    })
}

fn defined(graph: &GraphProto) -> Vec<String> {
    let inputs = graph.input.iter().map(|input| input.name());
    let weights = graph.initializer.iter().map(|tensor| tensor.name());
    let results = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    inputs.chain(weights).chain(results).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn mutate_graph(graph: &mut GraphProto, u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=15)? {
        0..=2 => mutate_input(graph, u),
        3 | 4 => mutate_weight(graph, u),
        5 => weight_to_input(graph, u),
        6 => input_to_weight(graph, u),
        7 => add_node(graph, u),
        8 => {
            if graph.node.len() > 1 {
                let at = u.int_in_range(0..=graph.node.len() - 1)?;
                graph.node.remove(at);
            }
            Ok(())
        }
        9 => {
            let names = defined(graph);
            if !names.is_empty() {
                let name = u.choose(&names)?;
                graph.output.push(untyped(name));
            }
            Ok(())
        }
        10 => {
            // What a model states of its outputs is checked, and gone it lets more through.
            graph.output.iter_mut().for_each(|output| output.r#type = None);
            Ok(())
        }
        _ => {
            let names = defined(graph);
            match pick(&mut graph.node, u)? {
                Some(node) => mutate_node(node, &names, u),
                None => Ok(()),
            }
        }
    }
}

fn mutate_input(graph: &mut GraphProto, u: &mut Unstructured<'_>) -> Result<()> {
    let Some(input) = pick(&mut graph.input, u)? else { return Ok(()) };
    let value = input.r#type.as_mut().and_then(|ty| ty.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = value else { return Ok(()) };
    let Some(shape) = &mut tensor.shape else { return Ok(()) };
    match u.int_in_range(0..=7)? {
        0 => tensor.elem_type = Some(element_type(u)?),
        1 => shape.dim.push(random_dimension(u)?),
        2 => drop(shape.dim.pop()),
        3 => {
            for dim in &mut shape.dim {
                *dim = random_dimension(u)?;
            }
        }
        _ => {
            if let Some(dim) = pick(&mut shape.dim, u)? {
                *dim = random_dimension(u)?;
            }
        }
    }
    Ok(())
}

/// Its numbers, or all of it.
fn mutate_weight(graph: &mut GraphProto, u: &mut Unstructured<'_>) -> Result<()> {
    let Some(weight) = pick(&mut graph.initializer, u)? else { return Ok(()) };
    let (name, mut code, mut dims) = (weight.name().to_owned(), weight.data_type(), weight.dims.clone());
    match u.int_in_range(0..=3)? {
        0 => code = element_type(u)?,
        1 => {
            if let Some(dim) = pick(&mut dims, u)? {
                *dim = if u.ratio(1, 8)? { number(u)? } else { u.int_in_range(0..=5)? };
            }
        }
        2 => dims.push(u.int_in_range(0..=3)?),
        _ => {}
    }
    *weight = tensor(u, &name, code, dims)?;
    Ok(())
}

/// What was known is known at run time only.
fn weight_to_input(graph: &mut GraphProto, u: &mut Unstructured<'_>) -> Result<()> {
    let used = |name: &str| graph.node.iter().any(|node| node.input.iter().any(|input| input == name));
    let used: Vec<usize> =
        (0..graph.initializer.len()).filter(|i| used(graph.initializer[*i].name())).collect();
    if used.is_empty() {
        return Ok(());
    }
    let weight = &mut graph.initializer[*u.choose(&used)?];
    let symbolic: bool = u.arbitrary()?;
    let mut dims = Vec::new();
    for &size in &weight.dims {
        use ired_frontends::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value};
        let keeps = !symbolic || !u.ratio(1, 2)?;
        dims.push(if keeps {
            Dimension { value: Some(Value::DimValue(size)) }
        } else {
            random_dimension(u)?
        });
    }
    graph.input.push(dense(weight.name(), weight.data_type(), dims));
    // The value stays with the model, to run it on.
    weight.name = Some(format!("value of {}", weight.name()));
    Ok(())
}

fn input_to_weight(graph: &mut GraphProto, u: &mut Unstructured<'_>) -> Result<()> {
    let Some(input) = pick(&mut graph.input, u)? else { return Ok(()) };
    let (name, stored) = (input.name().to_owned(), format!("value of {}", input.name()));
    let known = graph.initializer.iter_mut().find(|weight| weight.name() == stored);
    let value = match known {
        Some(weight) => std::mem::take(weight),
        None => {
            let (code, dims) = (element_type(u)?, crate::values::sizes(u, 4)?);
            tensor(u, "", code, dims)?
        }
    };
    graph.initializer.retain(|weight| weight.name.is_some());
    graph.initializer.push(ired_frontends::onnx::proto::TensorProto { name: Some(name), ..value });
    Ok(())
}

/// A node on what is there, which a node after it may take instead of what it took.
fn add_node(graph: &mut GraphProto, u: &mut Unstructured<'_>) -> Result<()> {
    if graph.node.len() > MAX_NODES {
        return Ok(());
    }
    let names = defined(graph);
    let node = random_node(u, &names, &format!("a{}_", graph.node.len()))?;
    let Some(given) = node.output.first().cloned() else { return Ok(()) };
    match pick(&mut graph.node, u)? {
        Some(user) if u.arbitrary()? => {
            if let Some(input) = pick(&mut user.input, u)? {
                *input = given;
            }
        }
        _ => graph.output.push(untyped(&given)),
    }
    graph.node.push(node);
    Ok(())
}

fn mutate_node(node: &mut NodeProto, names: &[String], u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=11)? {
        0 => {
            let schema = u.choose(schemas())?;
            (node.op_type, node.domain) = (Some(schema.op.to_owned()), Some(schema.domain.to_owned()));
        }
        1 | 2 => {
            if let (Some(input), false) = (pick(&mut node.input, u)?, names.is_empty()) {
                *input = if u.ratio(1, 6)? { String::new() } else { u.choose(names)?.clone() };
            }
        }
        3 if !names.is_empty() => node.input.push(u.choose(names)?.clone()),
        4 => drop(node.input.pop()),
        5 => node.output.push(format!("{}_more", node.output.first().cloned().unwrap_or_default())),
        6 => {
            let at = u.int_in_range(0..=node.attribute.len())?;
            if at < node.attribute.len() {
                node.attribute.remove(at);
            }
        }
        7 | 8 => {
            let schema = schema_of(node.domain(), node.op_type());
            let known = schema.map_or(&[][..], |schema| &schema.attributes);
            let absent: Vec<_> = known
                .iter()
                .filter(|(name, kind)| {
                    *kind != Kind::Graph && !node.attribute.iter().any(|attribute| attribute.name() == *name)
                })
                .collect();
            if !absent.is_empty() {
                let (name, kind) = **u.choose(&absent)?;
                node.attribute.push(attribute(u, name, kind, 4)?);
            }
        }
        _ => {
            if let Some(attribute) = pick(&mut node.attribute, u)? {
                mutate_attribute(attribute, u)?;
            }
        }
    }
    Ok(())
}

fn mutate_attribute(attribute: &mut AttributeProto, u: &mut Unstructured<'_>) -> Result<()> {
    fn change<T: Clone>(
        list: &mut Vec<T>,
        u: &mut Unstructured<'_>,
        item: impl Fn(&mut Unstructured<'_>) -> Result<T>,
    ) -> Result<()> {
        match u.int_in_range(0..=4)? {
            0 => drop(list.pop()),
            1 => list.push(item(u)?),
            _ => {
                if let Some(element) = pick(list, u)? {
                    *element = item(u)?;
                }
            }
        }
        Ok(())
    }
    let name = attribute.name().to_owned();
    let again = |kind, u: &mut Unstructured<'_>| crate::values::attribute(u, &name, kind, 4);
    match attribute.r#type() {
        1 => attribute.f = Some(float(u)?),
        2 => *attribute = again(Kind::Int, u)?,
        3 => *attribute = again(Kind::Text, u)?,
        4 => {
            if let Some(old) = &attribute.t {
                let code = if u.arbitrary()? { old.data_type() } else { element_type(u)? };
                attribute.t = Some(tensor(u, "", code, old.dims.clone())?);
            }
        }
        6 => change(&mut attribute.floats, u, float)?,
        7 => change(&mut attribute.ints, u, number)?,
        8 => change(&mut attribute.strings, u, |u| Ok(word(u)?.into()))?,
        _ => {}
    }
    Ok(())
}

/// Bytes that depend on `seed` alone, for an [`Unstructured`] to draw from.
pub fn noise(seed: u32) -> Vec<u8> {
    // splitmix64.
    let mut state = u64::from(seed);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..512).flat_map(|_| next().to_le_bytes()).collect()
}
