//! The three linear maps of F(4x4, 3x3): of filters when compiling, of inputs and products in vectors.
//!
//! A line of six inputs and a line of three taps are polynomials; their product is taken by its values at the points
//! `0, ±P, ±Q` and infinity. In two dimensions each map is applied to the columns and then to the rows. With points
//! 3/4 and 3/2 every factor of the maps of inputs and products is exact, and rounding errors are a third of those
//! with the usual 1 and 2, because no sum is much larger than what it is made of.

use ired_mlir::{Builder, Type, Value};

use crate::kernels::eval::nested::multiply_add;

/// Outputs along a side of a tile, taps of a filter, and values that are multiplied.
pub(in crate::kernels) const OUTPUTS: usize = 4;
pub(in crate::kernels) const TAPS: usize = 3;
pub(in crate::kernels) const VALUES: usize = OUTPUTS + TAPS - 1;
/// Values of a tile or a filter.
pub(in crate::kernels) const SQUARE: usize = VALUES * VALUES;

const P: f64 = 0.75;
const Q: f64 = 1.5;

/// A filter `[3][3]` at the points: `[6][6]`.
pub(in crate::kernels) fn transform_filter(taps: [[f64; TAPS]; TAPS]) -> [[f64; VALUES]; VALUES] {
    in_two_dimensions(taps, filter_line)
}

/// Values of three taps, each over the product of its point's distances to the others.
fn filter_line([a, b, c]: [f64; TAPS]) -> [f64; VALUES] {
    let (p2, q2) = (P * P, Q * Q);
    let (even_p, odd_p) = (a + p2 * c, P * b);
    let (even_q, odd_q) = (a + q2 * c, Q * b);
    let (at_p, at_q) = (2.0 * p2 * (p2 - q2), 2.0 * q2 * (q2 - p2));
    [
        a / (p2 * q2),
        (even_p + odd_p) / at_p,
        (even_p - odd_p) / at_p,
        (even_q + odd_q) / at_q,
        (even_q - odd_q) / at_q,
        c,
    ]
}

/// The maps of inputs and products, of vectors of a type.
pub(super) struct Transform<'b, 'm> {
    pub(super) b: &'b Builder<'m>,
    pub(super) vector: Type<'m>,
}

impl<'m> Transform<'_, 'm> {
    /// `x + factor * y`
    fn add(&self, x: Value<'m>, factor: f64, y: Value<'m>) -> Value<'m> {
        multiply_add(self.b, y, self.b.float(self.vector, factor), x)
    }

    /// Six inputs in a line.
    pub(super) fn inputs(&self, d: [Value<'m>; VALUES]) -> [Value<'m>; VALUES] {
        let (p2, q2) = (P * P, Q * Q);
        let (even_p, odd_p) = (self.add(d[4], -q2, d[2]), self.add(d[3], -q2, d[1]));
        let (even_q, odd_q) = (self.add(d[4], -p2, d[2]), self.add(d[3], -p2, d[1]));
        let ends =
            |x: Value<'m>, y: Value<'m>, z: Value<'m>| self.add(self.add(z, -(p2 + q2), y), p2 * q2, x);
        [
            ends(d[0], d[2], d[4]),
            self.add(even_p, P, odd_p),
            self.add(even_p, -P, odd_p),
            self.add(even_q, Q, odd_q),
            self.add(even_q, -Q, odd_q),
            ends(d[1], d[3], d[5]),
        ]
    }

    /// Four outputs in a line, from six products.
    pub(super) fn outputs(&self, m: [Value<'m>; VALUES]) -> [Value<'m>; OUTPUTS] {
        let b = self.b;
        let (even_p, odd_p) = (b.addf(m[1], m[2]), b.subf(m[1], m[2]));
        let (even_q, odd_q) = (b.addf(m[3], m[4]), b.subf(m[3], m[4]));
        let scaled = |factor: f64, x: Value<'m>| b.mulf(x, b.float(self.vector, factor));
        [
            b.addf(m[0], b.addf(even_p, even_q)),
            self.add(scaled(Q, odd_q), P, odd_p),
            self.add(scaled(Q * Q, even_q), P * P, even_p),
            self.add(self.add(m[5], Q * Q * Q, odd_q), P * P * P, odd_p),
        ]
    }
}

/// A map of lines applied to the columns of a square and then to its rows.
pub(super) fn in_two_dimensions<T: Copy, const N: usize, const M: usize>(
    square: [[T; N]; N],
    line: impl Fn([T; N]) -> [T; M],
) -> [[T; M]; M] {
    let columns: [[T; M]; N] = std::array::from_fn(|j| line(std::array::from_fn(|i| square[i][j])));
    std::array::from_fn(|i| line(std::array::from_fn(|j| columns[j][i])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The maps of inputs and products as [`Transform`] has them, of numbers.
    fn convolve(d: [f64; VALUES], g: [f64; TAPS]) -> [f64; OUTPUTS] {
        let points = [0.0, P, -P, Q, -Q];
        let inputs: [f64; VALUES] = std::array::from_fn(|i| {
            // The polynomial whose roots are the other points, applied to the inputs.
            let roots: Vec<f64> =
                points.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, p)| *p).collect();
            let polynomial = roots.iter().fold(vec![1.0], |c, root| {
                let mut next = vec![0.0; c.len() + 1];
                c.iter().enumerate().for_each(|(k, c)| {
                    next[k] -= root * c;
                    next[k + 1] += c;
                });
                next
            });
            polynomial.iter().zip(d).map(|(c, d)| c * d).sum()
        });
        let filter = filter_line(g);
        std::array::from_fn(|i| {
            let finite: f64 =
                points.iter().enumerate().map(|(j, p)| p.powi(i as i32) * inputs[j] * filter[j]).sum();
            finite + if i == OUTPUTS - 1 { inputs[5] * filter[5] } else { 0.0 }
        })
    }

    #[test]
    fn lines_are_convolved() {
        let (d, g) = ([1.0, -2.0, 0.5, 3.0, 4.0, -1.5], [0.25, -1.0, 2.0]);
        for (i, found) in convolve(d, g).into_iter().enumerate() {
            let wanted: f64 = (0..TAPS).map(|r| d[i + r] * g[r]).sum();
            assert!((found - wanted).abs() < 1e-12, "{i}: {found} instead of {wanted}");
        }
    }

    #[test]
    fn filters_are_transformed_in_both_dimensions() {
        let (down, right) = ([1.0, 2.0, -3.0], [0.5, 0.0, 4.0]);
        let taps = down.map(|y| right.map(|x| x * y));
        let (rows, columns) = (filter_line(down), filter_line(right));
        for (i, line) in transform_filter(taps).iter().enumerate() {
            for (j, found) in line.iter().enumerate() {
                assert!((found - rows[i] * columns[j]).abs() < 1e-12);
            }
        }
    }
}
