//! Constants, `arith` and `math`; the same constructors serve scalars and vectors.

use mlir_sys as sys;

use super::Builder;
use crate::ir::{Attribute, Op, Type, Value};

/// Integer comparisons, with MLIR's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Eq = 0,
    Ne = 1,
    SignedLt = 2,
    SignedLe = 3,
    SignedGt = 4,
    SignedGe = 5,
    UnsignedLt = 6,
    UnsignedLe = 7,
    UnsignedGt = 8,
    UnsignedGe = 9,
}

/// Ordered float comparisons (false for NaN), except `Ne` and `Unordered`; with MLIR's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatCompare {
    Eq = 1,
    Gt = 2,
    Ge = 3,
    Lt = 4,
    Le = 5,
    /// True for NaN.
    Ne = 13,
    /// Either operand is NaN.
    Unordered = 14,
}

macro_rules! binary {
    ($($name:ident = $op:literal),* $(,)?) => {
        $(
            #[doc = concat!("`", $op, "`")]
            pub fn $name(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
                self.simple($op, &[lhs, rhs], lhs.ty())
            }
        )*
    };
}

macro_rules! unary {
    ($($name:ident = $op:literal),* $(,)?) => {
        $(
            #[doc = concat!("`", $op, "`")]
            pub fn $name(&self, x: Value<'m>) -> Value<'m> {
                self.simple($op, &[x], x.ty())
            }
        )*
    };
}

macro_rules! conversion {
    ($($name:ident = $op:literal),* $(,)?) => {
        $(
            #[doc = concat!("`", $op, "` to an element type, keeping the lanes")]
            pub fn $name(&self, x: Value<'m>, element: Type<'m>) -> Value<'m> {
                self.simple($op, &[x], self.with_element(x.ty(), element))
            }
        )*
    };
}

