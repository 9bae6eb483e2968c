//! Direct convolution: pixels times a panel of output channels, over the window and all input channels of a group.

use ired_mlir::{Builder, Compare, Value};

use super::{Pixel, Run, Shape, Tiling, finish, for_rows, is_inside, runs, window_range};
use crate::kernels::arithmetic::{from_storage, register_type};
use crate::kernels::eval::zero_of;
use crate::kernels::function::Function;

pub(super) fn fill<'m>(f: &Function<'_, 'm>, b: &Builder<'m>, shape: &Shape, tiling: &Tiling) {
    let (Some(image), Some(weights)) = (f.memory(shape.image), f.packed(shape.weights)) else { return };
    let panel_elements = shape.window[0] * shape.window[1] * shape.group_channels() * tiling.panel();
    let panels = b.index(shape.panels(tiling));
    let (group, panel) = (b.divui(f.group[0], panels), b.remui(f.group[0], panels));
    let in_group = b.muli(panel, b.index(tiling.panel()));
    let pixels = b.muli(f.dim(&shape.size[0]), f.dim(&shape.size[1]));
    let image_start = b.muli(b.muli(f.group[2], pixels), b.index(shape.channels));
    let kernel = Direct {
        f,
        shape,
        tiling,
        image,
        image_start: b.addi(image_start, b.muli(group, b.index(shape.group_channels()))),
        weights,
        weights_start: b.muli(f.group[0], b.index(panel_elements)),
        channel: b.addi(b.muli(group, b.index(shape.group_kernels())), in_group),
        left: b.subi(b.index(shape.group_kernels()), in_group),
    };
    match (shape.flat, shape.out[1].as_static(), shape.size[1].as_static()) {
        (true, ..) => kernel.flat_block(b),
        (false, Some(out), Some(width)) => {
            let runs = runs(shape, out, width, tiling.pixels);
            for_rows(f, b, shape, tiling, |b, row| {
                runs.iter().for_each(|run| kernel.run(b, row, run, width))
            });
        }
        _ => for_rows(f, b, shape, tiling, |b, row| {
            b.for_each(b.index(0), f.dim(&shape.out[1]), |b, column| kernel.any_pixel(b, row, column));
        }),
    }
}

struct Direct<'k, 'a, 'm> {
    f: &'k Function<'a, 'm>,
    shape: &'k Shape,
    tiling: &'k Tiling,
    image: Value<'m>,
    /// Element of the image where this batch and group start.
    image_start: Value<'m>,
    weights: Value<'m>,
    /// Element of the weights where this panel starts.
    weights_start: Value<'m>,
    /// First output channel of the panel.
    channel: Value<'m>,
    /// Channels of the group from the panel's first on.
    left: Value<'m>,
}

/// Neighbouring pixels of one row, from `column` on.
struct Tile<'m> {
    row: Value<'m>,
    column: Value<'m>,
    pixels: i64,
    /// The column and the image's width as numbers, where part of the window is outside for some pixel.
    edge: Option<(i64, i64)>,
}

impl<'m> Direct<'_, '_, 'm> {
    /// A flat image: this workgroup's pixels, whole tiles first.
    fn flat_block(&self, b: &Builder<'m>) {
        let shape = self.shape;
        let pixels = self.tiling.pixels;
        let (all, size) = (self.f.dim(&shape.out[1]), b.index(shape.blocks(self.tiling).size));
        let from = b.muli(self.f.group[1], size);
        let to = b.minsi(b.addi(from, size), all);
        let rest = b.remui(b.subi(to, from), b.index(pixels));
        let whole = b.subi(to, rest);
        let row = b.index(0);
        b.for_loop(from, whole, b.index(pixels), &[], |b, column, _| {
            self.tile(b, &Tile { row, column, pixels, edge: None });
            Vec::new()
        });
        let last = |b: &Builder<'m>, pixels| self.tile(b, &Tile { row, column: whole, pixels, edge: None });
        match shape.out[1].as_static() {
            // Blocks are whole tiles: only the image's end has a part of one.
            Some(known) if known % pixels == 0 => {}
            Some(known) => b.if_then(b.cmpi(Compare::SignedLt, whole, to), |b| last(b, known % pixels)),
            None => b.switch(rest, &(1..pixels).collect::<Vec<_>>(), last),
        }
    }

