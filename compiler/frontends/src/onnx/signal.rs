//! Spectra: the discrete Fourier transform, of whole axes and of frames, as products with tables of sines and cosines.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, axis, invalid, read_size, sizes_of, unsupported};

/// Input `[.., n, .., 1 or 2]`: the last axis holds real and imaginary parts.
pub(super) fn dft(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let inverse = call.attributes.flag("inverse", false)?;
    let onesided = call.attributes.flag("onesided", false)?;
    let view = View::of(b, call, x)?;
    let stated = call.optional(1).map(|value| read_size(b, value, call.name)).transpose()?;
    let length = match (stated, inverse && onesided) {
        (Some(length), _) => length,
        (None, false) => view.size.clone(),
        // One side of a real signal's spectrum has half the elements and one more.
        (None, true) => (view.size.clone() - 1.into()) * 2.into(),
    };
    let transform = Transform { length, inverse, onesided };
    let (dtype, x) = (b.ty(x).dtype, working(b, x)?);
    let apart = vec![view.before.clone(), view.size.clone(), view.after.clone(), view.parts.clone()];
    let x = b.reshape(x, apart)?;
    let (real, imaginary) = split_parts(b, x)?;
    let terms = transform.terms(b, &view.size);
    let rows = view.before.clone() * view.after.clone();
    let cut = |b: &mut Builder<'_>, part: ValueId| {
        let part = b.slice_axis(part, 1, 0.into(), terms.clone())?;
        let part = b.transpose(part, vec![0, 2, 1])?;
        b.reshape(part, vec![rows.clone(), terms.clone()])
    };
    let real = cut(b, real)?;
    let imaginary = imaginary.map(|part| cut(b, part)).transpose()?;
    let (result, parts) = transform.apply(b, real, imaginary, &terms)?;
    let count = transform.count();
    let apart = vec![view.before.clone(), view.after.clone(), count.clone(), parts.clone()];
    let result = b.reshape(result, apart)?;
    let result = b.transpose(result, vec![0, 2, 1, 3])?;
    let shape = view.shape(b, count, parts)?;
    let result = b.reshape(result, shape)?;
    Ok(b.cast(result, dtype)?)
}

/// One side of the spectrum of real signals, which are the last axis; its parts become a last axis.
pub(super) fn spectrum(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    one_sided_last_axis(call)?;
    let x = call.input(0)?;
    let Some((length, outer)) = b.ty(x).shape.split_last() else { return invalid("a scalar signal") };
    let (length, outer) = (length.clone(), outer.to_vec());
    let transform = Transform { length: length.clone(), inverse: false, onesided: true };
    let (dtype, x) = (b.ty(x).dtype, working(b, x)?);
    let rows = b.reshape(x, vec![product(&outer), length.clone()])?;
    let (result, parts) = transform.apply(b, rows, None, &length)?;
    let result = b.reshape(result, [outer, vec![transform.count(), parts]].concat())?;
    Ok(b.cast(result, dtype)?)
}

/// Real signals of even length from one side of their spectrum, the inverse of [`spectrum`].
pub(super) fn signal_of_spectrum(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    one_sided_last_axis(call)?;
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    let [outer @ .., size, _] = shape.as_slice() else { return invalid("a spectrum of rank under 2") };
    let length = (size.clone() - 1.into()) * 2.into();
    let transform = Transform { length: length.clone(), inverse: true, onesided: true };
    let (dtype, x) = (b.ty(x).dtype, working(b, x)?);
    let (real, imaginary) = split_parts(b, x)?;
    let rows = vec![product(outer), size.clone()];
    let real = b.reshape(real, rows.clone())?;
    let imaginary = imaginary.map(|part| b.reshape(part, rows)).transpose()?;
    let (result, _) = transform.apply(b, real, imaginary, size)?;
    let result = b.reshape(result, [outer.to_vec(), vec![length]].concat())?;
    Ok(b.cast(result, dtype)?)
}

