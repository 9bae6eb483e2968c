//! Scan, and SequenceMap: loops over the slices of tensors, and over the tensors of sequences.

use ired_graph::{Builder, DType, Dim, Op, PadMode, RegionId, TensorType, ValueId};

use super::super::call::{Call, Outcome, axis, invalid, unsupported};
use super::super::import::{Binding, Frame, Importer, Scope};
use super::super::sequence::{Sequence, sequence_input};
use super::body::{Given, Template, import_body};
use super::{finish_counted, unknown};

/// A tensor that a scan goes over, one slice an iteration.
#[derive(Clone)]
struct Scanned {
    value: ValueId,
    axis: usize,
    reverse: bool,
}

pub(in super::super) fn scan(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
) -> Outcome<Vec<Binding>> {
    let scans = call.attributes.int_or("num_scan_inputs", 0)?;
    let lengths = usize::from(call.version < 9);
    let inputs = call.inputs.len().saturating_sub(lengths);
    let states = usize::try_from(scans).ok().and_then(|scans| inputs.checked_sub(scans));
    let Some(states) = states.filter(|states| *states < inputs) else {
        return invalid(format!("num_scan_inputs is {scans}; the node has {inputs} inputs"));
    };
    if call.version < 9 {
        return scan_batches(importer, call, scope, frame, states);
    }
    let list = |name: &str| Outcome::Ok(call.attributes.ints(name)?.unwrap_or_default());
    let (axes, directions) = (list("scan_input_axes")?, list("scan_input_directions")?);
    let mut scanned = Vec::new();
    for i in 0..inputs - states {
        let value = call.input(states + i)?;
        let rank = importer.graph.ty(value).rank();
        let axis = axis(axes.get(i).copied().unwrap_or(0), rank)?;
        scanned.push(Scanned { value, axis, reverse: directions.get(i) == Some(&1) });
    }
    let count = importer.graph.ty(scanned[0].value).shape[scanned[0].axis].clone();
    let initial: Vec<Binding> = call.bindings[..states].to_vec();
    let Some(mut outputs) = run(importer, call, scope, frame, initial, &scanned, count)? else {
        return Ok(unknown(call));
    };
    let (axes, directions) = (list("scan_output_axes")?, list("scan_output_directions")?);
    let mut b = importer.builder(call.name, "Scan", frame.region);
    for (i, output) in outputs.iter_mut().skip(states).enumerate() {
        let Some(mut stack) = output.value() else { continue };
        if directions.get(i) == Some(&1) {
            stack = reversed(&mut b, stack)?;
        }
        let rank = b.ty(stack).rank();
        let at = axis(axes.get(i).copied().unwrap_or(0), rank)?;
        let perm = (1..=at).chain([0]).chain(at + 1..rank).collect();
        *output = Binding::Value(b.transpose(stack, perm)?);
    }
    Ok(outputs)
}

/// `x` backwards along its first axis.
fn reversed(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let size = b.ty(x).shape.clone();
    let mut start = vec![Dim::constant(0); size.len()];
    // Of no elements, the first is as good as any.
    start[0] = b.graph.symbols.simplify(&(size[0].clone() - 1.into()).maximum(&0.into()));
    let mut stride = vec![1; size.len()];
    stride[0] = -1;
    Ok(b.slice(x, start, size, stride)?)
}

/// The state after `count` iterations over slices of `scanned`, and the stacks; `None` when the body is refused.
fn run(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
    mut initial: Vec<Binding>,
    scanned: &[Scanned],
    count: Dim,
) -> Outcome<Option<Vec<Binding>>> {
    let graph = call.attributes.graph("body")?;
    let index = importer.graph.symbols.fresh("iteration");
    let mut given = |importer: &mut Importer<'_>, region: RegionId| {
        let mut b = importer.builder(call.name, "Scan", region);
        let mut after = Vec::new();
        for Scanned { value, axis, reverse } in scanned {
            let forth = Dim::symbol(index);
            let at = if *reverse { count.clone() - Dim::constant(1) - forth } else { forth };
            let slice = b.slice_axis(*value, *axis, at, 1.into())?;
            after.push(Binding::Value(b.squeeze(slice, &[*axis])?));
        }
        Ok(Given { before: Vec::new(), after })
    };
    let first_symbol = index.0 as usize;
    let template = Template { graph, scope, frame, leading: 0, first_symbol, keeps_sizes: true };
    match import_body(importer, template, &mut initial, &mut given)? {
        None => Ok(None),
        Some(body) => {
            let op = Op::Repeat { count, index };
            finish_counted(importer, call, frame, body, &initial, op).map(Some)
        }
    }
}

