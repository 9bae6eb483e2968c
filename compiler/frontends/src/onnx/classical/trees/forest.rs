//! Trees as models state them, checked and laid out as columns over nodes: leaves are nodes that lead to themselves.

use std::collections::HashMap;

use ired_graph::{Builder, CompareFn, DType};

use super::super::super::call::{Call, Outcome, invalid};
use super::super::super::tensor;
use super::super::floats;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    LessOrEqual = 0,
    Less = 1,
    GreaterOrEqual = 2,
    Greater = 3,
    Equal = 4,
    NotEqual = 5,
}

impl Mode {
    const ALL: [Self; 6] =
        [Self::LessOrEqual, Self::Less, Self::GreaterOrEqual, Self::Greater, Self::Equal, Self::NotEqual];

    fn named(name: &str) -> Option<Self> {
        const NAMES: [&str; 6] =
            ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
        NAMES.iter().position(|n| *n == name).map(|i| Self::ALL[i])
    }

    pub(super) fn compare(self) -> CompareFn {
        match self {
            Self::LessOrEqual => CompareFn::Le,
            Self::Less => CompareFn::Lt,
            Self::GreaterOrEqual => CompareFn::Ge,
            Self::Greater => CompareFn::Gt,
            Self::Equal => CompareFn::Eq,
            Self::NotEqual => CompareFn::Ne,
        }
    }
}

#[derive(Default)]
pub(super) struct Forest {
    pub(super) features: Vec<i64>,
    pub(super) splits: Vec<f64>,
    pub(super) modes: Vec<Mode>,
    pub(super) if_true: Vec<i64>,
    pub(super) if_false: Vec<i64>,
    /// 1 where a missing value follows the true branch.
    pub(super) missing: Vec<i64>,
    pub(super) roots: Vec<i64>,
    /// Tree and number of each node, for those who vote; only in the form of one list.
    numbers: HashMap<(i64, i64), usize>,
}

/// The mode of version 5 that tests for membership of a set.
const MEMBER: i64 = 6;

impl Forest {
    fn push(&mut self, feature: i64, split: f64, mode: Mode, missing: i64, branches: [i64; 2]) {
        self.features.push(feature);
        self.splits.push(split);
        self.modes.push(mode);
        self.missing.push(missing);
        self.if_true.push(branches[0]);
        self.if_false.push(branches[1]);
    }

    fn push_leaf(&mut self) {
        let itself = self.splits.len() as i64;
        // Which branch is taken does not matter; the mode is one there is anyway.
        let mode = self.modes.first().copied().unwrap_or(Mode::LessOrEqual);
        self.push(0, 0.0, mode, 0, [itself, itself]);
    }

    /// The attributes before version 5: leaves among the nodes, branches by tree and number.
    pub(super) fn of_one_list(call: &Call<'_>, values: &[f64]) -> Outcome<Self> {
        call.attributes.ignore(&["nodes_hitrates", "nodes_hitrates_as_tensor"]);
        let list = |name: &str| Outcome::Ok(call.attributes.ints(name)?.unwrap_or_default());
        let (trees, numbers) = (list("nodes_treeids")?, list("nodes_nodeids")?);
        let (features, missing) = (list("nodes_featureids")?, list("nodes_missing_value_tracks_true")?);
        let (if_true, if_false) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
        let modes = call.attributes.bytes_list("nodes_modes")?.unwrap_or_default();
        let count = numbers.len();
        let lengths = [trees.len(), features.len(), if_true.len(), if_false.len(), modes.len(), values.len()];
        if lengths.iter().any(|n| *n != count) || !(missing.is_empty() || missing.len() == count) {
            return invalid(format!("lists of {lengths:?} for {count} nodes"));
        }
        let mut forest = Self::default();
        for (at, place) in trees.iter().zip(numbers).enumerate() {
            if forest.numbers.insert((*place.0, *place.1), at).is_some() {
                return invalid(format!("node {} of tree {} is there twice", place.1, place.0));
            }
        }
        let mut reached = vec![false; count];
        for at in 0..count {
            let mode = std::str::from_utf8(&modes[at]).unwrap_or_default();
            if mode == "LEAF" {
                forest.push_leaf();
                continue;
            }
            let Some(mode) = Mode::named(mode) else { return invalid(format!("mode `{mode}` of a node")) };
            let mut branches = [0; 2];
            for (branch, number) in branches.iter_mut().zip([if_true[at], if_false[at]]) {
                let Some(to) = forest.numbers.get(&(trees[at], number)) else {
                    return invalid(format!("tree {} has no node {number}", trees[at]));
                };
                reached[*to] = true;
                *branch = *to as i64;
            }
            if features[at] < 0 {
                return invalid(format!("feature {}", features[at]));
            }
            let missing = missing.get(at).map_or(0, |m| i64::from(*m != 0));
            forest.push(features[at], values[at], mode, missing, branches);
        }
        forest.roots = (0..count).filter(|at| !reached[*at]).map(|at| at as i64).collect();
        if forest.roots.is_empty() {
            return invalid("no tree has a root");
        }
        Ok(forest)
    }

