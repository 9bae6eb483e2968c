//! Broadcasts that repeat each element a few times, as an image is enlarged: known by row-major numbers alone.

use ired_graph::{Graph, ValueId};
use ired_mlir::{Builder, Value};

use super::{Axis, Known, Point};
use crate::kernels::function::Function;

/// How often each element of the operand follows itself, if that is all that the broadcast does; a power of two.
pub(in crate::kernels) fn repetitions(graph: &Graph, operand: ValueId, value: ValueId) -> Option<usize> {
    const MOST: i64 = 64;
    let (from, to) = (&graph.ty(operand).shape, &graph.ty(value).shape);
    let ((one, outer), (times, outer_to)) = (from.split_last()?, to.split_last()?);
    let times = times.as_static().filter(|n| (2..=MOST).contains(n) && n.count_ones() == 1)?;
    let fits = one.as_static() == Some(1) && outer == outer_to && !graph.ty(value).dtype.is_complex();
    fits.then_some(times as usize)
}

impl<'m> Function<'_, 'm> {
    /// Elements of a row-major number on, the first of several a multiple of the lanes.
    pub(super) fn eval_repeated(
        &self,
        b: &Builder<'m>,
        operand: ValueId,
        times: usize,
        axis: Axis<'m>,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let base = b.divui(axis.base, b.index(times as i64));
        let lanes = point.lanes / times;
        if lanes < 2 {
            return self.eval(b, operand, &Point::linear(Axis::at(base), 1, None), known);
        }
        let first_of_each: Vec<i64> = (0..lanes).map(|lane| (lane * times) as i64).collect();
        let mask = point.mask.map(|mask| b.shuffle(mask, mask, &first_of_each));
        let x = self.eval_lanes(b, operand, &Point::linear(Axis::along(base), lanes, mask), known);
        let repeated: Vec<i64> = (0..point.lanes).map(|lane| (lane / times) as i64).collect();
        b.shuffle(x, x, &repeated)
    }
}
