//! Regions of images pooled to one size: sampled between elements (RoiAlign) or of whole elements (MaxRoiPool).

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid, read_size};

/// Image `[n, c, h, w]`, regions `[r, 4]` as x1, y1, x2, y2, and the image of each `[r]`; gives `[r, c, height, width]`.
pub(super) fn roi_align(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, regions, images) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let half_pixel = match call.attributes.text("coordinate_transformation_mode")? {
        // Before version 16 there was no half pixel.
        None => call.version >= 16,
        Some("half_pixel") => true,
        Some("output_half_pixel") => false,
        Some(other) => return invalid(format!("coordinate_transformation_mode `{other}`")),
    };
    let function = match call.attributes.text("mode")?.unwrap_or("avg") {
        "avg" => ReduceFn::Sum,
        "max" => ReduceFn::Max,
        other => return invalid(format!("mode `{other}`")),
    };
    let ratio = call.attributes.int_or("sampling_ratio", 0)?;
    let (height, width) = (size_attribute(call, "output_height")?, size_attribute(call, "output_width")?);
    let scale = call.attributes.float_or("spatial_scale", 1.0)?;
    let shape = b.ty(x).shape.clone();
    if shape.len() != 4 || b.ty(regions).rank() != 2 {
        return invalid(format!(
            "an image of rank {}, regions of rank {}",
            shape.len(),
            b.ty(regions).rank()
        ));
    }
    let dtype = b.ty(x).dtype;
    let working = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let regions = b.cast(regions, working)?;
    let regions = b.binary_scalar(BinaryFn::Mul, regions, scale)?;
    let regions = if half_pixel { b.binary_scalar(BinaryFn::Sub, regions, 0.5)? } else { regions };
    let along = |b: &mut Builder<'_>, axis: usize, bins| {
        let (start, end) = (column(b, regions, 1 - axis)?, column(b, regions, 3 - axis)?);
        let size = b.binary_broadcast(BinaryFn::Sub, end, start)?;
        // Regions of no size count as one element each way.
        let size = if half_pixel { size } else { b.binary_scalar(BinaryFn::Max, size, 1.0)? };
        Samples::new(b, start, size, bins, ratio, &shape[2 + axis])
    };
    let (y, x_samples) = (along(b, 0, height)?, along(b, 1, width)?);
    let flat = Flat::new(b, x, images, working)?;
    let pooled = flat.pool(b, &y, &x_samples, function)?;
    Ok(b.cast(pooled, dtype)?)
}

fn size_attribute(call: &Call<'_>, name: &str) -> Outcome<i64> {
    let size = call.attributes.int_or(name, 1)?;
    if (1..=1 << 20).contains(&size) { Ok(size) } else { invalid(format!("`{name}` is {size}")) }
}

/// Column `index` of a matrix, as `[r, 1, 1]`.
fn column(b: &mut Builder<'_>, matrix: ValueId, index: usize) -> Outcome {
    let rows = b.ty(matrix).shape[0].clone();
    let column = b.slice_axis(matrix, 1, (index as i64).into(), 1.into())?;
    Ok(b.reshape(column, vec![rows, 1.into(), 1.into()])?)
}

/// Samples along one axis, `[r, bins, samples]` each: two neighbours and their weights.
struct Samples {
    bins: i64,
    /// The neighbours, i64 within the axis, and their weights.
    near: [(ValueId, ValueId); 2],
    /// Whether the sample is on the image.
    on_image: ValueId,
    /// Whether the region has so many samples, and how many it has `[r, 1, 1]`; where that differs.
    there: Option<(ValueId, ValueId)>,
    count: Dim,
}

/// More samples a bin than this are an error when they are asked for.
const MAX_SAMPLES: i64 = 4096;

