//! The canonical form of a dimension has the value of the expression it was made from, and what is said to be
//! proven of it holds for every value of the symbols.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use ired_graph::dim::{DimFn, Range};
use ired_graph::{Dim, SymbolId, Symbols, parse_dim};
use proptest::prelude::*;

/// An expression as it was written.
#[derive(Clone, Debug)]
enum Written {
    Number(i64),
    Symbol(u32),
    Add(Box<[Written; 2]>),
    Sub(Box<[Written; 2]>),
    Mul(Box<[Written; 2]>),
    Call(DimFn, Box<[Written; 2]>),
}

impl Written {
    fn canonical(&self) -> Dim {
        match self {
            Self::Number(n) => Dim::constant(*n),
            Self::Symbol(s) => Dim::symbol(SymbolId(*s)),
            Self::Add(of) => of[0].canonical() + of[1].canonical(),
            Self::Sub(of) => of[0].canonical() - of[1].canonical(),
            Self::Mul(of) => of[0].canonical() * of[1].canonical(),
            Self::Call(f, of) => Dim::apply(*f, &of[0].canonical(), &of[1].canonical()),
        }
    }

    fn evaluate(&self, sizes: &[i64; 3]) -> Option<i64> {
        let two = |of: &[Written; 2]| Some((of[0].evaluate(sizes)?, of[1].evaluate(sizes)?));
        match self {
            Self::Number(n) => Some(*n),
            Self::Symbol(s) => Some(sizes[*s as usize]),
            Self::Add(of) => two(of).and_then(|(a, b)| a.checked_add(b)),
            Self::Sub(of) => two(of).and_then(|(a, b)| a.checked_sub(b)),
            Self::Mul(of) => two(of).and_then(|(a, b)| a.checked_mul(b)),
            Self::Call(f, of) => two(of).and_then(|(a, b)| f.apply(a, b)),
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    let leaf = prop_oneof![(-12i64..13).prop_map(Written::Number), (0u32..3).prop_map(Written::Symbol)];
    leaf.prop_recursive(5, 24, 2, |inner| {
        (0usize..7, inner.clone(), inner).prop_map(|(kind, a, b)| {
            let of = Box::new([a, b]);
            match kind {
                0 => Written::Add(of),
                1 => Written::Sub(of),
                2 => Written::Mul(of),
                kind => Written::Call(DimFn::ALL[kind - 3], of),
            }
        })
    })
}

/// `a` in 0..=9, `b` in 1..=20, `c` a multiple of 4 in 4..=40.
fn symbols() -> Symbols {
    let mut symbols = Symbols::default();
    for (name, min, max, divisor) in [("a", 0, 9, 1), ("b", 1, 20, 1), ("odd name", 4, 40, 4)] {
        let id = symbols.named(name);
        let symbol = symbols.get_mut(id);
        (symbol.min, symbol.max, symbol.divisor) = (min, max, divisor);
    }
    symbols
}

fn sizes() -> impl Strategy<Value = [i64; 3]> {
    (0i64..10, 1i64..21, 1i64..11).prop_map(|(a, b, c)| [a, b, 4 * c])
}

fn value(dim: &Dim, sizes: &[i64; 3]) -> Option<i64> {
    dim.evaluate(&|id| sizes.get(id.0 as usize).copied())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn canonical_forms_keep_the_value(e in written(), sizes in sizes()) {
        let Some(expected) = e.evaluate(&sizes) else { return Ok(()) };
        let (symbols, dim) = (symbols(), e.canonical());
        prop_assert_eq!(value(&dim, &sizes), Some(expected), "{:?}", dim);
        prop_assert_eq!(value(&symbols.simplify(&dim), &sizes), Some(expected), "{:?}", symbols.simplify(&dim));
        let moved = dim.substitute(&|id| Some(Dim::symbol(id) - Dim::constant(i64::from(id.0))));
        let shifted = [sizes[0], sizes[1] + 1, sizes[2] + 2];
        prop_assert_eq!(value(&moved, &shifted), Some(expected));
    }

    #[test]
    fn bounds_and_divisors_hold(e in written(), sizes in sizes()) {
        let Some(expected) = e.evaluate(&sizes) else { return Ok(()) };
        let (symbols, dim) = (symbols(), e.canonical());
        let Range { min, max } = symbols.range(&dim);
        prop_assert!(min <= expected && expected <= max, "{min} <= {expected} <= {max} of {dim:?}");
        match symbols.divisor(&dim) {
            0 => prop_assert_eq!(expected, 0),
            divisor => prop_assert_eq!(expected % divisor, 0, "{:?}", dim),
        }
    }

    #[test]
    fn what_is_known_holds(e in written(), f in written(), sizes in sizes()) {
        let (Some(x), Some(y)) = (e.evaluate(&sizes), f.evaluate(&sizes)) else { return Ok(()) };
        let (symbols, a, b) = (symbols(), e.canonical(), f.canonical());
        prop_assert!(!symbols.is_known_eq(&a, &b) || x == y);
        prop_assert!(!symbols.is_known_ne(&a, &b) || x != y);
        prop_assert!(!symbols.is_known_ge(&a, &b) || x >= y);
        prop_assert!(!symbols.is_known_lt(&a, &b) || x < y);
        if let Some(quotient) = a.divide_exactly(&b) {
            prop_assert!(y == 0 || value(&quotient, &sizes).map(|q| q * y) == Some(x), "{quotient:?}");
        }
        // numpy: two sizes broadcast if they are equal or one of them is 1.
        let expected = match (x, y) {
            _ if x < 0 || y < 0 => return Ok(()),
            (1, other) | (other, 1) => Some(other),
            _ => (x == y).then_some(x),
        };
        match (symbols.broadcast(&a, &b), expected) {
            (Some(result), Some(expected)) => prop_assert_eq!(value(&result, &sizes), Some(expected)),
            (None, Some(_)) => prop_assert!(false, "{a:?} and {b:?} do broadcast"),
            (_, None) => {}
        }
    }

    #[test]
    fn text_reads_back(e in written()) {
        let (symbols, dim) = (symbols(), e.canonical());
        let text = dim.display(&symbols).to_string();
        prop_assert_eq!(parse_dim(&text, &symbols), Ok(dim), "{}", text);
    }
}

/// The canonical form of `text` over `symbols`, printed.
fn canonical(text: &str) -> String {
    let symbols = symbols();
    parse_dim(text, &symbols).unwrap().display(&symbols).to_string()
}

#[test]
fn equal_expressions_have_one_form() {
    let forms = [
        ("a*b*64 + 2 - 1", "64*a*b + 1"),
        ("floordiv(768*a*b, 64*a)", "12*b"),
        ("floordiv(a*b + a + b*b + b, b + 1)", "a + b"),
        ("floordiv(4*a + b + 9, 4)", "a + 2 + floordiv(b + 1, 4)"),
        ("floordiv(6*a + 3, 9)", "floordiv(2*a + 1, 3)"),
        ("floordiv(floordiv(a, 2), 3)", "floordiv(a, 6)"),
        ("mod(8*a + 2*b, 8)", "2*mod(b, 4)"),
        ("max(a, a + 1)", "a + 1"),
        ("min(b, min(a, b))", "min(a, b)"),
        ("max(2, 3) - mod(-7, 4)", "2"),
        ("max(a, min(a, 7))", "a"),
        ("min(min(a, 7), 1)", "min(a, 1)"),
    ];
    for (written, expected) in forms {
        assert_eq!(canonical(written), canonical(expected), "{written}");
    }
}

#[test]
fn divisors_prove_equality() {
    let symbols = symbols();
    let dim = |text: &str| parse_dim(text, &symbols).unwrap();
    assert!(symbols.is_known_eq(&dim("4*floordiv(\"odd name\", 4)"), &dim("\"odd name\"")));
    assert!(symbols.is_known_ne(&dim("2*\"odd name\""), &dim("4*a + 2")));
    assert!(!symbols.is_known_eq(&dim("4*floordiv(b, 4)"), &dim("b")));
}

#[test]
fn broadcasting_again_adds_nothing() {
    let mut symbols = Symbols::default();
    symbols.named("s");
    symbols.named("t");
    let dim = |text: &str| parse_dim(text, &symbols).unwrap();
    let broadcast = |a: &Dim, b: &Dim| symbols.broadcast(a, b).unwrap();
    assert_eq!(broadcast(&dim("s"), &dim("min(s, 512)")), dim("s"));
    let both = broadcast(&dim("s"), &dim("t"));
    assert_eq!(both, dim("max(s, t)*min(min(s, t), 1)"));
    for again in [dim("s"), dim("t"), both.clone()] {
        assert_eq!(broadcast(&both, &again), both);
        assert_eq!(broadcast(&again, &both), both);
    }
}