impl<'m> Builder<'m> {
    /// An `arith.constant` of any attribute and its type, once a function.
    pub fn constant(&self, value: Attribute<'m>, ty: Type<'m>) -> Value<'m> {
        let key = (value.raw.ptr, ty.raw.ptr);
        if let Some(found) = self.constants.made.borrow().get(&key) {
            return *found;
        }
        let Some(entry) = self.constants.entry else {
            return self.op("arith.constant").attribute("value", value).results(&[ty]).build().result(0);
        };
        let first = entry.ops().next();
        let at_front = Builder { block: entry, before: first, ..self.clone() };
        let made = at_front.op("arith.constant").attribute("value", value).results(&[ty]).build().result(0);
        self.constants.made.borrow_mut().insert(key, made);
        made
    }

    pub fn index(&self, value: i64) -> Value<'m> {
        self.integer(self.index_type(), value)
    }

    pub fn bool(&self, value: bool) -> Value<'m> {
        self.integer(self.int_type(1), i64::from(value))
    }

    /// An integer or index constant; for a vector type, the same in every lane.
    pub fn integer(&self, ty: Type<'m>, value: i64) -> Value<'m> {
        let scalar = self.integer_attribute(ty.element(), value);
        let made = self.constant(self.splat(scalar, ty), ty);
        if ty.vector_lanes().is_none() {
            self.constants.known.borrow_mut().insert(made.raw.ptr, value);
        }
        made
    }

    /// A float constant, rounded to the type; for a vector type, the same in every lane.
    pub fn float(&self, ty: Type<'m>, value: f64) -> Value<'m> {
        // SAFETY: the context is live and the element a float type.
        let scalar = Attribute::from_raw(unsafe {
            sys::mlirFloatAttrDoubleGet(self.context, ty.element().raw, value)
        });
        self.constant(self.splat(scalar, ty), ty)
    }

    fn splat(&self, scalar: Attribute<'m>, ty: Type<'m>) -> Attribute<'m> {
        match ty.vector_lanes() {
            // SAFETY: the type is a static vector of the attribute's type.
            Some(_) => Attribute::from_raw(unsafe { sys::mlirDenseElementsAttrSplatGet(ty.raw, scalar.raw) }),
            None => scalar,
        }
    }

    /// The number behind an integer constant that was built here.
    pub fn known(&self, value: Value<'m>) -> Option<i64> {
        self.constants.known.borrow().get(&value.raw.ptr).copied()
    }

    fn fold(
        &self,
        lhs: Value<'m>,
        rhs: Value<'m>,
        apply: impl FnOnce(i64, i64) -> Option<i64>,
    ) -> Option<Value<'m>> {
        let value = apply(self.known(lhs)?, self.known(rhs)?)?;
        Some(self.integer(lhs.ty(), value))
    }

    fn is(&self, value: Value<'m>, number: i64) -> bool {
        self.known(value) == Some(number)
    }

    pub fn addi(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if self.is(rhs, 0) {
            return lhs;
        }
        if self.is(lhs, 0) {
            return rhs;
        }
        self.fold(lhs, rhs, i64::checked_add)
            .unwrap_or_else(|| self.simple("arith.addi", &[lhs, rhs], lhs.ty()))
    }

    pub fn subi(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if self.is(rhs, 0) {
            return lhs;
        }
        self.fold(lhs, rhs, i64::checked_sub)
            .unwrap_or_else(|| self.simple("arith.subi", &[lhs, rhs], lhs.ty()))
    }

    pub fn muli(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if self.is(rhs, 1) || self.is(lhs, 0) {
            return lhs;
        }
        if self.is(lhs, 1) || self.is(rhs, 0) {
            return rhs;
        }
        self.fold(lhs, rhs, i64::checked_mul)
            .unwrap_or_else(|| self.simple("arith.muli", &[lhs, rhs], lhs.ty()))
    }

    /// Unsigned division; on non-negative numbers, plain division.
    pub fn divui(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if self.is(rhs, 1) {
            return lhs;
        }
        let both_positive = |l: i64, r: i64| if l >= 0 && r > 0 { Some(l / r) } else { None };
        self.fold(lhs, rhs, both_positive)
            .unwrap_or_else(|| self.simple("arith.divui", &[lhs, rhs], lhs.ty()))
    }

    /// Unsigned remainder; on non-negative numbers, the plain one.
    pub fn remui(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if self.is(rhs, 1) {
            return self.integer(lhs.ty(), 0);
        }
        let both_positive = |l: i64, r: i64| if l >= 0 && r > 0 { Some(l % r) } else { None };
        self.fold(lhs, rhs, both_positive)
            .unwrap_or_else(|| self.simple("arith.remui", &[lhs, rhs], lhs.ty()))
    }

    pub fn minsi(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        self.fold(lhs, rhs, |l, r| Some(l.min(r)))
            .unwrap_or_else(|| self.simple("arith.minsi", &[lhs, rhs], lhs.ty()))
    }

    pub fn maxsi(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        self.fold(lhs, rhs, |l, r| Some(l.max(r)))
            .unwrap_or_else(|| self.simple("arith.maxsi", &[lhs, rhs], lhs.ty()))
    }

    /// Rounds the quotient down, whatever the signs; the divisor is not 0.
    pub fn floor_div(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if self.is(rhs, 1) {
            return lhs;
        }
        if let Some(folded) = self.fold(lhs, rhs, |l, r| Some(floor_div(l, r)?.0)) {
            return folded;
        }
        let quotient = self.divsi(lhs, rhs);
        let zero = self.integer(lhs.ty(), 0);
        let rest = self.subi(lhs, self.muli(quotient, rhs));
        let inexact = self.cmpi(Compare::Ne, rest, zero);
        let opposite = self.cmpi(Compare::SignedLt, self.xori(rest, rhs), zero);
        let down = self.andi(inexact, opposite);
        self.select(down, self.subi(quotient, self.integer(lhs.ty(), 1)), quotient)
    }

    /// `lhs - rhs * floor(lhs / rhs)`: the sign of the divisor, which is not 0.
    pub fn floor_mod(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if let Some(folded) = self.fold(lhs, rhs, |l, r| Some(floor_div(l, r)?.1)) {
            return folded;
        }
        self.subi(lhs, self.muli(self.floor_div(lhs, rhs), rhs))
    }

    /// Rounds the quotient of non-negative numbers up.
    pub fn ceil_div(&self, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        let one = self.integer(lhs.ty(), 1);
        self.divui(self.addi(lhs, self.subi(rhs, one)), rhs)
    }

    binary! {
        divsi = "arith.divsi",
        remsi = "arith.remsi",
        andi = "arith.andi",
        ori = "arith.ori",
        xori = "arith.xori",
        shli = "arith.shli",
        shrsi = "arith.shrsi",
        shrui = "arith.shrui",
        maxui = "arith.maxui",
        minui = "arith.minui",
        addf = "arith.addf",
        subf = "arith.subf",
        mulf = "arith.mulf",
        divf = "arith.divf",
        maximumf = "arith.maximumf",
        minimumf = "arith.minimumf",
        maxnumf = "arith.maxnumf",
        minnumf = "arith.minnumf",
        copysign = "math.copysign",
    }

    unary! {
        negf = "arith.negf",
        absf = "math.absf",
        floor = "math.floor",
        ceil = "math.ceil",
        trunc = "math.trunc",
        round_even = "math.roundeven",
        sqrt = "math.sqrt",
    }

    conversion! {
        extf = "arith.extf",
        truncf = "arith.truncf",
        extsi = "arith.extsi",
        extui = "arith.extui",
        trunci = "arith.trunci",
        sitofp = "arith.sitofp",
        uitofp = "arith.uitofp",
        fptosi = "arith.fptosi",
        fptoui = "arith.fptoui",
        bitcast = "arith.bitcast",
    }

    /// Between `index` and integers, signed.
    pub fn index_cast(&self, x: Value<'m>, element: Type<'m>) -> Value<'m> {
        if x.ty().element() == element {
            return x;
        }
        if let (Some(value), None) = (self.known(x), x.ty().vector_lanes()) {
            return self.integer(element, value);
        }
        self.simple("arith.index_cast", &[x], self.with_element(x.ty(), element))
    }

    /// `lhs * rhs + addend`, rounded once.
    pub fn fma(&self, lhs: Value<'m>, rhs: Value<'m>, addend: Value<'m>) -> Value<'m> {
        self.simple("math.fma", &[lhs, rhs, addend], lhs.ty())
    }

    pub fn cmpi(&self, how: Compare, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        if let (Some(l), Some(r)) = (self.known(lhs), self.known(rhs))
            && let Some(outcome) = how.apply(l, r)
        {
            return self.bool(outcome);
        }
        let result = self.with_element(lhs.ty(), self.int_type(1));
        let predicate = self.i64_attribute(how as i64);
        let op = self.op("arith.cmpi").operands(&[lhs, rhs]).attribute("predicate", predicate);
        op.results(&[result]).build().result(0)
    }

    pub fn cmpf(&self, how: FloatCompare, lhs: Value<'m>, rhs: Value<'m>) -> Value<'m> {
        let result = self.with_element(lhs.ty(), self.int_type(1));
        let predicate = self.i64_attribute(how as i64);
        let op = self.op("arith.cmpf").operands(&[lhs, rhs]).attribute("predicate", predicate);
        op.results(&[result]).build().result(0)
    }

    /// `condition ? yes : no`; the condition is one bit, or one a lane.
    pub fn select(&self, condition: Value<'m>, yes: Value<'m>, no: Value<'m>) -> Value<'m> {
        match self.known(condition) {
            Some(0) => no,
            Some(_) => yes,
            None if yes == no => yes,
            None => self.simple("arith.select", &[condition, yes, no], yes.ty()),
        }
    }

    /// Adds a fast-math flag set, such as `reassoc,nnan`, to an operation that has them.
    pub fn set_fast_math(&self, op: Op<'m>, flags: &str) {
        op.set_attribute("fastmath", self.parse_attribute(&format!("#arith.fastmath<{flags}>")));
    }
}

impl Compare {
    fn apply(self, lhs: i64, rhs: i64) -> Option<bool> {
        Some(match self {
            Self::Eq => lhs == rhs,
            Self::Ne => lhs != rhs,
            Self::SignedLt => lhs < rhs,
            Self::SignedLe => lhs <= rhs,
            Self::SignedGt => lhs > rhs,
            Self::SignedGe => lhs >= rhs,
            _ => return None,
        })
    }
}

/// Quotient and remainder, rounding down.
fn floor_div(lhs: i64, rhs: i64) -> Option<(i64, i64)> {
    let (mut quotient, mut rest) = (lhs.checked_div(rhs)?, lhs.checked_rem(rhs)?);
    if rest != 0 && (rest < 0) != (rhs < 0) {
        quotient -= 1;
        rest += rhs;
    }
    Some((quotient, rest))
}
