//! Symbolic dimensions: integer expressions over named unknowns, kept in one canonical form.
//!
//! A [`Dim`] is a polynomial with integer coefficients over atoms; an atom is a symbol or one of floor-division,
//! remainder, maximum and minimum of two expressions. Two expressions that the canonical form makes identical
//! are equal (`==`); what it cannot show stays unproven and is checked at run time.
//!
//! Coefficients saturate at the limits of `i64`; shapes that large are refused by the verifier, never computed with.

mod range;
mod text;

pub use range::Range;
pub(crate) use text::{SymbolName, is_word};

use std::ops::{Add, Mul, Neg, Sub};

/// An unknown of the graph, such as `batch`; an index into its [`Symbols`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolId(pub u32);

/// What is known of one symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub name: String,
    /// Inclusive bounds of its value.
    pub min: i64,
    pub max: i64,
    /// Its value is a multiple of this; at least 1.
    pub divisor: i64,
}

/// The symbols of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    symbols: Vec<Symbol>,
}

/// An upper bound for symbols about which nothing is known: far over any real size, far under overflow.
pub const UNBOUNDED: i64 = 1 << 40;

impl Symbols {
    /// The symbol called `name`, made with bounds `0..=UNBOUNDED` if it is new.
    pub fn named(&mut self, name: &str) -> SymbolId {
        if let Some(id) = self.find(name) {
            return id;
        }
        self.symbols.push(Symbol { name: name.to_owned(), min: 0, max: UNBOUNDED, divisor: 1 });
        SymbolId(self.symbols.len() as u32 - 1)
    }

    /// A symbol whose name starts with `prefix` and is not taken yet.
    pub fn fresh(&mut self, prefix: &str) -> SymbolId {
        let mut n = self.symbols.len();
        loop {
            let name = format!("{prefix}{n}");
            if self.find(&name).is_none() {
                return self.named(&name);
            }
            n += 1;
        }
    }

    pub fn find(&self, name: &str) -> Option<SymbolId> {
        self.symbols.iter().position(|s| s.name == name).map(|i| SymbolId(i as u32))
    }

    pub fn get(&self, id: SymbolId) -> &Symbol {
        &self.symbols[id.0 as usize]
    }

    pub fn get_mut(&mut self, id: SymbolId) -> &mut Symbol {
        &mut self.symbols[id.0 as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = (SymbolId, &Symbol)> {
        self.symbols.iter().enumerate().map(|(i, s)| (SymbolId(i as u32), s))
    }

    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }
}

/// A dimension: a number, or an expression over [`Symbols`] in canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim {
    /// Sorted by monomial, each once, coefficients non-zero.
    terms: Vec<(Monomial, i64)>,
    constant: i64,
}

