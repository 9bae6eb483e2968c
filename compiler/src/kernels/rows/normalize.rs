//! Softmax and layer normalisation of one row.

use ired_graph::{DType, ReduceFn};
use ired_mlir::{Builder, Value};

use super::Row;
use crate::kernels::eval::{Axis, Known, Place, Point};
use crate::kernels::math::Math;

pub(super) fn emit_softmax<'m>(row: &Row<'_, '_, 'm>, b: &Builder<'m>, log: bool) {
    let (f, plan) = (row.f, row.plan);
    let ty = row.vector(b);
    let spread = |b: &Builder<'m>, x: Value<'m>| b.broadcast(x, plan.lanes);
    let is_wide = f.is_wide && plan.lanes == 16;
    let exp = |b: &Builder<'m>, x: Value<'m>| match ty.bits() {
        Some(32) => Math::new(b, ty).softmax_exp(x, is_wide),
        _ => Math::new(b, ty).exp(x),
    };
    // A NaN anywhere makes the sum one, whatever was subtracted.
    let greatest = spread(b, row.greatest(b));
    let shifted = |b: &Builder<'m>, point: &Point<'m>| b.subf(row.read(b, point), greatest);
    // Exponentials are kept in the output where nothing else is to be stored there.
    let result = f.root().results[0];
    let kept = !log && f.output() == result && matches!(f.dtype(result), DType::F32 | DType::F64);
    let sum = row.reduce(b, ReduceFn::Sum, 4, &|b, point| {
        let e = exp(b, shifted(b, point));
        if kept {
            let (offset, _) = f.offset(b, result, point);
            f.write(b, result, offset, e, point.mask);
        }
        e
    });
    if log {
        let log_sum = spread(b, Math::new(b, sum.ty()).log(sum));
        return row.store(b, &|b, point| b.subf(shifted(b, point), log_sum));
    }
    let inverse = spread(b, b.divf(b.float(sum.ty(), 1.0), sum));
    row.store(b, &|b, point| {
        let e = match (kept, f.memory(result)) {
            (true, Some(memref)) => f.read(b, result, memref, point),
            _ => exp(b, shifted(b, point)),
        };
        b.mulf(e, inverse)
    });
}

pub(super) fn emit_layer_norm<'m>(row: &Row<'_, '_, 'm>, b: &Builder<'m>, epsilon: f64) {
    let (f, plan) = (row.f, row.plan);
    let root = f.root();
    let spread = |b: &Builder<'m>, x: Value<'m>| b.broadcast(x, plan.lanes);
    let sum = row.reduce(b, ReduceFn::Sum, 4, &|b, point| row.read(b, point));
    let mean = spread(b, f.finish(b, ReduceFn::Mean, plan.sums, sum, &row.count()));
    let squares = row.reduce(b, ReduceFn::Sum, 4, &|b, point| {
        let d = b.subf(row.read(b, point), mean);
        b.mulf(d, d)
    });
    let variance = f.finish(b, ReduceFn::Mean, plan.sums, squares, &row.count());
    let deviation = b.sqrt(b.addf(variance, b.float(variance.ty(), epsilon)));
    let inverse = spread(b, b.divf(b.float(variance.ty(), 1.0), deviation));
    let axis = plan.kept.len();
    row.store(b, &|b, point| {
        let mut y = b.mulf(b.subf(row.read(b, point), mean), inverse);
        let inner = match &point.place {
            Place::Axes(axes) => Point { place: Place::Axes(axes[axis..].to_vec()), ..point.clone() },
            Place::Linear(index) => Point { place: Place::Linear(Axis::at(index.base)), ..point.clone() },
        };
        if let Some(scale) = root.operands.get(1) {
            y = b.mulf(y, f.eval_lanes(b, *scale, &inner, &mut Known::default()));
        }
        if let Some(bias) = root.operands.get(2) {
            y = b.addf(y, f.eval_lanes(b, *bias, &inner, &mut Known::default()));
        }
        y
    });
}
