//! Sources: constants, dimensions and counters, whose elements come from nowhere else.

use ired_graph::{DType, Node, Op, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::{Axis, Place, Point, spread};
use crate::kernels::arithmetic::{cast, register_type};
use crate::kernels::function::Function;

impl<'m> Function<'_, 'm> {
    pub(super) fn eval_source(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        point: &Point<'m>,
    ) -> Value<'m> {
        let dtype = self.dtype(value);
        match &node.op {
            Op::Constant(tensor) => {
                if let Some(register) = splat(b, tensor) {
                    return register;
                }
                match self.constant_array(b, value) {
                    Some(memref) => self.read(b, value, memref, point),
                    None => {
                        self.unsupported(node, dtype, "constants of this type need one value");
                        self.zero(b, value)
                    }
                }
            }
            Op::Iota { axis, .. } => {
                let axis = self.to_axes(b, value, point)[*axis];
                let index = self.lane_indices(b, axis, point.lanes);
                let whole = b.index_cast(index, b.int_type(64));
                cast(b, DType::I64, dtype, whole)
            }
            Op::Dims { values, .. } => {
                if let [only] = values.as_slice() {
                    return b.index_cast(self.dim(only), b.int_type(64));
                }
                let axis = match &point.place {
                    Place::Linear(axis) => *axis,
                    Place::Axes(axes) => self.linear_axis(b, self.shape(value), axes),
                };
                let index = self.lane_indices(b, axis, point.lanes);
                let lanes = index.ty().vector_lanes().unwrap_or(1);
                let mut chosen = spread(b, b.index(0), lanes);
                for (i, dim) in values.iter().enumerate() {
                    let here = b.cmpi(Compare::Eq, index, b.integer(index.ty(), i as i64));
                    chosen = b.select(here, spread(b, self.dim(dim), lanes), chosen);
                }
                b.index_cast(chosen, b.int_type(64))
            }
            _ => self.zero(b, value),
        }
    }

    /// `base + lane * step` as index, in every lane if lanes differ.
    fn lane_indices(&self, b: &Builder<'m>, axis: Axis<'m>, lanes: usize) -> Value<'m> {
        if axis.step == 0 || lanes == 1 {
            return axis.base;
        }
        let numbers = b.lane_numbers(lanes);
        let distance = b.muli(numbers, b.integer(numbers.ty(), axis.step));
        b.addi(b.broadcast(axis.base, lanes), distance)
    }
}

/// The one value of a constant, if all its elements are the same bytes.
fn splat<'m>(b: &Builder<'m>, tensor: &ired_graph::Tensor) -> Option<Value<'m>> {
    let dtype = tensor.dtype();
    let ty = register_type(b, dtype);
    if dtype.bits() < 8 {
        let first = tensor.data().first()?;
        if tensor.data().len() > 1 || tensor.shape().iter().any(|d| *d != 1) {
            return None;
        }
        let unused = 8 - dtype.bits();
        let high = first << unused;
        let low = if dtype.is_signed_integer() {
            high.cast_signed() >> unused
        } else {
            (high >> unused).cast_signed()
        };
        return Some(b.integer(ty, i64::from(low)));
    }
    let bytes = dtype.bits() / 8;
    let mut elements = tensor.data().chunks_exact(bytes);
    let first = elements.next()?;
    if elements.any(|other| other != first) {
        return None;
    }
    let word = |bytes: &[u8]| {
        let mut wide = [0u8; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(wide)
    };
    if let (Some(DType::F64), (low, high)) = (dtype.part(), first.split_at(bytes / 2)) {
        let half = |bytes| b.extui(b.integer(b.int_type(64), word(bytes).cast_signed()), ty);
        return Some(b.ori(half(low), b.shli(half(high), b.integer(ty, 64))));
    }
    let raw = word(first);
    Some(match dtype {
        DType::F32 => b.float(ty, f64::from(f32::from_bits(raw as u32))),
        DType::F64 => b.float(ty, f64::from_bits(raw)),
        DType::F16 => b.float(ty, f64::from(half::f16::from_bits(raw as u16).to_f32())),
        DType::BF16 => b.float(ty, f64::from(half::bf16::from_bits(raw as u16).to_f32())),
        DType::Bool => b.bool(raw != 0),
        _ => {
            let shift = 64 - dtype.bits();
            let signed = ((raw << shift).cast_signed()) >> shift;
            b.integer(ty, signed)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_equal_elements_are_one_register() {
        let context = ired_mlir::Context::new();
        let module = ired_mlir::Module::new(&context);
        let data = bytes::Bytes::from_static(&[0, 0, 0, 0x40, 0, 0, 0, 0x40]);
        let two = ired_graph::Tensor::new(DType::F32, vec![2], data).unwrap();
        module.builder().func("f", &[], &[], |b, _| {
            assert!(splat(b, &two) == Some(b.float(b.f32_type(), 2.0)));
            b.ret(&[]);
        });
    }
}
