//! How big tiles, blocks of `k` and workgroups are.

use ired_graph::Dim;

use super::tiles::PANEL_VECTORS;
use crate::targets::CpuTarget;
use crate::tuning::{Choice, MAX_ROWS, Tile};

/// Multiply-adds worth a workgroup of their own: some microseconds.
const WORKGROUP_WORK: i64 = 1 << 20;
/// A product of no more than this is one workgroup.
const TINY_WORK: i64 = 1 << 17;
/// The most rows of a workgroup: what they read of the left-hand side stays in a core's cache.
const ROWS: i64 = 96;
/// The same where the machine's tiles multiply: these are so fast that weights have to serve more rows.
const ROWS_OF_TILES: i64 = 192;
/// Workgroups to have at least, so that threads end together, if each gets enough to be worth it.
const GROUPS: i64 = 16;
const LEAST_WORK: i64 = 1 << 17;
/// Longer sums than this are made in several passes, so that a pass's part of both sides stays in near caches.
const LONG_K: i64 = 1024;
/// Steps of such a pass.
const K_BLOCK: i64 = 512;

/// The same of weights that are made floats on the stack first, which has to hold a piece of a panel.
const WIDENED_K: i64 = 256;

/// Sums that do not wait for each other, to have at least; and as many as have a single row of few columns not wait long.
pub(super) const LEAST_SUMS: usize = 8;
const FEW_SUMS: usize = 4;

/// What a product needs to know to be cut up.
pub(super) struct Problem<'a> {
    pub(super) target: &'a CpuTarget,
    pub(super) m: &'a Dim,
    pub(super) n: &'a Dim,
    /// Steps of the sum: elements, or groups of bytes.
    pub(super) steps: &'a Dim,
    pub(super) batches: &'a Dim,
    pub(super) lanes: usize,
    /// Whether neighbours are multiplied at once, which takes registers for more than the sums.
    pub(super) is_dot: bool,
    /// Whether the machine's tiles multiply.
    pub(super) in_tiles: bool,
    /// Whether the right-hand side is in panels, one after another.
    pub(super) is_packed: bool,
    /// Whether that is made floats before it is multiplied.
    pub(super) is_widened: bool,
    /// Whether an element has to be summed in one order, however many rows there are.
    pub(super) is_ordered: bool,
    /// Sizes that were measured to be the best.
    pub(super) tile: Option<Tile>,
}

/// How a product is cut up.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    /// Rows and vectors of a tile.
    pub(super) m0: usize,
    pub(super) n1: usize,
    /// Rows of a workgroup, a multiple of `m0`, and the most it can be.
    pub(super) rows: Dim,
    pub(super) most_rows: i64,
    /// Panels of a workgroup.
    pub(super) panels: i64,
    /// Steps of a pass over `k`, if there are several.
    pub(super) k_block: Option<i64>,
    /// Sums of an element that are made side by side, of every so many steps, and added up at the end; each size of tiles
    /// has a number of its own where there is none.
    pub(super) parts: Option<usize>,
    /// Panels that a tile of one row takes side by side, of two and so on, as far as several are worth it.
    pub(super) beside: Vec<i64>,
}

impl Sizes {
    pub(super) fn of(problem: &Problem<'_>) -> Self {
        let tile = problem.tile.filter(|_| !problem.in_tiles);
        let n1 = tile.map_or_else(|| vectors(problem), |tile| tile.n1);
        let m0 = tile.map_or_else(|| tile_rows(problem, n1), |tile| tile.m0);
        let width = (n1 * problem.lanes) as i64;
        let (long, pass) = match tile {
            None if problem.is_widened => (WIDENED_K, Some(WIDENED_K)),
            None => (LONG_K, Some(K_BLOCK)),
            Some(tile) => (tile.k_block.unwrap_or(i64::MAX), tile.k_block),
        };
        let k_block = match (problem.steps.as_static(), pass) {
            (Some(k), Some(pass)) if k > long && problem.is_packed && !problem.is_dot => {
                Some(even(k, pass, 8))
            }
            _ => None,
        };
        let usual_rows = if problem.in_tiles { ROWS_OF_TILES } else { ROWS };
        let most_rows = tile.map_or_else(|| whole(usual_rows, m0 as i64), |tile| tile.rows);
        let (rows, panels) = match (tile, problem.m.as_static()) {
            (Some(tile), Some(m)) => {
                let rows = Dim::constant(tile.rows.min(whole(m.max(1), m0 as i64)));
                let panels = problem.panels(&rows, width);
                (rows, panels)
            }
            _ => problem.workgroup(m0 as i64, width, most_rows),
        };
        let most_rows = rows.as_static().unwrap_or(most_rows);
        let parts = problem.is_ordered.then(|| parts(problem, m0, n1));
        let beside = (1..m0).map(|rows| problem.panels_beside(rows, n1).min(panels));
        let beside = beside.take_while(|count| *count > 1).collect();
        Self { m0, n1, rows, most_rows, panels, k_block, parts, beside }
    }

