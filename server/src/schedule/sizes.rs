//! How many of the rows that wait run as one, by what the module says that calls of so many rows cost.

use ired_module::efficient_rows;

/// A call is made of several only for so many hundredths of it: costs are estimates.
const LEAST_GAIN: u64 = 5;

/// What follows from costs. The default knows nothing: as many as there are run at once, and as many as may are waited for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sizes {
    /// Of one row, two and so on: how many of them to run first.
    first: Box<[u64]>,
    enough: Option<u64>,
}

impl Sizes {
    /// `costs` are those of [`ired_module::Costs`].
    pub fn new(costs: &[u32], max_rows: u64) -> Self {
        let count = usize::try_from(max_rows).map_or(costs.len(), |most| costs.len().min(most));
        let costs = &costs[..count];
        Self { first: firsts(costs), enough: efficient_rows(costs.iter().copied()).last() }
    }

    /// How many of so many rows to run first: all, unless it takes clearly less time to run a part and then the others. So
    /// nobody's answer comes later for it, whether others come meanwhile or not.
    pub fn first(&self, rows: u64) -> u64 {
        let known = usize::try_from(rows).ok().and_then(|rows| self.first.get(rows.checked_sub(1)?));
        known.copied().unwrap_or(rows)
    }

    /// From how many rows on others make a row hardly cheaper.
    pub fn enough(&self) -> Option<u64> {
        self.enough
    }
}

fn firsts(costs: &[u32]) -> Box<[u64]> {
    // The least that no row, one row and so on cost, in as many calls as that takes.
    let mut least = vec![0];
    let firsts = costs.iter().enumerate().map(|(before, &cost)| {
        let (rows, whole) = (before + 1, u64::from(cost));
        let parts = (1..rows).map(|part| (u64::from(costs[part - 1]) + least[rows - part], part));
        // Of equal ones the largest first part, as others join what is left.
        let parts = parts.filter(|(cost, _)| cost * 100 <= whole * (100 - LEAST_GAIN));
        let best = parts.min_by_key(|&(cost, part)| (cost, rows - part));
        let (cost, first) = best.unwrap_or((whole, rows));
        least.push(cost);
        first as u64
    });
    firsts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_run_together_unless_parts_take_less_time() {
        // Tiles of four rows, and calls that are as dear as two rows: a fifth row is worth no call of its own.
        let tiles: Vec<u32> = (1..=12u32).map(|rows| 500 + rows.div_ceil(4) * 500).collect();
        let sizes = Sizes::new(&tiles, 64);
        assert!((1..=20).all(|rows| sizes.first(rows) == rows), "{sizes:?}");
        // More than four rows leave the cache.
        let leaving: Vec<u32> = (1..=12).map(|rows| 200 + rows * if rows > 4 { 1600 } else { 800 }).collect();
        let sizes = Sizes::new(&leaving, 64);
        let firsts: Vec<u64> = (1..=13).map(|rows| sizes.first(rows)).collect();
        assert_eq!(firsts, [1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 13], "of thirteen nothing is known");
        // A little less is no reason.
        assert_eq!(Sizes::new(&[1000, 2090], 64).first(2), 2);
        assert_eq!(Sizes::new(&[1000, 2200], 64).first(2), 1);
    }

    #[test]
    fn enough_is_within_the_bound() {
        let tiles: Vec<u32> = (1..=64u32).map(|rows| 50 + rows.div_ceil(12) * 900).collect();
        assert_eq!(Sizes::new(&tiles, 64).enough(), Some(12));
        assert_eq!(Sizes::new(&tiles, 8).enough(), Some(8));
        assert_eq!(Sizes::new(&[], 8).enough(), None);
    }
}
