//! Values in memory: reading and writing one element or several, wherever they are.

use ired_graph::{DType, Dim, ValueId};
use ired_mlir::{Builder, Value};

use super::{Place, Point, zero_of};
use crate::kernels::KernelError;
use crate::kernels::arithmetic::{from_storage, storage_type, to_storage};
use crate::kernels::function::{Function, product};

impl<'m> Function<'_, 'm> {
    /// Reads a value that is in memory, dense and row-major.
    pub(in crate::kernels) fn read(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        memref: Value<'m>,
        point: &Point<'m>,
    ) -> Value<'m> {
        let storage = self.read_storage(b, value, memref, point);
        from_storage(b, self.dtype(value), storage)
    }

    /// [`Function::read`], as it is in memory; elements of less than eight bits come taken out of their byte.
    pub(in crate::kernels) fn read_storage(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        memref: Value<'m>,
        point: &Point<'m>,
    ) -> Value<'m> {
        let dtype = self.dtype(value);
        let (offset, step) = self.offset(b, value, point);
        match step {
            Step::None => self.read_one(b, dtype, memref, offset),
            Step::Static(1) if dtype.bits() >= 8 => load_lanes(b, memref, offset, point),
            step if dtype.bits() >= 8 => gather_lanes(b, memref, offset, step, point),
            step => {
                let count = point.mask.map(|_| self.dim(&product(self.shape(value))));
                let lanes: Vec<_> = (0..point.lanes as i64)
                    .map(|lane| {
                        let distance = match step {
                            Step::Static(step) => b.index(step * lane),
                            Step::Dynamic(step) => b.muli(step, b.index(lane)),
                            Step::None => b.index(0),
                        };
                        let at = b.addi(offset, distance);
                        let at = count.map_or(at, |count| b.minsi(at, b.subi(count, b.index(1))));
                        self.read_one(b, dtype, memref, at)
                    })
                    .collect();
                b.from_elements(&lanes, storage_type(b, dtype))
            }
        }
    }

    fn read_one(&self, b: &Builder<'m>, dtype: DType, memref: Value<'m>, offset: Value<'m>) -> Value<'m> {
        if dtype.bits() >= 8 {
            return b.load(memref, offset);
        }
        let (bits, byte) = (dtype.bits() as i64, b.int_type(8));
        let per_byte = b.index(8 / bits);
        let packed = b.load(memref, b.divui(offset, per_byte));
        let shift = b.index_cast(b.muli(b.remui(offset, per_byte), b.index(bits)), byte);
        let unused = b.integer(byte, 8 - bits);
        let high = b.shli(b.shrui(packed, shift), unused);
        if dtype.is_signed_integer() { b.shrsi(high, unused) } else { b.shrui(high, unused) }
    }

    /// The row-major element number of a point, and how it grows from lane to lane.
    pub(in crate::kernels) fn offset(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        point: &Point<'m>,
    ) -> (Value<'m>, Step<'m>) {
        let axes = match &point.place {
            Place::Linear(axis) => return (axis.base, Step::from_static(axis.step)),
            Place::Axes(axes) => axes,
        };
        let shape = self.shape(value);
        let mut offset = b.index(0);
        let mut step = Step::None;
        let mut stride = Dim::constant(1);
        for (axis, size) in axes.iter().zip(shape).rev() {
            let stride_value = self.dim(&stride);
            // An axis of one element is at 0.
            if size.as_static() != Some(1) {
                offset = b.addi(b.muli(axis.base, stride_value), offset);
            }
            if axis.step != 0 {
                step = match stride.as_static() {
                    Some(known) => Step::from_static(known * axis.step),
                    None => Step::Dynamic(b.muli(stride_value, b.index(axis.step))),
                };
            }
            stride = stride * size.clone();
        }
        (offset, step)
    }

    /// Writes a register to a value in memory, at an element number and the lanes after it.
    pub(in crate::kernels) fn write(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        offset: Value<'m>,
        register: Value<'m>,
        mask: Option<Value<'m>>,
    ) {
        let storage = self.stored(b, self.dtype(value), register);
        self.write_storage(b, value, offset, storage, mask);
    }

    /// From a register to memory form.
    pub(super) fn stored(&self, b: &Builder<'m>, dtype: DType, register: Value<'m>) -> Value<'m> {
        let lanes = register.ty().vector_lanes();
        if dtype != DType::BF16 || lanes != Some(16) || !self.rounds_at_once {
            return to_storage(b, dtype, register);
        }
        let ty = b.vector_type(16, b.bf16_type());
        let narrow = b.intrinsic("llvm.x86.avx512bf16.cvtneps2bf16.512", &[register], ty);
        b.bitcast(narrow, b.int_type(16))
    }

    /// [`Function::write`], of what is in memory form already.
    pub(in crate::kernels) fn write_storage(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        offset: Value<'m>,
        storage: Value<'m>,
        mask: Option<Value<'m>>,
    ) {
        let dtype = self.dtype(value);
        let Some(memref) = self.memory(value) else {
            return self.fail(KernelError::UnboundValue { value: value.0 });
        };
        debug_assert!(dtype.bits() >= 8, "bytes of several elements are written whole");
        debug_assert!(memref.ty().element() == storage_type(b, dtype));
        store_lanes(b, storage, memref, offset, mask);
    }

    /// Writes the byte that holds several elements, the first in the lowest bits.
    pub(in crate::kernels) fn write_packed(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        byte: Value<'m>,
        elements: &[Value<'m>],
    ) {
        let Some(memref) = self.memory(value) else {
            return self.fail(KernelError::UnboundValue { value: value.0 });
        };
        let bits = self.dtype(value).bits() as i64;
        let c = |value: i64| b.integer(b.int_type(8), value);
        let mut packed = c(0);
        for (i, element) in elements.iter().enumerate() {
            let low = b.andi(*element, c((1 << bits) - 1));
            packed = b.ori(packed, b.shli(low, c(i as i64 * bits)));
        }
        b.store(packed, memref, byte);
    }
}

