//! Elements chosen by what they are: how many there will be, only the run knows.

use ired_graph::{
    BinaryFn, Builder, CompareFn, CumulativeFn, DType, Dim, Op, ReduceFn, ScatterFn, UnaryFn, ValueId,
};
use ired_host::StringRank;

use super::call::{Call, Outcome, axis, invalid, read_size};
use super::{complex, text};

/// The positions at which a vector of bools is true, ascending.
pub(super) fn positions_of(b: &mut Builder<'_>, flags: ValueId, name: &str) -> Outcome {
    let length = b.ty(flags).shape[0].clone();
    let ones = b.cast(flags, DType::I64)?;
    let running = b.cumulative(CumulativeFn::Sum, ones, 0)?;
    let count = b.reduce(ReduceFn::Sum, ones, &[0], true)?;
    let count = read_size(b, count, name)?;
    // One behind the last place for those that are not chosen, where nothing is.
    let place = b.binary_scalar(BinaryFn::Sub, running, 1.0)?;
    let past = b.dim(length.clone())?;
    let place = b.select_broadcast(flags, place, past)?;
    let place = b.reshape(place, vec![length.clone(), 1.into()])?;
    let own = b.iota(DType::I64, vec![length], 0)?;
    let zeros = b.full(DType::I64, vec![count], 0.0)?;
    Ok(b.scatter_nd(ScatterFn::Set, zeros, place, own)?)
}

/// `[rank, n]`: the indices of what is not zero, one column each.
pub(super) fn non_zero(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    // A scalar counts as a vector of one element.
    let shape = if shape.is_empty() { vec![Dim::constant(1)] } else { shape };
    let flags = match b.ty(x).dtype.is_complex() {
        true => complex::is_not_zero(b, x)?,
        false => b.cast(x, DType::Bool)?,
    };
    let flags = b.reshape(flags, vec![b.ty(x).elements()])?;
    let positions = positions_of(b, flags, call.name)?;
    let count = b.ty(positions).shape[0].clone();
    let indices = split_positions(b, positions, &shape)?;
    let rows = indices.into_iter().map(|index| b.reshape(index, vec![1.into(), count.clone()]));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(b.concat(&rows, 0)?)
}

/// An index for each axis of `shape`, of elements known by their row-major number.
pub(super) fn split_positions(
    b: &mut Builder<'_>,
    positions: ValueId,
    shape: &[Dim],
) -> Outcome<Vec<ValueId>> {
    let mut indices = Vec::with_capacity(shape.len());
    for (axis, size) in shape.iter().enumerate() {
        let stride = ired_graph::types::product(&shape[axis + 1..]);
        let mut index = positions;
        if stride != Dim::constant(1) {
            let stride = b.dim(stride)?;
            index = b.binary_broadcast(BinaryFn::Div, index, stride)?;
        }
        if axis > 0 {
            let size = b.dim(size.clone())?;
            index = b.binary_broadcast(BinaryFn::Rem, index, size)?;
        }
        indices.push(index);
    }
    Ok(indices)
}

/// The slices along an axis, or without one the elements, whose condition holds. The condition may be shorter.
pub(super) fn compress(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, condition) = (call.input(0)?, call.input(1)?);
    let (x, along) = match call.attributes.int("axis")? {
        Some(at) => (x, axis(at, b.ty(x).rank())?),
        None => (b.reshape(x, vec![b.ty(x).elements()])?, 0),
    };
    let (length, extent) = (b.ty(condition).elements(), b.ty(x).shape[along].clone());
    let condition = b.reshape(condition, vec![length.clone()])?;
    let taken = b.graph.symbols.simplify(&length.minimum(&extent));
    let condition = if taken == length { condition } else { b.slice_axis(condition, 0, 0.into(), taken)? };
    let positions = positions_of(b, condition, call.name)?;
    Ok(b.gather(x, positions, along)?)
}

/// Columns of a matrix that are compared one by one in the graph; more of them in a loop.
const MOST_COLUMNS: i64 = 32;

