//! Loop, Scan and SequenceMap. What runs a number of times that is known before becomes a counted loop, which asks the
//! host for nothing between iterations; what decides itself when to end, a loop with a condition.

mod body;
mod growth;
mod scan;

use ired_graph::{BinaryFn, CompareFn, DType, Dim, Op, RegionId, TensorType, ValueId};

use super::call::{Call, Outcome, invalid, sizes_of};
use super::computed::Integers;
use super::elementwise::constant_bool;
use super::import::{Binding, Frame, Importer, Scope};
use super::optional::truth;
use body::{Body, Given, Template, import_body};
use growth::{Growth, grow};

pub(super) use body::with_rank;
pub(super) use scan::{scan, sequence_map};

/// Nothing is known of what a node gives that holds what is refused.
fn unknown(call: &Call<'_>) -> Vec<Binding> {
    vec![Binding::Unknown; call.outputs.len()]
}

pub(super) fn repeat(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
) -> Outcome<Vec<Binding>> {
    let graph = call.attributes.graph("body")?;
    let initial = call.bindings.get(2..).unwrap_or_default().to_vec();
    let inputs = graph.input.len();
    if inputs != 2 + initial.len() {
        return invalid(format!("{inputs} inputs of the body for {} values carried", initial.len()));
    }
    let (trips, condition) = (call.optional(0), call.optional(1));
    let b = importer.builder(call.name, "Loop", frame.region);
    let known = condition.map_or(Some(true), |condition| constant_bool(&b, condition));
    let condition = condition.filter(|_| known != Some(true));
    // A body that never ends the loop itself runs as often as is said before.
    if let Some(trips) = trips {
        let mark = importer.mark(frame.region);
        let index = importer.graph.symbols.fresh("iteration");
        let mut given = |importer: &mut Importer<'_>, region: RegionId| {
            let mut b = importer.builder(call.name, "Loop", region);
            let number = b.dim(Dim::symbol(index))?;
            let number = as_declared(&mut b, graph, number)?;
            let holds = truth(&mut b, true)?;
            Ok(Given { before: vec![Binding::Value(number), Binding::Value(holds)], after: Vec::new() })
        };
        let mut state = initial.clone();
        let first_symbol = index.0 as usize;
        let template = Template { graph, scope, frame, leading: 1, first_symbol, keeps_sizes: false };
        let Some(body) = import_body(importer, template, &mut state, &mut given)? else {
            return Ok(unknown(call));
        };
        let b = importer.builder(call.name, "Loop", frame.region);
        let goes_on = body.leading[0].value().and_then(|goes_on| constant_bool(&b, goes_on));
        if goes_on == Some(true) {
            let count = trip_count(importer, call, frame, trips, condition)?;
            return finish_counted(importer, call, frame, body, &state, Op::Repeat { count, index });
        }
        importer.rollback(mark);
    }
    while_loop(importer, call, scope, frame, initial, trips, condition)
}

