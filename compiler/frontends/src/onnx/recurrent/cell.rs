//! One step of a recurrent net: what is left to do once the inputs of all steps are multiplied by their weights.

use ired_graph::{BinaryFn, Builder, Dim, Op, ValueId};

use super::super::call::Outcome;
use super::super::quantized::Integers;
use super::gate::Gate;

#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    Rnn,
    Lstm {
        /// The forget gate is what the input gate leaves.
        couples: bool,
    },
    Gru {
        /// The reset gate multiplies the hidden state's product rather than the hidden state.
        linear_before_reset: bool,
    },
}

/// What a step of one direction takes besides the input and the state.
pub(super) struct Weights {
    /// Recurrence weights `[hidden, gates * hidden]`.
    pub(super) recurrence: ValueId,
    /// The same as integers, by which states are multiplied where they are there.
    pub(super) integers: Option<Integers>,
    /// Recurrence bias `[hidden]` of the gate whose product is reset.
    pub(super) reset_bias: Option<ValueId>,
    /// Of the input, output and forget gates, `[hidden]` each.
    pub(super) peepholes: Option<[ValueId; 3]>,
    pub(super) activations: Vec<Gate>,
    pub(super) clip: Option<f64>,
    pub(super) hidden: Dim,
}

impl Cell {
    pub(super) const fn gates(self) -> i64 {
        match self {
            Self::Rnn => 1,
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
        }
    }

    /// Tensors of state: the hidden one, and of some cells one more.
    pub(super) const fn states(self) -> usize {
        if matches!(self, Self::Lstm { .. }) { 2 } else { 1 }
    }

    pub(super) const fn default_activations(self) -> &'static [Gate] {
        match self {
            Self::Rnn => &[Gate::Tanh],
            Self::Lstm { .. } => &[Gate::Sigmoid, Gate::Tanh, Gate::Tanh],
            Self::Gru { .. } => &[Gate::Sigmoid, Gate::Tanh],
        }
    }

    /// The state after a step, whose input's product and biases are `x`, `[batch, gates * hidden]`.
    pub(super) fn step(
        self,
        b: &mut Builder<'_>,
        weights: &Weights,
        x: ValueId,
        state: &[ValueId],
    ) -> Outcome<Vec<ValueId>> {
        match self {
            Self::Rnn => {
                let product = weights.recur(b, state[0])?;
                let sum = b.binary_broadcast(BinaryFn::Add, x, product)?;
                Ok(vec![weights.activate(b, 0, sum)?])
            }
            Self::Lstm { couples } => lstm(b, weights, x, state, couples),
            Self::Gru { linear_before_reset: true } => Ok(vec![linear_gru(b, weights, x, state[0])?]),
            Self::Gru { linear_before_reset: false } => Ok(vec![gru(b, weights, x, state[0])?]),
        }
    }
}

impl Weights {
    /// Activation function `index` of a gate's sum `x`, clipped.
    fn activate(&self, b: &mut Builder<'_>, index: usize, x: ValueId) -> Outcome {
        let x = match self.clip {
            Some(clip) => {
                let low = b.binary_scalar(BinaryFn::Max, x, -clip)?;
                b.binary_scalar(BinaryFn::Min, low, clip)?
            }
            None => x,
        };
        self.activations[index].apply(b, x)
    }

    /// The product of a state with the recurrence weights.
    fn recur(&self, b: &mut Builder<'_>, hidden: ValueId) -> Outcome {
        match self.integers {
            Some(integers) => integers.multiply(b, hidden, None),
            None => Ok(b.push(Op::MatMul, &[hidden, self.recurrence])?),
        }
    }

    /// `x` plus the share of `cell` that a peephole lets through.
    fn peep(&self, b: &mut Builder<'_>, gate: usize, x: ValueId, cell: ValueId) -> Outcome {
        let Some(peepholes) = self.peepholes else { return Ok(x) };
        let share = b.binary_broadcast(BinaryFn::Mul, peepholes[gate], cell)?;
        Ok(b.binary_broadcast(BinaryFn::Add, x, share)?)
    }

    fn gate(&self, b: &mut Builder<'_>, gates: ValueId, index: i64) -> Outcome {
        let start = Dim::constant(index) * self.hidden.clone();
        Ok(b.slice_axis(gates, 1, start, self.hidden.clone())?)
    }
}

