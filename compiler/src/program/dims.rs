//! Dimension expressions as index arithmetic of the host, each computed once where it can be.
//!
//! Scopes nest as regions do. An expression belongs to the innermost scope that one of its symbols is bound in, and
//! is computed at that scope's current end: ahead of the loop or branch that first asks. What could fail, or is
//! known only from data, is not computed ahead of a branch that may not be taken or a loop that may not run.

use std::collections::{HashMap, HashSet};

use ired_graph::dim::{Atom, DimFn};
use ired_graph::{Dim, SymbolId, Symbols};
use ired_mlir::{Builder, Value};

/// The host's values of symbols and expressions.
pub(super) struct Dims<'a, 'm> {
    symbols: &'a Symbols,
    /// The entry block first, the innermost region last.
    scopes: Vec<Scope<'m>>,
}

struct Scope<'m> {
    builder: Builder<'m>,
    kind: ScopeKind,
    bound: HashMap<SymbolId, Bound<'m>>,
    made: HashMap<Dim, Value<'m>>,
    atoms: HashMap<Atom, Value<'m>>,
    checked: HashSet<(&'static str, Vec<Dim>)>,
}

/// What runs the instructions of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScopeKind {
    Entry,
    Branch,
    Loop,
}

#[derive(Clone, Copy)]
struct Bound<'m> {
    value: Value<'m>,
    /// Known from the sizes of inputs alone.
    early: bool,
}

/// A symbol that has no value where it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unbound(pub(super) SymbolId);

impl<'a, 'm> Dims<'a, 'm> {
    pub(super) fn new(symbols: &'a Symbols, builder: Builder<'m>) -> Self {
        Self { symbols, scopes: vec![Scope::new(builder, ScopeKind::Entry)] }
    }

    /// Opens the scope of a region whose block `builder` fills.
    pub(super) fn enter(&mut self, builder: Builder<'m>, kind: ScopeKind) {
        self.scopes.push(Scope::new(builder, kind));
    }

    /// Forgets what was made in the innermost scope.
    pub(super) fn leave(&mut self) {
        self.scopes.pop();
    }

