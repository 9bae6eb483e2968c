//! Depthwise convolution: a channel per lane, a few neighbouring pixels in registers, rows of the window in turn.

use std::collections::BTreeMap;

use ired_mlir::{Builder, Value};

use super::{Pixel, Run, Shape, Tiling, finish, for_rows, is_inside, runs, window_range};
use crate::kernels::arithmetic::{from_storage, register_type};
use crate::kernels::eval::zero_of;
use crate::kernels::function::Function;

pub(super) fn fill<'m>(f: &Function<'_, 'm>, b: &Builder<'m>, shape: &Shape, tiling: &Tiling) {
    let (Some(image), Some(weights)) = (f.memory(shape.image), f.packed(shape.weights)) else { return };
    let pixels = b.muli(f.dim(&shape.size[0]), f.dim(&shape.size[1]));
    let image_start = b.muli(b.muli(f.group[2], pixels), b.index(shape.channels));
    let kernel = Depthwise { f, shape, tiling, image, image_start, weights };
    match (shape.out[1].as_static(), shape.size[1].as_static()) {
        (Some(out), Some(width)) => {
            let runs = runs(shape, out, width, tiling.pixels);
            for_rows(f, b, shape, tiling, |b, row| {
                runs.iter().for_each(|run| kernel.run(b, row, run, width))
            });
        }
        _ => for_rows(f, b, shape, tiling, |b, row| {
            b.for_each(b.index(0), f.dim(&shape.out[1]), |b, column| {
                kernel.for_channels(b, |b, channels| kernel.any_pixel(b, row, column, channels));
            });
        }),
    }
}

struct Depthwise<'k, 'a, 'm> {
    f: &'k Function<'a, 'm>,
    shape: &'k Shape,
    tiling: &'k Tiling,
    image: Value<'m>,
    /// Element of the image where this batch starts.
    image_start: Value<'m>,
    /// `[window rows][window columns][channels]`.
    weights: Value<'m>,
}

/// A vector of channels: the first one, and how many are left where that may be less than the lanes.
#[derive(Clone, Copy)]
struct Channels<'m> {
    first: Value<'m>,
    left: Option<Value<'m>>,
}

impl<'m> Depthwise<'_, '_, 'm> {
    fn run(&self, b: &Builder<'m>, row: Value<'m>, run: &Run, width: i64) {
        let inside = |i: i64, s: i64| run.whole || is_inside(self.shape, width, run.start + i, s);
        let meetings = self.meetings(run.pixels, inside);
        let tile = |b: &Builder<'m>, column: Value<'m>| {
            self.for_channels(b, |b, channels| self.tile(b, row, column, run.pixels, &meetings, channels));
        };
        if run.tiles == 1 {
            return tile(b, b.index(run.start));
        }
        let end = run.start + run.tiles * run.pixels;
        b.for_loop(b.index(run.start), b.index(end), b.index(run.pixels), &[], |b, column, _| {
            tile(b, column);
            Vec::new()
        });
    }

    /// Whole vectors of channels, then what is left of one.
    fn for_channels(&self, b: &Builder<'m>, body: impl Fn(&Builder<'m>, Channels<'m>)) {
        let (lanes, channels) = (self.tiling.lanes, self.shape.channels);
        let whole = channels / lanes * lanes;
        if whole > 0 {
            b.for_loop(b.index(0), b.index(whole), b.index(lanes), &[], |b, first, _| {
                body(b, Channels { first, left: None });
                Vec::new()
            });
        }
        if whole < channels {
            body(b, Channels { first: b.index(whole), left: Some(b.index(channels - whole)) });
        }
    }

    /// Pixels and columns of the window that meet in one column of the image, which is then read once; by the
    /// column's distance from the tile's first.
    fn meetings(&self, pixels: i64, inside: impl Fn(i64, i64) -> bool) -> BTreeMap<i64, Vec<(usize, usize)>> {
        let mut meetings: BTreeMap<i64, Vec<(usize, usize)>> = BTreeMap::new();
        for pixel in 0..pixels {
            for s in (0..self.shape.window[1]).filter(|s| inside(pixel, *s)) {
                let at = pixel * self.shape.stride[1] + s * self.shape.dilation[1];
                meetings.entry(at).or_default().push((pixel as usize, s as usize));
            }
        }
        meetings
    }

