//! Conditions and loops, whose results are typed by their regions.

use super::ShapeError;
use super::check::Operands;
use crate::verify::same_type;
use crate::{DType, Dim, Graph, Node, Op, RegionId, SymbolId, Symbols, TensorType, ValueId};

/// The types of a control-flow node's results. A size in which the branches of an [`Op::If`] differ becomes a
/// new symbol, whose value only the run decides.
pub(crate) fn infer(
    graph: &mut Graph,
    op: &Op,
    operands: &[ValueId],
    regions: &[RegionId],
) -> Result<Vec<TensorType>, ShapeError> {
    check(graph, op, operands, regions)?;
    let types_of = |values: &[ValueId]| values.iter().map(|v| graph.ty(*v).clone()).collect::<Vec<_>>();
    match op {
        Op::While => return Ok(types_of(&graph.region(regions[1]).inputs)),
        Op::Repeat { count, .. } => {
            let mut types = types_of(&graph.region(regions[0]).inputs);
            types.extend(stacks(graph, count, regions[0])?);
            return Ok(types);
        }
        _ => {}
    }
    let (then, other) =
        (types_of(&graph.region(regions[0]).outputs), types_of(&graph.region(regions[1]).outputs));
    let mut merged = then;
    for (ty, other) in merged.iter_mut().zip(&other) {
        for (dim, found) in ty.shape.iter_mut().zip(&other.shape) {
            if !graph.symbols.is_known_eq(dim, found) {
                *dim = Dim::symbol(graph.symbols.fresh("if"));
            }
        }
    }
    Ok(merged)
}

/// The types of what an [`Op::Repeat`] stacks: a slice for each iteration.
fn stacks(graph: &Graph, count: &Dim, body: RegionId) -> Result<Vec<TensorType>, ShapeError> {
    let region = graph.region(body);
    let slices = region.outputs.iter().skip(region.inputs.len()).map(|slice| graph.ty(*slice));
    let stack = |slice: &TensorType| {
        let shape = std::iter::once(count).chain(&slice.shape).cloned().collect::<Vec<_>>();
        let checked = Operands { op: "repeat", symbols: &graph.symbols, types: &[] };
        checked.bounded(TensorType::new(slice.dtype, shape))
    };
    slices.map(stack).collect()
}

/// Whether `results` can be the types of the node's results.
pub(crate) fn check_results(
    graph: &Graph,
    op: &Op,
    operands: &[ValueId],
    regions: &[RegionId],
    results: &[ValueId],
) -> Result<(), ShapeError> {
    check(graph, op, operands, regions)?;
    match op {
        Op::While => fits_all(graph, op, "result", &graph.region(regions[1]).inputs, results),
        Op::Repeat { count, .. } => {
            let (inputs, stacks) = (&graph.region(regions[0]).inputs, stacks(graph, count, regions[0])?);
            same_count(op, "results", inputs.len() + stacks.len(), results.len())?;
            let (state, stacked) = results.split_at(inputs.len());
            fits_all(graph, op, "result", inputs, state)?;
            for (i, (expected, found)) in stacks.iter().zip(stacked).enumerate() {
                let found = graph.ty(*found);
                if !same_type(graph, expected, found) {
                    let text = |ty: &TensorType| ty.display(&graph.symbols).to_string();
                    let (what, expected, found) = (format!("stack {i}"), text(expected), text(found));
                    return Err(ShapeError::Mismatch { op: op.name(), what, expected, found });
                }
            }
            Ok(())
        }
        _ => {
            fits_all(graph, op, "result", &graph.region(regions[0]).outputs, results)?;
            fits_all(graph, op, "result", &graph.region(regions[1]).outputs, results)
        }
    }
}

/// The symbols that have their values from a node, for the nodes after it: those that it reads, and of control flow the
/// dimensions of its results that are a symbol, and are not what its operands or regions say already.
pub(crate) fn introduced_symbols(graph: &Graph, node: &Node) -> Vec<SymbolId> {
    let outputs = |i: usize| node.regions.get(i).map_or(&[][..], |r| &graph.region(*r).outputs);
    match &node.op {
        Op::ReadDims { symbols } | Op::Host { symbols, .. } => symbols.clone(),
        Op::If => unsaid(graph, &node.results, [outputs(0), outputs(1)]),
        Op::While => unsaid(graph, &node.results, [&node.operands, outputs(1)]),
        // The sizes of its stacks are known outside.
        Op::Repeat { .. } => {
            let state = node.operands.len().min(node.results.len());
            unsaid(graph, &node.results[..state], [&node.operands, outputs(0)])
        }
        _ => Vec::new(),
    }
}

/// The symbols that a loop gives new values in every iteration, which the nodes of its regions may use.
pub(crate) fn iteration_symbols(graph: &Graph, node: &Node) -> Vec<SymbolId> {
    let Some(body) = node.regions.last().filter(|_| matches!(node.op, Op::While | Op::Repeat { .. })) else {
        return Vec::new();
    };
    let outputs = &graph.region(*body).outputs;
    let mut found = Vec::new();
    for region in &node.regions {
        found.extend(unsaid(graph, &graph.region(*region).inputs, [&node.operands, outputs]));
    }
    if let Op::Repeat { index, .. } = node.op {
        found.push(index);
    }
    found.sort();
    found.dedup();
    found
}

