//! Sequences, which the graph does not have: they are composed of tensors here. The tensors of a sequence stand one after
//! the other, each row-major, in one vector, beside a matrix of their shapes.

use ired_graph::types::product;
use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, ReduceFn, Shape, Tensor, ValueId};

use super::call::{Call, Outcome, axis, invalid, read_size, unsupported};
use super::computed::Integers;
use super::import::Binding;
use super::optional::{Held, Optional};

/// A sequence of tensors of one element type and rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    /// `[total]`
    pub(crate) values: ValueId,
    /// i64 `[length, rank]`
    pub(crate) shapes: ValueId,
}

impl Sequence {
    pub(crate) fn length(self, b: &Builder<'_>) -> Dim {
        b.ty(self.shapes).shape[0].clone()
    }

    /// The rank of the tensors; `None` of a sequence that is empty, or whose rank only the run knows.
    pub(crate) fn rank(self, b: &Builder<'_>) -> Option<usize> {
        let shape = &b.ty(self.shapes).shape;
        let rank = shape[1].as_static().and_then(|rank| usize::try_from(rank).ok());
        rank.filter(|rank| *rank > 0 || shape[0] != Dim::constant(0))
    }

    /// The same sequence of tensors of `rank`, which an empty one takes on.
    pub(crate) fn with_rank(self, b: &mut Builder<'_>, rank: usize) -> Outcome<Self> {
        match self.rank(b) {
            Some(found) if found != rank => unsupported(
                format!("tensors of rank {found} and of rank {rank} in one sequence"),
                "keep tensors of one rank in a sequence",
            ),
            Some(_) => Ok(self),
            None => {
                let shape = vec![self.length(b), dim(rank)];
                Ok(Self { shapes: b.reshape(self.shapes, shape)?, ..self })
            }
        }
    }

    pub(crate) fn empty(b: &mut Builder<'_>, dtype: DType) -> Outcome<Self> {
        let values = b.full(dtype, vec![0.into()], 0.0)?;
        Ok(Self { values, shapes: b.constant(Tensor::from_i64s(&[0, 0], &[]))? })
    }

    /// A sequence of one tensor.
    fn of(b: &mut Builder<'_>, tensor: ValueId) -> Outcome<Self> {
        let shape = b.ty(tensor).shape.clone();
        let values = b.reshape(tensor, vec![product(&shape)])?;
        let rows = vec![1, shape.len() as u64];
        Ok(Self { values, shapes: b.push(Op::Dims { values: shape, shape: rows }, &[])? })
    }

    fn join(b: &mut Builder<'_>, parts: &[Self]) -> Outcome<Self> {
        let values: Vec<ValueId> = parts.iter().map(|part| part.values).collect();
        let shapes: Vec<ValueId> = parts.iter().map(|part| part.shapes).collect();
        Ok(Self { values: b.concat(&values, 0)?, shapes: b.concat(&shapes, 0)? })
    }

    /// This sequence with one more tensor at its end.
    pub(crate) fn append(self, b: &mut Builder<'_>, tensor: ValueId) -> Outcome<Self> {
        let one = Self::of(b, tensor)?;
        let rank = b.ty(tensor).rank();
        let all = self.with_rank(b, rank)?;
        Self::join(b, &[all, one])
    }

    /// How many elements each tensor has.
    fn sizes(self, b: &mut Builder<'_>) -> Outcome {
        Ok(b.reduce(ReduceFn::Product, self.shapes, &[1], false)?)
    }

    /// The sum of `sizes` of the tensors whose number compares to `position` so.
    fn sum_where(
        self,
        b: &mut Builder<'_>,
        sizes: ValueId,
        function: CompareFn,
        position: ValueId,
    ) -> Outcome {
        let length = self.length(b);
        let number = b.iota(DType::I64, vec![length], 0)?;
        let mut n = Integers::on(b);
        let counts = n.compare(function, number, position)?;
        let counted = n.select_number(counts, sizes, 0)?;
        Ok(b.reduce(ReduceFn::Sum, counted, &[0], false)?)
    }

    /// A position counted from the front, an i64 scalar.
    fn position(self, b: &mut Builder<'_>, at: ValueId) -> Outcome {
        let length = self.length(b);
        let length = b.dim(length)?;
        let mut n = Integers::on(b);
        let at = n.scalar(at)?;
        n.count_from_front(at, length)
    }