/// Products of more terms than this are not multiplied out.
const MAX_PRODUCT_TERMS: usize = 1024;

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

    pub fn floor_div(&self, rhs: &Dim) -> Dim {
        if let (Some(d), true) = (rhs.as_static(), rhs.as_static() != Some(0)) {
            if d == 1 {
                return self.clone();
            }
            if self.constant % d == 0 && self.terms.iter().all(|(_, c)| c % d == 0) {
                return Dim {
                    terms: self.terms.iter().map(|(m, c)| (m.clone(), c / d)).collect(),
                    constant: self.constant / d,
                };
            }
        }
        if let Some(quotient) = self.divide_exactly(rhs) {
            return quotient;
        }
        Self::call(DimFn::FloorDiv, self, rhs)
    }

    pub fn ceil_div(&self, rhs: &Dim) -> Dim {
        -((-self.clone()).floor_div(rhs))
    }

    pub fn modulo(&self, rhs: &Dim) -> Dim {
        match rhs.as_static() {
            Some(d) if d != 0 && self.constant % d == 0 && self.terms.iter().all(|(_, c)| c % d == 0) => {
                Dim::constant(0)
            }
            _ if self.divide_exactly(rhs).is_some() => Dim::constant(0),
            _ => Self::call(DimFn::Mod, self, rhs),
        }
    }

    pub fn maximum(&self, rhs: &Dim) -> Dim {
        Self::commutative(DimFn::Max, self, rhs)
    }

    pub fn minimum(&self, rhs: &Dim) -> Dim {
        Self::commutative(DimFn::Min, self, rhs)
    }

    /// `self / rhs` where `rhs` is one monomial that divides every term, with no division left over; `rhs` is
    /// taken to be non-zero.
    pub fn divide_exactly(&self, rhs: &Dim) -> Option<Dim> {
        let ([(divisor, coefficient)], 0) = (rhs.terms.as_slice(), rhs.constant) else { return None };
        if self.constant != 0 || self.terms.is_empty() {
            return None;
        }
        let mut terms = Vec::new();
        let mut constant = 0;
        for (monomial, c) in &self.terms {
            if c % coefficient != 0 {
                return None;
            }
            let mut rest = monomial.clone();
            for atom in divisor {
                rest.remove(rest.iter().position(|a| a == atom)?);
            }
            match rest.is_empty() {
                true => constant = c / coefficient,
                false => terms.push((rest, c / coefficient)),
            }
        }
        Some(Self::from_terms(terms, constant))
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

    /// The same value as one atom, for sums too long to multiply out.
    fn opaque(self) -> Dim {
        if self.terms.len() <= 1 && (self.terms.is_empty() || self.constant == 0) {
            return self;
        }
        let atom = Atom::Call(DimFn::Max, Box::new(self.clone()), Box::new(self));
        Self { terms: vec![(vec![atom], 1)], constant: 0 }
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

    fn call(f: DimFn, lhs: &Dim, rhs: &Dim) -> Dim {
        if let (Some(l), Some(r)) = (lhs.as_static(), rhs.as_static())
            && let Some(value) = f.apply(l, r)
        {
            return Dim::constant(value);
        }
        let atom = Atom::Call(f, Box::new(lhs.clone()), Box::new(rhs.clone()));
        Self { terms: vec![(vec![atom], 1)], constant: 0 }
    }

    fn commutative(f: DimFn, lhs: &Dim, rhs: &Dim) -> Dim {
        match lhs.cmp(rhs) {
            std::cmp::Ordering::Equal => lhs.clone(),
            std::cmp::Ordering::Less => Self::call(f, lhs, rhs),
            std::cmp::Ordering::Greater => Self::call(f, rhs, lhs),
        }
    }

    fn from_terms(mut terms: Vec<(Monomial, i64)>, constant: i64) -> Dim {
        terms.sort_by(|a, b| a.0.cmp(&b.0));
        terms.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });
        terms.retain(|(_, c)| *c != 0);
        Self { terms, constant }
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Self::constant(value)
    }
}

impl Add for Dim {
    type Output = Dim;

    fn add(mut self, rhs: Dim) -> Dim {
        self.terms.extend(rhs.terms);
        Self::from_terms(self.terms, self.constant.saturating_add(rhs.constant))
    }
}

impl Neg for Dim {
    type Output = Dim;

    fn neg(mut self) -> Dim {
        for (_, c) in &mut self.terms {
            *c = c.saturating_neg();
        }
        self.constant = self.constant.saturating_neg();
        self
    }
}

impl Sub for Dim {
    type Output = Dim;

    fn sub(self, rhs: Dim) -> Dim {
        self + -rhs
    }
}

impl Mul for Dim {
    type Output = Dim;

    fn mul(self, rhs: Dim) -> Dim {
        if self.terms.len() * rhs.terms.len() > MAX_PRODUCT_TERMS {
            return self.opaque() * rhs.opaque();
        }
        let mut terms = Vec::new();
        for (monomial, c) in &self.terms {
            for (other, d) in &rhs.terms {
                let mut product = [monomial.as_slice(), other.as_slice()].concat();
                product.sort();
                terms.push((product, c.saturating_mul(*d)));
            }
            terms.push((monomial.clone(), c.saturating_mul(rhs.constant)));
        }
        terms.extend(rhs.terms.iter().map(|(m, c)| (m.clone(), c.saturating_mul(self.constant))));
        Self::from_terms(terms, self.constant.saturating_mul(rhs.constant))
    }
}