fn one_sided_last_axis(call: &Call<'_>) -> Outcome<()> {
    let found = ["onesided", "normalized", "signal_ndim"].map(|name| call.attributes.int_or(name, -1));
    let [one_sided, normalized, axes] = found;
    match (one_sided?, normalized?, axes?) {
        (1 | -1, 0 | -1, 1 | -1) => Ok(()),
        (one_sided, normalized, axes) => unsupported(
            format!("onesided {one_sided}, normalized {normalized}, signal_ndim {axes}"),
            "use onesided 1, normalized 0 and signal_ndim 1, or the standard DFT",
        ),
    }
}

/// In the type that spectra are computed in.
fn working(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let dtype = if b.ty(x).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    Ok(b.cast(x, dtype)?)
}

fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::constant(1), |all, d| all * d.clone())
}

/// A tensor taken as `[before, size, after, parts]`.
struct View {
    before: Dim,
    size: Dim,
    after: Dim,
    parts: Dim,
    outer: Vec<Dim>,
    axis: Place,
}

/// Which axis is transformed.
enum Place {
    Known(usize),
    /// An i64 scalar, counted from the front.
    Computed(ValueId),
}

impl View {
    fn of(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId) -> Outcome<Self> {
        let shape = b.ty(x).shape.clone();
        let Some((parts, outer)) = shape.split_last().filter(|(_, outer)| !outer.is_empty()) else {
            return invalid("input of rank under 2; its last axis holds real and imaginary parts");
        };
        // An attribute before version 20, an input from then on.
        let stated = match call.version >= 20 {
            false => Ok(call.attributes.int_or("axis", 1)?),
            true => match call.optional(2) {
                None => Ok(-2),
                Some(value) => match sizes_of(b, value).as_deref() {
                    Some([only]) => only.as_static().ok_or(value),
                    _ => Err(value),
                },
            },
        };
        let (parts, outer) = (parts.clone(), outer.to_vec());
        match stated {
            Ok(number) => {
                let at = axis(number, shape.len())?;
                if at == outer.len() {
                    return invalid(format!("axis {number} is that of real and imaginary parts"));
                }
                let (before, size, after) =
                    (product(&outer[..at]), outer[at].clone(), product(&outer[at + 1..]));
                Ok(Self { before, size, after, parts, outer, axis: Place::Known(at) })
            }
            Err(value) => {
                let value = b.reshape(value, Vec::new())?;
                let value = b.cast(value, DType::I64)?;
                let from_end = b.binary_scalar(BinaryFn::Add, value, shape.len() as f64)?;
                let zero = b.scalar(DType::I64, 0.0)?;
                let counts_back = b.compare_broadcast(CompareFn::Lt, value, zero)?;
                let at = b.select_broadcast(counts_back, from_end, value)?;
                let sizes = b.dims(outer.clone())?;
                let number = b.iota(DType::I64, vec![(outer.len() as i64).into()], 0)?;
                let one = b.scalar(DType::I64, 1.0)?;
                let mut of = |function| {
                    let counts = b.compare_broadcast(function, number, at)?;
                    let counted = b.select_broadcast(counts, sizes, one)?;
                    let product = b.reduce(ReduceFn::Product, counted, &[0], false)?;
                    read_size(b, product, "extent")
                };
                let (before, size, after) = (of(CompareFn::Lt)?, of(CompareFn::Eq)?, of(CompareFn::Gt)?);
                Ok(Self { before, size, after, parts, outer, axis: Place::Computed(at) })
            }
        }
    }

    /// The tensor's own shape, with `count` along the axis.
    fn shape(&self, b: &mut Builder<'_>, count: Dim, parts: Dim) -> Outcome<Vec<Dim>> {
        let mut shape = self.outer.clone();
        match self.axis {
            Place::Known(at) => shape[at] = count,
            Place::Computed(at) => {
                let sizes = b.dims(self.outer.clone())?;
                let number = b.iota(DType::I64, vec![(shape.len() as i64).into()], 0)?;
                let is_it = b.compare_broadcast(CompareFn::Eq, number, at)?;
                let count = b.dim(count)?;
                let sizes = b.select_broadcast(is_it, count, sizes)?;
                for (at, size) in shape.iter_mut().enumerate() {
                    let own = b.slice_axis(sizes, 0, (at as i64).into(), 1.into())?;
                    *size = read_size(b, own, "size")?;
                }
            }
        }
        shape.push(parts);
        Ok(shape)
    }
}