    fn run(&self, b: &Builder<'m>, row: Value<'m>, run: &Run, width: i64) {
        let pixels = run.pixels;
        if run.tiles == 1 {
            let edge = (!run.whole).then_some((run.start, width));
            return self.tile(b, &Tile { row, column: b.index(run.start), pixels, edge });
        }
        let end = run.start + run.tiles * pixels;
        b.for_loop(b.index(run.start), b.index(end), b.index(pixels), &[], |b, column, _| {
            self.tile(b, &Tile { row, column, pixels, edge: None });
            Vec::new()
        });
    }

    fn tile(&self, b: &Builder<'m>, tile: &Tile<'m>) {
        let shape = self.shape;
        let (first_row, from, to) = window_range(self.f, b, shape, 0, tile.row);
        let (first_column, ..) = window_range(self.f, b, shape, 1, tile.column);
        let start = vec![self.zero(b); (tile.pixels * self.tiling.vectors) as usize];
        let sums = accumulate(b, from, to, &start, |b, r, sums| {
            let image_row = b.addi(first_row, b.muli(r, b.index(shape.dilation[0])));
            let image = self.image_at(b, image_row, first_column);
            match tile.edge {
                None => self.whole_window_row(b, r, image, tile.pixels, sums),
                Some(_) => self.edge_window_row(b, r, image, tile, sums),
            }
        });
        self.store(b, tile, &sums);
    }

    /// All columns of the window are inside. Without dilation and groups, columns and channels are one run of elements.
    fn whole_window_row(
        &self,
        b: &Builder<'m>,
        r: Value<'m>,
        image: Value<'m>,
        pixels: i64,
        sums: &[Value<'m>],
    ) -> Vec<Value<'m>> {
        let shape = self.shape;
        let all: Vec<_> = (0..pixels).collect();
        let columns = shape.window[1];
        if shape.groups == 1 && (shape.dilation[1] == 1 || columns == 1) {
            let weights = self.weights_at(b, r, b.index(0));
            return self.channels(b, columns * shape.channels, image, weights, &all, sums);
        }
        accumulate(b, b.index(0), b.index(columns), sums, |b, s, sums| {
            let weights = self.weights_at(b, r, s);
            let image = b.addi(image, b.muli(s, b.index(shape.dilation[1] * shape.channels)));
            self.channels(b, shape.group_channels(), image, weights, &all, sums)
        })
    }

    /// Column by column of the window, each for the pixels that have it.
    fn edge_window_row(
        &self,
        b: &Builder<'m>,
        r: Value<'m>,
        image: Value<'m>,
        tile: &Tile<'m>,
        sums: &[Value<'m>],
    ) -> Vec<Value<'m>> {
        let shape = self.shape;
        let inside =
            |i: i64, s: i64| tile.edge.is_none_or(|(column, width)| is_inside(shape, width, column + i, s));
        let mut sums = sums.to_vec();
        for s in 0..shape.window[1] {
            let pixels: Vec<_> = (0..tile.pixels).filter(|i| inside(*i, s)).collect();
            if pixels.is_empty() {
                continue;
            }
            let weights = self.weights_at(b, r, b.index(s));
            let image = b.addi(image, b.index(s * shape.dilation[1] * shape.channels));
            sums = self.channels(b, shape.group_channels(), image, weights, &pixels, &sums);
        }
        sums
    }

    /// One pixel of an image whose width is not known: the window's columns are counted like its rows.
    fn any_pixel(&self, b: &Builder<'m>, row: Value<'m>, column: Value<'m>) {
        let shape = self.shape;
        let (first_row, from_row, to_row) = window_range(self.f, b, shape, 0, row);
        let (first_column, from, to) = window_range(self.f, b, shape, 1, column);
        let start = vec![self.zero(b); self.tiling.vectors as usize];
        let sums = accumulate(b, from_row, to_row, &start, |b, r, sums| {
            let image_row = b.addi(first_row, b.muli(r, b.index(shape.dilation[0])));
            let image = self.image_at(b, image_row, first_column);
            accumulate(b, from, to, sums, |b, s, sums| {
                let weights = self.weights_at(b, r, s);
                let image = b.addi(image, b.muli(s, b.index(shape.dilation[1] * shape.channels)));
                self.channels(b, shape.group_channels(), image, weights, &[0], sums)
            })
        });
        self.store(b, &Tile { row, column, pixels: 1, edge: None }, &sums);
    }

