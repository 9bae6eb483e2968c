//! What the host checks: that inputs are as the signature says, before it launches anything, and that sizes which
//! only the run knows fit together, before it launches what takes that for granted.

use std::collections::HashMap;

use ired_graph::dim::UNBOUNDED;
use ired_graph::{Dim, Graph, Node, Op, PadMode, SymbolId, Symbols, ValueId};
use ired_mlir::{Compare, Value};

use super::dims::{Dims, Unbound};
use crate::names::EntryNames;

/// Gives symbols their values from the dimensions of inputs, and checks what else is said of those.
pub(super) fn bind_inputs<'m>(
    graph: &Graph,
    names: &EntryNames,
    inputs: &[Value<'m>],
    dims: &mut Dims<'_, 'm>,
) -> Result<(), Unbound> {
    let mut open: Vec<(String, Value<'m>, Dim)> = Vec::new();
    let mut bound: HashMap<SymbolId, String> = HashMap::new();
    for ((&id, &input), name) in graph.inputs().iter().zip(inputs).zip(&names.inputs) {
        for (axis, dim) in graph.ty(id).shape.iter().enumerate() {
            let size = dims.builder().input_dim(input, axis);
            let place = format!("input `{name}` axis {axis}");
            match dim.as_symbol() {
                Some(symbol) if !dims.is_bound(symbol) => {
                    dims.bind_early(symbol, size);
                    check_symbol(&graph.symbols, symbol, &place, 0, size, dims);
                    bound.insert(symbol, place);
                }
                _ => open.push((place, size, dim.clone())),
            }
        }
    }
    for (place, size, dim) in open {
        let expected = dims.get(&dim)?;
        let b = dims.builder();
        let equal = b.cmpi(Compare::Eq, size, expected);
        let expected = match dim.as_symbol().and_then(|s| bound.get(&s)) {
            Some(other) => format!("what {other} is (`{}`)", dim.display(&graph.symbols)),
            None => dim.display(&graph.symbols).to_string(),
        };
        b.check(equal, &format!("{place} must be {expected}"));
    }
    Ok(())
}

/// Checks that `size`, which is at least `least`, is one that `symbol` may have.
fn check_symbol<'m>(
    symbols: &Symbols,
    symbol: SymbolId,
    place: &str,
    least: i64,
    size: Value<'m>,
    dims: &Dims<'_, 'm>,
) {
    let (known, b) = (symbols.get(symbol), dims.builder());
    if known.min > least {
        let enough = b.cmpi(Compare::SignedGe, size, b.index(known.min));
        b.check(enough, &format!("{place} (`{}`) must be at least {}", known.name, known.min));
    }
    let max = known.max.min(UNBOUNDED);
    let fits = b.cmpi(Compare::SignedLe, size, b.index(max));
    b.check(fits, &format!("{place} (`{}`) must be at most {max}", known.name));
    if known.divisor > 1 {
        let rest = b.remui(size, b.index(known.divisor));
        let divides = b.cmpi(Compare::Eq, rest, b.index(0));
        b.check(divides, &format!("{place} (`{}`) must be a multiple of {}", known.name, known.divisor));
    }
}

/// Checks that a value that goes into or out of a region has the dimensions that are known.
pub(super) fn check_shape(
    graph: &Graph,
    node: &Node,
    value: ValueId,
    shape: &[Option<Dim>],
    dims: &mut Dims<'_, '_>,
) -> Result<(), Unbound> {
    let mut check = Check { symbols: &graph.symbols, dims, place: place(node) };
    for (found, expected) in graph.ty(value).shape.iter().zip(shape) {
        if let Some(expected) = expected {
            check.equal(found, expected, "sizes inside and outside")?;
        }
    }
    Ok(())
}

/// Checks that `dim` is what a region gives.
pub(super) fn check_size<'m>(
    graph: &Graph,
    node: &Node,
    dim: &Dim,
    size: Value<'m>,
    dims: &mut Dims<'_, 'm>,
) -> Result<(), Unbound> {
    let expected = dims.get(dim)?;
    let b = dims.builder();
    let equal = b.cmpi(Compare::Eq, size, expected);
    b.check(equal, &format!("{}: a size is not {}", place(node), dim.display(&graph.symbols)));
    Ok(())
}

/// Checks the size that the run gives a symbol.
pub(super) fn check_bounds<'m>(
    graph: &Graph,
    node: &Node,
    symbol: SymbolId,
    size: Value<'m>,
    dims: &Dims<'_, 'm>,
) {
    let known = graph.symbols.get(symbol);
    if known.min > 0 || known.max < UNBOUNDED || known.divisor > 1 {
        check_symbol(&graph.symbols, symbol, &place(node), 0, size, dims);
    }
}

