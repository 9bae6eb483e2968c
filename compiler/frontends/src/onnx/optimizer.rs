//! One step of training's optimisers: new values of tensors from their gradients. Inputs: the rate, the number of steps
//! so far, then all tensors, all gradients, and all of each kind of state; outputs: all tensors, all of each state.

use ired_graph::{BinaryFn, Builder, CompareFn, UnaryFn, ValueId};

use super::activation::scale;
use super::call::{Call, Outcome, invalid};

/// What a step of one tensor takes: the rate, the number of steps as a float, and the tensor, its gradient, its states.
struct Step<'s> {
    rate: ValueId,
    steps: ValueId,
    parts: &'s [ValueId],
}

pub(super) fn adagrad(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let norm = call.attributes.float_or("norm_coefficient", 0.0)?;
    let decay = call.attributes.float_or("decay_factor", 0.0)?;
    let epsilon = call.attributes.float_or("epsilon", 1e-6)?;
    each(b, call, 3, |b, step| {
        let [x, _, squares] = step.parts else { return invalid("tensors without gradients") };
        let gradient = step.gradient(b, norm)?;
        let slowed = scale(b, step.steps, decay)?;
        let slowed = b.binary_scalar(BinaryFn::Add, slowed, 1.0)?;
        let rate = b.binary_broadcast(BinaryFn::Div, step.rate, slowed)?;
        let square = b.binary_broadcast(BinaryFn::Mul, gradient, gradient)?;
        let squares = b.binary_broadcast(BinaryFn::Add, *squares, square)?;
        let root = b.unary(UnaryFn::Sqrt, squares)?;
        let divisor = b.binary_scalar(BinaryFn::Add, root, epsilon)?;
        let change = b.binary_broadcast(BinaryFn::Mul, rate, gradient)?;
        let change = b.binary_broadcast(BinaryFn::Div, change, divisor)?;
        Ok(vec![b.binary_broadcast(BinaryFn::Sub, *x, change)?, squares])
    })
}

pub(super) fn adam(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let norm = call.attributes.float_or("norm_coefficient", 0.0)?;
    let after = call.attributes.float_or("norm_coefficient_post", 0.0)?;
    let (alpha, beta) = (call.attributes.float_or("alpha", 0.9)?, call.attributes.float_or("beta", 0.999)?);
    let epsilon = call.attributes.float_or("epsilon", 1e-6)?;
    each(b, call, 4, |b, step| {
        let [x, _, mean, squares] = step.parts else { return invalid("tensors without gradients") };
        let gradient = step.gradient(b, norm)?;
        let square = b.binary_broadcast(BinaryFn::Mul, gradient, gradient)?;
        let mean = blend(b, alpha, *mean, gradient)?;
        let squares = blend(b, beta, *squares, square)?;
        let root = b.unary(UnaryFn::Sqrt, squares)?;
        let divisor = b.binary_scalar(BinaryFn::Add, root, epsilon)?;
        // What the averages lack after few steps.
        let mut missing = [step.steps; 2];
        for (missing, factor) in missing.iter_mut().zip([alpha, beta]) {
            let factor = b.scalar_like(step.steps, factor)?;
            let power = b.binary_broadcast(BinaryFn::Pow, factor, step.steps)?;
            let one = b.scalar_like(power, 1.0)?;
            *missing = b.binary_broadcast(BinaryFn::Sub, one, power)?;
        }
        let root = b.unary(UnaryFn::Sqrt, missing[1])?;
        let corrected = b.binary_broadcast(BinaryFn::Mul, step.rate, root)?;
        let corrected = b.binary_broadcast(BinaryFn::Div, corrected, missing[0])?;
        let rate = step.after_first(b, corrected, step.rate)?;
        let direction = b.binary_broadcast(BinaryFn::Div, mean, divisor)?;
        let change = b.binary_broadcast(BinaryFn::Mul, rate, direction)?;
        let moved = b.binary_broadcast(BinaryFn::Sub, *x, change)?;
        Ok(vec![scale(b, moved, 1.0 - after)?, mean, squares])
    })
}