/// The different elements, or slices along an axis: their values, where each comes first, which of them each element
/// is, and how often there is each. In ascending order, or in that of their first appearance.
pub(super) fn unique(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let x = call.input(0)?;
    let sorted = call.attributes.flag("sorted", true)?;
    let along = call.attributes.int("axis")?.map(|at| axis(at, b.ty(x).rank())).transpose()?;
    let (data, along, rows) = match along {
        None => {
            let flat = b.reshape(x, vec![b.ty(x).elements()])?;
            (flat, 0, b.reshape(flat, vec![b.ty(x).elements(), 1.into()])?)
        }
        Some(along) => {
            let mut perm: Vec<usize> = (0..b.ty(x).rank()).collect();
            perm.remove(along);
            perm.insert(0, along);
            let first = b.transpose(x, perm)?;
            (x, along, b.flatten(first, 1)?)
        }
    };
    let rows = in_order(b, rows)?;
    let found = group_rows(b, rows, call.name)?;
    let found = if sorted { found } else { found.by_appearance(b)? };
    let values = b.gather(data, found.first, along)?;
    Ok(vec![values, found.first, found.group, found.count])
}

/// The different elements in the order of their first appearance, which of them each element is, and how often there is
/// each.
pub(super) fn unique_by_appearance(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let x = call.input(0)?;
    if b.ty(x).rank() != 1 {
        return invalid(format!("input of rank {}; expected a list", b.ty(x).rank()));
    }
    let rows = b.unsqueeze(x, &[1])?;
    let rows = in_order(b, rows)?;
    let found = group_rows(b, rows, call.name)?.by_appearance(b)?;
    Ok(vec![b.gather(x, found.first, 0)?, found.group, found.count])
}

/// Strings are in the order of their ranks, complex numbers in that of their parts, real ones first.
fn in_order(b: &mut Builder<'_>, rows: ValueId) -> Outcome {
    match b.ty(rows).dtype {
        DType::String => text::same_shape(b, &StringRank, &[rows], DType::I64),
        _ => complex::columns_of_parts(b, rows),
    }
}

/// Equal rows of a matrix.
struct Groups {
    /// The first row of each group.
    first: ValueId,
    /// How many rows are in each.
    count: ValueId,
    /// The group of each row.
    group: ValueId,
}

/// The groups in ascending order of their rows.
fn group_rows(b: &mut Builder<'_>, rows: ValueId, name: &str) -> Outcome<Groups> {
    let height = b.ty(rows).shape[0].clone();
    let order = sort_rows(b, rows)?;
    let starts = starts_of_groups(b, rows, order)?;
    let places = positions_of(b, starts, name)?;
    let first = b.gather(order, places, 0)?;
    let groups = b.ty(first).shape[0].clone();
    let ones = b.cast(starts, DType::I64)?;
    let number = b.cumulative(CumulativeFn::Sum, ones, 0)?;
    let number = b.binary_scalar(BinaryFn::Sub, number, 1.0)?;
    let column = vec![height.clone(), Dim::constant(1)];
    let (to_row, to_group) = (b.reshape(order, column.clone())?, b.reshape(number, column)?);
    let nowhere = b.full(DType::I64, vec![height.clone()], 0.0)?;
    let group = b.scatter_nd(ScatterFn::Set, nowhere, to_row, number)?;
    let none = b.full(DType::I64, vec![groups], 0.0)?;
    let one = b.full(DType::I64, vec![height], 1.0)?;
    let count = b.scatter_nd(ScatterFn::Add, none, to_group, one)?;
    Ok(Groups { first, count, group })
}

impl Groups {
    /// The same groups in the order of their first rows.
    fn by_appearance(&self, b: &mut Builder<'_>) -> Outcome<Self> {
        let groups = b.ty(self.first).shape[0].clone();
        let order = b.sort(self.first, 0, false)?;
        let first = b.gather(self.first, order, 0)?;
        let count = b.gather(self.count, order, 0)?;
        let to = b.reshape(order, vec![groups.clone(), 1.into()])?;
        let own = b.iota(DType::I64, vec![groups.clone()], 0)?;
        let nowhere = b.full(DType::I64, vec![groups], 0.0)?;
        let renamed = b.scatter_nd(ScatterFn::Set, nowhere, to, own)?;
        Ok(Self { first, count, group: b.gather(renamed, self.group, 0)? })
    }
}

