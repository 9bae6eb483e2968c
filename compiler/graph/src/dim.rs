//! Symbolic dimensions: integer expressions over named unknowns, kept in one canonical form.
//!
//! A [`Dim`] is a polynomial with integer coefficients over atoms; an atom is a symbol or one of floor-division,
//! remainder, maximum and minimum of two expressions. Two expressions that the canonical form makes identical
//! are equal (`==`); what it cannot show stays unproven and is checked at run time.
//!
//! Coefficients saturate at the limits of `i64`; shapes that large are refused by the verifier, never computed with.

mod algebra;
mod range;
mod symbols;
mod text;

pub use range::Range;
pub use symbols::{Symbol, SymbolId, Symbols, UNBOUNDED};
pub(crate) use text::{SymbolName, is_word};

/// A dimension: a number, or an expression over [`Symbols`] in canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim {
    /// Sorted by monomial, each once, coefficients non-zero.
    terms: Vec<(Monomial, i64)>,
    constant: i64,
}

/// A product of atoms, sorted, at least one.
type Monomial = Vec<Atom>;

/// What a polynomial cannot take apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    Symbol(SymbolId),
    Call(DimFn, Box<Dim>, Box<Dim>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DimFn {
    FloorDiv,
    /// The remainder of floor division, non-negative for a positive divisor.
    Mod,
    Max,
    Min,
}

impl DimFn {
    pub const ALL: [Self; 4] = [Self::FloorDiv, Self::Mod, Self::Max, Self::Min];

    /// `None` for a division by zero or an overflow.
    pub fn apply(self, lhs: i64, rhs: i64) -> Option<i64> {
        match self {
            Self::FloorDiv if rhs == 0 => None,
            Self::FloorDiv => {
                let quotient = lhs.checked_div(rhs)?;
                let exact = lhs % rhs == 0 || (lhs < 0) == (rhs < 0);
                Some(if exact { quotient } else { quotient - 1 })
            }
            Self::Mod => Some(lhs - Self::FloorDiv.apply(lhs, rhs)?.checked_mul(rhs)?),
            Self::Max => Some(lhs.max(rhs)),
            Self::Min => Some(lhs.min(rhs)),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::FloorDiv => "floordiv",
            Self::Mod => "mod",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

impl Dim {
    pub const fn constant(value: i64) -> Self {
        Self { terms: Vec::new(), constant: value }
    }

    pub fn symbol(id: SymbolId) -> Self {
        Self { terms: vec![(vec![Atom::Symbol(id)], 1)], constant: 0 }
    }

    /// The number this is, if no symbol is left in it.
    pub fn as_static(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The symbol this is, if it is exactly one.
    pub fn as_symbol(&self) -> Option<SymbolId> {
        match (self.constant, self.terms.as_slice()) {
            (0, [(monomial, 1)]) => match monomial.as_slice() {
                [Atom::Symbol(id)] => Some(*id),
                _ => None,
            },
            _ => None,
        }
    }

    /// The terms that are not constant, for those who lower expressions: `(atoms, coefficient)`.
    pub fn terms(&self) -> impl Iterator<Item = (&[Atom], i64)> {
        self.terms.iter().map(|(m, c)| (m.as_slice(), *c))
    }

    /// The constant term.
    pub fn offset(&self) -> i64 {
        self.constant
    }

    /// The value once every symbol has one; `None` on overflow, division by zero or an unknown symbol.
    pub fn evaluate(&self, value_of: &dyn Fn(SymbolId) -> Option<i64>) -> Option<i64> {
        let mut sum = self.constant;
        for (monomial, coefficient) in &self.terms {
            let mut product = *coefficient;
            for atom in monomial {
                let value = match atom {
                    Atom::Symbol(id) => value_of(*id)?,
                    Atom::Call(f, lhs, rhs) => f.apply(lhs.evaluate(value_of)?, rhs.evaluate(value_of)?)?,
                };
                product = product.checked_mul(value)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// Replaces symbols by expressions; those `replacement` has no answer for stay.
    pub fn substitute(&self, replacement: &dyn Fn(SymbolId) -> Option<Dim>) -> Dim {
        self.rebuild(&|id| replacement(id).unwrap_or_else(|| Dim::symbol(id)), &|f, lhs, rhs| {
            Dim::apply(f, &lhs, &rhs)
        })
    }

    /// Larger expressions are refused as sizes: what they cost grows faster than they do.
    pub const MAX_COMPLEXITY: usize = 512;

    /// How many symbols and calls the expression is written with.
    pub fn complexity(&self) -> usize {
        let atom = |atom: &Atom| match atom {
            Atom::Symbol(_) => 1,
            Atom::Call(_, lhs, rhs) => 1 + lhs.complexity() + rhs.complexity(),
        };
        self.terms.iter().flat_map(|(monomial, _)| monomial).map(atom).sum()
    }

    /// Every symbol in this expression, in order, each once.
    pub fn symbols(&self) -> Vec<SymbolId> {
        let mut found = Vec::new();
        self.collect_symbols(&mut found);
        found.sort();
        found.dedup();
        found
    }

    fn collect_symbols(&self, found: &mut Vec<SymbolId>) {
        for atom in self.terms.iter().flat_map(|(monomial, _)| monomial) {
            match atom {
                Atom::Symbol(id) => found.push(*id),
                Atom::Call(_, lhs, rhs) => {
                    lhs.collect_symbols(found);
                    rhs.collect_symbols(found);
                }
            }
        }
    }

    /// The expression `f(lhs, rhs)` in canonical form.
    pub fn apply(f: DimFn, lhs: &Dim, rhs: &Dim) -> Dim {
        match f {
            DimFn::FloorDiv => lhs.floor_div(rhs),
            DimFn::Mod => lhs.modulo(rhs),
            DimFn::Max => lhs.maximum(rhs),
            DimFn::Min => lhs.minimum(rhs),
        }
    }

    /// This expression made again, bottom up, from what `symbol` and `call` give for its parts.
    fn rebuild(&self, symbol: &dyn Fn(SymbolId) -> Dim, call: &dyn Fn(DimFn, Dim, Dim) -> Dim) -> Dim {
        let mut sum = Dim::constant(self.constant);
        for (monomial, coefficient) in &self.terms {
            let mut product = Dim::constant(*coefficient);
            for atom in monomial {
                product = product
                    * match atom {
                        Atom::Symbol(id) => symbol(*id),
                        Atom::Call(f, lhs, rhs) => {
                            call(*f, lhs.rebuild(symbol, call), rhs.rebuild(symbol, call))
                        }
                    };
            }
            sum = sum + product;
        }
        sum
    }
}
