//! The algebra of dimensions: sums, products, quotients, extremes, each straight into canonical form.

use std::cmp::Ordering;
use std::ops::{Add, Mul, Neg, Sub};

use super::range::gcd;
use super::{Atom, Dim, DimFn, Monomial};

/// Products of more terms than this are not multiplied out.
const MAX_PRODUCT_TERMS: usize = 1024;

/// A quotient with more terms than this is not looked for.
const MAX_QUOTIENT_TERMS: usize = 64;

impl Dim {
    /// The largest integer not over `self / rhs`.
    pub fn floor_div(&self, rhs: &Dim) -> Dim {
        match rhs.as_static() {
            Some(d) if d != 0 && d != i64::MIN => self.floor_div_by(d),
            _ => self.divide_exactly(rhs).unwrap_or_else(|| Self::call(DimFn::FloorDiv, self, rhs)),
        }
    }

    /// Whole multiples of `d` leave the division: `floordiv(4*a + b, 4) = a + floordiv(b, 4)`.
    fn floor_div_by(&self, d: i64) -> Dim {
        if d < 0 {
            return (-self.clone()).floor_div_by(-d);
        }
        let (whole, rest) = self.split_multiples(d);
        // What divides both goes away: `floordiv(2*a, 4) = floordiv(a, 2)`.
        let shared = gcd(rest.content(), d);
        let (rest, d) = (rest.divide_coefficients(shared), d / shared);
        if d == 1 {
            return whole + rest;
        }
        // One quotient of a quotient is one quotient.
        if let Some((DimFn::FloorDiv, lhs, inner)) = rest.as_call()
            && let Some(product) = inner.as_static().filter(|inner| *inner > 0).and_then(|i| i.checked_mul(d))
        {
            return whole + lhs.floor_div_by(product);
        }
        whole + Self::call(DimFn::FloorDiv, &rest, &Dim::constant(d))
    }

    /// The smallest integer not under `self / rhs`.
    pub fn ceil_div(&self, rhs: &Dim) -> Dim {
        -((-self.clone()).floor_div(rhs))
    }

    /// What floor division leaves: of `rhs`'s sign.
    pub fn modulo(&self, rhs: &Dim) -> Dim {
        match rhs.as_static() {
            Some(d) if d > 0 => {
                let (_, rest) = self.split_multiples(d);
                let shared = gcd(rest.content(), d);
                let rest = rest.divide_coefficients(shared);
                match d / shared {
                    1 => Dim::constant(0),
                    d => Self::call(DimFn::Mod, &rest, &Dim::constant(d)) * Dim::constant(shared),
                }
            }
            _ if self.divide_exactly(rhs).is_some() => Dim::constant(0),
            _ => Self::call(DimFn::Mod, self, rhs),
        }
    }

    /// `(whole, rest)` with `self = d * whole + rest`. Terms keep their sign, which keeps bounds tight; the constant
    /// that is left is under `d` and not negative.
    fn split_multiples(&self, d: i64) -> (Dim, Dim) {
        let terms = |f: fn(i64, i64) -> i64| {
            self.terms.iter().map(|(m, c)| (m.clone(), f(*c, d))).filter(|(_, c)| *c != 0).collect()
        };
        let whole = Dim { terms: terms(|c, d| c / d), constant: self.constant.div_euclid(d) };
        (whole, Dim { terms: terms(|c, d| c % d), constant: self.constant.rem_euclid(d) })
    }

    /// The greatest common divisor of all coefficients and the constant.
    fn content(&self) -> i64 {
        self.terms.iter().fold(self.constant.saturating_abs(), |known, (_, c)| gcd(known, *c))
    }

    fn divide_coefficients(&self, d: i64) -> Dim {
        match d {
            0 | 1 => self.clone(),
            _ => Dim {
                terms: self.terms.iter().map(|(m, c)| (m.clone(), c / d)).collect(),
                constant: self.constant / d,
            },
        }
    }

    /// The larger of the two.
    pub fn maximum(&self, rhs: &Dim) -> Dim {
        Self::extreme(DimFn::Max, self, rhs)
    }