impl Samples {
    fn new(
        b: &mut Builder<'_>,
        start: ValueId,
        size: ValueId,
        bins: i64,
        ratio: i64,
        extent: &Dim,
    ) -> Outcome<Self> {
        let dtype = b.ty(start).dtype;
        let bin = b.binary_scalar(BinaryFn::Div, size, bins as f64)?;
        let (own, count) = match ratio {
            1.. => (b.scalar(dtype, ratio as f64)?, Dim::constant(ratio)),
            // As many samples as a bin has elements; there are as many as the largest region asks for.
            _ => {
                let own = b.unary(UnaryFn::Ceil, bin)?;
                let own = b.binary_scalar(BinaryFn::Max, own, 0.0)?;
                let most = b.reduce(ReduceFn::Max, own, &[0, 1, 2], false)?;
                let most = b.binary_scalar(BinaryFn::Max, most, 1.0)?;
                let most = b.cast(most, DType::I64)?;
                let most = b.reshape(most, vec![1.into()])?;
                let read = b.read_dims_within(most, "samples", 0, MAX_SAMPLES)?;
                (own, read.into_iter().next().unwrap_or(1.into()))
            }
        };
        let table = vec![bins.into(), count.clone()];
        let number = b.iota(dtype, table.clone(), 0)?;
        let sample = b.iota(dtype, table, 1)?;
        let sample = b.binary_scalar(BinaryFn::Add, sample, 0.5)?;
        let part = b.binary_broadcast(BinaryFn::Div, sample, own)?;
        let place = b.binary_broadcast(BinaryFn::Add, number, part)?;
        let offset = b.binary_broadcast(BinaryFn::Mul, place, bin)?;
        let position = b.binary_broadcast(BinaryFn::Add, offset, start)?;
        let there = match ratio {
            1.. => None,
            _ => Some((b.compare_broadcast(CompareFn::Lt, sample, own)?, own)),
        };
        let extent = b.dim(extent.clone())?;
        let extent = b.cast(extent, dtype)?;
        let (near, on_image) = neighbours(b, position, extent)?;
        Ok(Self { bins, near, on_image, there, count })
    }
}

/// The elements before and after a position, and whether it is within one of the axis.
fn neighbours(
    b: &mut Builder<'_>,
    position: ValueId,
    extent: ValueId,
) -> Outcome<([(ValueId, ValueId); 2], ValueId)> {
    let (least, one) = (b.scalar_like(position, -1.0)?, b.scalar_like(position, 1.0)?);
    let from = b.compare_broadcast(CompareFn::Ge, position, least)?;
    let to = b.compare_broadcast(CompareFn::Le, position, extent)?;
    let on_image = b.binary_broadcast(BinaryFn::And, from, to)?;
    let last = b.binary_broadcast(BinaryFn::Sub, extent, one)?;
    let position = b.binary_broadcast(BinaryFn::Min, position, last)?;
    let position = b.binary_scalar(BinaryFn::Max, position, 0.0)?;
    let before = b.unary(UnaryFn::Floor, position)?;
    let t = b.binary_broadcast(BinaryFn::Sub, position, before)?;
    let rest = b.binary_broadcast(BinaryFn::Sub, one, t)?;
    let after = b.binary_broadcast(BinaryFn::Add, before, one)?;
    let after = b.binary_broadcast(BinaryFn::Min, after, last)?;
    let near = [(b.cast(before, DType::I64)?, rest), (b.cast(after, DType::I64)?, t)];
    Ok((near, on_image))
}

/// All images of a batch as one, `[c, n · h · w]`, and where that of each region begins.
struct Flat {
    data: ValueId,
    /// i64 `[r, 1, 1, 1, 1]`.
    begin: ValueId,
    width: ValueId,
    regions: Dim,
    channels: Dim,
}

impl Flat {
    fn new(b: &mut Builder<'_>, x: ValueId, images: ValueId, working: DType) -> Outcome<Self> {
        let shape = b.ty(x).shape.clone();
        let x = b.cast(x, working)?;
        let by_channel = b.transpose(x, vec![1, 0, 2, 3])?;
        let elements = shape[0].clone() * shape[2].clone() * shape[3].clone();
        let data = b.reshape(by_channel, vec![shape[1].clone(), elements])?;
        let regions = b.ty(images).elements();
        let images = b.cast(images, DType::I64)?;
        let mut column = vec![Dim::constant(1); 5];
        column[0] = regions.clone();
        let images = b.reshape(images, column)?;
        let size = b.dim(shape[2].clone() * shape[3].clone())?;
        let begin = b.binary_broadcast(BinaryFn::Mul, images, size)?;
        let width = b.dim(shape[3].clone())?;
        Ok(Self { data, begin, width, regions, channels: shape[1].clone() })
    }