pub(super) fn momentum(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let norm = call.attributes.float_or("norm_coefficient", 0.0)?;
    let (alpha, beta) = (call.attributes.float_or("alpha", 0.0)?, call.attributes.float_or("beta", 1.0)?);
    let nesterov = match call.attributes.text("mode")? {
        Some("nesterov") => true,
        Some("standard") => false,
        other => return invalid(format!("mode {other:?}; expected standard or nesterov")),
    };
    each(b, call, 3, |b, step| {
        let [x, _, speed] = step.parts else { return invalid("tensors without gradients") };
        let gradient = step.gradient(b, norm)?;
        let (share, whole) = (b.scalar_like(gradient, beta)?, b.scalar_like(gradient, 1.0)?);
        let share = step.after_first(b, share, whole)?;
        let kept = scale(b, *speed, alpha)?;
        let added = b.binary_broadcast(BinaryFn::Mul, share, gradient)?;
        let speed = b.binary_broadcast(BinaryFn::Add, kept, added)?;
        let direction = if nesterov {
            let ahead = scale(b, speed, alpha)?;
            b.binary_broadcast(BinaryFn::Add, gradient, ahead)?
        } else {
            speed
        };
        let change = b.binary_broadcast(BinaryFn::Mul, step.rate, direction)?;
        Ok(vec![b.binary_broadcast(BinaryFn::Sub, *x, change)?, speed])
    })
}

impl Step<'_> {
    /// The gradient with that of the tensor's norm.
    fn gradient(&self, b: &mut Builder<'_>, norm: f64) -> Outcome {
        let pull = b.binary_scalar(BinaryFn::Mul, self.parts[0], norm)?;
        Ok(b.binary_broadcast(BinaryFn::Add, pull, self.parts[1])?)
    }

    /// `later` once there was a step, `first` before.
    fn after_first(&self, b: &mut Builder<'_>, later: ValueId, first: ValueId) -> Outcome {
        let zero = b.scalar_like(self.steps, 0.0)?;
        let begun = b.compare_broadcast(CompareFn::Gt, self.steps, zero)?;
        Ok(b.select_broadcast(begun, later, first)?)
    }
}

/// `share * old + (1 - share) * new`.
fn blend(b: &mut Builder<'_>, share: f64, old: ValueId, new: ValueId) -> Outcome {
    let (old, new) = (scale(b, old, share)?, scale(b, new, 1.0 - share)?);
    Ok(b.binary_broadcast(BinaryFn::Add, old, new)?)
}

/// Steps each tensor, which has `kinds` inputs: itself, its gradient, its states.
fn each(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    kinds: usize,
    step: impl Fn(&mut Builder<'_>, &Step<'_>) -> Outcome<Vec<ValueId>>,
) -> Outcome<Vec<ValueId>> {
    let inputs = call.all_inputs()?;
    let count = inputs.len().saturating_sub(2) / kinds;
    if count == 0 || inputs.len() != 2 + count * kinds {
        return invalid(format!("{} inputs; expected 2 and {kinds} for each tensor", inputs.len()));
    }
    let mut outputs = vec![Vec::new(); kinds - 1];
    for i in 0..count {
        let parts: Vec<ValueId> = (0..kinds).map(|kind| inputs[2 + kind * count + i]).collect();
        let dtype = b.ty(parts[0]).dtype;
        let [rate, steps] = [inputs[0], inputs[1]].map(|scalar| b.cast(scalar, dtype));
        let stepped = step(b, &Step { rate: rate?, steps: steps?, parts: &parts })?;
        let shape = b.ty(parts[0]).shape.clone();
        for (outputs, value) in outputs.iter_mut().zip(stepped) {
            outputs.push(b.reshape(value, shape.clone())?);
        }
    }
    Ok(outputs.concat())
}
