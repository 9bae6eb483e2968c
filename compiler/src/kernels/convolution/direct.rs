//! Tiles of pixels by filters, summed over the window and the channels of a group.

use ired_graph::Dim;
use ired_mlir::{Builder, Type, Value};

use super::Plan;
use super::patch::{Patch, Patches, Rows};
use super::pixels::{TapRun, Tile, for_each_tile};
use crate::kernels::ahead::{Ahead, Panels};
use crate::kernels::arithmetic::{cast, from_storage, register_type};
use crate::kernels::dot::{DotProduct, word};
use crate::kernels::eval::nested::{accumulator, loop_nest, multiply_add};
use crate::kernels::eval::{Axis, Known, Point, spread, zero_of};
use crate::kernels::function::{Function, product};

pub(super) fn emit<'m>(f: &Function<'_, 'm>, b: &Builder<'m>, plan: &Plan) {
    let panels = plan.columns / plan.groups;
    let (number, rows) = plan.place(f);
    let group = b.divui(number, b.index(panels));
    let panel = b.remui(number, b.index(panels));
    let element = register_type(b, accumulator(f.dtype(plan.result)));
    let first = b.muli(rows, b.index(plan.rows));
    let all = f.dim(&product(&plan.row_shape));
    let last = b.minsi(b.addi(first, b.index(plan.rows)), all);
    let place = Panel {
        f,
        plan,
        group,
        number,
        // Workgroups that share a panel also share out what to fetch for the next.
        sharing: if plan.is_rows_first { (b.index(0), all) } else { (first, last) },
        column: b.muli(panel, b.index((plan.n1 * plan.lanes) as i64)),
        vector: b.vector_type(plan.lanes, element),
    };
    let masks = place.masks(b);
    let patches = Patches::new(f, b, plan);
    b.for_each(first, last, |b, row| {
        let row = place.row(b, row);
        for_each_tile(f, b, plan, patches.is_some(), &mut |b, tile| {
            let patches = patches.as_ref().filter(|_| tile.edge.is_some());
            let patch = patches.map(|patches| place.patch(b, &row, tile, patches));
            let row = Row { ahead: place.ahead(b, &row, tile), patch, ..row.clone() };
            place.emit_tile(b, &row, tile, &masks);
        });
    });
}

/// A panel of filters.
pub(super) struct Panel<'f, 'a, 'm> {
    pub(super) f: &'f Function<'a, 'm>,
    pub(super) plan: &'f Plan,
    pub(super) group: Value<'m>,
    /// Of all groups' panels.
    pub(super) number: Value<'m>,
    /// The rows, first and after last, whose tiles fetch the next panel.
    pub(super) sharing: (Value<'m>, Value<'m>),
    /// First filter, within the group.
    pub(super) column: Value<'m>,
    pub(super) vector: Type<'m>,
}

/// An output row: its index, where its window lies, what is fetched during a tile of it, and what that reads.
#[derive(Clone)]
pub(super) struct Row<'m> {
    number: Value<'m>,
    ahead: Option<Ahead<'m>>,
    /// The input, where there is none.
    patch: Option<Patch<'m>>,
    axes: Vec<Axis<'m>>,
    starts: Vec<Value<'m>>,
    ranges: Vec<(Value<'m>, Value<'m>)>,
}

impl<'m> Panel<'_, '_, 'm> {
    /// One mask a vector, where filters may be missing.
    pub(super) fn masks(&self, b: &Builder<'m>) -> Vec<Option<Value<'m>>> {
        let plan = self.plan;
        let whole = plan.filters % (plan.n1 * plan.lanes) as i64 == 0;
        (0..plan.n1)
            .map(|j| {
                let start = b.addi(self.column, b.index((j * plan.lanes) as i64));
                let left = || b.subi(b.index(plan.filters), start);
                (!whole).then(|| b.mask(left(), plan.lanes))
            })
            .collect()
    }

    pub(super) fn row(&self, b: &Builder<'m>, number: Value<'m>) -> Row<'m> {
        let (f, plan) = (self.f, self.plan);
        let axes = f.split_index(b, number, &plan.row_shape);
        let (mut starts, mut ranges) = (Vec::new(), Vec::new());
        for (i, axis) in axes[1..].iter().enumerate() {
            let size = &f.shape(plan.x)[1 + i];
            let (range, start) = f.window_range(b, &plan.window, i, size, axis.base);
            starts.push(start);
            ranges.push(range);
        }
        Row { number, ahead: None, patch: None, axes, starts, ranges }
    }

