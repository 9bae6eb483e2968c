//! The text form of dimensions: `2*batch + 1`, `floordiv(seq, 2)`, with symbols by name.

use std::fmt;

use super::{Atom, Dim, Symbols};

impl Dim {
    /// This expression with the symbols' names.
    pub fn display<'a>(&'a self, symbols: &'a Symbols) -> impl fmt::Display + 'a {
        DimText { dim: self, symbols: Some(symbols) }
    }
}

/// Symbols print as `s0`, `s1`…; [`Dim::display`] prints their names.
impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&DimText { dim: self, symbols: None }, f)
    }
}

struct DimText<'a> {
    dim: &'a Dim,
    symbols: Option<&'a Symbols>,
}

impl fmt::Display for DimText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (monomial, coefficient) in self.dim.terms() {
            match (first, coefficient < 0) {
                (true, false) => {}
                (true, true) => f.write_str("-")?,
                (false, false) => f.write_str(" + ")?,
                (false, true) => f.write_str(" - ")?,
            }
            first = false;
            if coefficient.unsigned_abs() != 1 {
                write!(f, "{}*", coefficient.unsigned_abs())?;
            }
            for (i, atom) in monomial.iter().enumerate() {
                if i > 0 {
                    f.write_str("*")?;
                }
                self.atom(atom, f)?;
            }
        }
        match (self.dim.offset(), first) {
            (offset, true) => write!(f, "{offset}"),
            (0, false) => Ok(()),
            (offset, false) if offset < 0 => write!(f, " - {}", offset.unsigned_abs()),
            (offset, false) => write!(f, " + {offset}"),
        }
    }
}

impl DimText<'_> {
    fn atom(&self, atom: &Atom, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (atom, self.symbols) {
            (Atom::Symbol(id), None) => write!(f, "s{}", id.0),
            (Atom::Symbol(id), Some(symbols)) => write!(f, "{}", SymbolName(&symbols.get(*id).name)),
            (Atom::Call(call, lhs, rhs), symbols) => {
                let (lhs, rhs) = (DimText { dim: lhs, symbols }, DimText { dim: rhs, symbols });
                write!(f, "{}({lhs}, {rhs})", call.name())
            }
        }
    }
}

/// A symbol's name as the text form has it: bare when it reads as one word, quoted otherwise.
pub(crate) struct SymbolName<'a>(pub(crate) &'a str);

impl fmt::Display for SymbolName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_call = super::DimFn::ALL.iter().any(|call| call.name() == self.0);
        if is_word(self.0) && !is_call { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

/// A letter or underscore, then letters, digits and underscores; ASCII only.
pub(crate) fn is_word(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(word)
}