    /// The inner loop: `count` elements of each of `pixels` times as many rows of the panel, added to the sums.
    fn channels(
        &self,
        b: &Builder<'m>,
        count: i64,
        image: Value<'m>,
        weights: Value<'m>,
        pixels: &[i64],
        sums: &[Value<'m>],
    ) -> Vec<Value<'m>> {
        let (lanes, vectors) = (self.tiling.lanes as usize, self.tiling.vectors as usize);
        let dtype = self.f.dtype(self.shape.image);
        let distance = self.shape.stride[1] * self.shape.channels;
        accumulate(b, b.index(0), b.index(count), sums, |b, c, sums| {
            let at = b.addi(weights, b.muli(c, b.index(self.tiling.panel())));
            let row: Vec<_> = (0..vectors)
                .map(|j| {
                    let raw = b.vector_load(self.weights, b.addi(at, b.index((j * lanes) as i64)), lanes);
                    from_storage(b, dtype, raw)
                })
                .collect();
            let element = b.addi(image, c);
            let mut sums = sums.to_vec();
            for &pixel in pixels {
                let raw = b.load(self.image, b.addi(element, b.index(pixel * distance)));
                let x = b.broadcast(from_storage(b, dtype, raw), lanes);
                for (j, w) in row.iter().enumerate() {
                    let sum = &mut sums[pixel as usize * vectors + j];
                    *sum = b.vector_fma(x, *w, *sum);
                }
            }
            sums
        })
    }

    fn store(&self, b: &Builder<'m>, tile: &Tile<'m>, sums: &[Value<'m>]) {
        let (lanes, vectors) = (self.tiling.lanes, self.tiling.vectors);
        // Channels of the last panel; vectors that it fills are whole in every panel.
        let last = self.shape.group_kernels() % self.tiling.panel();
        for pixel in 0..tile.pixels {
            for j in 0..vectors {
                let skip = b.index(j * lanes);
                let at = Pixel {
                    batch: self.f.group[2],
                    row: tile.row,
                    column: b.addi(tile.column, b.index(pixel)),
                    channel: b.addi(self.channel, skip),
                };
                let cut = last != 0 && last < (j + 1) * lanes;
                let left = cut.then(|| b.subi(self.left, skip));
                finish(self.f, b, self.shape, &at, sums[(pixel * vectors + j) as usize], left);
            }
        }
    }

    /// Element of the image at a row and column of this batch and group.
    fn image_at(&self, b: &Builder<'m>, row: Value<'m>, column: Value<'m>) -> Value<'m> {
        let pixel = b.addi(b.muli(row, self.f.dim(&self.shape.size[1])), column);
        b.addi(self.image_start, b.muli(pixel, b.index(self.shape.channels)))
    }

    /// Element of the panel at a row and column of the window.
    fn weights_at(&self, b: &Builder<'m>, r: Value<'m>, s: Value<'m>) -> Value<'m> {
        let position = b.addi(b.muli(r, b.index(self.shape.window[1])), s);
        let elements = self.shape.group_channels() * self.tiling.panel();
        b.addi(self.weights_start, b.muli(position, b.index(elements)))
    }

    fn zero(&self, b: &Builder<'m>) -> Value<'m> {
        let element = register_type(b, self.f.dtype(self.shape.image));
        zero_of(b, b.vector_type(self.tiling.lanes as usize, element))
    }
}

/// A loop that carries sums; no loop where it runs just once.
fn accumulate<'m>(
    b: &Builder<'m>,
    from: Value<'m>,
    to: Value<'m>,
    sums: &[Value<'m>],
    body: impl FnOnce(&Builder<'m>, Value<'m>, &[Value<'m>]) -> Vec<Value<'m>>,
) -> Vec<Value<'m>> {
    if b.known(from) == Some(0) && b.known(to) == Some(1) {
        return body(b, from, sums);
    }
    b.for_loop(from, to, b.index(1), sums, body)
}
