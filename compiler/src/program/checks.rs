//! What the host checks before it launches anything: that inputs are as the signature says, and that sizes which
//! only the caller knows fit together.

use std::collections::HashMap;

use ired_graph::dim::UNBOUNDED;
use ired_graph::{Dim, Graph, Node, Op, PadMode, RegionId, SymbolId, Symbols, ValueId};
use ired_mlir::{Compare, Value};

use super::dims::{Dims, Unbound};
use crate::names::EntryNames;

/// Gives symbols their values from the dimensions of inputs, and checks what else is said of those.
pub(super) fn bind_inputs<'m>(
    graph: &Graph,
    names: &EntryNames,
    inputs: &[Value<'m>],
    dims: &mut Dims<'m>,
) -> Result<(), Unbound> {
    let mut open: Vec<(String, Value<'m>, Dim)> = Vec::new();
    let mut bound: HashMap<SymbolId, String> = HashMap::new();
    for ((&id, &input), name) in graph.inputs().iter().zip(inputs).zip(&names.inputs) {
        for (axis, dim) in graph.ty(id).shape.iter().enumerate() {
            let size = dims.builder().input_dim(input, axis);
            let place = format!("input `{name}` axis {axis}");
            match dim.as_symbol() {
                Some(symbol) if !dims.is_bound(symbol) => {
                    dims.bind(symbol, size);
                    check_symbol(&graph.symbols, symbol, &place, size, dims);
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

fn check_symbol<'m>(symbols: &Symbols, symbol: SymbolId, place: &str, size: Value<'m>, dims: &Dims<'m>) {
    let (known, b) = (symbols.get(symbol), dims.builder());
    if known.min > 0 {
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

/// Checks what the types of all nodes take for granted and nobody could prove.
pub(super) fn check_nodes<'m>(graph: &Graph, region: RegionId, dims: &mut Dims<'m>) -> Result<(), Unbound> {
    for id in &graph.region(region).nodes {
        let node = graph.node(*id);
        check_node(graph, node, dims)?;
        for nested in &node.regions {
            check_nodes(graph, *nested, dims)?;
        }
    }
    Ok(())
}

fn check_node<'m>(graph: &Graph, node: &Node, dims: &mut Dims<'m>) -> Result<(), Unbound> {
    let shape = |value: ValueId| graph.ty(value).shape.as_slice();
    let place = match &node.origin {
        Some(origin) => format!("`{}` ({})", origin.name, origin.op),
        None => format!("`{}`", node.op.name()),
    };
    let one = Dim::constant(1);
    let elements = node.results.first().map_or(Dim::constant(0), |result| graph.ty(*result).elements());
    let mut check = Check { symbols: &graph.symbols, dims, place };
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
    // A difference of sizes may be negative.
    for &result in &node.results {
        for dim in shape(result) {
            check.not_negative(dim)?;
        }
    }
    Ok(())
}

struct Check<'a, 'm> {
    symbols: &'a Symbols,
    dims: &'a mut Dims<'m>,
    place: String,
}

impl Check<'_, '_> {
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