    /// `[r, c, y.bins, x.bins]`.
    fn pool(&self, b: &mut Builder<'_>, y: &Samples, x: &Samples, function: ReduceFn) -> Outcome {
        // Everything is [r, y bins, y samples, x bins, x samples].
        let rows = |b: &mut Builder<'_>, v| b.unsqueeze(v, &[3, 4]);
        let columns = |b: &mut Builder<'_>, v| b.unsqueeze(v, &[1, 2]);
        let mut joined: Option<ValueId> = None;
        for (row, row_weight) in y.near {
            for (column, column_weight) in x.near {
                let (row, column) = (rows(b, row)?, columns(b, column)?);
                let index = b.binary_broadcast(BinaryFn::Mul, row, self.width)?;
                let index = b.binary_broadcast(BinaryFn::Add, index, column)?;
                let index = b.binary_broadcast(BinaryFn::Add, index, self.begin)?;
                let element = b.gather(self.data, index, 1)?;
                let (row, column) = (rows(b, row_weight)?, columns(b, column_weight)?);
                let weight = b.binary_broadcast(BinaryFn::Mul, row, column)?;
                let part = b.binary_broadcast(BinaryFn::Mul, element, weight)?;
                joined = Some(match (joined, function) {
                    (None, _) => part,
                    // The largest is of the weighted neighbours, not of the interpolated samples.
                    (Some(joined), ReduceFn::Max) => b.binary_broadcast(BinaryFn::Max, joined, part)?,
                    (Some(joined), _) => b.binary_broadcast(BinaryFn::Add, joined, part)?,
                });
            }
        }
        let Some(joined) = joined else { return invalid("no neighbours") };
        let (on_rows, on_columns) = (rows(b, y.on_image)?, columns(b, x.on_image)?);
        let on_image = b.binary_broadcast(BinaryFn::And, on_rows, on_columns)?;
        let zero = b.scalar_like(joined, 0.0)?;
        let mut samples = b.select_broadcast(on_image, joined, zero)?;
        let mut number = None;
        if let (Some((y_there, y_count)), Some((x_there, x_count))) = (y.there, x.there) {
            let (y_there, x_there) = (rows(b, y_there)?, columns(b, x_there)?);
            let there = b.binary_broadcast(BinaryFn::And, y_there, x_there)?;
            let least = if function == ReduceFn::Max { f64::NEG_INFINITY } else { 0.0 };
            let nothing = b.scalar_like(samples, least)?;
            samples = b.select_broadcast(there, samples, nothing)?;
            number = Some(b.binary_broadcast(BinaryFn::Mul, y_count, x_count)?);
        }
        let pooled = b.reduce(function, samples, &[3, 5], false)?;
        let pooled = match (function, number) {
            (ReduceFn::Max, None) => pooled,
            (ReduceFn::Max, Some(number)) => {
                // A region without samples gives 0.
                let some = b.compare_broadcast(CompareFn::Gt, number, zero)?;
                b.select_broadcast(some, pooled, zero)?
            }
            (_, None) => {
                let number = (y.count.clone() * x.count.clone()).as_static().unwrap_or(1);
                b.binary_scalar(BinaryFn::Div, pooled, number as f64)?
            }
            (_, Some(number)) => {
                let number = b.binary_scalar(BinaryFn::Max, number, 1.0)?;
                b.binary_broadcast(BinaryFn::Div, pooled, number)?
            }
        };
        let shape = vec![self.channels.clone(), self.regions.clone(), y.bins.into(), x.bins.into()];
        let pooled = b.reshape(pooled, shape)?;
        Ok(b.transpose(pooled, vec![1, 0, 2, 3])?)
    }
}

