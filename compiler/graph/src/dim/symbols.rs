//! The unknowns of a graph, and what is known of them.

use std::collections::HashMap;

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

/// The symbols of a graph, each name once.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    symbols: Vec<Symbol>,
    /// Names as they were when the symbols were made.
    ids: HashMap<String, SymbolId>,
}

impl PartialEq for Symbols {
    fn eq(&self, other: &Self) -> bool {
        self.symbols == other.symbols
    }
}

impl Eq for Symbols {}

/// An upper bound for symbols about which nothing is known: far over any real size, far under overflow.
pub const UNBOUNDED: i64 = 1 << 40;

impl Symbols {
    /// The symbol called `name`, made with bounds `0..=UNBOUNDED` if it is new.
    pub fn named(&mut self, name: &str) -> SymbolId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = SymbolId(self.symbols.len() as u32);
        self.symbols.push(Symbol { name: name.to_owned(), min: 0, max: UNBOUNDED, divisor: 1 });
        self.ids.insert(name.to_owned(), id);
        id
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
        self.ids.get(name).copied()
    }

    pub fn get(&self, id: SymbolId) -> &Symbol {
        &self.symbols[id.0 as usize]
    }

    /// For bounds and divisor; a name is found as it was made.
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