/// The number of an iteration: a scalar, or a vector of one where the body says so.
fn as_declared(
    b: &mut ired_graph::Builder<'_>,
    graph: &super::proto::GraphProto,
    number: ValueId,
) -> Outcome {
    use super::proto::type_proto::Value::TensorType;
    let declared = graph.input.first().and_then(|input| input.r#type.as_ref()?.value.as_ref());
    let rank = match declared {
        Some(TensorType(tensor)) => tensor.shape.as_ref().map_or(0, |shape| shape.dim.len()),
        _ => 0,
    };
    if rank == 1 { Ok(b.reshape(number, vec![1.into()])?) } else { Ok(number) }
}

fn trip_count(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    frame: &Frame<'_>,
    trips: ValueId,
    condition: Option<ValueId>,
) -> Outcome<Dim> {
    let mut b = importer.builder(call.name, "Loop", frame.region);
    let mut n = Integers::on(&mut b);
    let mut trips = n.scalar(trips)?;
    if condition.is_none()
        && let Some([known]) = sizes_of(n.b, trips).as_deref()
    {
        return Ok(n.b.graph.symbols.simplify(&known.maximum(&0.into())));
    }
    trips = n.binary_number(BinaryFn::Max, trips, 0)?;
    if let Some(condition) = condition {
        let condition = n.b.reshape(condition, Vec::new())?;
        trips = n.select_number(condition, trips, 0)?;
    }
    Ok(b.read_dims(trips, "trips")?.pop().unwrap_or(0.into()))
}

/// Puts a counted loop after its body, and gives the state and the stacks.
fn finish_counted(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    frame: &Frame<'_>,
    body: Body,
    initial: &[Binding],
    op: Op,
) -> Outcome<Vec<Binding>> {
    let Op::Repeat { count, .. } = &op else { return invalid("is no counted loop") };
    let count = count.clone();
    let mut operands: Vec<ValueId> = initial.iter().flat_map(|binding| binding.parts()).collect();
    let mut outputs: Vec<ValueId> = body.state.iter().flat_map(|binding| binding.parts()).collect();
    let (mut stacked, mut grown) = (Vec::new(), Vec::new());
    for slice in &body.slices {
        let slice = body.slice(*slice)?;
        match body.is_known_outside(importer, slice) {
            true => {
                grown.push(None);
                stacked.push(slice);
            }
            false => {
                let growth = grow(importer, call, frame, &body, slice)?;
                operands.extend(&growth.initial);
                outputs.extend(&growth.next);
                grown.push(Some(growth));
            }
        }
    }
    let carried = outputs.len();
    outputs.extend(stacked);
    importer.graph.set_outputs(body.region, outputs);
    let mut b = importer.builder(call.name, "Loop", frame.region);
    let results = b.push_with_regions(op, &operands, vec![body.region])?;
    let (carried, stacks) = results.split_at(carried);
    let (mut carried, mut stacks) = (carried.iter().copied(), stacks.iter().copied());
    let mut found: Vec<Binding> = body.state.iter().map(|binding| binding.with_parts(&mut carried)).collect();
    for growth in grown {
        found.push(match growth {
            None => Binding::Value(stacks.next().unwrap_or(ValueId(u32::MAX))),
            Some(growth) => Binding::Value(growth.finish(&mut b, &mut carried, &count)?),
        });
    }
    Ok(body.unwrapped(found))
}

fn while_loop(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
    mut state: Vec<Binding>,
    trips: Option<ValueId>,
    condition: Option<ValueId>,
) -> Outcome<Vec<Binding>> {
    let graph = call.attributes.graph("body")?;
    let leading = [TensorType::scalar(DType::I64), TensorType::scalar(DType::Bool)];
    let mut given = |importer: &mut Importer<'_>, region: RegionId| {
        let [number, _] = leading.clone().map(|ty| importer.graph.add_region_input(region, ty));
        let mut b = importer.builder(call.name, "Loop", region);
        let number = as_declared(&mut b, graph, number)?;
        // The body runs only while the condition holds.
        let holds = truth(&mut b, true)?;
        Ok(Given { before: vec![Binding::Value(number), Binding::Value(holds)], after: Vec::new() })
    };
    let first_symbol = importer.graph.symbols.len();
    let template = Template { graph, scope, frame, leading: 1, first_symbol, keeps_sizes: false };
    let Some(body) = import_body(importer, template, &mut state, &mut given)? else {
        return Ok(unknown(call));
    };
    let mut growths: Vec<Growth> = Vec::new();
    for slice in &body.slices {
        let slice = body.slice(*slice)?;
        growths.push(grow(importer, call, frame, &body, slice)?);
    }
    // The body: one more iteration, the condition, the state.
    let number = importer.graph.region(body.region).inputs[0];
    let mut b = importer.builder(call.name, "Loop", body.region);
    let next = Integers::on(&mut b).binary_number(BinaryFn::Add, number, 1)?;
    let Some(goes_on) = body.leading[0].value() else { return invalid("the condition is no tensor") };
    let goes_on = b.reshape(goes_on, Vec::new())?;
    let mut outputs = vec![next, goes_on];
    outputs.extend(body.state.iter().flat_map(|binding| binding.parts()));
    outputs.extend(growths.iter().flat_map(|growth| &growth.next));
    importer.graph.set_outputs(body.region, outputs);
    // The condition: as the body left it, and trips left.
    let test = importer.graph.add_region();
    let inputs = importer.graph.region(body.region).inputs.clone();
    let inputs: Vec<ValueId> = inputs
        .into_iter()
        .map(|input| {
            let ty = importer.graph.ty(input).clone();
            importer.graph.add_region_input(test, ty)
        })
        .collect();
    let mut goes_on = inputs[1];
    if let Some(trips) = trips {
        let mut b = importer.builder(call.name, "Loop", test);
        let mut n = Integers::on(&mut b);
        let trips = n.scalar(trips)?;
        let left = n.compare(CompareFn::Lt, inputs[0], trips)?;
        goes_on = n.binary(BinaryFn::And, goes_on, left)?;
    }
    importer.graph.set_outputs(test, vec![goes_on]);
    let mut b = importer.builder(call.name, "Loop", frame.region);
    let first = Integers::on(&mut b).number(0)?;
    let condition = match condition {
        Some(condition) => b.reshape(condition, Vec::new())?,
        None => truth(&mut b, true)?,
    };
    let mut operands = vec![first, condition];
    operands.extend(state.iter().flat_map(|binding| binding.parts()));
    operands.extend(growths.iter().flat_map(|growth| &growth.initial));
    let results = b.push_with_regions(Op::While, &operands, vec![test, body.region])?;
    let mut rest = results[2..].iter().copied();
    let mut found: Vec<Binding> = body.state.iter().map(|binding| binding.with_parts(&mut rest)).collect();
    if !growths.is_empty() {
        let count = if growths.iter().all(Growth::is_stack) {
            0.into()
        } else {
            b.read_dims(results[0], "iterations")?.pop().unwrap_or(0.into())
        };
        for growth in growths {
            found.push(Binding::Value(growth.finish(&mut b, &mut rest, &count)?));
        }
    }
    Ok(body.unwrapped(found))
}