/// The symbols that are dimensions of `values`, and that the values of both `sources` in their place are not known to
/// have as a dimension there.
fn unsaid(graph: &Graph, values: &[ValueId], sources: [&[ValueId]; 2]) -> Vec<SymbolId> {
    let mut found = Vec::new();
    for (i, &value) in values.iter().enumerate() {
        for (axis, dim) in graph.ty(value).shape.iter().enumerate() {
            let says = |values: &[ValueId]| {
                let source = values.get(i).and_then(|v| graph.ty(*v).shape.get(axis));
                source.is_some_and(|source| graph.symbols.is_known_eq(source, dim))
            };
            if let Some(symbol) = dim.as_symbol()
                && !sources.iter().all(|values| says(values))
            {
                found.push(symbol);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn check(graph: &Graph, op: &Op, operands: &[ValueId], regions: &[RegionId]) -> Result<(), ShapeError> {
    let types: Vec<&TensorType> = operands.iter().map(|v| graph.ty(*v)).collect();
    let checked = Operands::new(op, &types, &graph.symbols);
    if let Op::Repeat { count, .. } = op {
        return check_repeat(graph, &checked, op, count, operands, regions);
    }
    let &[first, second] = regions else {
        return Err(checked.attribute("regions", format!("are {}; expected 2", regions.len())));
    };
    let (first, second) = (graph.region(first), graph.region(second));
    match op {
        Op::If => {
            let [condition] = checked.exactly()?;
            checked.dtype(0, condition.dtype == DType::Bool, "bool")?;
            checked.rank(0, condition.rank() == 0, 0)?;
            if !first.inputs.is_empty() || !second.inputs.is_empty() {
                return Err(checked.attribute("regions", "have inputs; expected none"));
            }
            same_count(op, "outputs of the else region", first.outputs.len(), second.outputs.len())?;
            for (i, (a, b)) in first.outputs.iter().zip(&second.outputs).enumerate() {
                same_kind(op, &format!("output {i} of the else region"), graph.ty(*a), graph.ty(*b))?;
            }
            Ok(())
        }
        _ => {
            same_count(op, "inputs of the condition region", second.inputs.len(), first.inputs.len())?;
            fits_all(graph, op, "input of the condition region", &second.inputs, &first.inputs)?;
            fits_all(graph, op, "operand", operands, &second.inputs)?;
            fits_all(graph, op, "output of the body region", &second.outputs, &second.inputs)?;
            let condition: Vec<TensorType> = first.outputs.iter().map(|v| graph.ty(*v).clone()).collect();
            match condition.as_slice() {
                [ty] if *ty == TensorType::scalar(DType::Bool) => Ok(()),
                _ => Err(checked.attribute("regions", "have a condition that is not one bool scalar")),
            }
        }
    }
}

fn check_repeat(
    graph: &Graph,
    checked: &Operands<'_>,
    op: &Op,
    count: &Dim,
    operands: &[ValueId],
    regions: &[RegionId],
) -> Result<(), ShapeError> {
    checked.sizes("count", std::slice::from_ref(count))?;
    let &[body] = regions else {
        return Err(checked.attribute("regions", format!("are {}; expected 1", regions.len())));
    };
    let body = graph.region(body);
    fits_all(graph, op, "operand", operands, &body.inputs)?;
    let state = &body.outputs[..body.inputs.len().min(body.outputs.len())];
    fits_all(graph, op, "output of the body region", state, &body.inputs)
}

/// Every value of `sources` can become the value of `targets` in its place.
fn fits_all(
    graph: &Graph,
    op: &Op,
    what: &str,
    sources: &[ValueId],
    targets: &[ValueId],
) -> Result<(), ShapeError> {
    same_count(op, &format!("{what}s"), targets.len(), sources.len())?;
    for (i, (source, target)) in sources.iter().zip(targets).enumerate() {
        let (source, target) = (graph.ty(*source), graph.ty(*target));
        let what = format!("{what} {i}");
        same_kind(op, &what, target, source)?;
        if !source.shape.iter().zip(&target.shape).all(|(s, t)| fits(&graph.symbols, s, t)) {
            let text = |ty: &TensorType| ty.display(&graph.symbols).to_string();
            return Err(ShapeError::Mismatch {
                op: op.name(),
                what,
                expected: text(target),
                found: text(source),
            });
        }
    }
    Ok(())
}

/// A dimension fits an equal one, or a symbol of its own that takes its value. Where that symbol is in `source`, it
/// is the value of the iteration before.
fn fits(symbols: &Symbols, source: &Dim, target: &Dim) -> bool {
    let takes = |symbol| source.symbols().contains(&symbol) || !symbols.is_known_ne(source, target);
    symbols.is_known_eq(source, target) || target.as_symbol().is_some_and(takes)
}

fn same_kind(op: &Op, what: &str, expected: &TensorType, found: &TensorType) -> Result<(), ShapeError> {
    if expected.dtype == found.dtype && expected.rank() == found.rank() {
        return Ok(());
    }
    let text = |ty: &TensorType| format!("{} of rank {}", ty.dtype, ty.rank());
    Err(ShapeError::Mismatch {
        op: op.name(),
        what: what.to_owned(),
        expected: text(expected),
        found: text(found),
    })
}

fn same_count(op: &Op, what: &str, expected: usize, found: usize) -> Result<(), ShapeError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(ShapeError::Mismatch { op: op.name(), what: format!("the number of {what}"), expected, found })
}
