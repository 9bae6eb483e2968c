//! Conditions and loops, whose results are typed by their regions.

use super::ShapeError;
use super::check::Operands;
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
    if *op == Op::While {
        return Ok(types_of(&graph.region(regions[1]).inputs));
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

/// Whether `results` can be the types of the node's results.
pub(crate) fn check_results(
    graph: &Graph,
    op: &Op,
    operands: &[ValueId],
    regions: &[RegionId],
    results: &[ValueId],
) -> Result<(), ShapeError> {
    check(graph, op, operands, regions)?;
    let sources: &[ValueId] = match op {
        Op::While => &graph.region(regions[1]).inputs,
        _ => &graph.region(regions[0]).outputs,
    };
    fits_all(graph, op, "result", sources, results)?;
    if *op == Op::If {
        fits_all(graph, op, "result", &graph.region(regions[1]).outputs, results)?;
    }
    Ok(())
}

/// The symbols that a control-flow node gives their values: dimensions of its results that are a symbol, and are
/// not what its operands or regions say already.
pub(crate) fn introduced_symbols(graph: &Graph, node: &Node) -> Vec<SymbolId> {
    let outputs = |i: usize| node.regions.get(i).map_or(&[][..], |r| &graph.region(*r).outputs);
    let sources: [&[ValueId]; 2] = match node.op {
        Op::If => [outputs(0), outputs(1)],
        Op::While => [&node.operands, outputs(1)],
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    for (i, &result) in node.results.iter().enumerate() {
        for (axis, dim) in graph.ty(result).shape.iter().enumerate() {
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

/// A dimension fits an equal one, or a symbol of its own that takes its value.
fn fits(symbols: &Symbols, source: &Dim, target: &Dim) -> bool {
    symbols.is_known_eq(source, target)
        || (target.as_symbol().is_some() && !symbols.is_known_ne(source, target))
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
