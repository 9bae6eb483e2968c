//! A workgroup's three steps, in loops over tiles, panels of filters and the 36 values.

use ired_mlir::{Builder, Compare, Type, Value};

use super::transforms::{OUTPUTS, SQUARE, Transform, VALUES, in_two_dimensions};
use super::{LINE, Plan, SIZE_STEP, padded};
use crate::kernels::ahead::{Ahead, Panels};
use crate::kernels::eval::nested::multiply_add;
use crate::kernels::eval::{Axis, Known, Point, zero_of};
use crate::kernels::function::{Function, product};
use crate::kernels::generic::in_lanes;

const ALIGNMENT: i64 = 64;

pub(super) struct Emitter<'f, 'a, 'm> {
    f: &'f Function<'a, 'm>,
    plan: &'f Plan,
    vector: Type<'m>,
    /// First tile of the workgroup, how many it has, and how many there are in all.
    first: Value<'m>,
    tiles: Value<'m>,
    all: Value<'m>,
    /// The inputs of each tile at the points, by channel, and their products with a panel of filters, by filter.
    inputs: Squares<'m>,
    products: Squares<'m>,
    /// Outputs of a tile, row by row.
    outputs: Value<'m>,
}

/// Rows of elements, one for each tile and each of the 36 values.
struct Squares<'m> {
    memory: Value<'m>,
    /// Elements from a tile's row to the next tile's, and from a value's to the next value's.
    tile: usize,
    value: usize,
}

impl<'m> Squares<'m> {
    /// A tile's 36 rows follow each other: they are written together, and so are on few pages.
    fn by_tile(b: &Builder<'m>, tiles: usize, row: usize) -> Self {
        let tile = SQUARE * row;
        Self { memory: b.stack_array(tiles * tile, b.f32_type(), ALIGNMENT), tile, value: row }
    }

    /// All tiles' rows of one value follow each other; those of one tile are in different sets of the cache.
    fn by_value(b: &Builder<'m>, tiles: usize, row: usize) -> Self {
        let value = ((tiles * row).div_ceil(LINE) | 1) * LINE;
        Self { memory: b.stack_array(SQUARE * value, b.f32_type(), ALIGNMENT), tile: row, value }
    }

    fn at(&self, b: &Builder<'m>, value: Value<'m>, tile: Value<'m>, column: Value<'m>) -> Value<'m> {
        let start = b.muli(tile, b.index(self.tile as i64));
        b.addi(b.addi(start, b.muli(value, b.index(self.value as i64))), column)
    }
}

/// The image of a tile, and where it begins on the output.
struct Tile<'m> {
    image: Value<'m>,
    corner: [Value<'m>; 2],
}

impl<'f, 'a, 'm> Emitter<'f, 'a, 'm> {
    pub(super) fn new(f: &'f Function<'a, 'm>, b: &Builder<'m>, plan: &'f Plan) -> Self {
        let all = f.dim(&product(&plan.tiles));
        let mut block = b.index(plan.share.tiles as i64);
        if plan.is_dynamic {
            // Blocks of about equal size, of which there is at least one.
            block = b.ceil_div(all, b.maxsi(f.dim(&plan.blocks()), b.index(1)));
        }
        let first = b.muli(f.group[0], block);
        Self {
            f,
            plan,
            vector: b.vector_type(plan.lanes, b.f32_type()),
            first,
            tiles: b.minsi(b.subi(all, first), block),
            all,
            inputs: Squares::by_tile(b, plan.share.tiles, padded(plan.channels)),
            products: Squares::by_value(b, plan.share.tiles, plan.width()),
            outputs: b.stack_array(OUTPUTS * OUTPUTS * plan.width(), b.f32_type(), ALIGNMENT),
        }
    }

