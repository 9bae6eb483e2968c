//! Models of ai.onnx.ml: what they score with, how scores become probabilities, and which class wins.

mod coupling;
mod features;
mod linear;
mod trees;
mod vectors;

use ired_graph::{
    ArgReduceFn, BinaryFn, Builder, CompareFn, DType, Dim, Op, ReduceFn, Tensor, UnaryFn, ValueId,
};

use super::call::{Call, Outcome, invalid, unsupported};
use super::import::Binding;
use super::{tensor, text};

pub(super) use features::{binarizer, feature_vectorizer, imputer, normalizer, scaler};
pub(super) use linear::{linear_classifier, linear_regressor};
pub(super) use trees::{tree_classifier, tree_ensemble, tree_regressor};
pub(super) use vectors::{svm_classifier, svm_regressor};

/// Maps, one a row of scores, that all have the same keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps {
    /// `[keys]`
    pub(crate) keys: ValueId,
    /// `[maps, keys]`
    pub(crate) values: ValueId,
}

/// Rows of scores as maps from the labels of classes.
pub(super) fn zip_map(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let scores = call.input(0)?;
    let Some(labels) = labels(b, call, "classlabels_int64s", "classlabels_strings")? else {
        return invalid("has no class labels");
    };
    let classes = Dim::constant(labels.len() as i64);
    let rows = match b.ty(scores).shape.as_slice() {
        [_] => Dim::constant(1),
        [rows, _] => rows.clone(),
        shape => return invalid(format!("scores of rank {}; expected a matrix", shape.len())),
    };
    let found = b.ty(scores).shape.last().cloned().unwrap_or(1.into());
    if b.graph.symbols.is_known_ne(&found, &classes) {
        let found = found.display(&b.graph.symbols);
        return invalid(format!("{found} scores a row for {} class labels", labels.len()));
    }
    let values = b.reshape(scores, vec![rows, classes])?;
    let keys = tensor::emit_tensor(b, &format!("{}/labels", call.name), labels)?;
    Ok(vec![Binding::Maps(Maps { keys, values })])
}

/// Maps of any keys are no tensors.
pub(super) fn refuse_maps(_: &mut Builder<'_>, _: &Call<'_>) -> Outcome {
    unsupported("a map from keys to numbers", "give the model a tensor of one column a key instead")
}

/// What scores of rows are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

impl Transform {
    fn of(call: &Call<'_>) -> Outcome<Self> {
        Ok(match call.attributes.text("post_transform")?.unwrap_or("NONE") {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => return invalid(format!("post_transform `{other}`")),
        })
    }

    /// Scores `[n, classes]` of more than one class or target.
    fn apply(self, b: &mut Builder<'_>, scores: ValueId) -> Outcome {
        Ok(match self {
            Self::None => scores,
            Self::Logistic => b.unary(UnaryFn::Sigmoid, scores)?,
            Self::Softmax => b.softmax(scores, 1, false)?,
            Self::SoftmaxZero => softmax_zero(b, scores)?,
            Self::Probit => probit(b, scores)?,
        })
    }

    /// As [`Self::apply`] for scores of any number of targets; of one target only the probit is taken.
    fn apply_to_targets(self, b: &mut Builder<'_>, scores: ValueId, targets: i64) -> Outcome {
        if targets > 1 || self == Self::Probit { self.apply(b, scores) } else { Ok(scores) }
    }

    /// The scores of both classes `[n, 2]` from that of the second `[n, 1]`, as ONNX Runtime gives them: the first
    /// class has the rest, or with `mirrored` the opposite.
    fn apply_to_both(self, b: &mut Builder<'_>, score: ValueId, mirrored: bool) -> Outcome {
        let other = match (self, mirrored) {
            (Self::Probit, _) => {
                return unsupported("post_transform `PROBIT` of two classes", "take the scores as they are");
            }
            (Self::Logistic, _) | (_, true) => b.unary(UnaryFn::Neg, score)?,
            _ => {
                let one = b.scalar_like(score, 1.0)?;
                b.binary_broadcast(BinaryFn::Sub, one, score)?
            }
        };
        let both = b.concat(&[other, score], 1)?;
        if self == Self::Logistic { self.apply(b, both) } else { Ok(both) }
    }
}

/// Softmax in which zeros stay zeros.
fn softmax_zero(b: &mut Builder<'_>, scores: ValueId) -> Outcome {
    let largest = b.reduce(ReduceFn::Max, scores, &[1], true)?;
    let below = b.binary_broadcast(BinaryFn::Sub, scores, largest)?;
    let power = b.unary(UnaryFn::Exp, below)?;
    let size = b.unary(UnaryFn::Abs, scores)?;
    let tiny = b.scalar_like(scores, 1e-7)?;
    let is_zero = b.compare_broadcast(CompareFn::Le, size, tiny)?;
    let zero = b.scalar_like(scores, 0.0)?;
    let power = b.select_broadcast(is_zero, zero, power)?;
    let sum = b.reduce(ReduceFn::Sum, power, &[1], true)?;
    let parts = b.binary_broadcast(BinaryFn::Div, power, sum)?;
    let nothing = b.compare_broadcast(CompareFn::Eq, sum, zero)?;
    let half = b.scalar_like(scores, 0.5)?;
    Ok(b.select_broadcast(nothing, half, parts)?)
}

