//! Recurrent nets. The inputs of all steps meet their weights in one product before the loop; in it are one more and
//! what is element by element.

mod cell;
mod gate;

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ValueId};

use self::cell::{Cell, Weights};
use self::gate::Gate;
use super::call::{Call, Outcome, invalid};
use super::quantized::Integers;
use super::repeat::{Step, repeat};

pub(super) fn rnn(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    net(b, call, Cell::Rnn, Storage::Real)
}

pub(super) fn lstm(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let couples = call.attributes.flag("input_forget", false)?;
    net(b, call, Cell::Lstm { couples }, Storage::Real)
}

/// Of weights in 8 bits, `[directions, size, gates * hidden]`, by which the inputs of all steps, and the states of each,
/// are multiplied once they are quantised as well. Inputs 8 to 11 are scale and zero point of both kinds of weights.
pub(super) fn quantized_lstm(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let couples = call.attributes.flag("input_forget", false)?;
    net(b, call, Cell::Lstm { couples }, Storage::Integers)
}

pub(super) fn gru(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let linear_before_reset = call.attributes.flag("linear_before_reset", false)?;
    net(b, call, Cell::Gru { linear_before_reset }, Storage::Real)
}

/// How weights are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    /// In floats, `[directions, gates * hidden, size]`.
    Real,
    /// In 8-bit integers, `[directions, size, gates * hidden]`.
    Integers,
}

/// What the directions of a net share.
struct Net {
    cell: Cell,
    storage: Storage,
    /// `[length, batch, size]`.
    x: ValueId,
    hidden: Dim,
    /// Length of each item's sequence, `[batch, 1]`.
    lengths: Option<ValueId>,
    /// `[directions, batch, hidden]`, where given.
    initial: Vec<Option<ValueId>>,
    batch_first: bool,
}

/// Inputs: x, input weights, recurrence weights, biases, lengths, initial states, peepholes. Outputs: the hidden
/// states of all steps, then the last states.
fn net(b: &mut Builder<'_>, call: &Call<'_>, cell: Cell, storage: Storage) -> Outcome<Vec<ValueId>> {
    call.attributes.ignore(&["output_sequence"]);
    let reverses: &[bool] = match call.attributes.text("direction")? {
        None | Some("forward") => &[false],
        Some("reverse") => &[true],
        Some("bidirectional") => &[false, true],
        Some(other) => return invalid(format!("direction `{other}`")),
    };
    let clip = call.attributes.float("clip")?.filter(|clip| *clip > 0.0);
    let activations = Gate::of(call, cell.default_activations(), reverses.len())?;
    let net = Net::of(b, call, cell, storage)?;
    let (mut steps, mut last) = (Vec::new(), vec![Vec::new(); cell.states()]);
    for (direction, reverse) in reverses.iter().enumerate() {
        let count = cell.default_activations().len();
        let activations = activations[direction * count..][..count].to_vec();
        let (x, weights) = net.weights(b, call, direction, activations, clip)?;
        let mut results = net.run(b, &weights, x, direction, *reverse)?;
        let hidden = results.pop().ok_or_else(|| crate::Problem::Other("no steps".to_owned()))?;
        steps.push(b.unsqueeze(hidden, &[1])?);
        for (last, state) in last.iter_mut().zip(results) {
            last.push(b.unsqueeze(state, &[0])?);
        }
    }
    let mut outputs = vec![b.concat(&steps, 1)?];
    for last in &last {
        outputs.push(b.concat(last, 0)?);
    }
    if net.batch_first {
        outputs[0] = b.transpose(outputs[0], vec![2, 0, 1, 3])?;
        for output in &mut outputs[1..] {
            *output = b.transpose(*output, vec![1, 0, 2])?;
        }
    }
    Ok(outputs)
}

impl Net {
    fn of(b: &mut Builder<'_>, call: &Call<'_>, cell: Cell, storage: Storage) -> Outcome<Self> {
        let batch_first = call.attributes.flag("layout", false)?;
        for index in 0..3 {
            let rank = call.input_type(b, index)?.rank();
            if rank != 3 {
                return invalid(format!("input {index} is of rank {rank}; expected 3"));
            }
        }
        let hidden = match call.attributes.int("hidden_size")? {
            Some(size) if size < 1 => return invalid(format!("hidden_size is {size}")),
            Some(size) => Dim::constant(size),
            None => call.input_type(b, 2)?.shape[if storage == Storage::Real { 2 } else { 1 }].clone(),
        };
        let front = |b: &mut Builder<'_>, value: ValueId| match batch_first && b.ty(value).rank() == 3 {
            true => b.transpose(value, vec![1, 0, 2]),
            false => Ok(value),
        };
        let x = front(b, call.input(0)?)?;
        let lengths = match call.optional(4) {
            Some(lengths) => {
                let lengths = b.cast(lengths, DType::I64)?;
                Some(b.reshape(lengths, vec![b.ty(x).shape[1].clone(), 1.into()])?)
            }
            None => None,
        };
        let initial = (0..cell.states())
            .map(|i| call.optional(5 + i).map(|state| front(b, state)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { cell, storage, x, hidden, lengths, initial, batch_first })
    }

