//! What sizes depend on: other sizes of the inputs only, the number of rows, or what the rows hold.

use super::{Analysis, Spread, Why};
use crate::ops::dims_of_value;
use crate::{Dim, NodeId, Op, SymbolId};

/// What is known of a symbol that a node gives its value; other symbols are the batch, or sizes that joined calls have in
/// common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// The same in all calls whose other sizes are equal.
    Shared,
    /// A name for an expression of symbols that are no names.
    Named(Dim),
    /// Anything else, and why that keeps rows together.
    Dependent(Why),
}

impl Analysis<'_> {
    /// Notes what is known of the symbols that a node without regions gives values.
    pub(super) fn bind_sizes(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        match &node.op {
            Op::ReadDims { symbols } => {
                let read = node.operands.first();
                let known = read.and_then(|read| dims_of_value(self.graph, *read)).map(|(_, values)| values);
                let shared = read.is_some_and(|read| self.spread(id, *read) == Spread::Shared);
                for (i, &symbol) in symbols.iter().enumerate() {
                    let size = match known.as_ref().and_then(|values| values.get(i)) {
                        Some(value) => self.named(value),
                        None if shared => Size::Shared,
                        None => Size::Dependent(Why::Size),
                    };
                    self.sizes.insert(symbol, size);
                }
            }
            Op::Host { symbols, .. } => {
                let shared = node.operands.iter().all(|v| self.spread(id, *v) == Spread::Shared);
                let size = if shared { Size::Shared } else { Size::Dependent(Why::Size) };
                self.sizes.extend(symbols.iter().map(|symbol| (*symbol, size.clone())));
            }
            _ => {}
        }
    }

    fn named(&self, value: &Dim) -> Size {
        let value = self.resolve(value);
        // Names were given so that expressions stay short.
        let short = value.complexity() <= Dim::MAX_COMPLEXITY;
        match self.shared_size(&value) {
            Err(Why::Count) | Ok(()) if short => Size::Named(value),
            Ok(()) => Size::Shared,
            Err(why) => Size::Dependent(why),
        }
    }

    /// The expression without names.
    pub(super) fn resolve(&self, dim: &Dim) -> Dim {
        let named = |symbol: SymbolId| match self.sizes.get(&symbol) {
            Some(Size::Named(value)) => Some(value.clone()),
            _ => None,
        };
        match dim.symbols().iter().any(|symbol| named(*symbol).is_some()) {
            true => self.symbols.simplify(&dim.substitute(&named)),
            false => dim.clone(),
        }
    }

    /// Whether a size is the same in all calls whose other sizes are equal.
    ///
    /// # Errors
    /// What it depends on.
    pub(super) fn shared_size(&self, dim: &Dim) -> Result<(), Why> {
        let mut counts = Ok(());
        for symbol in dim.symbols() {
            match self.sizes.get(&symbol) {
                _ if self.batch.as_symbol() == Some(symbol) => counts = Err(Why::Count),
                None | Some(Size::Shared) => {}
                Some(Size::Named(value)) => match self.shared_size(value) {
                    Err(Why::Count) => counts = Err(Why::Count),
                    other => other?,
                },
                Some(Size::Dependent(why)) => return Err(*why),
            }
        }
        counts
    }

    pub(super) fn shared_sizes<'d>(&self, dims: impl IntoIterator<Item = &'d Dim>) -> Result<(), Why> {
        dims.into_iter().try_for_each(|dim| self.shared_size(dim))
    }

    /// The axis whose size depends on the batch.
    ///
    /// # Errors
    /// When there are several, or a size depends on what rows hold.
    pub(super) fn batch_axis(&self, shape: &[Dim]) -> Result<Option<usize>, Why> {
        let mut found = None;
        for (axis, dim) in shape.iter().enumerate() {
            match self.shared_size(dim) {
                Ok(()) => {}
                Err(Why::Count) if found.is_none() => found = Some(axis),
                Err(Why::Count) => return Err(Why::Together),
                Err(why) => return Err(why),
            }
        }
        Ok(found)
    }

    /// The expression that `dim` is `by` times, for all values of the symbols.
    pub(super) fn quotient(&self, dim: &Dim, by: &Dim) -> Option<Dim> {
        let simple = |dim: &Dim| self.symbols.simplify(&self.resolve(dim));
        simple(dim).divide_exactly(&simple(by))
    }

    pub(super) fn same_size(&self, a: &Dim, b: &Dim) -> bool {
        self.symbols.is_known_eq(&self.resolve(a), &self.resolve(b))
    }
}
