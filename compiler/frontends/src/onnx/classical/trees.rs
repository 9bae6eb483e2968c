//! Ensembles of decision trees: all trees go down one node a step together, and the leaves they reach are joined.

mod forest;

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, ReduceFn, Tensor, UnaryFn, ValueId};

use super::super::call::{Call, Outcome, invalid, unsupported};
use super::super::tensor;
use super::{Transform, features_input, labels, largest, name_winners, over};
use forest::{Forest, Mode, Numbers, Votes};

/// Depths up to this are written out; deeper trees are walked in a loop.
const MAX_WRITTEN: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    Sum,
    Average,
    Min,
    Max,
}

/// Version 5: nodes and leaves apart, the input's own element type.
pub(in super::super) fn tree_ensemble(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["nodes_hitrates"]);
    let join = match call.attributes.int_or("aggregate_function", 1)? {
        0 => Join::Average,
        1 => Join::Sum,
        2 => Join::Min,
        3 => Join::Max,
        other => return invalid(format!("aggregate_function {other}")),
    };
    let transform = match call.attributes.int_or("post_transform", 0)? {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        other => return invalid(format!("post_transform {other}")),
    };
    let mut numbers = |name: &str| match call.attributes.tensor(name)? {
        Some(found) => {
            let strings = std::sync::Arc::make_mut(&mut b.graph.strings);
            Outcome::Ok(Some(tensor::read(found, call.files, strings)?))
        }
        None => Ok(None),
    };
    let (splits, modes) = (numbers("nodes_splits")?, numbers("nodes_modes")?);
    let (leaves, members) = (numbers("leaf_weights")?, numbers("membership_values")?);
    let (Some(splits), Some(modes), Some(leaves)) = (splits, modes, leaves) else {
        return invalid("has no splits, modes or weights of leaves");
    };
    let members = members.map(|m| m.to_f64s()).unwrap_or_default();
    let targets = call.attributes.int_or("n_targets", 1)?;
    let (forest, votes) =
        Forest::of_nodes_and_leaves(call, &splits.to_f64s(), &modes.to_i64s(), &members, &leaves.to_f64s())?;
    let dtype = call.input_type(b, 0)?.dtype;
    let x = features_input(b, call)?;
    let reached = walk(b, call, &forest, x)?;
    let scores = joined(b, call, &forest, &votes, reached, targets, join, b.ty(x).dtype)?;
    let scores = transform.apply_to_targets(b, scores, targets)?;
    Ok(b.cast(scores, dtype)?)
}

pub(in super::super) fn tree_regressor(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let transform = Transform::of(call)?;
    let join = match call.attributes.text("aggregate_function")?.unwrap_or("SUM") {
        "SUM" => Join::Sum,
        "AVERAGE" => Join::Average,
        "MIN" => Join::Min,
        "MAX" => Join::Max,
        other => return invalid(format!("aggregate_function `{other}`")),
    };
    let targets = call.attributes.int_or("n_targets", 1)?;
    let model = Numbers::read(b, call, "target")?;
    let forest = Forest::of_one_list(call, &model.values)?;
    let votes = Votes::of(call, &forest, "target", &model.weights)?;
    let (x, dtype) = wide_features(b, call, &model)?;
    let reached = walk(b, call, &forest, x)?;
    let scores = joined(b, call, &forest, &votes, reached, targets, join, dtype)?;
    let scores = add_base(b, scores, &model.base, targets)?;
    let scores = transform.apply_to_targets(b, scores, targets)?;
    Ok(b.cast(scores, DType::F32)?)
}