fn lstm(
    b: &mut Builder<'_>,
    weights: &Weights,
    x: ValueId,
    state: &[ValueId],
    couples: bool,
) -> Outcome<Vec<ValueId>> {
    let (hidden, cell) = (state[0], state[1]);
    let product = weights.recur(b, hidden)?;
    let gates = b.binary_broadcast(BinaryFn::Add, x, product)?;
    let input = weights.gate(b, gates, 0)?;
    let input = weights.peep(b, 0, input, cell)?;
    let input = weights.activate(b, 0, input)?;
    let forget = if couples {
        let one = b.scalar_like(input, 1.0)?;
        b.binary_broadcast(BinaryFn::Sub, one, input)?
    } else {
        let forget = weights.gate(b, gates, 2)?;
        let forget = weights.peep(b, 2, forget, cell)?;
        weights.activate(b, 0, forget)?
    };
    let candidate = weights.gate(b, gates, 3)?;
    let candidate = weights.activate(b, 1, candidate)?;
    let kept = b.binary_broadcast(BinaryFn::Mul, forget, cell)?;
    let added = b.binary_broadcast(BinaryFn::Mul, input, candidate)?;
    let cell = b.binary_broadcast(BinaryFn::Add, kept, added)?;
    let output = weights.gate(b, gates, 1)?;
    let output = weights.peep(b, 1, output, cell)?;
    let output = weights.activate(b, 0, output)?;
    // Sums are clipped, the cell is not.
    let bent = weights.activations[2].apply(b, cell)?;
    Ok(vec![b.binary_broadcast(BinaryFn::Mul, output, bent)?, cell])
}

fn gru(b: &mut Builder<'_>, weights: &Weights, x: ValueId, hidden: ValueId) -> Outcome {
    let both = weights.hidden.clone() + weights.hidden.clone();
    let first = b.slice_axis(weights.recurrence, 1, 0.into(), both.clone())?;
    let last = b.slice_axis(weights.recurrence, 1, both.clone(), weights.hidden.clone())?;
    let product = b.push(Op::MatMul, &[hidden, first])?;
    let gates = b.slice_axis(x, 1, 0.into(), both)?;
    let gates = b.binary_broadcast(BinaryFn::Add, gates, product)?;
    let update = weights.gate(b, gates, 0)?;
    let update = weights.activate(b, 0, update)?;
    let reset = weights.gate(b, gates, 1)?;
    let reset = weights.activate(b, 0, reset)?;
    let seen = b.binary_broadcast(BinaryFn::Mul, reset, hidden)?;
    let product = b.push(Op::MatMul, &[seen, last])?;
    let candidate = weights.gate(b, x, 2)?;
    let candidate = b.binary_broadcast(BinaryFn::Add, candidate, product)?;
    let candidate = weights.activate(b, 1, candidate)?;
    blend(b, update, candidate, hidden)
}

fn linear_gru(b: &mut Builder<'_>, weights: &Weights, x: ValueId, hidden: ValueId) -> Outcome {
    let product = weights.recur(b, hidden)?;
    let sum = b.binary_broadcast(BinaryFn::Add, x, product)?;
    let update = weights.gate(b, sum, 0)?;
    let update = weights.activate(b, 0, update)?;
    let reset = weights.gate(b, sum, 1)?;
    let reset = weights.activate(b, 0, reset)?;
    let mut seen = weights.gate(b, product, 2)?;
    if let Some(bias) = weights.reset_bias {
        seen = b.binary_broadcast(BinaryFn::Add, seen, bias)?;
    }
    let seen = b.binary_broadcast(BinaryFn::Mul, reset, seen)?;
    let candidate = weights.gate(b, x, 2)?;
    let candidate = b.binary_broadcast(BinaryFn::Add, candidate, seen)?;
    let candidate = weights.activate(b, 1, candidate)?;
    blend(b, update, candidate, hidden)
}

/// `(1 - update) * candidate + update * hidden`.
fn blend(b: &mut Builder<'_>, update: ValueId, candidate: ValueId, hidden: ValueId) -> Outcome {
    let one = b.scalar_like(update, 1.0)?;
    let rest = b.binary_broadcast(BinaryFn::Sub, one, update)?;
    let new = b.binary_broadcast(BinaryFn::Mul, rest, candidate)?;
    let old = b.binary_broadcast(BinaryFn::Mul, update, hidden)?;
    Ok(b.binary_broadcast(BinaryFn::Add, new, old)?)
}