    /// The product of all inputs with a direction's weights, biases added, `[length, batch, gates * hidden]`; and
    /// what its steps take.
    fn weights(
        &self,
        b: &mut Builder<'_>,
        call: &Call<'_>,
        direction: usize,
        activations: Vec<Gate>,
        clip: Option<f64>,
    ) -> Outcome<(ValueId, Weights)> {
        let rows = Dim::constant(self.cell.gates()) * self.hidden.clone();
        let size = b.ty(self.x).shape[2].clone();
        let (mut x, recurrence, integers) = match self.storage {
            Storage::Real => {
                let hidden = self.hidden.clone();
                let input = of_direction(b, call.input(1)?, direction, &[rows.clone(), size])?;
                let recurrence = of_direction(b, call.input(2)?, direction, &[rows.clone(), hidden])?;
                let input = b.transpose(input, vec![1, 0])?;
                (b.matmul_broadcast(self.x, input)?, b.transpose(recurrence, vec![1, 0])?, None)
            }
            Storage::Integers => {
                let hidden = self.hidden.clone();
                let input = of_direction(b, call.input(1)?, direction, &[size, rows.clone()])?;
                let recurrence = of_direction(b, call.input(2)?, direction, &[hidden, rows.clone()])?;
                let inputs = integers_of(b, call, input, 8, direction)?;
                let integers = integers_of(b, call, recurrence, 10, direction)?;
                (inputs.multiply(b, self.x, None)?, recurrence, Some(integers))
            }
        };
        let mut reset_bias = None;
        if let Some(biases) = call.optional(3) {
            let biases = of_direction(b, biases, direction, &[rows.clone() + rows.clone()])?;
            let input_bias = b.slice_axis(biases, 0, 0.into(), rows.clone())?;
            let mut bias = b.slice_axis(biases, 0, rows.clone(), rows.clone())?;
            if let Cell::Gru { linear_before_reset: true } = self.cell {
                let before = rows.clone() - self.hidden.clone();
                reset_bias = Some(b.slice_axis(bias, 0, before.clone(), self.hidden.clone())?);
                let zero = b.full(b.ty(bias).dtype, vec![self.hidden.clone()], 0.0)?;
                let others = b.slice_axis(bias, 0, 0.into(), before)?;
                bias = b.concat(&[others, zero], 0)?;
                bias = b.reshape(bias, vec![rows])?;
            }
            let bias = b.binary_broadcast(BinaryFn::Add, input_bias, bias)?;
            x = b.binary_broadcast(BinaryFn::Add, x, bias)?;
        }
        let peepholes = match (self.cell, call.optional(7)) {
            (Cell::Lstm { .. }, Some(peepholes)) => {
                let all = Dim::constant(3) * self.hidden.clone();
                let all = of_direction(b, peepholes, direction, &[all])?;
                let mut each = [all; 3];
                for (i, each) in each.iter_mut().enumerate() {
                    let start = Dim::constant(i as i64) * self.hidden.clone();
                    *each = b.slice_axis(all, 0, start, self.hidden.clone())?;
                }
                Some(each)
            }
            _ => None,
        };
        let hidden = self.hidden.clone();
        Ok((x, Weights { recurrence, integers, reset_bias, peepholes, activations, clip, hidden }))
    }

    /// The last states of a direction, then its hidden states of all steps, `[length, batch, hidden]`.
    fn run(
        &self,
        b: &mut Builder<'_>,
        weights: &Weights,
        x: ValueId,
        direction: usize,
        reverse: bool,
    ) -> Outcome<Vec<ValueId>> {
        let shape = b.ty(x).shape.clone();
        let (length, batch) = (shape[0].clone(), shape[1].clone());
        let state = vec![batch.clone(), self.hidden.clone()];
        let mut initial = Vec::with_capacity(self.initial.len());
        for given in &self.initial {
            initial.push(match given {
                Some(given) => of_direction(b, *given, direction, &state)?,
                None => b.full(b.ty(x).dtype, state.clone(), 0.0)?,
            });
        }
        let mut results = repeat(b, length.clone(), &initial, |b, index, before| {
            let time = if reverse { length.clone() - 1.into() - index.clone() } else { index.clone() };
            let part = b.slice_axis(x, 0, time.clone(), 1.into())?;
            let part = b.reshape(part, shape[1..].to_vec())?;
            let mut after = self.cell.step(b, weights, part, before)?;
            let mut hidden = after[0];
            if let Some(lengths) = self.lengths {
                let time = b.dim(time)?;
                let is_there = b.compare_broadcast(CompareFn::Gt, lengths, time)?;
                let zero = b.scalar_like(hidden, 0.0)?;
                hidden = b.select_broadcast(is_there, hidden, zero)?;
                for (after, before) in after.iter_mut().zip(before) {
                    *after = b.select_broadcast(is_there, *after, *before)?;
                }
            }
            Ok(Step { state: after, slices: vec![hidden] })
        })?;
        if let (true, Some(steps)) = (reverse, results.last_mut()) {
            let shape = b.ty(*steps).shape.clone();
            let start = vec![length - 1.into(), 0.into(), 0.into()];
            *steps = b.slice(*steps, start, shape, vec![-1, 1, 1])?;
        }
        Ok(results)
    }
}

/// A direction's weights with the scale in input `at` and the zero point after it, `[directions]` or one a column each.
fn integers_of(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    values: ValueId,
    at: usize,
    direction: usize,
) -> Outcome<Integers> {
    let mut own = |all: ValueId| {
        let columns = b.ty(all).shape.get(1..).unwrap_or_default().to_vec();
        of_direction(b, all, direction, &columns)
    };
    let scale = own(call.input(at)?)?;
    let zero = own(call.input(at + 1)?)?;
    Integers::new(b, values, scale, Some(zero))
}

/// What `all` holds for a direction, along its first axis, in `shape`.
fn of_direction(b: &mut Builder<'_>, all: ValueId, direction: usize, shape: &[Dim]) -> Outcome {
    let rank = b.ty(all).rank();
    if rank != shape.len() + 1 {
        return invalid(format!("weights or states of rank {rank}; expected {}", shape.len() + 1));
    }
    let one = b.slice_axis(all, 0, (direction as i64).into(), 1.into())?;
    Ok(b.reshape(one, shape.to_vec())?)
}
