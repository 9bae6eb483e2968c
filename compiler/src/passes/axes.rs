//! Which axes of a shape become which of another that holds the same elements.

use std::ops::Range;

use ired_graph::Dim;

/// The axes of two shapes of the same elements in groups that hold the same ones, one axis of either shape against any number
/// of the other's. `None` where there is no such match.
pub(super) fn matching_axes(from: &[Dim], to: &[Dim]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let mut groups = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() && j < to.len() {
        let merged = prefix_of(&from[i..], &to[j]).map(|count| (i..i + count, j..j + 1));
        let split = || prefix_of(&to[j..], &from[i]).map(|count| (i..i + 1, j..j + count));
        let group = merged.or_else(split)?;
        (i, j) = (group.0.end, group.1.end);
        groups.push(group);
    }
    // Ones are left over.
    let last: &mut (Range<usize>, Range<usize>) = groups.last_mut()?;
    let single = last.0.len() == 1 && j < to.len() || last.1.len() == 1 && i < from.len();
    if !single && (i < from.len() || j < to.len()) {
        return None;
    }
    (last.0.end, last.1.end) = (from.len(), to.len());
    Some(groups)
}

/// How many of the first sizes make up `size`.
fn prefix_of(sizes: &[Dim], size: &Dim) -> Option<usize> {
    let mut product = Dim::constant(1);
    sizes
        .iter()
        .position(|next| {
            product = product.clone() * next.clone();
            product == *size
        })
        .map(|last| last + 1)
}
