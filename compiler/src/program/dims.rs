//! Dimension expressions as index arithmetic of the host, each computed once.

use std::collections::{HashMap, HashSet};

use ired_graph::dim::{Atom, DimFn};
use ired_graph::{Dim, SymbolId};
use ired_mlir::{Builder, Value};

/// The host's values of symbols and expressions. All arithmetic goes to the entry block.
pub(super) struct Dims<'m> {
    builder: Builder<'m>,
    symbols: HashMap<SymbolId, Value<'m>>,
    made: HashMap<Dim, Value<'m>>,
    atoms: HashMap<Atom, Value<'m>>,
    checked: HashSet<(&'static str, Vec<Dim>)>,
}

/// A symbol that no input of the model gives a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unbound(pub(super) SymbolId);

impl<'m> Dims<'m> {
    pub(super) fn new(builder: Builder<'m>) -> Self {
        Self {
            builder,
            symbols: HashMap::new(),
            made: HashMap::new(),
            atoms: HashMap::new(),
            checked: HashSet::new(),
        }
    }

    pub(super) fn builder(&self) -> &Builder<'m> {
        &self.builder
    }

    pub(super) fn bind(&mut self, symbol: SymbolId, value: Value<'m>) {
        self.symbols.insert(symbol, value);
    }

    pub(super) fn is_bound(&self, symbol: SymbolId) -> bool {
        self.symbols.contains_key(&symbol)
    }

    /// Whether relation `what` of expressions comes up for the first time.
    pub(super) fn first_check(&mut self, what: &'static str, dims: &[&Dim]) -> bool {
        self.checked.insert((what, dims.iter().map(|&dim| dim.clone()).collect()))
    }

    pub(super) fn get(&mut self, dim: &Dim) -> Result<Value<'m>, Unbound> {
        if let Some(found) = self.made.get(dim) {
            return Ok(*found);
        }
        let mut sum = self.builder.index(dim.offset());
        for (atoms, coefficient) in dim.terms() {
            let mut product: Option<Value<'m>> = None;
            for atom in atoms {
                let value = self.atom(atom)?;
                product = Some(product.map_or(value, |p| self.builder.muli(p, value)));
            }
            let factor = self.builder.index(coefficient);
            let term = product.map_or(factor, |p| self.builder.muli(p, factor));
            sum = self.builder.addi(sum, term);
        }
        self.made.insert(dim.clone(), sum);
        Ok(sum)
    }

    fn atom(&mut self, atom: &Atom) -> Result<Value<'m>, Unbound> {
        let (f, lhs, rhs) = match atom {
            Atom::Symbol(id) => return self.symbols.get(id).copied().ok_or(Unbound(*id)),
            Atom::Call(f, lhs, rhs) => (*f, lhs, rhs),
        };
        if let Some(found) = self.atoms.get(atom) {
            return Ok(*found);
        }
        let (lhs, rhs) = (self.get(lhs)?, self.get(rhs)?);
        let b = &self.builder;
        let value = match f {
            DimFn::FloorDiv => b.simple("arith.floordivsi", &[lhs, rhs], b.index_type()),
            DimFn::Mod => {
                let quotient = b.simple("arith.floordivsi", &[lhs, rhs], b.index_type());
                b.subi(lhs, b.muli(quotient, rhs))
            }
            DimFn::Max => b.maxsi(lhs, rhs),
            DimFn::Min => b.minsi(lhs, rhs),
        };
        self.atoms.insert(atom.clone(), value);
        Ok(value)
    }
}