/// The labels of the classes that win, and the scores.
pub(in super::super) fn tree_classifier(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let transform = Transform::of(call)?;
    let Some(labels) = labels(b, call, "classlabels_int64s", "classlabels_strings")? else {
        return invalid("has no class labels");
    };
    let classes = labels.len() as i64;
    let model = Numbers::read(b, call, "class")?;
    let forest = Forest::of_one_list(call, &model.values)?;
    let votes = Votes::of(call, &forest, "class", &model.weights)?;
    let (x, dtype) = wide_features(b, call, &model)?;
    let reached = walk(b, call, &forest, x)?;
    // Two classes of which one has votes, and a base value at most: they are for the second.
    let only = votes.only_target().filter(|_| classes == 2 && model.base.len() < 2);
    let (winners, scores) = match only {
        Some(only) => {
            let votes = votes.renumbered(0);
            let score = joined(b, call, &forest, &votes, reached, 1, Join::Sum, dtype)?;
            let score = add_base(b, score, &model.base, 1)?;
            let all_positive = votes.all_positive();
            let winners = over(b, score, if all_positive { 0.5 } else { 0.0 })?;
            let scores = match only {
                0 => transform.apply_to_both(b, score, !all_positive)?,
                _ => {
                    let nothing = b.binary_scalar(BinaryFn::Mul, score, 0.0)?;
                    let both = b.concat(&[nothing, score], 1)?;
                    transform.apply(b, both)?
                }
            };
            (winners, scores)
        }
        None if classes == 1 => return unsupported("one class alone", "give both class labels"),
        None => {
            let scores = joined(b, call, &forest, &votes, reached, classes, Join::Sum, dtype)?;
            let scores = add_base(b, scores, &model.base, classes)?;
            (largest(b, scores)?, transform.apply(b, scores)?)
        }
    };
    Ok(vec![name_winners(b, call, labels, winners)?, b.cast(scores, DType::F32)?])
}

/// The features, in f64 where they or the model's numbers are.
fn wide_features(b: &mut Builder<'_>, call: &Call<'_>, model: &Numbers) -> Outcome<(ValueId, DType)> {
    let x = features_input(b, call)?;
    let dtype = if model.precise { DType::F64 } else { b.ty(x).dtype };
    Ok((b.cast(x, dtype)?, dtype))
}

fn add_base(b: &mut Builder<'_>, scores: ValueId, base: &[f64], targets: i64) -> Outcome {
    match base {
        [] => Ok(scores),
        base if base.len() == 1 || base.len() as i64 == targets => {
            let dtype = b.ty(scores).dtype;
            let base = b.constant(Tensor::from_f64s(dtype, &[base.len() as u64], base))?;
            Ok(b.binary_broadcast(BinaryFn::Add, scores, base)?)
        }
        base => invalid(format!("{} base values for {targets} scores", base.len())),
    }
}

/// The columns of a forest's nodes, as tensors.
struct Columns {
    features: ValueId,
    splits: ValueId,
    if_true: ValueId,
    if_false: ValueId,
    /// The modes there are, and the mode of each node if there are several.
    modes: Vec<Mode>,
    mode: Option<ValueId>,
    missing: Option<ValueId>,
}

/// The nodes, `[n, trees]` in i64, that each tree ends at.
fn walk(b: &mut Builder<'_>, call: &Call<'_>, forest: &Forest, x: ValueId) -> Outcome {
    let dtype = b.ty(x).dtype;
    let features = b.ty(x).shape[1].as_static();
    if let (Some(features), Some(most)) = (features, forest.features.iter().max())
        && *most >= features
    {
        return invalid(format!("a node asks for feature {most} of {features}"));
    }
    let mut column = |name: &str, values: &[i64]| {
        let tensor = Tensor::from_i64s(&[values.len() as u64], values);
        tensor::emit_tensor(b, &format!("{}/{name}", call.name), tensor)
    };
    let (if_true, if_false) = (column("if_true", &forest.if_true)?, column("if_false", &forest.if_false)?);
    let (features, roots) = (column("features", &forest.features)?, column("roots", &forest.roots)?);
    let modes = forest.modes_there_are();
    let mode = match modes.len() {
        0 | 1 => None,
        _ => Some(column("modes", &forest.modes.iter().map(|m| *m as i64).collect::<Vec<_>>())?),
    };
    let missing = match forest.missing.contains(&1) {
        true => Some(column("missing", &forest.missing)?),
        false => None,
    };
    let splits = Tensor::from_f64s(dtype, &[forest.splits.len() as u64], &forest.splits);
    let splits = tensor::emit_tensor(b, &format!("{}/splits", call.name), splits)?;
    let columns = Columns { features, splits, if_true, if_false, modes, mode, missing };
    let rows = b.ty(x).shape[0].clone();
    let mut at = b.broadcast_to(roots, vec![rows, Dim::constant(forest.roots.len() as i64)])?;
    let depth = forest.depth()?;
    if depth <= MAX_WRITTEN {
        for _ in 0..depth {
            at = columns.step(b, x, at)?;
        }
        return Ok(at);
    }
    let index = b.graph.symbols.fresh("depth");
    let body = b.graph.add_region();
    let ty = b.ty(at).clone();
    let before = b.graph.add_region_input(body, ty);
    let mut inner = Builder::in_region(b.graph, body);
    inner.origin = b.origin.clone();
    let next = columns.step(&mut inner, x, before)?;
    b.graph.set_outputs(body, vec![next]);
    let count = Dim::constant(depth as i64);
    Ok(b.push_with_regions(Op::Repeat { count, index }, &[at], vec![body])?[0])
}

