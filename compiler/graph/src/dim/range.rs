//! What can be proven of a dimension from the bounds and divisors of its symbols: intervals, divisibility,
//! comparisons. Everything here errs towards "not proven".

use super::{Atom, Dim, DimFn, Symbols};

/// Inclusive bounds; the limits of `i64` stand for "no bound known".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: i64,
    pub max: i64,
}

impl Range {
    pub const UNKNOWN: Self = Self { min: i64::MIN, max: i64::MAX };

    pub const fn exactly(value: i64) -> Self {
        Self { min: value, max: value }
    }

    fn add(self, rhs: Self) -> Self {
        Self { min: add_bound(self.min, rhs.min, i64::MIN), max: add_bound(self.max, rhs.max, i64::MAX) }
    }

    fn mul(self, rhs: Self) -> Self {
        let products = [
            self.min.saturating_mul(rhs.min),
            self.min.saturating_mul(rhs.max),
            self.max.saturating_mul(rhs.min),
            self.max.saturating_mul(rhs.max),
        ];
        hull(&products)
    }

    fn apply(self, f: DimFn, rhs: Self) -> Self {
        match f {
            DimFn::Max => Self { min: self.min.max(rhs.min), max: self.max.max(rhs.max) },
            DimFn::Min => Self { min: self.min.min(rhs.min), max: self.max.min(rhs.max) },
            // The quotient is monotone in each argument while the divisor keeps its sign.
            DimFn::FloorDiv if rhs.min > 0 => {
                let floor = |l: i64, r: i64| match l {
                    i64::MIN | i64::MAX => l,
                    _ => l.div_euclid(r),
                };
                hull(&[
                    floor(self.min, rhs.min),
                    floor(self.min, rhs.max),
                    floor(self.max, rhs.min),
                    floor(self.max, rhs.max),
                ])
            }
            DimFn::Mod if rhs.min > 0 => {
                let max = if self.min >= 0 { self.max.min(rhs.max - 1) } else { rhs.max - 1 };
                Self { min: 0, max }
            }
            DimFn::FloorDiv | DimFn::Mod => Self::UNKNOWN,
        }
    }
}

/// An unbounded side stays unbounded whatever is added to it.
fn add_bound(a: i64, b: i64, unbounded: i64) -> i64 {
    if a == unbounded || b == unbounded { unbounded } else { a.saturating_add(b) }
}

fn hull(values: &[i64]) -> Range {
    let min = values.iter().copied().min().unwrap_or(i64::MIN);
    let max = values.iter().copied().max().unwrap_or(i64::MAX);
    Range { min, max }
}

impl Symbols {
    /// Bounds of `dim` over every value of the symbols.
    pub fn range(&self, dim: &Dim) -> Range {
        let mut sum = Range::exactly(dim.offset());
        for (monomial, coefficient) in dim.terms() {
            let mut product = Range::exactly(coefficient);
            for atom in monomial {
                product = product.mul(self.atom_range(atom));
            }
            sum = sum.add(product);
        }
        sum
    }

    fn atom_range(&self, atom: &Atom) -> Range {
        match atom {
            Atom::Symbol(id) => {
                let symbol = self.get(*id);
                Range { min: symbol.min, max: symbol.max }
            }
            Atom::Call(f, lhs, rhs) => self.range(lhs).apply(*f, self.range(rhs)),
        }
    }

    /// A number that divides `dim` whatever the symbols are; 0 for the number 0, which everything divides.
    pub fn divisor(&self, dim: &Dim) -> i64 {
        dim.terms().fold(dim.offset().saturating_abs(), |known, (monomial, coefficient)| {
            let product = monomial.iter().fold(coefficient.saturating_abs(), |product, atom| {
                multiply(product, self.atom_divisor(atom))
            });
            gcd(known, product)
        })
    }

    fn atom_divisor(&self, atom: &Atom) -> i64 {
        match atom {
            Atom::Symbol(id) => self.get(*id).divisor.max(1),
            Atom::Call(DimFn::FloorDiv, lhs, rhs) => match rhs.as_static() {
                Some(d) if d > 0 => match self.divisor(lhs) {
                    known if known % d == 0 => known / d,
                    _ => 1,
                },
                _ => 1,
            },
            Atom::Call(DimFn::Mod | DimFn::Max | DimFn::Min, lhs, rhs) => {
                gcd(self.divisor(lhs), self.divisor(rhs))
            }
        }
    }

    /// `dim` is a multiple of `n`, provably.
    pub fn is_known_multiple(&self, dim: &Dim, n: i64) -> bool {
        n != 0 && self.divisor(dim) % n == 0
    }

    /// Provably equal.
    pub fn is_known_eq(&self, a: &Dim, b: &Dim) -> bool {
        a == b
            || self.range(&(a.clone() - b.clone())) == Range::exactly(0)
            || self.divided(&self.simplify(a)) == self.divided(&self.simplify(b))
    }

    /// The expression over what is left of each symbol after its divisor: an `s` that is a multiple of 8 is `8*s`.
    fn divided(&self, dim: &Dim) -> Dim {
        dim.substitute(&|id| Some(Dim::symbol(id) * Dim::constant(self.get(id).divisor.max(1))))
    }

