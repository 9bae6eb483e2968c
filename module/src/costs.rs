//! What calls of so many rows take: for whoever decides how many requests to run as one.

use core::iter::FusedIterator;

use crate::words::Words;

/// Rows that a module states the cost of, at most.
pub const MAX_COSTS: usize = 64;

/// The cost of a call of one row.
pub const ONE_ROW: u32 = 1000;

/// No cost is greater than this.
pub(crate) const MAX_COST: u32 = 1 << 24;

/// Costs of a call of one row, of two and so on, in thousandths of that of one; none where nothing is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs<'a>(pub(crate) Words<'a>);

impl Iterator for Costs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let first = self.0.get(0)?;
        self.0 = self.0.slice(1, self.0.len() - 1)?;
        Some(first)
    }
}

impl FusedIterator for Costs<'_> {}

impl PartialEq for Costs<'_> {
    fn eq(&self, other: &Self) -> bool {
        (*self).eq(*other)
    }
}

impl Eq for Costs<'_> {}

/// Whether costs are as a module may state them: few, the first that of one row, and none that no call can have.
pub(crate) fn are_sound(costs: impl Iterator<Item = u32>) -> bool {
    let mut count = 0;
    let each = costs.enumerate().all(|(at, cost)| {
        count = at + 1;
        (at > 0 || cost == ONE_ROW) && (1..=MAX_COST).contains(&cost)
    });
    each && count <= MAX_COSTS
}

/// The numbers of rows, ascending, that calls are worth having: each has at least half of what was left to gain for a row
/// over the one before, and the last comes within a sixteenth of the least that a row can cost.
pub fn efficient_rows(costs: impl Iterator<Item = u32> + Clone) -> impl Iterator<Item = u64> + Clone {
    // Of a row, in finer parts, so that quotients are told apart.
    let each = (1u64..).zip(costs).map(|(rows, cost)| (rows, (u64::from(cost) << 20) / rows));
    let least = each.clone().map(|(_, cost)| cost).min().unwrap_or(0);
    let mut wanted = u64::MAX;
    each.filter_map(move |(rows, cost)| {
        if cost > wanted || wanted <= least + least / 32 {
            return None;
        }
        wanted = least + (cost - least) / 2;
        Some(rows)
    })
}