impl Columns {
    /// One node further down; leaves lead to themselves.
    fn step(&self, b: &mut Builder<'_>, x: ValueId, at: ValueId) -> Outcome {
        let feature = b.gather(self.features, at, 0)?;
        let value = b.push(Op::GatherElements { axis: 1 }, &[x, feature])?;
        let split = b.gather(self.splits, at, 0)?;
        let mut holds: Option<ValueId> = None;
        for mode in &self.modes {
            let own = b.compare_broadcast(mode.compare(), value, split)?;
            holds = Some(match (holds, self.mode) {
                (Some(others), Some(modes)) => {
                    let found = b.gather(modes, at, 0)?;
                    let number = b.scalar(DType::I64, *mode as i64 as f64)?;
                    let is_it = b.compare_broadcast(CompareFn::Eq, found, number)?;
                    b.select_broadcast(is_it, own, others)?
                }
                _ => own,
            });
        }
        let Some(mut holds) = holds else { return Ok(at) };
        if let Some(missing) = self.missing {
            let tracks = b.gather(missing, at, 0)?;
            let zero = b.scalar(DType::I64, 0.0)?;
            let tracks = b.compare_broadcast(CompareFn::Ne, tracks, zero)?;
            let is_missing = b.unary(UnaryFn::IsNan, value)?;
            let follows = b.binary_broadcast(BinaryFn::And, tracks, is_missing)?;
            holds = b.binary_broadcast(BinaryFn::Or, holds, follows)?;
        }
        let (if_true, if_false) = (b.gather(self.if_true, at, 0)?, b.gather(self.if_false, at, 0)?);
        Ok(b.select_broadcast(holds, if_true, if_false)?)
    }
}

/// A table of votes larger than this would be gigabytes.
const MAX_TABLE: u64 = 1 << 26;

/// The votes of the nodes reached, joined over the trees: `[n, targets]`.
#[allow(clippy::too_many_arguments, reason = "what trees vote, where, and how votes are joined")]
fn joined(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    forest: &Forest,
    votes: &Votes,
    reached: ValueId,
    targets: i64,
    join: Join,
    dtype: DType,
) -> Outcome {
    let nodes = forest.splits.len() as u64;
    let Some(width) = u64::try_from(targets).ok().filter(|t| (1..MAX_TABLE).contains(t)) else {
        return invalid(format!("{targets} targets"));
    };
    if nodes.checked_mul(width).is_none_or(|n| n > MAX_TABLE) {
        return unsupported(
            format!("{nodes} nodes that vote for {width} targets"),
            "split the model by targets",
        );
    }
    let nothing = match join {
        Join::Sum | Join::Average => 0.0,
        Join::Min => f64::INFINITY,
        Join::Max => f64::NEG_INFINITY,
    };
    let mut table = vec![nothing; (nodes * width) as usize];
    for (node, target, weight) in &votes.0 {
        if !(0..targets).contains(target) {
            return invalid(format!("a vote for target {target} of {targets}"));
        }
        let entry = &mut table[*node * width as usize + *target as usize];
        *entry = match join {
            Join::Sum | Join::Average => *entry + weight,
            Join::Min => entry.min(*weight),
            Join::Max => entry.max(*weight),
        };
    }
    let table = Tensor::from_f64s(dtype, &[nodes, width], &table);
    let table = tensor::emit_tensor(b, &format!("{}/votes", call.name), table)?;
    let voted = b.gather(table, reached, 0)?;
    let function = match join {
        Join::Sum | Join::Average => ReduceFn::Sum,
        Join::Min => ReduceFn::Min,
        Join::Max => ReduceFn::Max,
    };
    let result = b.reduce(function, voted, &[1], false)?;
    match join {
        Join::Sum => Ok(result),
        Join::Average => Ok(b.binary_scalar(BinaryFn::Div, result, forest.roots.len() as f64)?),
        Join::Min | Join::Max => {
            // A target that nothing voted for is 0.
            let nobody = b.unary(UnaryFn::IsInf, result)?;
            let zero = b.scalar_like(result, 0.0)?;
            Ok(b.select_broadcast(nobody, zero, result)?)
        }
    }
}
