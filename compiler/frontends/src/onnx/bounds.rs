//! What a model's own nodes demand of its sizes. A model that adds 512 rows of positions, cut to the length of its
//! input, to that input runs for inputs of up to 512 only; knowing that, the cut is no longer `min(length, 512)` but
//! `length`, and every size computed from it stays simple.

use ired_graph::dim::{Atom, DimFn};
use ired_graph::{Builder, Dim, Graph, Op, SymbolId, ValueId};

/// Bounds that one model may teach: each costs a walk over what is imported so far.
const MAX_BOUNDS: usize = 64;

/// Lowers the bounds of symbols that `operands`, which are about to be broadcast together, leave no choice.
pub(super) fn learn_from_broadcast(b: &mut Builder<'_>, operands: &[ValueId]) {
    // What happens in a branch may not happen at all.
    if b.region != b.graph.body {
        return;
    }
    let mut learned = Vec::new();
    for (i, x) in operands.iter().enumerate() {
        for y in &operands[i + 1..] {
            let pairs = b.ty(*x).shape.iter().rev().zip(b.ty(*y).shape.iter().rev());
            learned.extend(pairs.filter_map(|(x, y)| upper_bound(x, y).or_else(|| upper_bound(y, x))));
        }
    }
    for (symbol, max) in learned {
        lower(b.graph, symbol, max);
    }
}

/// The bound on symbol `s` if the sizes are `s` and `min(s, bound)`: they are equal, or one of them is 1, and for a
/// bound over 1 each of these means `s <= bound`.
fn upper_bound(size: &Dim, cut: &Dim) -> Option<(SymbolId, i64)> {
    let symbol = size.as_symbol()?;
    let mut terms = cut.terms();
    let (Some(([Atom::Call(DimFn::Min, x, y)], 1)), None, 0) = (terms.next(), terms.next(), cut.offset())
    else {
        return None;
    };
    let bound = match (**x == *size, **y == *size) {
        (true, _) => y.as_static()?,
        (_, true) => x.as_static()?,
        _ => return None,
    };
    (bound > 1).then_some((symbol, bound))
}

fn lower(graph: &mut Graph, symbol: SymbolId, max: i64) {
    let bounded = graph.symbols.iter().filter(|(_, s)| s.max < ired_graph::dim::UNBOUNDED).count();
    if graph.symbols.get(symbol).max <= max || bounded >= MAX_BOUNDS {
        return;
    }
    graph.symbols.get_mut(symbol).max = max;
    let Graph { symbols, values, nodes, .. } = graph;
    let simplify = |dims: &mut Vec<Dim>| {
        for dim in dims.iter_mut().filter(|d| d.as_static().is_none()) {
            *dim = symbols.simplify(dim);
        }
    };
    values.iter_mut().for_each(|value| simplify(&mut value.ty.shape));
    for node in nodes {
        match &mut node.op {
            Op::Dims { values, .. } => simplify(values),
            Op::Iota { shape, .. } | Op::Broadcast { shape } | Op::Reshape { shape } => simplify(shape),
            Op::Slice { start, size, .. } => {
                simplify(start);
                simplify(size);
            }
            Op::Pad { low, high, .. } => {
                simplify(low);
                simplify(high);
            }
            _ => {}
        }
    }
}