/// The two parts along the last axis, without it.
fn split_parts(b: &mut Builder<'_>, x: ValueId) -> Outcome<(ValueId, Option<ValueId>)> {
    let shape = b.ty(x).shape.clone();
    let Some((parts, outer)) = shape.split_last() else { return invalid("a scalar signal") };
    let part = |b: &mut Builder<'_>, at: Dim| {
        let part = b.slice_axis(x, shape.len() - 1, at, 1.into())?;
        b.reshape(part, outer.to_vec())
    };
    let real = part(b, 0.into())?;
    let imaginary = match parts.as_static() {
        Some(1) => None,
        Some(2) => Some(part(b, 1.into())?),
        Some(other) => return invalid(format!("a last axis of {other}; expected real and imaginary parts")),
        None => {
            let last = part(b, parts.clone() - 1.into())?;
            let (parts, one) = (b.dim(parts.clone())?, b.dim(1.into())?);
            let is_complex = b.compare_broadcast(CompareFn::Gt, parts, one)?;
            let zero = b.scalar_like(last, 0.0)?;
            Some(b.select_broadcast(is_complex, last, zero)?)
        }
    };
    Ok((real, imaginary))
}

/// A discrete Fourier transform of signals as rows.
struct Transform {
    length: Dim,
    inverse: bool,
    /// Only the first half of the spectrum: of the result, or of an inverse's input.
    onesided: bool,
}

impl Transform {
    fn half(&self) -> Dim {
        self.length.floor_div(&2.into()) + 1.into()
    }

    /// How many elements the result has.
    fn count(&self) -> Dim {
        if self.onesided && !self.inverse { self.half() } else { self.length.clone() }
    }

    /// How many of the input's `size` elements count; those that are missing are zeros.
    fn terms(&self, b: &Builder<'_>, size: &Dim) -> Dim {
        let most = if self.onesided && self.inverse { self.half() } else { self.length.clone() };
        b.graph.symbols.simplify(&size.minimum(&most))
    }

    /// Rows `[r, terms]` to `[r, count, parts]`, and how many parts there are.
    fn apply(
        &self,
        b: &mut Builder<'_>,
        real: ValueId,
        imaginary: Option<ValueId>,
        terms: &Dim,
    ) -> Outcome<(ValueId, Dim)> {
        let (cosines, sines) = self.tables(b, terms, b.ty(real).dtype)?;
        let times = |b: &mut Builder<'_>, rows, table| b.matmul_broadcast(rows, table);
        let with = |b: &mut Builder<'_>, sum, function, other: Option<ValueId>, table| match other {
            None => Outcome::Ok(sum),
            Some(other) => {
                let product = times(b, other, table)?;
                Ok(b.binary_broadcast(function, sum, product)?)
            }
        };
        let sum = times(b, real, cosines)?;
        // Forward: e^-iθ = cos θ - i sin θ; backward: e^iθ.
        let function = if self.inverse { BinaryFn::Sub } else { BinaryFn::Add };
        let real_sum = with(b, sum, function, imaginary, sines)?;
        if self.inverse && self.onesided {
            let result = b.unsqueeze(real_sum, &[2])?;
            return Ok((result, 1.into()));
        }
        let mut turned = times(b, real, sines)?;
        if !self.inverse {
            turned = b.unary(UnaryFn::Neg, turned)?;
        }
        let imaginary_sum = with(b, turned, BinaryFn::Add, imaginary, cosines)?;
        let both = [b.unsqueeze(real_sum, &[2])?, b.unsqueeze(imaginary_sum, &[2])?];
        Ok((b.concat(&both, 2)?, 2.into()))
    }

    /// Cosines and sines of `2π · j · k / length` for `j < terms` and `k < count`, as an inverse weighs them.
    fn tables(&self, b: &mut Builder<'_>, terms: &Dim, dtype: DType) -> Outcome<(ValueId, ValueId)> {
        let shape = vec![terms.clone(), self.count()];
        let (j, k) = (b.iota(DType::I64, shape.clone(), 0)?, b.iota(DType::I64, shape, 1)?);
        let length = b.dim(self.length.clone())?;
        // Whole turns are taken off exactly.
        let product = b.binary_broadcast(BinaryFn::Mul, j, k)?;
        let part = b.binary_broadcast(BinaryFn::Rem, product, length)?;
        let (part, length) = (b.cast(part, DType::F64)?, b.cast(length, DType::F64)?);
        let turns = b.binary_broadcast(BinaryFn::Div, part, length)?;
        let angle = b.binary_scalar(BinaryFn::Mul, turns, std::f64::consts::TAU)?;
        let mut tables = [b.unary(UnaryFn::Cos, angle)?, b.unary(UnaryFn::Sin, angle)?];
        if self.inverse {
            let mut weight = b.unary(UnaryFn::Reciprocal, length)?;
            if self.onesided {
                weight = self.mirrored(b, terms, weight)?;
            }
            for table in &mut tables {
                *table = b.binary_broadcast(BinaryFn::Mul, *table, weight)?;
            }
        }
        Ok((b.cast(tables[0], dtype)?, b.cast(tables[1], dtype)?))
    }

    /// Elements of one side stand for their mirror images too, but for the first and the one in the middle.
    fn mirrored(&self, b: &mut Builder<'_>, terms: &Dim, weight: ValueId) -> Outcome {
        let j = b.iota(DType::I64, vec![terms.clone(), 1.into()], 0)?;
        let length = b.dim(self.length.clone())?;
        let other = b.binary_broadcast(BinaryFn::Sub, length, j)?;
        let zero = b.scalar(DType::I64, 0.0)?;
        let is_first = b.compare_broadcast(CompareFn::Eq, j, zero)?;
        let is_middle = b.compare_broadcast(CompareFn::Eq, j, other)?;
        let alone = b.binary_broadcast(BinaryFn::Or, is_first, is_middle)?;
        let twice = b.binary_scalar(BinaryFn::Mul, weight, 2.0)?;
        Ok(b.select_broadcast(alone, weight, twice)?)
    }
}