    /// The builder of the innermost scope.
    pub(super) fn builder(&self) -> &Builder<'m> {
        &self.scopes[self.scopes.len() - 1].builder
    }

    /// The builder of the entry block.
    pub(super) fn entry_builder(&self) -> &Builder<'m> {
        &self.scopes[0].builder
    }

    /// Gives a symbol the value that an input's size has.
    pub(super) fn bind_early(&mut self, symbol: SymbolId, value: Value<'m>) {
        self.bind_as(symbol, value, true);
    }

    /// Gives a symbol its value in the innermost scope.
    pub(super) fn bind(&mut self, symbol: SymbolId, value: Value<'m>) {
        self.bind_as(symbol, value, false);
    }

    /// Gives a symbol its value in the innermost scope; `early` says that it is known from the sizes of inputs alone.
    pub(super) fn bind_as(&mut self, symbol: SymbolId, value: Value<'m>, early: bool) {
        let innermost = self.scopes.len() - 1;
        self.scopes[innermost].bound.insert(symbol, Bound { value, early });
    }

    /// Whether the expression is known from the sizes of inputs alone.
    pub(super) fn is_early(&self, dim: &Dim) -> bool {
        dim.symbols().into_iter().all(|symbol| self.find(symbol).is_some_and(|(_, bound)| bound.early))
    }

    pub(super) fn is_bound(&self, symbol: SymbolId) -> bool {
        self.find(symbol).is_some()
    }

    /// Whether every symbol of the expression has a value.
    pub(super) fn is_known(&self, dim: &Dim) -> bool {
        dim.symbols().into_iter().all(|symbol| self.is_bound(symbol))
    }

    fn find(&self, symbol: SymbolId) -> Option<(usize, Bound<'m>)> {
        let scopes = self.scopes.iter().enumerate().rev();
        scopes.into_iter().find_map(|(at, scope)| Some((at, *scope.bound.get(&symbol)?)))
    }

    /// Whether relation `what` of expressions comes up for the first time.
    pub(super) fn first_check(&mut self, what: &'static str, dims: &[&Dim]) -> bool {
        let key = (what, dims.iter().map(|&dim| dim.clone()).collect());
        let innermost = self.scopes.len() - 1;
        !self.scopes.iter().any(|scope| scope.checked.contains(&key))
            && self.scopes[innermost].checked.insert(key)
    }

    pub(super) fn get(&mut self, dim: &Dim) -> Result<Value<'m>, Unbound> {
        if let Some(constant) = dim.as_static() {
            return Ok(self.builder().index(constant));
        }
        if let Some(found) = self.scopes.iter().rev().find_map(|scope| scope.made.get(dim)) {
            return Ok(*found);
        }
        let home = self.home(&dim.symbols(), self.is_total(dim))?;
        let b = self.scopes[home].builder.clone();
        let mut sum = b.index(dim.offset());
        for (atoms, coefficient) in dim.terms() {
            let mut product: Option<Value<'m>> = None;
            for atom in atoms {
                let value = self.atom(atom)?;
                product = Some(product.map_or(value, |p| b.muli(p, value)));
            }
            let factor = b.index(coefficient);
            let term = product.map_or(factor, |p| b.muli(p, factor));
            sum = b.addi(sum, term);
        }
        self.scopes[home].made.insert(dim.clone(), sum);
        Ok(sum)
    }

    fn atom(&mut self, atom: &Atom) -> Result<Value<'m>, Unbound> {
        let (f, lhs, rhs) = match atom {
            Atom::Symbol(id) => return self.find(*id).map(|(_, bound)| bound.value).ok_or(Unbound(*id)),
            Atom::Call(f, lhs, rhs) => (*f, lhs, rhs),
        };
        if let Some(found) = self.scopes.iter().rev().find_map(|scope| scope.atoms.get(atom)) {
            return Ok(*found);
        }
        let symbols = [lhs.symbols(), rhs.symbols()].concat();
        let home = self.home(&symbols, self.is_total_atom(atom))?;
        let (lhs, rhs) = (self.get(lhs)?, self.get(rhs)?);
        let b = &self.scopes[home].builder;
        let value = match f {
            DimFn::FloorDiv => b.simple("arith.floordivsi", &[lhs, rhs], b.index_type()),
            DimFn::Mod => {
                let quotient = b.simple("arith.floordivsi", &[lhs, rhs], b.index_type());
                b.subi(lhs, b.muli(quotient, rhs))
            }
            DimFn::Max => b.maxsi(lhs, rhs),
            DimFn::Min => b.minsi(lhs, rhs),
        };
        self.scopes[home].atoms.insert(atom.clone(), value);
        Ok(value)
    }

    /// New memory of `bytes` bytes, made where its size is known.
    pub(super) fn allocate(&mut self, bytes: &Dim) -> Result<Value<'m>, Unbound> {
        let safe = self.is_total(bytes) && self.symbols.is_known_ge(bytes, &Dim::constant(0));
        let home = self.home(&bytes.symbols(), safe)?;
        let size = self.get(bytes)?;
        Ok(self.scopes[home].builder.alloc(size))
    }

    /// The scope for what needs `symbols`; `safe` says that it cannot fail.
    fn home(&self, symbols: &[SymbolId], safe: bool) -> Result<usize, Unbound> {
        let (mut home, mut early) = (0, true);
        for &symbol in symbols {
            let (at, bound) = self.find(symbol).ok_or(Unbound(symbol))?;
            home = home.max(at);
            early &= bound.early;
        }
        let stays_in = |kind| match kind {
            ScopeKind::Entry => false,
            ScopeKind::Branch => !early || !safe,
            ScopeKind::Loop => !safe,
        };
        Ok((home + 1..self.scopes.len()).find(|&at| stays_in(self.scopes[at].kind)).unwrap_or(home))
    }

    /// Whether nothing in the expression divides by what may be zero.
    fn is_total(&self, dim: &Dim) -> bool {
        dim.terms().flat_map(|(atoms, _)| atoms).all(|atom| self.is_total_atom(atom))
    }

    fn is_total_atom(&self, atom: &Atom) -> bool {
        match atom {
            Atom::Symbol(_) => true,
            Atom::Call(f, lhs, rhs) => {
                let divides = matches!(f, DimFn::FloorDiv | DimFn::Mod);
                (!divides || self.symbols.is_known_ge(rhs, &Dim::constant(1)))
                    && self.is_total(lhs)
                    && self.is_total(rhs)
            }
        }
    }
}

impl<'m> Scope<'m> {
    fn new(builder: Builder<'m>, kind: ScopeKind) -> Self {
        Self {
            builder,
            kind,
            bound: HashMap::new(),
            made: HashMap::new(),
            atoms: HashMap::new(),
            checked: HashSet::new(),
        }
    }
}