/// Checks what the host has read for a symbol, which can be any number.
pub(super) fn check_read<'m>(
    graph: &Graph,
    node: &Node,
    symbol: SymbolId,
    size: Value<'m>,
    dims: &Dims<'_, 'm>,
) {
    let place = format!("{}: what was computed for a size", place(node));
    check_symbol(&graph.symbols, symbol, &place, i64::MIN, size, dims);
}

fn place(node: &Node) -> String {
    match &node.origin {
        Some(origin) => format!("`{}` ({})", origin.name, origin.op),
        None => format!("`{}`", node.op.name()),
    }
}

/// Checks what the types of a node take for granted and nobody could prove.
pub(super) fn check_node(graph: &Graph, node: &Node, dims: &mut Dims<'_, '_>) -> Result<(), Unbound> {
    let shape = |value: ValueId| graph.ty(value).shape.as_slice();
    let one = Dim::constant(1);
    let elements = node.results.first().map_or(Dim::constant(0), |result| graph.ty(*result).elements());
    let mut check = Check { symbols: &graph.symbols, dims, place: place(node) };
    match (&node.op, node.operands.as_slice()) {
        (Op::Reshape { shape: to }, &[x]) => {
            check.equal(
                &graph.ty(x).elements(),
                &ired_graph::types::product(to),
                "elements before and after",
            )?;
        }
        (Op::Broadcast { shape: to }, &[x]) => {
            for (from, to) in shape(x).iter().rev().zip(to.iter().rev()) {
                check.one_or_equal(from, to)?;
            }
        }
        (Op::Unary(_) | Op::Cast(_) | Op::BitCast(_), _) => {}
        (Op::Binary(_) | Op::Compare(_) | Op::Select, operands) => {
            for &other in &operands[1..] {
                for (a, b) in shape(operands[0]).iter().zip(shape(other)) {
                    check.equal(a, b, "operands' sizes")?;
                }
            }
        }
        (Op::Concat { axis }, operands) => {
            for &other in &operands[1..] {
                for (i, (a, b)) in shape(operands[0]).iter().zip(shape(other)).enumerate() {
                    if i != *axis {
                        check.equal(a, b, "operands' sizes")?;
                    }
                }
            }
        }
        (Op::MatMul, &[lhs, rhs]) => {
            let (l, r) = (shape(lhs), shape(rhs));
            check.equal(&l[l.len() - 1], &r[r.len() - 2], "inner sizes")?;
            for (a, b) in l[..l.len() - 2].iter().zip(r) {
                check.equal(a, b, "batch sizes")?;
            }
        }
        (Op::Slice { start, size, stride }, &[x]) => {
            for (((start, size), stride), dim) in start.iter().zip(size).zip(stride).zip(shape(x)) {
                let last = start.clone() + Dim::constant(*stride) * (size.clone() - Dim::constant(1));
                let (low, high) = if *stride > 0 { (start.clone(), last) } else { (last, start.clone()) };
                check.at_least(&low, &Dim::constant(0), size)?;
                check.at_least(dim, &(high + Dim::constant(1)), size)?;
            }
        }
        (Op::Gather { axis }, &[data, _]) => {
            check.at_least(&shape(data)[*axis], &one, &elements)?;
        }
        (Op::GatherElements { axis }, &[data, indices]) => {
            for (a, (extent, index)) in shape(data).iter().zip(shape(indices)).enumerate() {
                check.at_least(extent, if a == *axis { &one } else { index }, &elements)?;
            }
        }
        (Op::GatherNd { batch_dims }, &[data, indices]) => {
            for (a, b) in shape(data).iter().zip(shape(indices)).take(*batch_dims) {
                check.equal(a, b, "batch sizes")?;
            }
            let coordinates = shape(indices).last().and_then(Dim::as_static).unwrap_or(0);
            let coordinates = usize::try_from(coordinates).unwrap_or(0);
            for extent in shape(data).iter().skip(*batch_dims).take(coordinates) {
                check.at_least(extent, &one, &elements)?;
            }
        }
        (Op::ScatterNd { .. }, &[data, indices, updates]) => {
            if let Some((coordinates, outer)) = shape(indices).split_last() {
                let coordinates = coordinates.as_static().and_then(|k| usize::try_from(k).ok()).unwrap_or(0);
                let expected = outer.iter().chain(&shape(data)[coordinates..]);
                for (expected, found) in expected.zip(shape(updates)) {
                    check.equal(found, expected, "sizes of updates and of what they go to")?;
                }
            }
        }
        (Op::SuppressOverlaps, &[boxes, order, count, ..]) => {
            let (boxes, order, count) = (shape(boxes), shape(order), shape(count));
            let pairs = [
                (&boxes[0], &order[0]),
                (&boxes[1], &order[2]),
                (&count[0], &order[0]),
                (&count[1], &order[1]),
            ];
            for (a, b) in pairs {
                check.equal(a, b, "numbers of boxes, classes or images")?;
            }
            check.equal(&boxes[2], &Dim::constant(4), "sizes of boxes and four")?;
        }
        // The border is made of elements that are there.
        (Op::Pad { mode: PadMode::Reflect | PadMode::Edge | PadMode::Wrap, .. }, &[x]) => {
            for extent in shape(x) {
                check.at_least(extent, &one, &elements)?;
            }
        }
        (Op::LayerNorm { axis, .. }, &[x, ref others @ ..]) => {
            for &other in others {
                for (a, b) in shape(x)[*axis..].iter().zip(shape(other)) {
                    check.equal(a, b, "sizes of rows and of scale or bias")?;
                }
            }
        }
        (Op::Conv { window, groups, channels_last }, &[x, weights]) => {
            let (x, weights) = (shape(x), shape(weights));
            let groups = Dim::constant(i64::try_from(*groups).unwrap_or(i64::MAX));
            let channels = &x[if *channels_last { x.len() - 1 } else { 1 }];
            check.equal(
                channels,
                &(weights[1].clone() * groups.clone()),
                "channels of operand and weights",
            )?;
            check.equal(&weights[0].modulo(&groups), &Dim::constant(0), "kernels modulo groups and zero")?;
            for (&extent, found) in window.extent.iter().zip(&weights[2..]) {
                let extent = Dim::constant(i64::try_from(extent).unwrap_or(i64::MAX));
                check.equal(found, &extent, "sizes of weights and window")?;
            }
        }
        _ => {}
    }
    if let Op::Repeat { count, .. } = &node.op {
        check.not_negative(count)?;
    }
    if !node.regions.is_empty() {
        // Its regions check what they give.
        return Ok(());
    }
    // A difference of sizes may be negative.
    for &result in &node.results {
        for dim in shape(result) {
            check.not_negative(dim)?;
        }
    }
    Ok(())
}