    /// The smaller of the two.
    pub fn minimum(&self, rhs: &Dim) -> Dim {
        Self::extreme(DimFn::Min, self, rhs)
    }

    /// The call this is, if it is exactly one.
    pub(super) fn as_call(&self) -> Option<(DimFn, &Dim, &Dim)> {
        match (self.constant, self.terms.as_slice()) {
            (0, [(monomial, 1)]) => match monomial.as_slice() {
                [Atom::Call(f, lhs, rhs)] => Some((*f, lhs, rhs)),
                _ => None,
            },
            _ => None,
        }
    }

    fn extreme(f: DimFn, lhs: &Dim, rhs: &Dim) -> Dim {
        // Operands a constant apart are decided whatever the symbols are.
        if let Some(difference) = (lhs.clone() - rhs.clone()).as_static() {
            return if (f == DimFn::Max) == (difference >= 0) { lhs.clone() } else { rhs.clone() };
        }
        for (one, other) in [(lhs, rhs), (rhs, lhs)] {
            let Some((inner, a, b)) = one.as_call() else { continue };
            match inner {
                // `max(max(a, b), b)` is `max(a, b)`; `max(min(a, b), b)` is `b`.
                _ if inner == f && (a == other || b == other) => return one.clone(),
                DimFn::Max | DimFn::Min if a == other || b == other => return other.clone(),
                // `max(max(a, 2), 3)` is `max(a, 3)`.
                _ if inner == f && other.as_static().is_some() => {
                    for (constant, rest) in [(a, b), (b, a)] {
                        if constant.as_static().is_some() {
                            return Self::extreme(f, rest, &Self::extreme(f, constant, other));
                        }
                    }
                }
                _ => {}
            }
        }
        if lhs <= rhs { Self::call(f, lhs, rhs) } else { Self::call(f, rhs, lhs) }
    }

    /// The polynomial whose product with `rhs` is `self`, if there is one with integer coefficients; `rhs` is taken
    /// to be non-zero.
    pub fn divide_exactly(&self, rhs: &Dim) -> Option<Dim> {
        let (divisor, coefficient) = rhs.leading_term()?;
        let (divisor, coefficient) = (divisor.to_vec(), coefficient);
        let (mut quotient, mut rest) = (Dim::constant(0), self.clone());
        for _ in 0..MAX_QUOTIENT_TERMS {
            let Some((monomial, c)) = rest.leading_term() else { return Some(quotient) };
            if c.checked_rem(coefficient)? != 0 {
                return None;
            }
            let mut factor = monomial.to_vec();
            for atom in &divisor {
                factor.remove(factor.iter().position(|a| a == atom)?);
            }
            let step = Dim::term(factor, c.checked_div(coefficient)?);
            rest = rest - step.clone() * rhs.clone();
            quotient = quotient + step;
        }
        None
    }

    /// The first term in an order that products respect: by degree, then by atoms; the constant is last. `None`
    /// for 0.
    fn leading_term(&self) -> Option<(&[Atom], i64)> {
        let by_degree = |a: &&(Monomial, i64), b: &&(Monomial, i64)| match a.0.len().cmp(&b.0.len()) {
            Ordering::Equal => b.0.cmp(&a.0),
            order => order,
        };
        let first = self.terms.iter().max_by(by_degree).map(|(m, c)| (m.as_slice(), *c));
        first.or((self.constant != 0).then_some((&[][..], self.constant)))
    }

    fn term(monomial: Monomial, coefficient: i64) -> Dim {
        match monomial.is_empty() {
            true => Dim::constant(coefficient),
            false => Dim { terms: vec![(monomial, coefficient)], constant: 0 },
        }
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

    /// The same value as one atom, for sums too long to multiply out.
    fn opaque(self) -> Dim {
        if self.terms.len() <= 1 && (self.terms.is_empty() || self.constant == 0) {
            return self;
        }
        let atom = Atom::Call(DimFn::Max, Box::new(self.clone()), Box::new(self));
        Self { terms: vec![(vec![atom], 1)], constant: 0 }
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
