//! Which keys a query looks at: masks that forbid keys, and biases that are added to scores.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, PadMode, ReduceFn, UnaryFn, ValueId};

use super::super::call::Outcome;

/// Farther than any two positions are apart.
const FAR: i64 = 1 << 40;

/// What is done to scores before the softmax; everything broadcasts to `[batch, heads, queries, keys]`.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Mask {
    /// True where a query may look at a key.
    allowed: Option<ValueId>,
    /// Added to scores.
    bias: Option<ValueId>,
    /// Whether some query may have no key to look at.
    may_be_empty: bool,
}

impl Mask {
    /// Forbids keys after a query's own position, which leaves every query the first key.
    pub(in super::super) fn causal(b: &mut Builder<'_>, positions: &Positions) -> Outcome<Self> {
        let allowed = b.compare_broadcast(CompareFn::Le, positions.keys, positions.queries)?;
        Ok(Self { allowed: Some(allowed), bias: None, may_be_empty: !positions.never_negative })
    }

    /// Also forbids what `allowed` is false for.
    pub(in super::super) fn allow_only(&mut self, b: &mut Builder<'_>, allowed: ValueId) -> Outcome<()> {
        self.may_be_empty = true;
        self.allow_some(b, allowed)
    }

    /// As [`Self::allow_only`] where every query is left some key.
    pub(in super::super) fn allow_some(&mut self, b: &mut Builder<'_>, allowed: ValueId) -> Outcome<()> {
        self.allowed = Some(match self.allowed {
            Some(before) => b.binary_broadcast(BinaryFn::And, before, allowed)?,
            None => allowed,
        });
        Ok(())
    }

    /// Also adds `bias` to scores, which may be minus infinity for all keys of a query.
    pub(in super::super) fn add(&mut self, b: &mut Builder<'_>, bias: ValueId) -> Outcome<()> {
        self.may_be_empty = true;
        self.add_finite(b, bias)
    }

    /// Also adds `bias` to scores, which leaves every query some key.
    pub(in super::super) fn add_finite(&mut self, b: &mut Builder<'_>, bias: ValueId) -> Outcome<()> {
        self.bias = Some(match self.bias {
            Some(before) => b.binary_broadcast(BinaryFn::Add, before, bias)?,
            None => bias,
        });
        Ok(())
    }

    /// Keeps keys at most this far before and after a query's own position.
    pub(in super::super) fn window(
        &mut self,
        b: &mut Builder<'_>,
        positions: &Positions,
        left: Option<i64>,
        right: Option<i64>,
    ) -> Outcome<()> {
        if let Some(left) = left {
            let first = b.binary_scalar(BinaryFn::Sub, positions.queries, left.min(FAR) as f64)?;
            let allowed = b.compare_broadcast(CompareFn::Ge, positions.keys, first)?;
            self.allow_only(b, allowed)?;
        }
        if let Some(right) = right {
            let last = b.binary_scalar(BinaryFn::Add, positions.queries, right.min(FAR) as f64)?;
            let allowed = b.compare_broadcast(CompareFn::Le, positions.keys, last)?;
            self.allow_only(b, allowed)?;
        }
        Ok(())
    }

    /// `scores` with the bias added, and minus infinity where a key is forbidden, whatever the score is there.
    pub(super) fn apply(&self, b: &mut Builder<'_>, scores: ValueId) -> Outcome {
        let ty = b.ty(scores).clone();
        let mut masked = scores;
        if let Some(bias) = self.bias {
            let bias = b.cast(bias, ty.dtype)?;
            let bias = b.broadcast_to(bias, ty.shape.clone())?;
            masked = b.binary_broadcast(BinaryFn::Add, masked, bias)?;
        }
        if let Some(allowed) = self.allowed {
            let allowed = b.broadcast_to(allowed, ty.shape)?;
            let forbidden = b.scalar_like(scores, f64::NEG_INFINITY)?;
            masked = b.select_broadcast(allowed, masked, forbidden)?;
        }
        Ok(masked)
    }

