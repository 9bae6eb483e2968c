//! Dimensions in the text form: `2*batch + 1`, `floordiv(seq, 2)`.

use super::lexer::{Place, Token};
use super::{ParseError, Parsed, Parser};
use crate::Dim;
use crate::dim::DimFn;

/// Calls nest at most this deep in text.
const MAX_DEPTH: usize = 128;

impl Parser<'_> {
    /// `[batch, 2*seq]`
    pub(super) fn dim_list(&mut self) -> Parsed<Vec<Dim>> {
        self.punctuation('[')?;
        let mut dims = Vec::new();
        while !self.accept(']')? {
            dims.push(self.dim()?);
            if !self.accept(',')? && self.token != Token::Punctuation(']') {
                return Err(self.expected("`,` or `]`"));
            }
        }
        Ok(dims)
    }

    pub(super) fn dim(&mut self) -> Parsed<Dim> {
        self.sum(0)
    }

    /// The rest of a dimension whose first sign is read.
    pub(super) fn dim_after_sign(&mut self, negative: bool) -> Parsed<Dim> {
        self.sum_after_sign(negative, 0)
    }

    fn sum(&mut self, depth: usize) -> Parsed<Dim> {
        let negative = self.accept('-')?;
        self.sum_after_sign(negative, depth)
    }

    fn sum_after_sign(&mut self, negative: bool, depth: usize) -> Parsed<Dim> {
        let place = self.place;
        if depth > MAX_DEPTH {
            return Err(ParseError::new(place, format!("calls nest deeper than {MAX_DEPTH}")));
        }
        let mut sum = self.product(negative, depth)?;
        loop {
            if self.accept('+')? {
                sum = sum + self.product(false, depth)?;
            } else if self.accept('-')? {
                sum = sum + self.product(true, depth)?;
            } else {
                return Ok(sum);
            }
            if sum.complexity() > Dim::MAX_COMPLEXITY {
                return Err(ParseError::new(place, "this size is too long"));
            }
        }
    }

    /// The sign belongs to the first factor: the smallest number is none without it.
    fn product(&mut self, negative: bool, depth: usize) -> Parsed<Dim> {
        let place = self.place;
        let mut product = match (&self.token, negative) {
            (Token::Number(number), true) => {
                let number = format!("-{number}");
                self.advance()?;
                size(&number, place)?
            }
            (_, true) => -self.factor(depth)?,
            (_, false) => self.factor(depth)?,
        };
        while self.accept('*')? {
            product = product * self.factor(depth)?;
            if product.complexity() > Dim::MAX_COMPLEXITY {
                return Err(ParseError::new(place, "this size is too long"));
            }
        }
        Ok(product)
    }

    fn factor(&mut self, depth: usize) -> Parsed<Dim> {
        let place = self.place;
        match self.token.clone() {
            Token::Number(number) => {
                self.advance()?;
                size(&number, place)
            }
            Token::Word(word) if let Some(f) = DimFn::ALL.into_iter().find(|f| f.name() == word) => {
                self.advance()?;
                self.punctuation('(')?;
                let lhs = self.sum(depth + 1)?;
                self.punctuation(',')?;
                let rhs = self.sum(depth + 1)?;
                self.punctuation(')')?;
                Ok(Dim::apply(f, &lhs, &rhs))
            }
            Token::Word(name) | Token::Text(name) => {
                self.advance()?;
                let id = self.graph.symbols.find(&name);
                let id =
                    id.ok_or_else(|| ParseError::new(place, format!("`{name}` is no symbol of the graph")))?;
                Ok(Dim::symbol(id))
            }
            _ => Err(self.expected("a size")),
        }
    }
}

fn size(number: &str, place: Place) -> Parsed<Dim> {
    let value = number.parse().map_err(|_| ParseError::new(place, format!("`{number}` is no size")))?;
    Ok(Dim::constant(value))
}