    fn emit_tile(&self, b: &Builder<'m>, row: &Row<'m>, tile: &Tile<'m>, masks: &[Option<Value<'m>>]) {
        let plan = self.plan;
        let zero = zero_of(b, self.vector);
        let sums = vec![zero; tile.pixels * plan.n1];
        let sums = loop_nest(b, &row.ranges, &sums, &mut |b, taps, sums| {
            tile.taps.iter().fold(sums.to_vec(), |sums, run| self.emit_taps(b, row, tile, taps, run, &sums))
        });
        tile.for_each_pixel(b, &mut |b, pixel, at| {
            for (j, mask) in masks.iter().enumerate() {
                self.emit_store(b, row, at, j, sums[pixel * plan.n1 + j], *mask);
            }
        });
    }

    /// What a tile at an edge reads.
    fn patch(
        &self,
        b: &Builder<'m>,
        row: &Row<'m>,
        tile: &Tile<'m>,
        patches: &Patches<'_, '_, 'm>,
    ) -> Patch<'m> {
        let channel = b.muli(self.group, b.index(self.plan.channels));
        let rows = Rows { ranges: &row.ranges, at: &|b, taps| self.tap_axes(b, row, taps) };
        patches.of_tile(b, tile, channel, &rows)
    }

    /// The memory that a tap's pixel 0 reads, `first` on the last axis, and where it has a channel.
    fn source(
        &self,
        b: &Builder<'m>,
        row: &Row<'m>,
        window: &[Value<'m>],
        first: Value<'m>,
        channel: Value<'m>,
    ) -> Option<(Value<'m>, Value<'m>)> {
        let (f, plan) = (self.f, self.plan);
        let memory = f.memory(plan.source())?;
        let mut axes = self.tap_axes(b, row, window);
        axes.extend([Axis::at(first), Axis::at(b.index(0))]);
        let (pixel, _) = f.offset(b, plan.x, &Point::axes(axes, 1, None));
        let (memory, pixel) = match row.patch {
            None => (memory, pixel),
            Some(patch) => (patch.memory, patch.pixel(b, plan, window, first, pixel)),
        };
        Some((memory, b.addi(pixel, channel)))
    }

    /// The next panel's weights, shared out among the tiles that use this one.
    fn ahead(&self, b: &Builder<'m>, row: &Row<'m>, tile: &Tile<'m>) -> Option<Ahead<'m>> {
        let (f, plan) = (self.f, self.plan);
        let panels = Panels {
            memref: f.packed(plan.weights)?,
            element_bytes: f.dtype(plan.weights).bits() as i64 / 8,
            step_elements: (plan.n1 * plan.lanes) as i64 * plan.depth(),
        };
        let width = &f.shape(plan.result)[f.shape(plan.result).len() - 2];
        let tiles_of_row = f.dim(&width.ceil_div(&Dim::constant(plan.pixels as i64)));
        let (first, last) = self.sharing;
        let tiles = b.muli(b.subi(last, first), tiles_of_row);
        let steps = b.index(plan.panel_steps());
        let here = b.muli(b.muli(self.number, steps), b.index(panels.step_elements));
        if b.known(tiles) == Some(1) {
            return Some(panels.straight(b, here));
        }
        let column = b.divui(tile.start, b.index(plan.pixels as i64));
        let number = b.addi(b.muli(b.subi(row.number, first), tiles_of_row), column);
        let next = b.addi(here, b.muli(steps, b.index(panels.step_elements)));
        Some(panels.shared(b, next, number, tiles, steps))
    }

    /// Fetches what falls to the packed row `at` of this panel.
    fn fetch(&self, b: &Builder<'m>, row: &Row<'m>, at: Value<'m>) {
        if let Some(ahead) = &row.ahead {
            ahead.fetch(b, b.subi(at, b.muli(self.number, b.index(self.plan.panel_steps()))));
        }
    }

    /// All taps of a run, and all channels.
    fn emit_taps(
        &self,
        b: &Builder<'m>,
        row: &Row<'m>,
        tile: &Tile<'m>,
        taps: &[Value<'m>],
        run: &TapRun<'m>,
        sums: &[Value<'m>],
    ) -> Vec<Value<'m>> {
        let (f, plan, axis) = (self.f, self.plan, self.plan.last_axis());
        // Neighbours go by in groups; without a rest these follow each other like single channels.
        let depth = plan.depth();
        let (whole, rest) = (plan.channels / depth, plan.channels % depth);
        let channels = b.index(whole);
        let (stride, dilation) =
            (b.index(plan.window.stride[axis] as i64), b.index(plan.window.dilation[axis] as i64));
        let low = b.index(plan.window.pad_low[axis] as i64);
        let start = b.subi(b.muli(tile.start, stride), low);
        // Neighbouring taps read neighbouring pixels: their channels follow each other, as the weights' do.
        // (An axis of one element has no neighbours, and its index is not looked at.)
        let wide = !self.is_one_pixel_wide() && whole > 1 && rest == 0;
        if wide && plan.groups == 1 && plan.window.dilation[axis] == 1 && f.memory(plan.source()).is_some() {
            let range = (b.muli(run.first, channels), b.muli(run.end, channels));
            let window = [taps, &[b.index(0)]].concat();
            return loop_nest(b, &[range], sums, &mut |b, indices, sums| {
                let mut sums = sums.to_vec();
                self.emit_step(b, row, &window, start, &run.pixels, indices[0], depth, &mut sums);
                sums
            });
        }
        loop_nest(b, &[(run.first, run.end)], sums, &mut |b, tap, sums| {
            let first = b.addi(start, b.muli(tap[0], dilation));
            let window = [taps, tap].concat();
            let mut sums = loop_nest(b, &[(b.index(0), channels)], sums, &mut |b, indices, sums| {
                let mut sums = sums.to_vec();
                self.emit_step(b, row, &window, first, &run.pixels, indices[0], depth, &mut sums);
                sums
            });
            if rest > 0 {
                self.emit_step(b, row, &window, first, &run.pixels, channels, rest, &mut sums);
            }
            sums
        })
    }

    /// One channel, or `count` neighbours of one group, of one tap, for the pixels it reaches; `first` is where pixel 0 reads on the last axis.
    #[allow(clippy::too_many_arguments, reason = "a tap's place has this many parts")]
    fn emit_step(
        &self,
        b: &Builder<'m>,
        row: &Row<'m>,
        window: &[Value<'m>],
        first: Value<'m>,
        pixels: &[usize],
        channel: Value<'m>,
        count: i64,
        sums: &mut [Value<'m>],
    ) {
        let (f, plan) = (self.f, self.plan);
        if let Some(dot) = plan.dot {
            return self.emit_dot_step(b, dot, row, window, first, pixels, channel, count, sums);
        }
        let to = accumulator(f.dtype(plan.result));
        let at = self.weight_row(b, window, plan.channels, channel);
        self.fetch(b, row, at);
        let weights: Vec<Value<'m>> = (0..plan.n1)
            .map(|j| {
                let w = self.weight(b, at, j);
                cast(b, f.dtype(plan.weights), to, w)
            })
            .collect();
        let group_channel = b.addi(b.muli(self.group, b.index(plan.channels)), channel);
        let axes = self.tap_axes(b, row, window);
        // Where the input is in memory, all pixels have one address but for a constant.
        let in_memory = self.source(b, row, window, first, group_channel);
        let channels = f.dim(&f.shape(plan.x)[axes.len() + 1]);
        for &pixel in pixels {
            let x = if let Some((memref, base)) = in_memory {
                let distance = b.muli(self.pixel_distance(b, pixel), channels);
                from_storage(b, f.dtype(plan.x), b.load(memref, b.addi(base, distance)))
            } else {
                let mut at = axes.clone();
                let w = b.addi(first, self.pixel_distance(b, pixel));
                at.extend([Axis::at(w), Axis::at(group_channel)]);
                f.eval(b, plan.x, &Point::axes(at, 1, None), &mut Known::default())
            };
            let x = spread(b, cast(b, f.dtype(plan.x), to, x), plan.lanes);
            for (j, w) in weights.iter().enumerate() {
                let sum = &mut sums[pixel * plan.n1 + j];
                *sum = multiply_add(b, x, *w, *sum);
            }
        }
    }

    /// How far on the last axis a tile's pixel reads from where its pixel 0 does.
    fn pixel_distance(&self, b: &Builder<'m>, pixel: usize) -> Value<'m> {
        let stride = self.plan.window.stride[self.plan.last_axis()] as i64;
        // Whatever reaches an axis of one element reads that one.
        b.index(if self.is_one_pixel_wide() { 0 } else { pixel as i64 * stride })
    }

    fn is_one_pixel_wide(&self) -> bool {
        let shape = self.f.shape(self.plan.x);
        shape[shape.len() - 2].as_static() == Some(1)
    }

    /// Where a tap reads: batch and spatial axes but the last.
    fn tap_axes(&self, b: &Builder<'m>, row: &Row<'m>, window: &[Value<'m>]) -> Vec<Axis<'m>> {
        let mut axes = vec![row.axes[0]];
        for (i, start) in row.starts.iter().enumerate() {
            let dilation = b.index(self.plan.window.dilation[i] as i64);
            axes.push(Axis::at(b.addi(*start, b.muli(window[i], dilation))));
        }
        axes
    }

    #[allow(clippy::too_many_arguments, reason = "a tap's place has this many parts")]
    fn emit_dot_step(
        &self,
        b: &Builder<'m>,
        DotProduct { dot, .. }: DotProduct,
        row: &Row<'m>,
        window: &[Value<'m>],
        first: Value<'m>,
        pixels: &[usize],
        group: Value<'m>,
        count: i64,
        sums: &mut [Value<'m>],
    ) {
        let (f, plan) = (self.f, self.plan);
        let channel = b.addi(b.muli(self.group, b.index(plan.channels)), b.muli(group, b.index(dot.depth())));
        let source = self.source(b, row, window, first, channel);
        let (Some((memref, base)), Some(packed)) = (source, f.packed(plan.weights)) else { return };
        let depth = dot.depth();
        let lane_elements = plan.lanes * depth as usize;
        let groups = (plan.channels + depth - 1) / depth;
        let start = self.weight_row(b, window, groups, group);
        self.fetch(b, row, start);
        let start = b.muli(start, b.index((plan.n1 * lane_elements) as i64));
        let weights: Vec<_> = (0..plan.n1)
            .map(|j| {
                let at = b.addi(start, b.index((j * lane_elements) as i64));
                dot.right(b, b.vector_load(packed, at, lane_elements))
            })
            .collect();
        let channels = f.dim(&f.shape(plan.x)[row.axes.len() + 1]);
        for &pixel in pixels {
            let distance = b.muli(self.pixel_distance(b, pixel), channels);
            let left = dot.left(b, word(b, memref, b.addi(base, distance), count, depth), plan.lanes);
            for (j, weights) in weights.iter().enumerate() {
                let sum = &mut sums[pixel * plan.n1 + j];
                *sum = dot.add(b, self.f.isa, left, *weights, *sum);
            }
        }
    }

    /// The number of a packed row: this panel, these taps, channel or group `channel` of `channels`.
    fn weight_row(
        &self,
        b: &Builder<'m>,
        window: &[Value<'m>],
        channels: i64,
        channel: Value<'m>,
    ) -> Value<'m> {
        let mut row = self.number;
        for (tap, extent) in window.iter().zip(&self.plan.window.extent) {
            row = b.addi(b.muli(row, b.index(*extent as i64)), *tap);
        }
        b.addi(b.muli(row, b.index(channels)), channel)
    }

    /// Vector `j` of a packed row.
    fn weight(&self, b: &Builder<'m>, row: Value<'m>, j: usize) -> Value<'m> {
        let (f, plan) = (self.f, self.plan);
        let at = b.muli(row, b.index((plan.n1 * plan.lanes) as i64));
        let at = b.addi(at, b.index((j * plan.lanes) as i64));
        match f.packed(plan.weights) {
            Some(memref) => from_storage(b, f.dtype(plan.weights), b.vector_load(memref, at, plan.lanes)),
            None => zero_of(b, self.vector),
        }
    }

    pub(super) fn emit_store(
        &self,
        b: &Builder<'m>,
        row: &Row<'m>,
        pixel: Value<'m>,
        j: usize,
        sum: Value<'m>,
        mask: Option<Value<'m>>,
    ) {
        let (f, plan) = (self.f, self.plan);
        let column = b.addi(self.column, b.index((j * plan.lanes) as i64));
        let column = b.addi(b.muli(self.group, b.index(plan.filters)), column);
        let aligned = plan.groups == 1 || plan.filters % plan.lanes as i64 == 0;
        let mut axes = row.axes.clone();
        axes.extend([Axis::at(pixel), Axis { base: column, step: 1, aligned }]);
        let point = Point::axes(axes, plan.lanes, mask);
        let (offset, _) = f.offset(b, plan.result, &point);
        let mut known = Known::bind(plan.result, sum);
        let register = f.eval_lanes(b, f.output(), &point, &mut known);
        f.write(b, f.output(), offset, register, mask);
    }
}