    /// How often each sum of a tile is made side by side: few accumulators wait for each other, and several steps of `k` at
    /// once make more of them.
    pub(super) fn parts_of(&self, tile: usize) -> usize {
        self.parts.unwrap_or(match tile {
            8.. => 1,
            4..8 => 2,
            _ => 4,
        })
    }

    /// Other ways to cut the product up, each different in one respect: the shape of tiles, the rows of a workgroup,
    /// and the steps of a pass over a sum of `k`, where there can be several.
    pub(super) fn candidates(
        &self,
        m: &Dim,
        n: &Dim,
        k: Option<i64>,
        lanes: usize,
        target: &CpuTarget,
    ) -> Vec<Choice> {
        let rows_of =
            |m0: usize, rows: i64| whole(rows.max(1), m0 as i64).min(MAX_ROWS / m0 as i64 * m0 as i64);
        let now = Tile {
            m0: self.m0,
            n1: self.n1,
            rows: rows_of(self.m0, self.most_rows),
            k_block: self.k_block.map(|steps| whole(steps, 8)),
        };
        let columns = n.as_static().map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let shapes = [2, 3, 4, 1].into_iter().filter(|n1| *n1 == 1 || (n1 - 1) * lanes < columns).map(|n1| {
            let most = Tile::most_rows(n1, target);
            let rows = m.as_static().and_then(|m| usize::try_from(m).ok()).filter(|m| *m > 0);
            // The smallest tile that covers all rows in as few tiles as the largest does.
            let m0 = rows.map_or(most, |m| m.div_ceil(m.div_ceil(most)));
            Tile { m0, n1, rows: rows_of(m0, self.most_rows), ..now }
        });
        let rows = [now.rows / 2, now.rows.saturating_mul(2)];
        let rows = rows.into_iter().map(|rows| Tile { rows: rows_of(now.m0, rows), ..now });
        let passes = [Some(256), Some(1024), None].into_iter().filter(|block| match (block, k) {
            (Some(block), Some(k)) => *block < k,
            (None, _) => now.k_block.is_some(),
            _ => false,
        });
        let passes = passes.map(|k_block| Tile { k_block, ..now });
        let mut candidates: Vec<Tile> = Vec::new();
        for tile in shapes.chain(rows).chain(passes) {
            if tile != now && !candidates.contains(&tile) {
                candidates.push(tile);
            }
        }
        candidates.into_iter().map(Choice::Tile).collect()
    }
}

impl Problem<'_> {
    /// Panels of `n1` vectors that a tile of so many rows takes side by side, so that sums do not wait for each other: as
    /// far as they fit the registers, with the vectors that several rows use and a broadcast.
    fn panels_beside(&self, rows: usize, n1: usize) -> i64 {
        let panels = LEAST_SUMS.div_ceil(rows * n1);
        let used = if rows > 1 { rows + 1 } else { 1 };
        let fits = panels * n1 * used < self.target.vector_registers;
        if self.is_ordered && self.is_packed && fits { panels as i64 } else { 1 }
    }

    /// Rows and panels of a workgroup.
    fn workgroup(&self, m0: i64, width: i64, most_rows: i64) -> (Dim, i64) {
        let k = self.steps.as_static().unwrap_or(256).max(1);
        let total_panels = self.total_panels(width);
        if let (Some(m), Some(n), Some(1)) =
            (self.m.as_static(), self.n.as_static(), self.batches.as_static())
            && m.saturating_mul(n).saturating_mul(k) <= TINY_WORK
        {
            return (Dim::constant(whole(m.max(1), m0)), total_panels);
        }
        // Blocks of equal size, small enough for every thread to have some.
        let rows = match self.m.as_static() {
            Some(m) => {
                let all = m.max(1).saturating_mul(self.n.as_static().unwrap_or(width)).saturating_mul(k);
                let fair = (all / GROUPS).max(LEAST_WORK) / (width * k).max(1);
                Dim::constant(even(m.max(1), most_rows.min(whole(fair.max(1), m0)), m0))
            }
            None => {
                let one = Dim::constant(1);
                let columns = total_panels.min(GROUPS);
                let wanted = Dim::constant((GROUPS + columns - 1) / columns);
                let possible = self.m.ceil_div(&Dim::constant(2 * m0));
                let blocks = self.m.ceil_div(&Dim::constant(most_rows)).maximum(&wanted.minimum(&possible));
                let tiles = self.m.ceil_div(&blocks.maximum(&one)).ceil_div(&Dim::constant(m0));
                tiles.maximum(&one) * Dim::constant(m0)
            }
        };
        let panels = self.panels(&rows, width);
        (rows, panels)
    }

    /// All of the result.
    fn total_panels(&self, width: i64) -> i64 {
        self.n.as_static().map_or(i64::MAX, |n| (n + width - 1) / width).max(1)
    }

    /// Panels of a workgroup of so many rows.
    fn panels(&self, rows: &Dim, width: i64) -> i64 {
        let k = self.steps.as_static().unwrap_or(256).max(1);
        let likely_rows = rows.as_static().unwrap_or(32).min(self.m.as_static().unwrap_or(32).max(1));
        (WORKGROUP_WORK / (likely_rows * width * k).max(1)).clamp(1, self.total_panels(width).min(64))
    }
}

