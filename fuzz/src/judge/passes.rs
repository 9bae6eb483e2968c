//! Passes, held against the interpreter.

use ired_compiler::passes::{PASSES, Precision};
use ired_graph::{BinaryFn, DType, Graph, InterpretError, Op, UnaryFn, verify};

use super::{Run, Value, run};

/// Rounding may differ where a pass takes sums in another order or folds weights.
const TOLERANCE: f64 = 1e-4;

/// The passes that may round differently than what they find; all others keep every bit but those of a NaN.
const ROUNDING: [&str; 3] = ["fuse_quantized", "recognize_layer_norm", "fold_batch_norm"];

/// Every pass, in the order they run, leaves a graph that verifies and gives the same as before.
pub(super) fn judge_passes(graph: &Graph, mut runs: Vec<Run>) {
    let smooth = is_smooth(graph);
    let mut after = graph.clone();
    for pass in PASSES.iter().filter(|pass| pass.runs_for(Precision::Exact)) {
        let before = after.to_string();
        if let Err(error) = pass.run(&mut after) {
            panic!("{}: {error}\n{before}", pass.name);
        }
        let fault = |problem: String| -> ! { panic!("{}: {problem}\n{before}\nbecame\n{after}", pass.name) };
        if let Err(errors) = verify(&after) {
            fault(format!("{errors:?}"));
        }
        let rounds = ROUNDING.contains(&pass.name);
        for known in &mut runs {
            let found = match run(&after, &known.inputs, &known.strings) {
                Ok(found) => found,
                // What is computed at once may take more than what was computed step by step.
                Err(InterpretError::Memory { .. }) => continue,
                Err(error) => fault(format!("{error:?}")),
            };
            let tolerance = rounds.then_some(if smooth { TOLERANCE } else { f64::INFINITY });
            for (found, expected) in found.iter().zip(&known.expected) {
                compare(found, expected, tolerance).unwrap_or_else(|problem| fault(problem));
            }
            if rounds {
                known.expected = found;
            }
        }
    }
}

/// Whether numbers that differ a little give results that differ a little.
fn is_smooth(graph: &Graph) -> bool {
    let jumps = |op: &Op| {
        matches!(
            op,
            Op::Compare(_)
                | Op::Cast(_)
                | Op::ArgReduce { .. }
                | Op::Sort { .. }
                | Op::SuppressOverlaps
                | Op::While
                | Op::Host { .. }
                | Op::Unary(
                    UnaryFn::Floor
                        | UnaryFn::Ceil
                        | UnaryFn::Round
                        | UnaryFn::Sign
                        | UnaryFn::IsInf
                        | UnaryFn::IsNan
                        | UnaryFn::Reciprocal
                        | UnaryFn::Rsqrt
                        | UnaryFn::Log
                        | UnaryFn::Tan
                        | UnaryFn::Exp
                )
                | Op::Binary(BinaryFn::Div | BinaryFn::Rem | BinaryFn::Mod | BinaryFn::Pow)
        )
    };
    !graph.nodes.iter().any(|node| jumps(&node.op))
}

/// Equal, NaN to NaN, or within a tolerance if there is one.
fn compare(
    (found, found_texts): &Value,
    (expected, expected_texts): &Value,
    tolerance: Option<f64>,
) -> Result<(), String> {
    let (f, e) = ((found.dtype(), found.shape()), (expected.dtype(), expected.shape()));
    if f != e {
        return Err(format!("{e:?} became {f:?}"));
    }
    if found.dtype() == DType::String {
        let same = found_texts == expected_texts;
        return if same { Ok(()) } else { Err(format!("{expected_texts:?} became {found_texts:?}")) };
    }
    if found.data() == expected.data() {
        return Ok(());
    }
    let tolerance = tolerance.unwrap_or(0.0);
    for (f, e) in found.to_f64s().into_iter().zip(expected.to_f64s()) {
        let same_bits = f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan());
        let close = tolerance > 0.0 && (!e.is_finite() || (f - e).abs() <= tolerance * e.abs().max(1.0));
        if !same_bits && !close {
            return Err(format!("{e} became {f}"));
        }
    }
    // Integers that no f64 tells apart.
    match found.dtype().holds_integers() && found.to_integers() != expected.to_integers() && tolerance == 0.0
    {
        true => Err(format!("{expected:?} became {found:?}")),
        false => Ok(()),
    }
}