/// Image `[n, c, h, w]` and regions `[r, 5]` as image, x1, y1, x2, y2: the largest element of each bin.
pub(super) fn max_roi_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, regions) = (call.input(0)?, call.input(1)?);
    let Some(&[height, width]) = call.attributes.ints("pooled_shape")? else {
        return invalid("`pooled_shape` is not two sizes");
    };
    if ![height, width].iter().all(|size| (1..=1 << 20).contains(size)) {
        return invalid(format!("pooled_shape {height}, {width}"));
    }
    let scale = call.attributes.float_or("spatial_scale", 1.0)?;
    let shape = b.ty(x).shape.clone();
    if shape.len() != 4 || b.ty(regions).rank() != 2 {
        return invalid(format!(
            "an image of rank {}, regions of rank {}",
            shape.len(),
            b.ty(regions).rank()
        ));
    }
    let dtype = b.ty(x).dtype;
    let working = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let regions = b.cast(regions, working)?;
    let images = column(b, regions, 0)?;
    let images = b.cast(images, DType::I64)?;
    let flat = Flat::new(b, x, images, working)?;
    let y = Bins::new(b, regions, [2, 4], scale, height, &shape[2])?;
    let x = Bins::new(b, regions, [1, 3], scale, width, &shape[3])?;
    let rows = |b: &mut Builder<'_>, v| b.unsqueeze(v, &[3, 4]);
    let columns = |b: &mut Builder<'_>, v| b.unsqueeze(v, &[1, 2]);
    let (row, column) = (rows(b, y.index)?, columns(b, x.index)?);
    let index = b.binary_broadcast(BinaryFn::Mul, row, flat.width)?;
    let index = b.binary_broadcast(BinaryFn::Add, index, column)?;
    let index = b.binary_broadcast(BinaryFn::Add, index, flat.begin)?;
    let element = b.gather(flat.data, index, 1)?;
    let (on_rows, on_columns) = (rows(b, y.there)?, columns(b, x.there)?);
    let there = b.binary_broadcast(BinaryFn::And, on_rows, on_columns)?;
    let nothing = b.scalar_like(element, f64::NEG_INFINITY)?;
    let elements = b.select_broadcast(there, element, nothing)?;
    let largest = b.reduce(ReduceFn::Max, elements, &[3, 5], false)?;
    // Bins without elements are 0.
    let empty = b.compare_broadcast(CompareFn::Eq, largest, nothing)?;
    let zero = b.scalar_like(largest, 0.0)?;
    let largest = b.select_broadcast(empty, zero, largest)?;
    let shape = vec![flat.channels.clone(), flat.regions.clone(), height.into(), width.into()];
    let largest = b.reshape(largest, shape)?;
    let pooled = b.transpose(largest, vec![1, 0, 2, 3])?;
    Ok(b.cast(pooled, dtype)?)
}

/// The elements of each bin along one axis, `[r, bins, elements]`.
struct Bins {
    /// i64, within the axis.
    index: ValueId,
    there: ValueId,
}

impl Bins {
    fn new(
        b: &mut Builder<'_>,
        regions: ValueId,
        ends: [usize; 2],
        scale: f64,
        bins: i64,
        extent: &Dim,
    ) -> Outcome<Self> {
        let end = |b: &mut Builder<'_>, at| {
            let end = column(b, regions, at)?;
            let end = b.binary_scalar(BinaryFn::Mul, end, scale)?;
            // Halves away from zero: ends are not negative.
            let end = b.binary_scalar(BinaryFn::Add, end, 0.5)?;
            Outcome::Ok(b.unary(UnaryFn::Floor, end)?)
        };
        let (start, end) = (end(b, ends[0])?, end(b, ends[1])?);
        let size = b.binary_broadcast(BinaryFn::Sub, end, start)?;
        let size = b.binary_scalar(BinaryFn::Add, size, 1.0)?;
        let size = b.binary_scalar(BinaryFn::Max, size, 1.0)?;
        let bin = b.binary_scalar(BinaryFn::Div, size, bins as f64)?;
        let number = b.iota(b.ty(bin).dtype, vec![bins.into(), 1.into()], 0)?;
        let next = b.binary_scalar(BinaryFn::Add, number, 1.0)?;
        let last = b.dim(extent.clone())?;
        let last = b.cast(last, b.ty(bin).dtype)?;
        let place = |b: &mut Builder<'_>, number, rounding| {
            let at = b.binary_broadcast(BinaryFn::Mul, number, bin)?;
            let at = b.unary(rounding, at)?;
            let at = b.binary_broadcast(BinaryFn::Add, at, start)?;
            let at = b.binary_scalar(BinaryFn::Max, at, 0.0)?;
            let at = b.binary_broadcast(BinaryFn::Min, at, last)?;
            b.cast(at, DType::I64)
        };
        let from = place(b, number, UnaryFn::Floor)?;
        let to = place(b, next, UnaryFn::Ceil)?;
        let count = b.binary_broadcast(BinaryFn::Sub, to, from)?;
        let most = b.reduce(ReduceFn::Max, count, &[0, 1, 2], false)?;
        let most = b.binary_scalar(BinaryFn::Max, most, 1.0)?;
        let most = read_size(b, most, "samples")?;
        let step = b.iota(DType::I64, vec![most], 0)?;
        let index = b.binary_broadcast(BinaryFn::Add, from, step)?;
        let there = b.compare_broadcast(CompareFn::Lt, index, to)?;
        let last = b.dim(extent.clone() - 1.into())?;
        let index = b.binary_broadcast(BinaryFn::Min, index, last)?;
        Ok(Self { index, there })
    }
}
