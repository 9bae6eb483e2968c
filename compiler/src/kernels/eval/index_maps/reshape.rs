//! One element, numbered in different shapes: row-major numbers, indices per axis, and reshapes between them.

use ired_graph::{Dim, ValueId};
use ired_mlir::{Builder, Value};

use super::{Axis, Place, Point};
use crate::kernels::function::{Function, product};

impl<'m> Function<'_, 'm> {
    /// Row-major number of an index; lanes must be along one axis whose stride is known.
    pub(in crate::kernels::eval) fn linear_axis(
        &self,
        b: &Builder<'m>,
        shape: &[Dim],
        axes: &[Axis<'m>],
    ) -> Axis<'m> {
        let mut number = Axis::at(b.index(0));
        let mut stride = Dim::constant(1);
        for (axis, size) in axes.iter().zip(shape).rev() {
            let base = b.muli(axis.base, self.dim(&stride));
            number.base = b.addi(base, number.base);
            if axis.step != 0 {
                number.step = axis.step * stride.as_static().unwrap_or(0);
                number.aligned = axis.aligned && number.step == 1;
            }
            stride = stride * size.clone();
        }
        number
    }

    /// The point as an index per axis. Lanes of a linear point are kept only along the last axis.
    pub(in crate::kernels::eval) fn to_axes(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        point: &Point<'m>,
    ) -> Vec<Axis<'m>> {
        match &point.place {
            Place::Axes(axes) => axes.clone(),
            Place::Linear(axis) => {
                let mut axes = self.split_index(b, axis.base, self.shape(value));
                if let Some(last) = axes.last_mut() {
                    last.step = axis.step;
                }
                axes
            }
        }
    }

    /// Index per axis of a row-major number.
    pub(in crate::kernels) fn split_index(
        &self,
        b: &Builder<'m>,
        number: Value<'m>,
        shape: &[Dim],
    ) -> Vec<Axis<'m>> {
        let mut rest = number;
        let mut axes = Vec::new();
        for (i, size) in shape.iter().enumerate().rev() {
            if size.as_static() == Some(1) {
                axes.push(Axis::at(b.index(0)));
            } else if i == 0 || product(&shape[..i]).as_static() == Some(1) {
                axes.push(Axis::at(rest));
                rest = b.index(0);
            } else {
                let size = self.dim(size);
                axes.push(Axis::at(b.remui(rest, size)));
                rest = b.divui(rest, size);
            }
        }
        axes.reverse();
        axes
    }

    /// Maps an index through a reshape, group by group of axes with equal products. `None` where lanes do not
    /// stay along one axis.
    pub(in crate::kernels::eval) fn reshape_axes(
        &self,
        b: &Builder<'m>,
        operand: ValueId,
        value: ValueId,
        axes: &[Axis<'m>],
        lanes: usize,
    ) -> Option<Vec<Axis<'m>>> {
        let (from, to) = (self.shape(operand), self.shape(value));
        let mut result = Vec::new();
        for (from_group, to_group) in groups(from, to) {
            let (from_shape, to_shape) = (&from[from_group], &to[to_group.clone()]);
            let group = &axes[to_group];
            if from_shape == to_shape {
                result.extend_from_slice(group);
                continue;
            }
            let lane = group.iter().position(|axis| axis.step != 0);
            if let Some(i) = lane {
                product(&to_shape[i + 1..]).as_static()?;
            }
            let number = self.linear_axis(b, to_shape, group);
            let mut split = self.split_index(b, number.base, from_shape);
            if lane.is_some() {
                // Lanes stay within the last axis if they start at a multiple of their number and it is one too.
                let last = from_shape.iter().rposition(|d| d.as_static() != Some(1))?;
                let whole = from_shape[..last].iter().all(|d| d.as_static() == Some(1));
                let divides = from_shape[last].as_static().is_some_and(|d| d % lanes as i64 == 0);
                let stays = whole || (number.aligned && divides);
                if !stays {
                    return None;
                }
                split[last].step = number.step;
                split[last].aligned = number.aligned;
            }
            result.extend(split);
        }
        Some(result)
    }
}

/// Splits two shapes of equal products into groups of axes with equal products, as fine as can be shown.
fn groups(from: &[Dim], to: &[Dim]) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let (start_i, start_j) = (i, j);
        let (mut left, mut right) = (Dim::constant(1), Dim::constant(1));
        loop {
            let take_left = match (left.as_static(), right.as_static()) {
                _ if i == from.len() => false,
                _ if j == to.len() => true,
                _ if i == start_i && j == start_j => true,
                _ if j == start_j => false,
                (Some(l), Some(r)) => l < r,
                // A symbolic side is matched by what the other still lacks.
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => i - start_i <= j - start_j,
            };
            if take_left {
                left = left * from[i].clone();
                i += 1;
            } else {
                right = right * to[j].clone();
                j += 1;
            }
            if left == right || (i == from.len() && j == to.len()) {
                break;
            }
        }
        found.push((start_i..i, start_j..j));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[i64]) -> Vec<Dim> {
        dims.iter().map(|d| Dim::constant(*d)).collect()
    }

    #[test]
    fn reshapes_split_into_the_finest_groups() {
        assert_eq!(groups(&shape(&[2, 12, 64]), &shape(&[2, 768])), vec![(0..1, 0..1), (1..3, 1..2)]);
        assert_eq!(groups(&shape(&[6, 5]), &shape(&[2, 3, 5])), vec![(0..1, 0..2), (1..2, 2..3)]);
        assert_eq!(groups(&shape(&[4, 6]), &shape(&[6, 4])), vec![(0..2, 0..2)]);
        assert_eq!(groups(&shape(&[]), &shape(&[1, 1])), vec![(0..0, 0..1), (0..0, 1..2)]);
    }
}