    /// The tensor, of `rank`, at a position.
    pub(crate) fn at(self, b: &mut Builder<'_>, at: ValueId, rank: usize) -> Outcome {
        let all = self.with_rank(b, rank)?;
        let at = all.position(b, at)?;
        let sizes = all.sizes(b)?;
        let start = all.sum_where(b, sizes, CompareFn::Lt, at)?;
        let start = b.reshape(start, vec![1.into()])?;
        let row = b.gather(all.shapes, at, 0)?;
        let read = b.concat(&[row, start], 0)?;
        let mut shape = b.read_dims(read, "element")?;
        let start = shape.pop().unwrap_or(0.into());
        let part = b.slice_axis(all.values, 0, start, product(&shape))?;
        Ok(b.reshape(part, shape)?)
    }

    /// The tensors before number `end`, whose elements end at `end_element`.
    fn head(self, b: &mut Builder<'_>, end: &Dim, end_element: &Dim) -> Outcome<Self> {
        let zero = Dim::constant(0);
        Ok(Self {
            values: b.slice_axis(self.values, 0, zero.clone(), end_element.clone())?,
            shapes: b.slice_axis(self.shapes, 0, zero, end.clone())?,
        })
    }

    /// The tensors from number `start` on, whose elements begin at `start_element`.
    fn tail(self, b: &mut Builder<'_>, start: &Dim, start_element: &Dim) -> Outcome<Self> {
        let (length, total) = (self.length(b), b.ty(self.values).elements());
        let values = b.slice_axis(self.values, 0, start_element.clone(), total - start_element.clone())?;
        let shapes = b.slice_axis(self.shapes, 0, start.clone(), length - start.clone())?;
        Ok(Self { values, shapes })
    }
}

fn dim(size: usize) -> Dim {
    Dim::constant(i64::try_from(size).unwrap_or(i64::MAX))
}

/// Input `index`, which must be a sequence.
pub(super) fn sequence_input(call: &Call<'_>, index: usize) -> Outcome<Sequence> {
    match call.bindings.get(index) {
        Some(Binding::Sequence(sequence)) => Ok(*sequence),
        Some(Binding::Optional(Optional { held: Held::Sequence(sequence), .. })) => Ok(*sequence),
        _ => invalid(format!("input {index} is no sequence")),
    }
}

pub(super) fn construct(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let inputs = call.all_inputs()?;
    let rank = b.ty(inputs[0]).rank();
    let mut parts = Vec::with_capacity(inputs.len());
    for input in inputs {
        parts.push(Sequence::of(b, input)?.with_rank(b, rank)?);
    }
    Ok(vec![Binding::Sequence(Sequence::join(b, &parts)?)])
}

pub(super) fn empty(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let dtype = call.dtype_attribute("dtype")?.unwrap_or(DType::F32);
    Ok(vec![Binding::Sequence(Sequence::empty(b, dtype)?)])
}

pub(super) fn at(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let sequence = sequence_input(call, 0)?;
    let Some(rank) = sequence.rank(b).or_else(|| call.stated_rank(0)) else {
        return unsupported("a tensor whose rank is not known", "state the rank of the output in the model");
    };
    Ok(vec![Binding::Value(sequence.at(b, call.input(1)?, rank)?)])
}

pub(super) fn insert(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let (sequence, tensor) = (sequence_input(call, 0)?, call.input(1)?);
    let Some(at) = call.optional(2) else {
        return Ok(vec![Binding::Sequence(sequence.append(b, tensor)?)]);
    };
    let rank = b.ty(tensor).rank();
    let sequence = sequence.with_rank(b, rank)?;
    let at = sequence.position(b, at)?;
    let sizes = sequence.sizes(b)?;
    let start = sequence.sum_where(b, sizes, CompareFn::Lt, at)?;
    let [at, start] = read_two(b, at, start)?;
    let parts = [sequence.head(b, &at, &start)?, Sequence::of(b, tensor)?, sequence.tail(b, &at, &start)?];
    Ok(vec![Binding::Sequence(Sequence::join(b, &parts)?)])
}

pub(super) fn erase(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let sequence = sequence_input(call, 0)?;
    let at = match call.optional(1) {
        Some(at) => at,
        None => b.scalar(DType::I64, -1.0)?,
    };
    let at = sequence.position(b, at)?;
    let sizes = sequence.sizes(b)?;
    let start = sequence.sum_where(b, sizes, CompareFn::Lt, at)?;
    let end = sequence.sum_where(b, sizes, CompareFn::Le, at)?;
    let [start, end] = read_two(b, start, end)?;
    let at = read_size(b, at, "position")?;
    let parts = [sequence.head(b, &at, &start)?, sequence.tail(b, &(at + 1.into()), &end)?];
    Ok(vec![Binding::Sequence(Sequence::join(b, &parts)?)])
}