    /// Provably different, by bounds or by divisibility.
    pub fn is_known_ne(&self, a: &Dim, b: &Dim) -> bool {
        let difference = a.clone() - b.clone();
        let Range { min, max } = self.range(&difference);
        if min > 0 || max < 0 {
            return true;
        }
        // `4*s + 2` is never 0: what divides the symbolic part does not divide the constant.
        let symbolic = difference.clone() - Dim::constant(difference.offset());
        let divisor = self.divisor(&symbolic);
        divisor != 0 && difference.offset() % divisor != 0
    }

    /// Provably `a >= b`.
    pub fn is_known_ge(&self, a: &Dim, b: &Dim) -> bool {
        self.range(&(a.clone() - b.clone())).min >= 0
    }

    /// Provably `a > b`.
    pub fn is_known_gt(&self, a: &Dim, b: &Dim) -> bool {
        self.range(&(a.clone() - b.clone())).min > 0
    }

    /// Provably `a <= b`.
    pub fn is_known_le(&self, a: &Dim, b: &Dim) -> bool {
        self.is_known_ge(b, a)
    }

    /// Provably `a < b`.
    pub fn is_known_lt(&self, a: &Dim, b: &Dim) -> bool {
        self.is_known_gt(b, a)
    }

    /// The same value with every call removed that the symbols' bounds and divisors decide.
    pub fn simplify(&self, dim: &Dim) -> Dim {
        dim.rebuild(&Dim::symbol, &|f, lhs, rhs| self.simplify_call(f, lhs, rhs))
    }

    fn simplify_call(&self, f: DimFn, lhs: Dim, rhs: Dim) -> Dim {
        match f {
            DimFn::Max if self.is_known_ge(&lhs, &rhs) => lhs,
            DimFn::Max if self.is_known_ge(&rhs, &lhs) => rhs,
            DimFn::Min if self.is_known_ge(&lhs, &rhs) => rhs,
            DimFn::Min if self.is_known_ge(&rhs, &lhs) => lhs,
            DimFn::Mod | DimFn::FloorDiv => {
                let (l, r) = (self.range(&lhs), self.range(&rhs));
                if l.min >= 0 && r.min > l.max {
                    return if f == DimFn::Mod { lhs } else { Dim::constant(0) };
                }
                if let (DimFn::Mod, Some(d)) = (f, rhs.as_static())
                    && self.is_known_multiple(&lhs, d)
                {
                    return Dim::constant(0);
                }
                Dim::apply(f, &lhs, &rhs)
            }
            DimFn::Max | DimFn::Min => Dim::apply(f, &lhs, &rhs),
        }
    }

    /// The dimension that numpy's broadcasting gives for two dimensions; `None` when they provably clash.
    ///
    /// Equal dimensions give themselves, a 1 gives the other, a number over 1 wins over an expression (which is
    /// then that number or 1, checked at run time). Of two unrelated expressions, valid values are equal or one
    /// of them is 1, so the result is `max(a, b) * min(a, b, 1)`: the larger, but 0 when one of them is 0.
    pub fn broadcast(&self, a: &Dim, b: &Dim) -> Option<Dim> {
        let one = Dim::constant(1);
        if self.is_known_eq(a, b) || *b == one {
            return Some(a.clone());
        }
        if *a == one {
            return Some(b.clone());
        }
        let can_be_one = |d: &Dim| !self.is_known_ne(d, &one);
        match (a.as_static(), b.as_static()) {
            (Some(_), Some(_)) => None,
            (Some(n), None) => (can_be_one(b) || !self.is_known_ne(a, b)).then(|| Dim::constant(n)),
            (None, Some(n)) => (can_be_one(a) || !self.is_known_ne(a, b)).then(|| Dim::constant(n)),
            (None, None) => match (can_be_one(a), can_be_one(b)) {
                (false, false) if self.is_known_ne(a, b) => None,
                // A dimension that is never 1 is the result.
                (false, _) => Some(a.clone()),
                (_, false) => Some(b.clone()),
                (true, true) if is_broadcast_of(a, b) => Some(a.clone()),
                (true, true) if is_broadcast_of(b, a) => Some(b.clone()),
                (true, true) => Some(self.simplify(&broadcast_of(a, b))),
            },
        }
    }
}

pub(super) fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.saturating_abs(), b.saturating_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A product of known divisors; where it overflows, one of them alone is still a divisor.
fn multiply(a: i64, b: i64) -> i64 {
    a.checked_mul(b).unwrap_or(a)
}

/// `max(a, b) * min(a, b, 1)`; just the larger where the factor says only that it is not 0.
fn broadcast_of(a: &Dim, b: &Dim) -> Dim {
    let one = Dim::constant(1);
    let (larger, positive) = (a.maximum(b), a.minimum(b).minimum(&one));
    if positive == larger.minimum(&one) { larger } else { larger * positive }
}

/// Whether `whole` is what `part` and something else broadcast to: `part` adds nothing then.
fn is_broadcast_of(whole: &Dim, part: &Dim) -> bool {
    whole.terms().flat_map(|(monomial, _)| monomial).any(|atom| match atom {
        Atom::Call(DimFn::Max, a, b) => (**a == *part || **b == *part) && *whole == broadcast_of(a, b),
        _ => false,
    })
}
