//! Weights fetched before they are needed.

use ired_mlir::{Builder, Value};

const CACHE_LINE_BYTES: i64 = 64;
/// How far ahead of a tile that is alone with its weights they are fetched, in bytes.
const STRAIGHT_BYTES: i64 = 8 << 10;

/// Weights in panels, one after another; each panel is a run of steps.
#[derive(Clone, Copy)]
pub(super) struct Panels<'m> {
    pub(super) memref: Value<'m>,
    pub(super) element_bytes: i64,
    pub(super) step_elements: i64,
}

/// Weights to fetch into the second-level cache while a tile is computed: at each of its steps some lines.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'m> {
    memref: Value<'m>,
    start: Value<'m>,
    /// Elements further at each step.
    stride: Value<'m>,
    lines: i64,
    line_elements: i64,
}

impl<'m> Panels<'m> {
    /// What starts at element `next` and is used after these tiles, shared out among them: for tile `number` of `tiles`,
    /// which makes `steps` steps.
    pub(super) fn shared(
        self,
        b: &Builder<'m>,
        next: Value<'m>,
        number: Value<'m>,
        tiles: Value<'m>,
        steps: Value<'m>,
    ) -> Ahead<'m> {
        let stride = b.ceil_div(b.index(self.step_elements), tiles);
        let start = b.addi(next, b.muli(b.muli(number, steps), stride));
        // Of a number of tiles that only the run knows, some are likely.
        const LIKELY_TILES: i64 = 4;
        let line_elements = self.line_elements();
        let elements = b.known(stride).unwrap_or(self.step_elements / LIKELY_TILES);
        let lines = (elements + line_elements - 1) / line_elements;
        Ahead { memref: self.memref, start, stride, lines, line_elements }
    }

    /// For a tile that reads the weights from element `here` on faster than they come: those a little further on.
    pub(super) fn straight(self, b: &Builder<'m>, here: Value<'m>) -> Ahead<'m> {
        let line_elements = self.line_elements();
        let start = b.addi(here, b.index(STRAIGHT_BYTES / self.element_bytes));
        let lines = (self.step_elements + line_elements - 1) / line_elements;
        Ahead { memref: self.memref, start, stride: b.index(self.step_elements), lines, line_elements }
    }

    /// The same panels in steps of `count` of theirs.
    pub(super) fn in_steps_of(self, count: i64) -> Self {
        Self { step_elements: self.step_elements * count, ..self }
    }

    fn line_elements(self) -> i64 {
        CACHE_LINE_BYTES / self.element_bytes
    }
}

impl<'m> Ahead<'m> {
    /// Fetches what falls to step `step` of the tile.
    pub(super) fn fetch(&self, b: &Builder<'m>, step: Value<'m>) {
        let at = b.addi(self.start, b.muli(step, self.stride));
        for line in 0..self.lines {
            b.prefetch(self.memref, b.addi(at, b.index(line * self.line_elements)));
        }
    }
}