fn read_two(b: &mut Builder<'_>, first: ValueId, second: ValueId) -> Outcome<[Dim; 2]> {
    let first = b.reshape(first, vec![1.into()])?;
    let second = b.reshape(second, vec![1.into()])?;
    let both = b.concat(&[first, second], 0)?;
    match <[Dim; 2]>::try_from(b.read_dims(both, "position")?) {
        Ok(both) => Ok(both),
        Err(found) => invalid(format!("{} positions where 2 belong", found.len())),
    }
}

pub(super) fn length(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let length = sequence_input(call, 0)?.length(b);
    Ok(vec![Binding::Value(b.dim(length)?)])
}

/// Parts of one size, the last maybe smaller; or of given sizes; or single slices, without their axis on request.
pub(super) fn split(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    let at = axis(call.attributes.int_or("axis", 0)?, shape.len())?;
    let keep = call.attributes.flag("keepdims", true)?;
    let sequence = match call.optional(1) {
        None => {
            let (flat, mut row) = (front(b, x, at)?, shape.clone());
            row[at] = 1.into();
            if !keep {
                row.remove(at);
            }
            Sequence { values: flat, shapes: rows(b, row, shape[at].clone())? }
        }
        Some(sizes) if b.ty(sizes).rank() == 0 => {
            let size = read_size(b, sizes, "split")?;
            chunks(b, x, at, &size)?
        }
        Some(_) => {
            let sizes = call.sizes_input(b, 1)?;
            let (mut parts, mut start) = (Vec::new(), Dim::constant(0));
            for size in sizes {
                let part = b.slice_axis(x, at, start.clone(), size.clone())?;
                parts.push(Sequence::of(b, part)?);
                start = start + size;
            }
            if parts.is_empty() { Sequence::empty(b, b.ty(x).dtype)? } else { Sequence::join(b, &parts)? }
        }
    };
    Ok(vec![Binding::Sequence(sequence)])
}

/// The elements of `x` as a vector, with axis `at` outermost.
fn front(b: &mut Builder<'_>, x: ValueId, at: usize) -> Outcome {
    let (rank, elements) = (b.ty(x).rank(), b.ty(x).elements());
    let perm = std::iter::once(at).chain((0..rank).filter(|a| *a != at)).collect();
    let moved = b.transpose(x, perm)?;
    Ok(b.reshape(moved, vec![elements])?)
}

/// `count` rows that all are `row`.
fn rows(b: &mut Builder<'_>, row: Shape, count: Dim) -> Outcome {
    let shape = vec![count, dim(row.len())];
    let row = b.dims(row)?;
    Ok(b.broadcast_to(row, shape)?)
}

fn chunks(b: &mut Builder<'_>, x: ValueId, at: usize, size: &Dim) -> Outcome<Sequence> {
    let shape = b.ty(x).shape.clone();
    if *size == Dim::constant(0) {
        return invalid("splits into parts of size 0");
    }
    let (outer, inner) = (product(&shape[..at]), product(&shape[at + 1..]));
    let symbols = &b.graph.symbols;
    let whole = symbols.simplify(&shape[at].floor_div(size));
    let covered = whole.clone() * size.clone();
    let rest = symbols.simplify(&(shape[at].clone() - covered.clone()));
    let parts = symbols.simplify(&shape[at].ceil_div(size)) - whole.clone();
    let main = b.slice_axis(x, at, 0.into(), covered.clone())?;
    let main = b.reshape(main, vec![outer, whole.clone(), size.clone(), inner])?;
    let main = front(b, main, 1)?;
    let mut row = shape.clone();
    row[at] = size.clone();
    let main = Sequence { values: main, shapes: rows(b, row.clone(), whole)? };
    if rest == Dim::constant(0) {
        return Ok(main);
    }
    let last = b.slice_axis(x, at, covered, rest.clone())?;
    let elements = b.ty(last).elements();
    row[at] = rest;
    let last = Sequence { values: b.reshape(last, vec![elements])?, shapes: rows(b, row, parts)? };
    Sequence::join(b, &[main, last])
}