    /// `scores` with zeros where a key is forbidden.
    pub(in super::super) fn clear_forbidden(&self, b: &mut Builder<'_>, scores: ValueId) -> Outcome {
        let Some(allowed) = self.allowed else { return Ok(scores) };
        let allowed = b.broadcast_to(allowed, b.ty(scores).shape.clone())?;
        let zero = b.scalar_like(scores, 0.0)?;
        Ok(b.select_broadcast(allowed, scores, zero)?)
    }

    /// `probabilities` with zeros for queries that may look at no key, of which softmax makes NaN.
    pub(super) fn clear_empty_rows(&self, b: &mut Builder<'_>, probabilities: ValueId) -> Outcome {
        let is_empty = match (self.allowed, self.bias) {
            _ if !self.may_be_empty => return Ok(probabilities),
            (None, None) => return Ok(probabilities),
            (Some(allowed), None) => {
                let some = b.reduce(ReduceFn::Any, allowed, &last_axis(b, allowed), true)?;
                b.unary(UnaryFn::Not, some)?
            }
            (allowed, Some(mut bias)) => {
                let forbidden = b.scalar_like(bias, f64::NEG_INFINITY)?;
                if let Some(allowed) = allowed {
                    bias = b.select_broadcast(allowed, bias, forbidden)?;
                }
                let largest = b.reduce(ReduceFn::Max, bias, &last_axis(b, bias), true)?;
                b.compare_broadcast(CompareFn::Eq, largest, forbidden)?
            }
        };
        let is_empty = b.broadcast_to(is_empty, b.ty(probabilities).shape.clone())?;
        let zero = b.scalar_like(probabilities, 0.0)?;
        Ok(b.select_broadcast(is_empty, zero, probabilities)?)
    }
}

/// The last axis of `value`; none of a scalar, which is the same for every key.
fn last_axis(b: &Builder<'_>, value: ValueId) -> Vec<usize> {
    b.ty(value).rank().checked_sub(1).into_iter().collect()
}

/// Where queries and keys stand in their sequence, as i64 that broadcast to `[batch, 1, queries, keys]`.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Positions {
    pub(in super::super) queries: ValueId,
    pub(in super::super) keys: ValueId,
    /// Whether no query stands before the first key.
    never_negative: bool,
}

impl Positions {
    /// The first query stands at `past`, which is not negative.
    pub(in super::super) fn after(b: &mut Builder<'_>, past: Dim, queries: Dim, keys: Dim) -> Outcome<Self> {
        let first = b.dim(past)?;
        Ok(Self { never_negative: true, ..Self::from(b, first, queries, keys)? })
    }

    /// The first query of each item stands at `first`, a value that broadcasts to `[batch, 1, 1, 1]`.
    pub(in super::super) fn from(
        b: &mut Builder<'_>,
        first: ValueId,
        queries: Dim,
        keys: Dim,
    ) -> Outcome<Self> {
        let row = b.iota(DType::I64, vec![queries, 1.into()], 0)?;
        let queries = b.binary_broadcast(BinaryFn::Add, row, first)?;
        let keys = b.iota(DType::I64, vec![1.into(), keys], 1)?;
        Ok(Self { queries, keys, never_negative: false })
    }

    /// The same positions, of which the caller knows that none stands before the first key.
    pub(in super::super) fn not_negative(self) -> Self {
        Self { never_negative: true, ..self }
    }
}

/// `mask` with what forbids appended to its last axis, up to `keys`.
pub(in super::super) fn pad_keys(b: &mut Builder<'_>, mask: ValueId, keys: &Dim) -> Outcome {
    let shape = b.ty(mask).shape.clone();
    let Some(last) = shape.last().filter(|last| *last != keys) else { return Ok(mask) };
    let missing = keys.clone() - last.clone();
    let mut high = vec![Dim::constant(0); shape.len()];
    high[shape.len() - 1] = missing;
    let dtype = b.ty(mask).dtype;
    let forbidden = if dtype.is_float() { f64::NEG_INFINITY } else { 0.0 };
    let fill = b.scalar(dtype, forbidden)?;
    Ok(b.pad(mask, vec![Dim::constant(0); shape.len()], high, PadMode::Constant, Some(fill))?)
}