    pub(super) fn emit(&self, b: &Builder<'m>) {
        let plan = self.plan;
        let zero = b.index(0);
        let last = b.subi(self.all, b.index(1));
        // Places after the last tile get it once more: they are multiplied, too.
        b.for_each(zero, self.places(b), |b, place| {
            let tile = self.tile(b, b.minsi(b.addi(self.first, place), last));
            self.transform_inputs(b, place, &tile);
        });
        let panels = b.index(plan.share.panels as i64);
        let first = b.muli(self.f.group[1], panels);
        let end = b.minsi(b.addi(first, panels), b.index(plan.all_panels() as i64));
        b.for_each(first, end, |b, panel| {
            b.for_each(zero, b.index(SQUARE as i64), |b, value| self.multiply(b, panel, value));
            let masks = self.masks(b, panel);
            b.for_each(zero, self.tiles, |b, place| {
                let tile = self.tile(b, b.addi(self.first, place));
                self.transform_products(b, place);
                self.store_outputs(b, panel, &tile, &masks);
            });
        });
    }

    fn tile(&self, b: &Builder<'m>, number: Value<'m>) -> Tile<'m> {
        let axes = self.f.split_index(b, number, &self.plan.tiles);
        let size = b.index(OUTPUTS as i64);
        Tile { image: axes[0].base, corner: [b.muli(axes[1].base, size), b.muli(axes[2].base, size)] }
    }

    /// Transforms the inputs of a tile.
    fn transform_inputs(&self, b: &Builder<'m>, place: Value<'m>, tile: &Tile<'m>) {
        let plan = self.plan;
        let Some(memory) = self.f.memory(plan.x) else { return };
        let [ys, xs] = [0, 1].map(|axis| {
            let start = b.subi(tile.corner[axis], b.index(plan.padding[axis]));
            line(b, start, self.f.dim(&plan.input[axis]))
        });
        in_lanes(b, b.index(0), b.index(plan.channels as i64), plan.lanes, &mut |b, channel, mask| {
            let square = ys.map(|y| {
                xs.map(|x| {
                    // What lies in the padding is zero.
                    let inside = b.broadcast(b.andi(y.inside, x.inside), plan.lanes);
                    let mask = mask.map_or(inside, |mask| b.andi(mask, inside));
                    let mut axes = [tile.image, y.index, x.index].map(Axis::at).to_vec();
                    axes.push(Axis::along(channel));
                    self.f.read(b, plan.x, memory, &Point::axes(axes, plan.lanes, Some(mask)))
                })
            });
            let transform = Transform { b, vector: self.vector };
            let values = in_two_dimensions(square, |line| transform.inputs(line));
            for (number, value) in values.as_flattened().iter().enumerate() {
                let at = self.inputs.at(b, b.index(number as i64), place, channel);
                b.vector_store(*value, self.inputs.memory, at);
            }
        });
    }

    /// Places of tiles that are multiplied: a block, or as many as those are that are multiplied at once.
    fn places(&self, b: &Builder<'m>) -> Value<'m> {
        let plan = self.plan;
        if !plan.is_dynamic {
            return b.index(plan.share.tiles as i64);
        }
        let most = b.index(plan.m0 as i64);
        let fewer = b.muli(self.size_number(b, self.tiles), b.index(SIZE_STEP as i64));
        b.maxsi(self.tiles, b.subi(most, fewer))
    }

    /// Which of the plan's sizes is the smallest for so many tiles; the largest for more.
    fn size_number(&self, b: &Builder<'m>, tiles: Value<'m>) -> Value<'m> {
        let most = b.index(self.plan.m0 as i64);
        b.divui(b.subi(most, b.minsi(tiles, most)), b.index(SIZE_STEP as i64))
    }

    /// One of the 36 products: the block's tiles by a panel of filters.
    fn multiply(&self, b: &Builder<'m>, panel: Value<'m>, value: Value<'m>) {
        let row = b.addi(b.muli(panel, b.index(SQUARE as i64)), value);
        let row = b.muli(row, b.index(self.plan.channels as i64));
        if self.plan.is_dynamic {
            return self.multiply_dynamic(b, value, row);
        }
        let (block, size) = (self.plan.share.tiles, self.plan.m0);
        let full = block / size * size;
        b.for_loop(b.index(0), b.index(full as i64), b.index(size as i64), &[], |b, first, _| {
            let number = b.divui(first, b.index(size as i64));
            let ahead = self.ahead(b, row, number, b.index((full / size) as i64));
            self.multiply_tiles(b, value, row, first, size, ahead);
            Vec::new()
        });
        if full < block {
            self.multiply_tiles(b, value, row, b.index(full as i64), block - full, None);
        }
    }

    /// The same for a number of tiles that only the run knows: the last may be multiplied twice, but few more are.
    fn multiply_dynamic(&self, b: &Builder<'m>, value: Value<'m>, row: Value<'m>) {
        let plan = self.plan;
        let sizes = plan.sizes();
        let cases: Vec<i64> = (0..sizes.len() as i64).collect();
        let most = b.index(plan.m0 as i64);
        let runs = b.ceil_div(self.tiles, most);
        b.for_each(b.index(0), runs, |b, run| {
            let first = b.muli(run, most);
            let number = self.size_number(b, b.subi(self.tiles, first));
            b.switch(number, &cases, |b, case| {
                let size = sizes[case as usize];
                let last = b.maxsi(b.subi(self.tiles, b.index(size as i64)), b.index(0));
                let ahead = self.ahead(b, row, run, runs);
                self.multiply_tiles(b, value, row, b.minsi(first, last), size, ahead);
            });
        });
    }

    /// The next product's filters, shared out among the runs of tiles that are multiplied by those from `row` on.
    fn ahead(
        &self,
        b: &Builder<'m>,
        row: Value<'m>,
        number: Value<'m>,
        runs: Value<'m>,
    ) -> Option<Ahead<'m>> {
        let width = self.plan.width() as i64;
        let memref = self.f.packed(self.plan.weights)?;
        let panels = Panels { memref, element_bytes: size_of::<f32>() as i64, step_elements: width };
        let channels = b.index(self.plan.channels as i64);
        if b.known(runs) == Some(1) {
            return Some(panels.straight(b, b.muli(row, b.index(width))));
        }
        let next = b.muli(b.addi(row, channels), b.index(width));
        Some(panels.shared(b, next, number, runs, channels))
    }

    /// `count` tiles by the filters from packed row `row` on.
    fn multiply_tiles(
        &self,
        b: &Builder<'m>,
        value: Value<'m>,
        row: Value<'m>,
        first: Value<'m>,
        count: usize,
        ahead: Option<Ahead<'m>>,
    ) {
        let plan = self.plan;
        let place = |b: &Builder<'m>, i: usize| b.addi(first, b.index(i as i64));
        let zeros = vec![zero_of(b, self.vector); count * plan.n1];
        let channels = b.index(plan.channels as i64);
        let sums = b.for_loop(b.index(0), channels, b.index(1), &zeros, |b, channel, sums| {
            let mut sums = sums.to_vec();
            if let Some(ahead) = &ahead {
                ahead.fetch(b, channel);
            }
            let weights = self.weights(b, b.addi(row, channel));
            for i in 0..count {
                let at = self.inputs.at(b, value, place(b, i), channel);
                let x = b.broadcast(b.load(self.inputs.memory, at), plan.lanes);
                for (j, w) in weights.iter().enumerate() {
                    let sum = &mut sums[i * plan.n1 + j];
                    *sum = multiply_add(b, x, *w, *sum);
                }
            }
            sums
        });
        for (number, sum) in sums.into_iter().enumerate() {
            let (i, j) = (number / plan.n1, number % plan.n1);
            let at = self.products.at(b, value, place(b, i), self.lane(b, j));
            b.vector_store(sum, self.products.memory, at);
        }
    }

    /// A row of packed filters: those of a panel, at one point and of one channel.
    fn weights(&self, b: &Builder<'m>, row: Value<'m>) -> Vec<Value<'m>> {
        let plan = self.plan;
        let Some(memory) = self.f.packed(plan.weights) else { return Vec::new() };
        let start = b.muli(row, b.index(plan.width() as i64));
        (0..plan.n1).map(|j| b.vector_load(memory, b.addi(start, self.lane(b, j)), plan.lanes)).collect()
    }

    /// First filter of vector `j`, within its panel.
    fn lane(&self, b: &Builder<'m>, j: usize) -> Value<'m> {
        b.index((j * self.plan.lanes) as i64)
    }

    fn column(&self, b: &Builder<'m>, panel: Value<'m>, j: usize) -> Value<'m> {
        b.addi(b.muli(panel, b.index(self.plan.width() as i64)), self.lane(b, j))
    }

    /// One mask a vector, where filters may be missing.
    fn masks(&self, b: &Builder<'m>, panel: Value<'m>) -> Vec<Option<Value<'m>>> {
        let plan = self.plan;
        let whole = plan.filters.is_multiple_of(plan.width());
        let filters = b.index(plan.filters as i64);
        let mask = |j: usize| b.mask(b.subi(filters, self.column(b, panel, j)), plan.lanes);
        (0..plan.n1).map(|j| (!whole).then(|| mask(j))).collect()
    }

    /// Transforms the products of a tile back.
    fn transform_products(&self, b: &Builder<'m>, place: Value<'m>) {
        let plan = self.plan;
        let transform = Transform { b, vector: self.vector };
        for j in 0..plan.n1 {
            let square = std::array::from_fn(|y| {
                std::array::from_fn(|x| {
                    let value = b.index((y * VALUES + x) as i64);
                    let at = self.products.at(b, value, place, self.lane(b, j));
                    b.vector_load(self.products.memory, at, plan.lanes)
                })
            });
            let outputs = in_two_dimensions(square, |line| transform.outputs(line));
            for (number, output) in outputs.as_flattened().iter().enumerate() {
                let at = self.output(b, b.index(number as i64), j);
                b.vector_store(*output, self.outputs, at);
            }
        }
    }

    /// Where vector `j` of an output of the tile is.
    fn output(&self, b: &Builder<'m>, number: Value<'m>, j: usize) -> Value<'m> {
        b.addi(b.muli(number, b.index(self.plan.width() as i64)), self.lane(b, j))
    }

    /// Computes what follows the convolution, for as much of a tile as lies on the output.
    fn store_outputs(&self, b: &Builder<'m>, panel: Value<'m>, tile: &Tile<'m>, masks: &[Option<Value<'m>>]) {
        let (f, plan) = (self.f, self.plan);
        let (zero, size) = (b.index(0), b.index(OUTPUTS as i64));
        let [height, width] =
            [0, 1].map(|axis| b.minsi(b.subi(f.dim(&plan.output[axis]), tile.corner[axis]), size));
        b.for_each(zero, height, |b, y| {
            b.for_each(zero, width, |b, x| {
                let number = b.addi(b.muli(y, size), x);
                let pixel = [tile.image, b.addi(tile.corner[0], y), b.addi(tile.corner[1], x)];
                for (j, mask) in masks.iter().enumerate() {
                    let output = b.vector_load(self.outputs, self.output(b, number, j), plan.lanes);
                    let mut axes = pixel.map(Axis::at).to_vec();
                    axes.push(Axis::along(self.column(b, panel, j)));
                    let point = Point::axes(axes, plan.lanes, *mask);
                    let (offset, _) = f.offset(b, plan.result, &point);
                    let mut known = Known::bind(plan.result, output);
                    let register = f.eval_lanes(b, f.output(), &point, &mut known);
                    f.write(b, f.output(), offset, register, *mask);
                }
            });
        });
    }
}

/// An input along an axis: its index, or another's where it lies in the padding.
#[derive(Clone, Copy)]
struct Input<'m> {
    index: Value<'m>,
    inside: Value<'m>,
}

/// A tile's six inputs along an axis of `size`, from `start` on.
fn line<'m>(b: &Builder<'m>, start: Value<'m>, size: Value<'m>) -> [Input<'m>; VALUES] {
    let (zero, last) = (b.index(0), b.subi(size, b.index(1)));
    std::array::from_fn(|i| {
        let index = b.addi(start, b.index(i as i64));
        // Without its sign, a number below zero is a large one.
        let inside = b.cmpi(Compare::UnsignedLt, index, size);
        Input { index: b.maxsi(b.minsi(index, last), zero), inside }
    })
}