struct Check<'a, 'd, 'm> {
    symbols: &'a Symbols,
    dims: &'a mut Dims<'d, 'm>,
    place: String,
}

impl Check<'_, '_, '_> {
    fn equal(&mut self, a: &Dim, b: &Dim, what: &str) -> Result<(), Unbound> {
        if self.symbols.is_known_eq(a, b) || !self.dims.first_check("equal", &[a, b]) {
            return Ok(());
        }
        let (x, y) = (self.dims.get(a)?, self.dims.get(b)?);
        let builder = self.dims.builder();
        let equal = builder.cmpi(Compare::Eq, x, y);
        let (a, b) = (a.display(self.symbols), b.display(self.symbols));
        builder.check(equal, &format!("{}: {what} differ: {a} and {b}", self.place));
        Ok(())
    }

    fn one_or_equal(&mut self, from: &Dim, to: &Dim) -> Result<(), Unbound> {
        if self.symbols.is_known_eq(from, to)
            || from.as_static() == Some(1)
            || !self.dims.first_check("one or equal", &[from, to])
        {
            return Ok(());
        }
        let (x, y) = (self.dims.get(from)?, self.dims.get(to)?);
        let builder = self.dims.builder();
        let one = builder.cmpi(Compare::Eq, x, builder.index(1));
        let fits = builder.ori(one, builder.cmpi(Compare::Eq, x, y));
        let (from, to) = (from.display(self.symbols), to.display(self.symbols));
        builder.check(fits, &format!("{}: {from} is neither 1 nor {to}", self.place));
        Ok(())
    }

    /// `a >= b` unless `size` is 0.
    fn at_least(&mut self, a: &Dim, b: &Dim, size: &Dim) -> Result<(), Unbound> {
        if self.symbols.is_known_ge(a, b) || !self.dims.first_check("at least", &[a, b, size]) {
            return Ok(());
        }
        let (x, y, n) = (self.dims.get(a)?, self.dims.get(b)?, self.dims.get(size)?);
        let builder = self.dims.builder();
        let empty = builder.cmpi(Compare::SignedLe, n, builder.index(0));
        let fits = builder.ori(empty, builder.cmpi(Compare::SignedGe, x, y));
        let (a, b) = (a.display(self.symbols), b.display(self.symbols));
        builder.check(fits, &format!("{}: {a} must be at least {b}", self.place));
        Ok(())
    }

    fn not_negative(&mut self, dim: &Dim) -> Result<(), Unbound> {
        let zero = Dim::constant(0);
        if dim.as_symbol().is_some()
            || self.symbols.is_known_ge(dim, &zero)
            || !self.dims.first_check("not negative", &[dim])
        {
            return Ok(());
        }
        let value = self.dims.get(dim)?;
        let builder = self.dims.builder();
        let fits = builder.cmpi(Compare::SignedGe, value, builder.index(0));
        builder.check(fits, &format!("{}: size {} is negative", self.place, dim.display(self.symbols)));
        Ok(())
    }
}