/// The normal quantile by Winitzki's approximation of the inverse error function, which ONNX Runtime uses.
fn probit(b: &mut Builder<'_>, p: ValueId) -> Outcome {
    let twice = b.binary_scalar(BinaryFn::Mul, p, 2.0)?;
    let x = b.binary_scalar(BinaryFn::Sub, twice, 1.0)?;
    let square = b.binary_broadcast(BinaryFn::Mul, x, x)?;
    let one = b.scalar_like(p, 1.0)?;
    let rest = b.binary_broadcast(BinaryFn::Sub, one, square)?;
    let log = b.unary(UnaryFn::Log, rest)?;
    let half = b.binary_scalar(BinaryFn::Mul, log, 0.5)?;
    let v = b.binary_scalar(BinaryFn::Add, half, 2.0 / (std::f64::consts::PI * 0.147))?;
    let scaled = b.binary_scalar(BinaryFn::Div, log, 0.147)?;
    let under = b.binary_broadcast(BinaryFn::Mul, v, v)?;
    let under = b.binary_broadcast(BinaryFn::Sub, under, scaled)?;
    let root = b.unary(UnaryFn::Sqrt, under)?;
    let difference = b.binary_broadcast(BinaryFn::Sub, root, v)?;
    let size = b.unary(UnaryFn::Sqrt, difference)?;
    let size = b.binary_scalar(BinaryFn::Mul, size, std::f64::consts::SQRT_2)?;
    let sign = b.unary(UnaryFn::Sign, x)?;
    Ok(b.binary_broadcast(BinaryFn::Mul, size, sign)?)
}

/// The labels of classes: numbers or strings, by the names of the attributes.
fn labels(b: &mut Builder<'_>, call: &Call<'_>, ints: &str, strings: &str) -> Outcome<Option<Tensor>> {
    let texts = call.attributes.bytes_list(strings)?.filter(|list| !list.is_empty());
    let numbers = call.attributes.ints(ints)?.filter(|list| !list.is_empty());
    match (numbers, texts) {
        (Some(_), Some(_)) => invalid(format!("has both `{ints}` and `{strings}`")),
        (Some(numbers), None) => Ok(Some(Tensor::from_i64s(&[numbers.len() as u64], numbers))),
        (None, Some(texts)) => {
            let texts: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
            Ok(Some(text::strings(b, vec![texts.len() as u64], &texts)?))
        }
        (None, None) => Ok(None),
    }
}

/// The labels of the classes numbered in `winners`, an i64 vector.
fn name_winners(b: &mut Builder<'_>, call: &Call<'_>, labels: Tensor, winners: ValueId) -> Outcome {
    let labels = tensor::emit_tensor(b, &format!("{}/labels", call.name), labels)?;
    Ok(b.gather(labels, winners, 0)?)
}

/// The number of the largest score of each row; ties go to the first.
fn largest(b: &mut Builder<'_>, scores: ValueId) -> Outcome {
    let op = Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last_on_tie: false };
    Ok(b.push(op, &[scores])?)
}

/// 1 where the one score of a row is over `threshold`, else 0; an i64 vector.
fn over(b: &mut Builder<'_>, score: ValueId, threshold: f64) -> Outcome {
    let rows = b.ty(score).shape[0].clone();
    let score = b.reshape(score, vec![rows])?;
    let threshold = b.scalar_like(score, threshold)?;
    let is_over = b.compare_broadcast(CompareFn::Gt, score, threshold)?;
    Ok(b.cast(is_over, DType::I64)?)
}

/// The features of input 0, `[n, features]`, in f32, or in f64 where they are.
fn features_input(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let x = match b.ty(x).rank() {
        2 => x,
        // One row.
        1 => b.unsqueeze(x, &[0])?,
        rank => return invalid(format!("features of rank {rank}; expected a matrix")),
    };
    let dtype = if b.ty(x).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    Ok(b.cast(x, dtype)?)
}

/// A list of numbers as a weight or constant of `dtype` in `shape`.
fn weights(b: &mut Builder<'_>, call: &Call<'_>, dtype: DType, shape: &[u64], values: &[f64]) -> Outcome {
    if shape.iter().try_fold(1u64, |all, d| all.checked_mul(*d)) != Some(values.len() as u64) {
        return invalid(format!("{} numbers; expected {shape:?} of them", values.len()));
    }
    tensor::emit_tensor(b, &format!("{}/weights", call.name), Tensor::from_f64s(dtype, shape, values))
}

/// The numbers of a list attribute; none if it is not given.
fn floats(call: &Call<'_>, name: &str) -> Outcome<Vec<f64>> {
    Ok(call.attributes.floats(name)?.unwrap_or_default().iter().map(|v| f64::from(*v)).collect())
}