    /// The attributes of version 5. A test for membership becomes one test after the other.
    pub(super) fn of_nodes_and_leaves(
        call: &Call<'_>,
        splits: &[f64],
        modes: &[i64],
        members: &[f64],
        leaves: &[f64],
    ) -> Outcome<(Self, Votes)> {
        let list = |name: &str| Outcome::Ok(call.attributes.ints(name)?.unwrap_or_default());
        let (features, missing) = (list("nodes_featureids")?, list("nodes_missing_value_tracks_true")?);
        let branches = [list("nodes_truenodeids")?, list("nodes_falsenodeids")?];
        let to_leaf = [list("nodes_trueleafs")?, list("nodes_falseleafs")?];
        let (roots, targets) = (list("tree_roots")?, list("leaf_targetids")?);
        let count = splits.len();
        let lists = [features, branches[0], branches[1], to_leaf[0], to_leaf[1], modes];
        let fits = lists.iter().all(|list| list.len() == count)
            && (missing.is_empty() || missing.len() == count)
            && targets.len() == leaves.len();
        if !fits || features.iter().any(|f| *f < 0) {
            return invalid(format!("lists that do not fit {count} nodes and {} leaves", leaves.len()));
        }
        // Where each node and each leaf is once sets are written out.
        let mut sets = members.split(|m| m.is_nan());
        let mut tests: Vec<Vec<(f64, Mode)>> = Vec::with_capacity(count);
        for (split, mode) in splits.iter().zip(modes) {
            let known = usize::try_from(*mode).ok().and_then(|m| Mode::ALL.get(m));
            tests.push(match (known, *mode) {
                (Some(mode), _) => vec![(*split, *mode)],
                (None, MEMBER) => {
                    let set = sets.next().unwrap_or_default();
                    let set = if set.is_empty() { &[f64::NAN][..] } else { set };
                    set.iter().map(|member| (*member, Mode::Equal)).collect()
                }
                (None, other) => return invalid(format!("mode {other} of a node")),
            });
        }
        let starts: Vec<usize> =
            tests.iter().scan(0, |sum, t| Some(std::mem::replace(sum, *sum + t.len()))).collect();
        let inner: usize = tests.iter().map(Vec::len).sum();
        let target = |side: usize, at: usize| {
            let to = usize::try_from(branches[side][at]).ok();
            match to_leaf[side][at] != 0 {
                true => to.filter(|to| *to < leaves.len()).map(|to| inner + to),
                false => to.and_then(|to| starts.get(to).copied()),
            }
        };
        let mut forest = Self::default();
        for (at, tests) in tests.iter().enumerate() {
            let (Some(if_true), Some(if_false)) = (target(0, at), target(1, at)) else {
                return invalid(format!("node {at} leads nowhere"));
            };
            let missing = missing.get(at).map_or(0, |m| i64::from(*m != 0));
            for (i, (split, mode)) in tests.iter().enumerate() {
                let next = if i + 1 < tests.len() { starts[at] + i + 1 } else { if_false };
                forest.push(features[at], *split, *mode, missing, [if_true as i64, next as i64]);
            }
        }
        leaves.iter().for_each(|_| forest.push_leaf());
        for root in roots {
            let Some(root) = usize::try_from(*root).ok().and_then(|root| starts.get(root)) else {
                return invalid(format!("root {root} of {count} nodes"));
            };
            forest.roots.push(*root as i64);
        }
        if forest.roots.is_empty() {
            return invalid("has no trees");
        }
        let votes = (0..leaves.len()).map(|leaf| (inner + leaf, targets[leaf], leaves[leaf])).collect();
        Ok((forest, Votes(votes)))
    }