    /// `pixels` neighbours from `column` on.
    fn tile(
        &self,
        b: &Builder<'m>,
        row: Value<'m>,
        column: Value<'m>,
        pixels: i64,
        meetings: &BTreeMap<i64, Vec<(usize, usize)>>,
        channels: Channels<'m>,
    ) {
        let shape = self.shape;
        let (first_row, from, to) = window_range(self.f, b, shape, 0, row);
        let (first_column, ..) = window_range(self.f, b, shape, 1, column);
        let start = vec![self.zero(b); pixels as usize];
        let sums = b.for_loop(from, to, b.index(1), &start, |b, r, sums| {
            let image_row = b.addi(first_row, b.muli(r, b.index(shape.dilation[0])));
            let image = self.image_at(b, image_row, first_column, channels.first);
            let weights: Vec<_> =
                (0..shape.window[1]).map(|s| self.weight(b, r, b.index(s), channels)).collect();
            let mut sums = sums.to_vec();
            for (at, pairs) in meetings {
                let x = self.load(b, self.image, b.addi(image, b.index(at * shape.channels)), channels);
                for &(pixel, s) in pairs {
                    sums[pixel] = b.vector_fma(x, weights[s], sums[pixel]);
                }
            }
            sums
        });
        for (pixel, sum) in sums.iter().enumerate() {
            self.store(b, row, b.addi(column, b.index(pixel as i64)), channels, *sum);
        }
    }

    /// One pixel of an image whose width is not known.
    fn any_pixel(&self, b: &Builder<'m>, row: Value<'m>, column: Value<'m>, channels: Channels<'m>) {
        let shape = self.shape;
        let (first_row, from_row, to_row) = window_range(self.f, b, shape, 0, row);
        let (first_column, from, to) = window_range(self.f, b, shape, 1, column);
        let sums = b.for_loop(from_row, to_row, b.index(1), &[self.zero(b)], |b, r, sums| {
            let image_row = b.addi(first_row, b.muli(r, b.index(shape.dilation[0])));
            let image = self.image_at(b, image_row, first_column, channels.first);
            b.for_loop(from, to, b.index(1), sums, |b, s, sums| {
                let at = b.addi(image, b.muli(s, b.index(shape.dilation[1] * shape.channels)));
                let x = self.load(b, self.image, at, channels);
                vec![b.vector_fma(x, self.weight(b, r, s, channels), sums[0])]
            })
        });
        self.store(b, row, column, channels, sums[0]);
    }

    fn store(
        &self,
        b: &Builder<'m>,
        row: Value<'m>,
        column: Value<'m>,
        channels: Channels<'m>,
        sum: Value<'m>,
    ) {
        let at = Pixel { batch: self.f.group[2], row, column, channel: channels.first };
        finish(self.f, b, self.shape, &at, sum, channels.left);
    }

    fn weight(&self, b: &Builder<'m>, r: Value<'m>, s: Value<'m>, channels: Channels<'m>) -> Value<'m> {
        let position = b.addi(b.muli(r, b.index(self.shape.window[1])), s);
        let at = b.addi(b.muli(position, b.index(self.shape.channels)), channels.first);
        self.load(b, self.weights, at, channels)
    }

    fn load(&self, b: &Builder<'m>, memref: Value<'m>, at: Value<'m>, channels: Channels<'m>) -> Value<'m> {
        let lanes = self.tiling.lanes as usize;
        let raw = match channels.left {
            None => b.vector_load(memref, at, lanes),
            Some(left) => {
                let rest = zero_of(b, b.vector_type(lanes, memref.ty().element()));
                b.masked_load(memref, at, b.mask(left, lanes), rest)
            }
        };
        from_storage(b, self.f.dtype(self.shape.image), raw)
    }

    fn image_at(&self, b: &Builder<'m>, row: Value<'m>, column: Value<'m>, channel: Value<'m>) -> Value<'m> {
        let pixel = b.addi(b.muli(row, self.f.dim(&self.shape.size[1])), column);
        b.addi(b.addi(self.image_start, b.muli(pixel, b.index(self.shape.channels))), channel)
    }

    fn zero(&self, b: &Builder<'m>) -> Value<'m> {
        let element = register_type(b, self.f.dtype(self.shape.image));
        zero_of(b, b.vector_type(self.tiling.lanes as usize, element))
    }
}
