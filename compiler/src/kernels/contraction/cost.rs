//! How long a product takes at sizes that are known: by its tiles, of which those of few rows take longer for each.

use super::Plan;
use super::panel::HALVES;
use super::sizes::LEAST_SUMS;
use crate::kernels::AtSizes;

/// Bytes of weights that come from a core's own cache in the time of a multiply-add.
const NEAR_BYTES: usize = 32;

impl Plan {
    /// In multiply-adds of vectors; `None` where tiles are not all that takes its time.
    pub(super) fn cost(&self, of: &AtSizes<'_>) -> Option<f64> {
        if self.in_tiles || self.quantized.is_some() {
            return None;
        }
        let [rows, columns, k] = [&self.m, &self.n, &self.k].map(|size| size.evaluate(of.size_of));
        let (rows, panels) = (rows?, (columns? + self.width() - 1) / self.width());
        let steps = (k? + self.depth() - 1) / self.depth();
        let batches = self.batch.iter().try_fold(1.0, |all, size| Some(all * of.size(size)?))?;
        let m0 = self.sizes.m0 as i64;
        let whole = (rows / m0) as f64 * self.step_of(m0, 1, of);
        let rest: f64 = match rows % m0 {
            0 => 0.0,
            rest => self.step_of_rest(rest, of),
        };
        Some(batches * panels as f64 * steps as f64 * (whole + rest))
    }

    /// A step of the rows that are left by whole tiles, in one panel.
    fn step_of_rest(&self, rest: i64, of: &AtSizes<'_>) -> f64 {
        match self.beside().get(rest as usize - 1) {
            Some(panels) => self.step_of(rest, *panels, of),
            None if self.halves_rests(of.dispatch) => {
                let sizes = HALVES.into_iter().filter(|size| rest & size != 0);
                sizes.map(|size| self.step_of(size, 1, of)).sum()
            }
            None => self.step_of(rest, 1, of),
        }
    }

    /// A step of a tile that takes so many panels side by side, of each: as many multiply-adds as there are sums, but no
    /// less than it takes until a sum is there that the next step adds to, or until the weights are.
    fn step_of(&self, rows: i64, panels: i64, of: &AtSizes<'_>) -> f64 {
        let vectors = self.sizes.n1 * panels as usize;
        let sums = rows as usize * vectors;
        let waits = LEAST_SUMS as f64 / self.sizes.parts_of(sums) as f64;
        let loads = (vectors * of.target.vector_bits / 8) as f64 / NEAR_BYTES as f64;
        (sums as f64).max(waits).max(loads) / panels as f64
    }
}
