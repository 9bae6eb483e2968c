//! Linear models.

use ired_graph::{BinaryFn, Builder, DType, Dim, ValueId};

use super::super::call::{Call, Outcome, invalid};
use super::{Transform, features_input, floats, labels, largest, name_winners, over, weights};

pub(in super::super) fn linear_regressor(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let targets = call.attributes.int_or("targets", 1)?;
    let transform = Transform::of(call)?;
    let (scores, rows) = scores(b, call, Some(targets))?;
    let scores = transform.apply_to_targets(b, scores, rows as i64)?;
    Ok(b.cast(scores, DType::F32)?)
}

/// The labels of the classes that win, and the scores.
pub(in super::super) fn linear_classifier(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    // One model against all others, or one for all: the numbers are used alike.
    call.attributes.ignore(&["multi_class"]);
    let transform = Transform::of(call)?;
    let Some(labels) = labels(b, call, "classlabels_ints", "classlabels_strings")? else {
        return invalid("has no class labels");
    };
    let (scores, rows) = scores(b, call, None)?;
    let (winners, scores) = match (rows, labels.len()) {
        (1, 2) => (over(b, scores, 0.0)?, transform.apply_to_both(b, scores, false)?),
        (rows, classes) if rows as usize == classes && rows > 1 => {
            (largest(b, scores)?, transform.apply(b, scores)?)
        }
        (rows, classes) => return invalid(format!("coefficients of {rows} classes, {classes} labels")),
    };
    Ok(vec![name_winners(b, call, labels, winners)?, b.cast(scores, DType::F32)?])
}

/// `x · coefficients + intercepts`, `[n, rows]`, and how many rows of coefficients there are.
fn scores(b: &mut Builder<'_>, call: &Call<'_>, rows: Option<i64>) -> Outcome<(ValueId, u64)> {
    let x = features_input(b, call)?;
    let (coefficients, intercepts) = (floats(call, "coefficients")?, floats(call, "intercepts")?);
    let features = b.ty(x).shape[1].as_static().and_then(|n| u64::try_from(n).ok());
    let count = coefficients.len() as u64;
    let rows = match (rows, features) {
        (Some(rows), _) => u64::try_from(rows).unwrap_or(0),
        (None, _) if !intercepts.is_empty() => intercepts.len() as u64,
        (None, Some(features)) if features > 0 => count / features,
        (None, _) => return invalid("coefficients of an unknown number of classes"),
    };
    if rows == 0
        || !count.is_multiple_of(rows)
        || features.is_some_and(|n| n.checked_mul(rows) != Some(count))
    {
        return invalid(format!("{count} coefficients for {rows} rows of features"));
    }
    let features = count / rows;
    let x = b.reshape(x, vec![b.ty(x).shape[0].clone(), Dim::constant(features as i64)])?;
    let dtype = b.ty(x).dtype;
    let matrix = weights(b, call, dtype, &[rows, features], &coefficients)?;
    let matrix = b.transpose(matrix, vec![1, 0])?;
    let mut scores = b.matmul_broadcast(x, matrix)?;
    if !intercepts.is_empty() {
        let intercepts = weights(b, call, dtype, &[rows], &intercepts)?;
        scores = b.binary_broadcast(BinaryFn::Add, scores, intercepts)?;
    }
    Ok((scores, rows))
}
