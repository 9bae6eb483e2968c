//! Conditions and loops.

use arbitrary::Result;
use ired_graph::{
    BinaryFn, Builder, CompareFn, DType, Dim, Graph, Op, RegionId, ShapeError, TensorType, ValueId,
};

use super::{Built, Steps};

/// Regions within regions, at most.
const MAX_DEPTH: usize = 2;

pub(super) fn step(
    steps: &mut Steps<'_, '_>,
    graph: &mut Graph,
    region: RegionId,
    values: &[ValueId],
    x: ValueId,
    c: usize,
) -> Result<Built> {
    if steps.depth >= MAX_DEPTH {
        return Ok(Builder::in_region(graph, region).binary_scalar(BinaryFn::Add, x, 1.0));
    }
    steps.depth += 1;
    let built = match c % 3 {
        0 => branch(steps, graph, region, values, x, c / 3),
        1 => counted(steps, graph, region, values, x, c / 3),
        _ => until(steps, graph, region, values, x, c / 3),
    };
    steps.depth -= 1;
    built
}

/// A bool scalar made of an integer input's first element.
fn condition(b: &mut Builder<'_>, values: &[ValueId], c: usize) -> Built {
    let list = values.iter().copied().find(|v| b.ty(*v).dtype == DType::I64 && b.ty(*v).rank() == 1);
    let list = list.unwrap_or(values[0]);
    let first = b.slice_axis(list, 0, 0.into(), 1.into())?;
    let first = b.reshape(first, Vec::new())?;
    let number = b.scalar_like(first, (c % 3) as f64)?;
    b.push(Op::Compare(CompareFn::Lt), &[first, number])
}

/// Some steps on `values`, and of the values after them one that could take the place of `like`.
fn inside(
    steps: &mut Steps<'_, '_>,
    graph: &mut Graph,
    region: RegionId,
    values: &[ValueId],
    like: &TensorType,
    same_sizes: bool,
) -> Result<Option<ValueId>> {
    let mut inner = values.to_vec();
    let most = steps.u.int_in_range(0..=4)?;
    steps.add(graph, region, &mut inner, most)?;
    // Sizes that may differ are the first: in `like` that is a symbol of its own.
    let open = usize::from(!same_sizes).min(like.rank());
    let fits = |v: &ValueId| {
        let ty = graph.ty(*v);
        ty.dtype == like.dtype && ty.rank() == like.rank() && ty.shape[open..] == like.shape[open..]
    };
    Ok(inner.iter().copied().rev().find(fits))
}

fn branch(
    steps: &mut Steps<'_, '_>,
    graph: &mut Graph,
    region: RegionId,
    values: &[ValueId],
    x: ValueId,
    c: usize,
) -> Result<Built> {
    let condition = match condition(&mut Builder::in_region(graph, region), values, c) {
        Ok(condition) => condition,
        Err(error) => return Ok(Err(error)),
    };
    let like = graph.ty(x).clone();
    let regions = [graph.add_region(), graph.add_region()];
    for inner in regions {
        let output = inside(steps, graph, inner, values, &like, c.is_multiple_of(2))?;
        graph.set_outputs(inner, vec![output.unwrap_or(x)]);
    }
    Ok(first(graph, region, Op::If, &[condition], regions.to_vec()))
}

/// A loop that runs a number of times which is known, or a size, or read; it stacks what it makes, too.
fn counted(
    steps: &mut Steps<'_, '_>,
    graph: &mut Graph,
    region: RegionId,
    values: &[ValueId],
    x: ValueId,
    c: usize,
) -> Result<Built> {
    let index = graph.symbols.fresh("iteration");
    let size = graph.ty(values[0]).shape.first().cloned();
    let count = [Dim::constant((c % 4) as i64), size.unwrap_or(2.into())][c / 4 % 2].clone();
    let body = graph.add_region();
    let like = graph.ty(x).clone();
    let state = graph.add_region_input(body, like.clone());
    let number = Builder::in_region(graph, body).dim(Dim::symbol(index));
    let mut inner = [values, &[state]].concat();
    inner.extend(number);
    let next = inside(steps, graph, body, &inner, &like, true)?.unwrap_or(state);
    let mut outputs = vec![next];
    if c.is_multiple_of(2) {
        outputs.push(state);
    }
    graph.set_outputs(body, outputs);
    let results =
        Builder::in_region(graph, region).push_with_regions(Op::Repeat { count, index }, &[x], vec![body]);
    Ok(results.map(|results| if c.is_multiple_of(4) { results[results.len() - 1] } else { results[0] }))
}

/// A loop that counts, and goes on while the count is small.
fn until(
    steps: &mut Steps<'_, '_>,
    graph: &mut Graph,
    region: RegionId,
    values: &[ValueId],
    x: ValueId,
    c: usize,
) -> Result<Built> {
    let scalar = TensorType::scalar(DType::I64);
    let (mut kept, body) = (graph.ty(x).clone(), graph.add_region());
    let like = kept.clone();
    let condition = graph.add_region();
    if c.is_multiple_of(3) && !kept.shape.is_empty() {
        // A state that may change its size.
        kept.shape[0] = Dim::symbol(graph.symbols.fresh("state"));
    }
    let [(count, _), (number, state)] = [condition, body].map(|inner| {
        (graph.add_region_input(inner, scalar.clone()), graph.add_region_input(inner, kept.clone()))
    });
    let mut b = Builder::in_region(graph, condition);
    let most = b.scalar(DType::I64, (c % 4) as f64);
    let goes_on = most.and_then(|most| b.push(Op::Compare(CompareFn::Lt), &[count, most]));
    let mut b = Builder::in_region(graph, body);
    let more = b.binary_scalar(BinaryFn::Add, number, 1.0);
    let next = inside(steps, graph, body, &[values, &[state]].concat(), &kept, kept == like)?;
    let (Ok(goes_on), Ok(more)) = (goes_on, more) else {
        let problem = "cannot be counted".to_owned();
        return Ok(Err(ShapeError::Attribute { op: "while", attribute: "regions", problem }));
    };
    graph.set_outputs(condition, vec![goes_on]);
    graph.set_outputs(body, vec![more, next.unwrap_or(state)]);
    let mut b = Builder::in_region(graph, region);
    let results = b
        .scalar(DType::I64, 0.0)
        .and_then(|zero| b.push_with_regions(Op::While, &[zero, x], vec![condition, body]));
    Ok(results.map(|results| results[1]))
}

fn first(graph: &mut Graph, region: RegionId, op: Op, operands: &[ValueId], regions: Vec<RegionId>) -> Built {
    let results = Builder::in_region(graph, region).push_with_regions(op, operands, regions)?;
    Ok(results[0])
}
