//! Where each element of a result comes from, as one table of offsets an axis: broadcasts, transposes, slices,
//! pads and gathers all are sums of such tables, and so is where an element goes in a reduction.

/// In a table: not an element of the operand but the fill value.
pub(super) const FILL: usize = usize::MAX;

/// Row-major strides, in elements.
pub(super) fn strides(shape: &[u64]) -> Vec<usize> {
    let mut strides: Vec<usize> = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        // Saturates only beside an axis of size 0, where nothing is addressed.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis] as usize);
    }
    strides
}

/// The product of sizes that are known to fit memory; it saturates only beside an axis of size 0.
pub(super) fn count(shape: &[u64]) -> usize {
    shape.iter().fold(1, |count: usize, &d| count.saturating_mul(d as usize))
}

/// One offset table an axis of the result.
pub(super) struct Positions {
    tables: Vec<Vec<usize>>,
}

impl Positions {
    pub(super) fn new(tables: Vec<Vec<usize>>) -> Self {
        Self { tables }
    }

    /// The table of an axis of `size` in which neighbours are `stride` apart.
    pub(super) fn steps(size: u64, stride: usize) -> Vec<usize> {
        (0..size as usize).map(|i| i * stride).collect()
    }

    /// Calls `f` with the position of every element in row-major order.
    pub(super) fn for_each(&self, f: &mut impl FnMut(usize)) {
        // An empty axis makes the result empty, and walking the others is then work for nothing.
        if self.tables.iter().all(|table| !table.is_empty()) {
            walk(&self.tables, 0, f);
        }
    }

    /// Copies the elements of `source`, and `fill` where there is none.
    pub(super) fn collect<T: Clone>(&self, source: &[T], fill: Option<&T>) -> Vec<T> {
        let mut elements = Vec::new();
        self.for_each(&mut |position| {
            let element = if position == FILL { fill } else { source.get(position) };
            elements.extend(element.cloned());
        });
        elements
    }
}

fn walk(tables: &[Vec<usize>], base: usize, f: &mut impl FnMut(usize)) {
    match tables {
        [] => f(base),
        [last] => last.iter().for_each(|&offset| f(join(base, offset))),
        [first, rest @ ..] => first.iter().for_each(|&offset| walk(rest, join(base, offset), f)),
    }
}

/// The sum of two offsets, unless one of them is outside.
fn join(base: usize, offset: usize) -> usize {
    if base == FILL || offset == FILL { FILL } else { base + offset }
}
