//! From one element type to another, in registers.

use ired_graph::DType;
use ired_mlir::{Builder, Compare, FloatCompare, Type, Value};

use super::super::narrow;
use super::{from_storage, register_type, storage_type, to_storage};

pub(in crate::kernels) fn cast<'m>(b: &Builder<'m>, from: DType, to: DType, x: Value<'m>) -> Value<'m> {
    if from == to {
        return x;
    }
    if from.is_narrow_float() {
        return cast(b, DType::F32, to, narrow::decode(b, from, x));
    }
    if to.is_narrow_float() {
        return narrow::encode(b, to, before_rounding(b, from, x));
    }
    let target = register_type(b, to);
    match (from.is_float(), to) {
        (true, DType::Bool) => b.cmpf(FloatCompare::Ne, x, b.float(x.ty(), 0.0)),
        (false, DType::Bool) => b.cmpi(Compare::Ne, x, b.integer(x.ty(), 0)),
        (_, DType::F16 | DType::BF16) => round_through(b, to, before_rounding(b, from, x)),
        (true, _) if to.is_float() => resize_float(b, x, target),
        (true, _) => float_to_integer(b, to, x),
        (false, _) if to.is_float() => {
            if from.is_signed_integer() {
                b.sitofp(x, target)
            } else {
                b.uitofp(x, target)
            }
        }
        (false, _) => narrow_to(b, to, resize_integer(b, from, x, target)),
    }
}

/// A number as f32 that rounds to a narrower float as the number itself does.
fn before_rounding<'m>(b: &Builder<'m>, from: DType, x: Value<'m>) -> Value<'m> {
    let signed = from.is_signed_integer();
    match from {
        DType::F64 => narrow::to_odd_f32(b, x),
        _ if from.is_float() => x,
        _ if from.bits() >= 32 => narrow::integer_to_odd_f32(b, signed, x),
        _ if signed => b.sitofp(x, b.f32_type()),
        _ => b.uitofp(x, b.f32_type()),
    }
}

/// What is in memory as `from`, as it is there as `to`, a type of as many bits.
pub(in crate::kernels) fn bit_cast<'m>(
    b: &Builder<'m>,
    from: DType,
    to: DType,
    storage: Value<'m>,
) -> Value<'m> {
    let (before, after) = (storage_type(b, from), storage_type(b, to));
    let same = if before == after { storage } else { b.bitcast(storage, after) };
    match to {
        DType::Bool => b.extui(from_storage(b, to, same), after),
        _ => narrow_to(b, to, same),
    }
}

fn resize_float<'m>(b: &Builder<'m>, x: Value<'m>, target: Type<'m>) -> Value<'m> {
    match (x.ty().bits(), target.bits()) {
        (Some(32), Some(64)) => b.extf(x, target),
        (Some(64), Some(32)) => b.truncf(x, target),
        _ => x,
    }
}

/// Drops the bits that f16 and bf16 cannot hold.
fn round_through<'m>(b: &Builder<'m>, dtype: DType, x: Value<'m>) -> Value<'m> {
    match dtype {
        DType::F16 | DType::BF16 => from_storage(b, dtype, to_storage(b, dtype, x)),
        _ => x,
    }
}

fn resize_integer<'m>(b: &Builder<'m>, from: DType, x: Value<'m>, target: Type<'m>) -> Value<'m> {
    match x.ty().bits().cmp(&target.bits()) {
        std::cmp::Ordering::Equal => x,
        std::cmp::Ordering::Greater => b.trunci(x, target),
        std::cmp::Ordering::Less if from.is_signed_integer() => b.extsi(x, target),
        std::cmp::Ordering::Less => b.extui(x, target),
    }
}

/// Wraps an eight-bit register to the bits that the type has.
fn narrow_to<'m>(b: &Builder<'m>, dtype: DType, x: Value<'m>) -> Value<'m> {
    if dtype.bits() >= 8 {
        return x;
    }
    let unused = b.integer(x.ty(), 8 - dtype.bits() as i64);
    let high = b.shli(x, unused);
    if dtype.is_signed_integer() { b.shrsi(high, unused) } else { b.shrui(high, unused) }
}

/// Truncates and saturates; NaN gives 0.
fn float_to_integer<'m>(b: &Builder<'m>, to: DType, x: Value<'m>) -> Value<'m> {
    let target = register_type(b, to);
    let bits = to.bits() as i32;
    let (low, high) = if to.is_signed_integer() {
        (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1))
    } else {
        (0.0, 2f64.powi(bits))
    };
    let (lowest, highest) = if to.is_signed_integer() {
        (-(1i64 << (bits - 1).min(62)) * if bits == 64 { 2 } else { 1 }, ((1i128 << (bits - 1)) - 1) as i64)
    } else {
        (0, if bits == 64 { -1 } else { (1i64 << bits) - 1 })
    };
    if bits <= 16 {
        return float_to_small_integer(b, to, x, low, highest as f64);
    }
    let ty = b.with_element(x.ty(), target);
    let under = b.cmpf(FloatCompare::Le, x, b.float(x.ty(), low));
    let over = b.cmpf(FloatCompare::Ge, x, b.float(x.ty(), high));
    let outside = b.ori(b.ori(under, over), b.cmpf(FloatCompare::Unordered, x, x));
    // Out of range is undefined for the instruction: such lanes convert 0 instead.
    let safe = b.select(outside, b.float(x.ty(), 0.0), x);
    let y = if to.is_signed_integer() { b.fptosi(safe, target) } else { b.fptoui(safe, target) };
    let y = b.select(over, b.integer(ty, highest), y);
    b.select(under, b.integer(ty, lowest), y)
}

/// Limits the float, by one instruction a side, since floats hold the limits of up to 16 bits.
fn float_to_small_integer<'m>(b: &Builder<'m>, to: DType, x: Value<'m>, low: f64, high: f64) -> Value<'m> {
    let (low, high) = (b.float(x.ty(), low), b.float(x.ty(), high));
    // NaN compares as not greater, and so becomes the lower limit: 0, if there are no negative numbers.
    let y = b.select(b.cmpf(FloatCompare::Gt, x, low), x, low);
    let mut y = b.select(b.cmpf(FloatCompare::Lt, y, high), y, high);
    if to.is_signed_integer() {
        y = b.select(b.cmpf(FloatCompare::Unordered, x, x), b.float(x.ty(), 0.0), y);
    }
    b.trunci(b.fptosi(y, b.int_type(32)), register_type(b, to))
}