    /// The modes of the nodes, each once.
    pub(super) fn modes_there_are(&self) -> Vec<Mode> {
        Mode::ALL.into_iter().filter(|mode| self.modes.contains(mode)).collect()
    }

    /// How many steps lead from a root to the leaf farthest from it.
    pub(super) fn depth(&self) -> Outcome<usize> {
        let mut depth = vec![usize::MAX; self.splits.len()];
        // Nodes twice: to look into their branches, and once these are known.
        let mut pending: Vec<(usize, bool)> = self.roots.iter().map(|root| (*root as usize, false)).collect();
        let mut open = vec![false; self.splits.len()];
        while let Some((at, done)) = pending.pop() {
            let branches = [self.if_true[at] as usize, self.if_false[at] as usize];
            if branches[0] == at && branches[1] == at {
                depth[at] = 0;
            } else if done {
                depth[at] = 1 + branches.iter().map(|to| depth[*to]).max().unwrap_or(0);
                open[at] = false;
            } else if depth[at] == usize::MAX {
                if std::mem::replace(&mut open[at], true) {
                    return invalid("a tree leads in a circle");
                }
                pending.push((at, true));
                for to in branches {
                    if open[to] {
                        return invalid("a tree leads in a circle");
                    }
                    pending.push((to, false));
                }
            }
        }
        Ok(self.roots.iter().map(|root| depth[*root as usize]).max().unwrap_or(0))
    }
}

/// Node, target and weight of every vote.
pub(super) struct Votes(pub(super) Vec<(usize, i64, f64)>);

impl Votes {
    /// The votes in attributes `PREFIX_treeids`, `PREFIX_nodeids` and `PREFIX_ids`.
    pub(super) fn of(call: &Call<'_>, forest: &Forest, prefix: &str, weights: &[f64]) -> Outcome<Self> {
        let list =
            |name: &str| Outcome::Ok(call.attributes.ints(&format!("{prefix}_{name}"))?.unwrap_or_default());
        let (trees, nodes, targets) = (list("treeids")?, list("nodeids")?, list("ids")?);
        if [trees.len(), nodes.len(), targets.len()].iter().any(|n| *n != weights.len()) {
            return invalid(format!("lists of votes that do not fit {} weights", weights.len()));
        }
        let mut votes = Vec::with_capacity(weights.len());
        for (((tree, node), target), weight) in trees.iter().zip(nodes).zip(targets).zip(weights) {
            match forest.numbers.get(&(*tree, *node)) {
                Some(at) => votes.push((*at, *target, *weight)),
                None => return invalid(format!("a vote of node {node}, which tree {tree} lacks")),
            }
        }
        Ok(Self(votes))
    }

    /// The one target that all votes are for.
    pub(super) fn only_target(&self) -> Option<i64> {
        let first = self.0.first()?.1;
        self.0.iter().all(|vote| vote.1 == first).then_some(first)
    }

    pub(super) fn all_positive(&self) -> bool {
        self.0.iter().all(|vote| vote.2 >= 0.0)
    }

    /// All votes for one target.
    pub(super) fn renumbered(&self, target: i64) -> Self {
        Self(self.0.iter().map(|(node, _, weight)| (*node, target, *weight)).collect())
    }
}

/// The numbers of a model before version 5, each a list of f32 or a tensor, of f64 mostly.
pub(super) struct Numbers {
    pub(super) values: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) base: Vec<f64>,
    /// Whether any of them is in f64.
    pub(super) precise: bool,
}

impl Numbers {
    pub(super) fn read(b: &mut Builder<'_>, call: &Call<'_>, prefix: &str) -> Outcome<Self> {
        let mut precise = false;
        let mut list = |name: &str| {
            let listed = floats(call, name)?;
            match call.attributes.tensor(&format!("{name}_as_tensor"))? {
                None => Outcome::Ok(listed),
                Some(_) if !listed.is_empty() => invalid(format!("has `{name}` both as a list and a tensor")),
                Some(found) => {
                    let strings = std::sync::Arc::make_mut(&mut b.graph.strings);
                    let found = tensor::read(found, call.files, strings)?;
                    precise |= found.dtype() == DType::F64;
                    Ok(found.to_f64s())
                }
            }
        };
        let (values, weights) = (list("nodes_values")?, list(&format!("{prefix}_weights"))?);
        let base = list("base_values")?;
        Ok(Self { values, weights, base, precise })
    }
}