/// Vectors of a tile: as wide as leaves nothing over where that can be had.
fn vectors(problem: &Problem<'_>) -> usize {
    let lanes = problem.lanes as i64;
    let many = problem.target.vector_registers >= 32;
    if problem.in_tiles {
        return PANEL_VECTORS;
    }
    let Some(n) = problem.n.as_static() else { return 2 };
    let vectors = (n + lanes - 1) / lanes;
    if vectors <= 1 {
        return 1;
    }
    if problem.is_dot || !problem.is_packed {
        return if many && n >= 256 && n % (4 * lanes) == 0 { 4 } else { 2 };
    }
    let wide: &[i64] = if many { &[3, 4, 2] } else { &[2] };
    let left_over = |n1: i64| (n1 - vectors % n1) % n1;
    // The first of the best.
    wide.iter().copied().min_by_key(|n1| left_over(*n1)).unwrap_or(2) as usize
}

/// Sums of an element, where it has as many whatever the tile: several where all columns are so few vectors that a single
/// row would wait for its sums, and there are registers for that.
fn parts(problem: &Problem<'_>, m0: usize, n1: usize) -> usize {
    let is_narrow = problem.total_panels((n1 * problem.lanes) as i64) == 1;
    let fits = |parts: &usize| parts * n1 <= FEW_SUMS && parts * n1 * m0 <= most_sums(problem.target);
    [4, 2].into_iter().find(|parts| is_narrow && fits(parts)).unwrap_or(1)
}

/// Sums that leave registers for what they are made of.
fn most_sums(target: &CpuTarget) -> usize {
    if target.vector_registers >= 32 { 24 } else { 12 }
}

/// Rows of a tile: `m0 * n1` sums, `n1` vectors and a broadcast fit the registers, and few rows are left over.
fn tile_rows(problem: &Problem<'_>, n1: usize) -> usize {
    let many = problem.target.vector_registers >= 32;
    let most: i64 = match (many, n1) {
        (true, 4) => 6,
        (true, 3) => 9,
        (true, _) if problem.is_dot || !problem.is_packed => 8,
        (true, _) => 12,
        (false, _) => 6,
    };
    if problem.is_ordered && problem.total_panels((n1 * problem.lanes) as i64) == 1 && n1 <= FEW_SUMS / 2 {
        // With several sums of an element: see [`parts`].
        return most_sums(problem.target) / FEW_SUMS;
    }
    let Some(m) = problem.m.as_static() else { return most as usize };
    if m <= most {
        return m.max(1) as usize;
    }
    // A tile takes as long as its rows and loading one more.
    let cost = |m0: i64| m / m0 * (m0 + 1) + if m % m0 == 0 { 0 } else { m % m0 + 1 };
    (most / 2 + 1..=most).rev().min_by_key(|m0| cost(*m0)).unwrap_or(most) as usize
}

/// Blocks of equal size, each at most `most` and a multiple of `unit`, that cover `size`: how big they are.
fn even(size: i64, most: i64, unit: i64) -> i64 {
    let blocks = (size + most - 1) / most;
    whole((size + blocks - 1) / blocks.max(1), unit)
}

fn whole(size: i64, unit: i64) -> i64 {
    (size + unit - 1) / unit * unit
}