/// The first Scan: everything has a leading axis of a batch, whose sequences may have lengths of their own.
fn scan_batches(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
    states: usize,
) -> Outcome<Vec<Binding>> {
    let directions = call.attributes.ints("directions")?.unwrap_or_default();
    let inputs = (1..call.inputs.len()).map(|i| call.input(i)).collect::<Outcome<Vec<_>>>()?;
    let Some(shape) = inputs.get(states).map(|scan| importer.graph.ty(*scan).shape.clone()) else {
        return invalid("scans nothing");
    };
    let [batch, length, ..] = shape.as_slice() else {
        return invalid(format!("scans a tensor of rank {}; expected a batch of sequences", shape.len()));
    };
    let index = importer.graph.symbols.fresh("batch");
    let region = importer.graph.add_region();
    let inner = frame.in_region(region);
    let mut b = importer.builder(call.name, "Scan", region);
    let mut one_of = |x: ValueId| {
        let slice = b.slice_axis(x, 0, Dim::symbol(index), 1.into())?;
        Outcome::Ok(b.squeeze(slice, &[0])?)
    };
    let slices = inputs.iter().map(|x| one_of(*x)).collect::<Outcome<Vec<_>>>()?;
    let count = match call.optional(0) {
        None => length.clone(),
        Some(lengths) => {
            let own = one_of(lengths)?;
            b.read_dims(own, "length")?.pop().unwrap_or(0.into())
        }
    };
    let (state, scanned) = slices.split_at(states);
    let state = state.iter().map(|value| Binding::Value(*value)).collect();
    let scanned: Vec<Scanned> = scanned
        .iter()
        .enumerate()
        .map(|(i, value)| Scanned { value: *value, axis: 0, reverse: directions.get(i) == Some(&1) })
        .collect();
    let Some(outputs) = run(importer, call, scope, &inner, state, &scanned, count.clone())? else {
        return Ok(unknown(call));
    };
    let mut b = importer.builder(call.name, "Scan", region);
    let mut values = Vec::new();
    for (i, output) in outputs.into_iter().enumerate() {
        let Some(mut value) = output.value() else { return invalid("an output that is no tensor") };
        // What a short sequence leaves of a stack is zeros.
        if i >= states && count != *length {
            let rank = b.ty(value).rank();
            let (low, mut high) = (vec![Dim::constant(0); rank], vec![Dim::constant(0); rank]);
            high[0] = length.clone() - count.clone();
            let zero = b.scalar_like(value, 0.0)?;
            value = b.pad(value, low, high, PadMode::Constant, Some(zero))?;
        }
        values.push(value);
    }
    importer.graph.set_outputs(region, values);
    let mut b = importer.builder(call.name, "Scan", frame.region);
    let results = b.push_with_regions(Op::Repeat { count: batch.clone(), index }, &[], vec![region])?;
    Ok(results.into_iter().map(Binding::Value).collect())
}

/// A body for each tensor of a sequence; its outputs make sequences.
pub(in super::super) fn sequence_map(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
) -> Outcome<Vec<Binding>> {
    let graph = call.attributes.graph("body")?;
    let first = sequence_input(call, 0)?;
    let index = importer.graph.symbols.fresh("iteration");
    let count = first.length(&importer.builder(call.name, "SequenceMap", frame.region));
    let mut given = |importer: &mut Importer<'_>, region: RegionId| {
        let mut b = importer.builder(call.name, "SequenceMap", region);
        let number = b.dim(Dim::symbol(index))?;
        let mut before = Vec::new();
        for input in call.bindings {
            before.push(match input {
                Binding::Sequence(sequence) => {
                    let Some(rank) = sequence.rank(&b) else {
                        return unsupported(
                            "a sequence of tensors whose rank is not known",
                            "state their shape in the model",
                        );
                    };
                    Binding::Value(sequence.at(&mut b, number, rank)?)
                }
                other => *other,
            });
        }
        Ok(Given { before, after: Vec::new() })
    };
    let first_symbol = index.0 as usize;
    let template = Template { graph, scope, frame, leading: 0, first_symbol, keeps_sizes: false };
    let Some(body) = import_body(importer, template, &mut [], &mut given)? else {
        return Ok(unknown(call));
    };
    let (mut operands, mut outputs) = (Vec::new(), Vec::new());
    for slice in &body.slices {
        let slice = body.slice(*slice)?;
        let ty = importer.graph.ty(slice).clone();
        let rank = Dim::constant(ty.rank() as i64);
        let [total, many] =
            ["elements", "mapped"].map(|name| Dim::symbol(importer.graph.symbols.fresh(name)));
        let values = TensorType::new(ty.dtype, vec![total]);
        let shapes = TensorType::new(DType::I64, vec![many, rank]);
        let [values, shapes] = [values, shapes].map(|ty| importer.graph.add_region_input(body.region, ty));
        let mut b = importer.builder(call.name, "SequenceMap", body.region);
        let next = Sequence { values, shapes }.append(&mut b, slice)?;
        outputs.extend([next.values, next.shapes]);
        let mut b = importer.builder(call.name, "SequenceMap", frame.region);
        let empty = Sequence::empty(&mut b, ty.dtype)?.with_rank(&mut b, ty.rank())?;
        operands.extend([empty.values, empty.shapes]);
    }
    importer.graph.set_outputs(body.region, outputs);
    let mut b = importer.builder(call.name, "SequenceMap", frame.region);
    let results = b.push_with_regions(Op::Repeat { count, index }, &operands, vec![body.region])?;
    let pairs = results.chunks_exact(2);
    Ok(pairs.map(|pair| Binding::Sequence(Sequence { values: pair[0], shapes: pair[1] })).collect())
}