pub(super) fn concat(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    let sequence = sequence_input(call, 0)?;
    let Some(at) = call.attributes.int("axis")? else { return invalid("attribute `axis` is missing") };
    let new = call.attributes.flag("new_axis", false)?;
    let stated = call.stated_rank(0).and_then(|rank| rank.checked_sub(usize::from(new)));
    let Some(rank) = sequence.rank(b).or(stated) else {
        return unsupported("tensors whose rank is not known", "state the rank of the output in the model");
    };
    let sequence = sequence.with_rank(b, rank)?;
    let first = b.scalar(DType::I64, 0.0)?;
    let row = b.gather(sequence.shapes, first, 0)?;
    let shape = b.read_dims(row, "element")?;
    let joined = match new {
        true => {
            let at = axis(at, rank + 1)?;
            let stacked = [&[sequence.length(b)], &shape[..]].concat();
            let stacked = b.reshape(sequence.values, stacked)?;
            let perm = (1..=at).chain([0]).chain(at + 1..=rank).collect();
            b.transpose(stacked, perm)?
        }
        false => {
            let at = axis(at, rank)?;
            concat_along(b, sequence, shape, at)?
        }
    };
    Ok(vec![Binding::Value(joined)])
}

/// The tensors, of `shape` but along axis `at`, one after the other along that axis.
fn concat_along(b: &mut Builder<'_>, sequence: Sequence, mut shape: Shape, at: usize) -> Outcome {
    /// More tensors than this are looked up element by element.
    const FEW: usize = 32;
    let length = sequence.length(b);
    if let Some(few) = length.as_static().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= FEW)
        && b.dims_of(sequence.shapes).is_some()
    {
        let mut parts = Vec::with_capacity(few);
        for i in 0..few {
            let i = b.constant(Tensor::from_i64s(&[], &[i as i64]))?;
            parts.push(sequence.at(b, i, shape.len())?);
        }
        return Ok(b.concat(&parts, at)?);
    }
    let column = b.slice_axis(sequence.shapes, 1, dim(at), 1.into())?;
    let column = b.reshape(column, vec![length.clone()])?;
    let total = b.reduce(ReduceFn::Sum, column, &[0], false)?;
    shape[at] = read_size(b, total, "joined")?;
    if at == 0 {
        return Ok(b.reshape(sequence.values, shape)?);
    }
    let (outer, inner) = (product(&shape[..at]), product(&shape[at + 1..]));
    // Where along the axis each tensor begins.
    let square = vec![length.clone(), length.clone()];
    let (row, other) = (b.iota(DType::I64, square.clone(), 0)?, b.iota(DType::I64, square, 1)?);
    let mut n = Integers::on(b);
    let before = n.compare(CompareFn::Lt, other, row)?;
    let counted = n.select_number(before, column, 0)?;
    let starts = n.b.reduce(ReduceFn::Sum, counted, &[1], false)?;
    let ends = n.binary(BinaryFn::Add, starts, column)?;
    // Which tensor each place along the axis is of, and where it is in that.
    let places = vec![shape[at].clone(), 1.into()];
    let place = n.b.iota(DType::I64, places, 0)?;
    let passed = n.compare(CompareFn::Le, ends, place)?;
    let passed = n.b.cast(passed, DType::I64)?;
    let part = n.b.reduce(ReduceFn::Sum, passed, &[1], false)?;
    let (start, width) = (n.b.gather(starts, part, 0)?, n.b.gather(column, part, 0)?);
    let place = n.b.reshape(place, vec![shape[at].clone()])?;
    let within = n.binary(BinaryFn::Sub, place, start)?;
    let (outer_value, inner_value) = (n.b.dim(outer.clone())?, n.b.dim(inner.clone())?);
    let base = n.binary(BinaryFn::Mul, start, outer_value)?;
    let base = n.binary(BinaryFn::Add, base, within)?;
    let base = n.binary(BinaryFn::Mul, base, inner_value)?;
    let step = n.binary(BinaryFn::Mul, width, inner_value)?;
    let (base, step) = (n.b.unsqueeze(base, &[0, 2])?, n.b.unsqueeze(step, &[0, 2])?);
    let cube = vec![outer, shape[at].clone(), inner];
    let (i, k) = (n.b.iota(DType::I64, cube.clone(), 0)?, n.b.iota(DType::I64, cube, 2)?);
    let moved = n.binary(BinaryFn::Mul, i, step)?;
    let position = n.binary(BinaryFn::Add, moved, base)?;
    let position = n.binary(BinaryFn::Add, position, k)?;
    let joined = b.gather(sequence.values, position, 0)?;
    Ok(b.reshape(joined, shape)?)
}