/// Where rows come in ascending order, compared column by column; equal rows keep theirs. The columns are sorted by one
/// after the other, the last first: each sort leaves alone what it finds equal.
fn sort_rows(b: &mut Builder<'_>, rows: ValueId) -> Outcome {
    let (height, width) = (b.ty(rows).shape[0].clone(), b.ty(rows).shape[1].clone());
    let columns = match width.as_static() {
        Some(columns) if columns <= MOST_COLUMNS => columns,
        _ => return sort_rows_in_loop(b, rows),
    };
    if columns == 1 {
        let only = b.reshape(rows, vec![height])?;
        return Ok(b.sort(only, 0, false)?);
    }
    let mut order = b.iota(DType::I64, vec![height], 0)?;
    for column in (0..columns).rev() {
        order = sort_by_column(b, rows, order, column.into())?;
    }
    Ok(order)
}

fn sort_rows_in_loop(b: &mut Builder<'_>, rows: ValueId) -> Outcome {
    let (height, width) = (b.ty(rows).shape[0].clone(), b.ty(rows).shape[1].clone());
    let start = b.iota(DType::I64, vec![height], 0)?;
    let index = b.graph.symbols.fresh("column");
    let body = b.graph.add_region();
    let ty = b.ty(start).clone();
    let order = b.graph.add_region_input(body, ty);
    let mut inner = Builder::in_region(b.graph, body);
    inner.origin = b.origin.clone();
    let column = width.clone() - 1.into() - Dim::symbol(index);
    let next = sort_by_column(&mut inner, rows, order, column)?;
    b.graph.set_outputs(body, vec![next]);
    Ok(b.push_with_regions(Op::Repeat { count: width, index }, &[start], vec![body])?[0])
}

/// `order`, sorted by the elements of one column.
fn sort_by_column(b: &mut Builder<'_>, rows: ValueId, order: ValueId, column: Dim) -> Outcome {
    let height = b.ty(rows).shape[0].clone();
    let keys = b.slice_axis(rows, 1, column, 1.into())?;
    let keys = b.reshape(keys, vec![height])?;
    let keys = b.gather(keys, order, 0)?;
    let sorted = b.sort(keys, 0, false)?;
    Ok(b.gather(order, sorted, 0)?)
}

/// In `order`: whether a row differs from the one before, or is the first. NaN equals NaN.
fn starts_of_groups(b: &mut Builder<'_>, rows: ValueId, order: ValueId) -> Outcome {
    let height = b.ty(rows).shape[0].clone();
    let here = b.gather(rows, order, 0)?;
    let own = b.iota(DType::I64, vec![height], 0)?;
    let before = b.binary_scalar(BinaryFn::Sub, own, 1.0)?;
    let before = b.binary_scalar(BinaryFn::Max, before, 0.0)?;
    let before = b.gather(here, before, 0)?;
    let mut differ = b.push(Op::Compare(CompareFn::Ne), &[here, before])?;
    if b.ty(rows).dtype.is_float() {
        let (x, y) = (b.unary(UnaryFn::IsNan, here)?, b.unary(UnaryFn::IsNan, before)?);
        let both = b.push(Op::Binary(BinaryFn::And), &[x, y])?;
        let not_both = b.unary(UnaryFn::Not, both)?;
        differ = b.push(Op::Binary(BinaryFn::And), &[differ, not_both])?;
    }
    let differ = b.reduce(ReduceFn::Any, differ, &[1], false)?;
    let zero = b.scalar(DType::I64, 0.0)?;
    let first = b.compare_broadcast(CompareFn::Eq, own, zero)?;
    Ok(b.push(Op::Binary(BinaryFn::Or), &[differ, first])?)
}