/// Signals `[n, length]` or `[n, length, 1 or 2]` to the spectra of frames `[n, frames, count, 2]`.
pub(super) fn stft(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let onesided = call.attributes.flag("onesided", true)?;
    let step = read_size(b, call.input(1)?, call.name)?;
    let window = call.optional(2);
    let shape = b.ty(x).shape.clone();
    if !(2..=3).contains(&shape.len()) {
        return invalid(format!("a signal of rank {}; expected 2 or 3", shape.len()));
    }
    let length = match (call.optional(3), window) {
        (Some(value), _) => read_size(b, value, call.name)?,
        (None, Some(window)) => b.ty(window).elements(),
        (None, None) => shape[1].clone(),
    };
    if b.graph.symbols.range(&step).max < 1 {
        return invalid("a step between frames under 1");
    }
    let dtype = b.ty(x).dtype;
    let working = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let x = b.cast(x, working)?;
    let x = if shape.len() == 2 { b.unsqueeze(x, &[2])? } else { x };
    let (real, imaginary) = split_parts(b, x)?;
    let frames = (shape[1].clone() - length.clone()).floor_div(&step) + 1.into();
    let frames = b.graph.symbols.simplify(&frames);
    let table = vec![frames.clone(), length.clone()];
    let (frame, own) = (b.iota(DType::I64, table.clone(), 0)?, b.iota(DType::I64, table, 1)?);
    let step = b.dim(step)?;
    let start = b.binary_broadcast(BinaryFn::Mul, frame, step)?;
    let index = b.binary_broadcast(BinaryFn::Add, start, own)?;
    let rows = shape[0].clone() * frames.clone();
    let cut = |b: &mut Builder<'_>, part: ValueId| {
        let mut cut = b.gather(part, index, 1)?;
        if let Some(window) = window {
            let window = b.cast(window, working)?;
            cut = b.binary_broadcast(BinaryFn::Mul, cut, window)?;
        }
        b.reshape(cut, vec![rows.clone(), length.clone()])
    };
    let real = cut(b, real)?;
    let imaginary = imaginary.map(|part| cut(b, part)).transpose()?;
    let transform = Transform { length: length.clone(), inverse: false, onesided };
    let (result, parts) = transform.apply(b, real, imaginary, &length)?;
    let result = b.reshape(result, vec![shape[0].clone(), frames, transform.count(), parts])?;
    Ok(b.cast(result, dtype)?)
}