/// Elements from one lane to the next.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Step<'m> {
    None,
    Static(i64),
    Dynamic(Value<'m>),
}

impl Step<'_> {
    fn from_static(step: i64) -> Self {
        if step == 0 { Self::None } else { Self::Static(step) }
    }
}

fn load_lanes<'m>(b: &Builder<'m>, memref: Value<'m>, offset: Value<'m>, point: &Point<'m>) -> Value<'m> {
    match point.mask {
        None => b.vector_load(memref, offset, point.lanes),
        Some(mask) => {
            let ty = b.vector_type(point.lanes, memref.ty().element());
            b.masked_load(memref, offset, mask, zero_of(b, ty))
        }
    }
}

fn gather_lanes<'m>(
    b: &Builder<'m>,
    memref: Value<'m>,
    offset: Value<'m>,
    step: Step<'m>,
    point: &Point<'m>,
) -> Value<'m> {
    let lanes = point.lanes;
    let distance = match step {
        Step::Static(step) => b.index(step),
        Step::Dynamic(step) => step,
        Step::None => b.index(0),
    };
    let numbers = b.muli(b.lane_numbers(lanes), b.broadcast(distance, lanes));
    let element = memref.ty().element();
    let ty = b.vector_type(lanes, element);
    let mask = point.mask.unwrap_or_else(|| b.integer(b.vector_type(lanes, b.int_type(1)), 1));
    b.simple("vector.gather", &[memref, offset, numbers, mask, zero_of(b, ty)], ty)
}

/// Stores a register at consecutive elements, or one.
fn store_lanes<'m>(
    b: &Builder<'m>,
    storage: Value<'m>,
    memref: Value<'m>,
    offset: Value<'m>,
    mask: Option<Value<'m>>,
) {
    match (storage.ty().vector_lanes(), mask) {
        (None, _) => b.store(storage, memref, offset),
        (Some(_), None) => b.vector_store(storage, memref, offset),
        // LLVM 22 stores a single narrowed lane as wide as it was before.
        (Some(_), Some(mask)) if b.known(mask) == Some(1) => b.store(b.extract(storage, 0), memref, offset),
        (Some(_), Some(mask)) => b.masked_store(storage, memref, offset, mask),
    }
}
