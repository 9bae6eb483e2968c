//! Whether the rows of a batch are independent: an abstract interpretation that says of every value which part of it
//! each row of the inputs decides.
//!
//! The batch is the size that inputs begin with, and have nowhere else; in the calls of which this speaks it is the same
//! for all inputs, and not 0. A model's rows are independent when each row of every output depends on the same row of
//! the inputs only: neither on other rows, nor on how many there are, nor on which place this one has. Calls may be
//! joined then, one behind the other along the batch, and the outputs cut apart, as long as their other sizes are equal.
//! What is not understood counts as dependent.
//!
//! Nothing is said of rounding, which may depend on how many rows are computed together: that is for whoever knows how
//! operations are computed, to whom [`IndependentRows::is_shared`] says which sizes do not depend on that.

mod control;
mod error;
mod gather;
mod layout;
mod places;
mod sizes;
mod transfer;

pub use error::{DependentRows, Meeting, Why};

use std::collections::HashMap;

use crate::{Dim, Graph, NodeId, RegionId, SymbolId, Symbols, ValueId};
use sizes::Size;

/// How the rows of the batch are spread over a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Neither rows nor how many there are matter: the value is the same in all calls whose other sizes are equal.
    Shared,
    /// Each row has a part of its own.
    Rows(Rows),
    /// Some part depends on several rows, on their number or on their places. Here is where that began.
    Mixed(Meeting),
}

/// Where the parts of rows are: `axis` has `outer * batch * inner` elements for some `outer`, and row `i` has those at
/// `[.., (o * batch + i) * inner + j, ..]`. No other axis depends on the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    pub axis: usize,
    pub inner: Dim,
    pub content: Content,
}

/// What is known of the parts of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// They depend on their row.
    Own,
    /// The elements along the whole axis are equal, and the same in all calls. `inner` is only one of the ways to see it.
    Equal,
    /// They say where the row is: those of row `i` are `i * step` and something from `0..span` that depends on the row.
    Place { step: Dim, span: Dim },
}

/// Proves that the rows of a graph that verifies are independent.
///
/// # Errors
/// What is in the way: an input without a batch, or the first output that has no rows or whose rows are not independent.
pub fn independent_rows(graph: &Graph) -> Result<(), DependentRows> {
    IndependentRows::of(graph).map(|_| ())
}

/// A proof that the rows of a graph are independent.
pub struct IndependentRows<'g>(Analysis<'g>);

impl<'g> IndependentRows<'g> {
    /// # Errors
    /// As [`independent_rows`].
    pub fn of(graph: &'g Graph) -> Result<Self, DependentRows> {
        let mut analysis = Analysis::new(graph, &batch_of(graph)?);
        analysis.region(graph.body);
        for &output in graph.outputs() {
            let name = || error::value_name(graph, output);
            match analysis.spreads.get(&output) {
                Some(Spread::Rows(Rows { content: Content::Place { .. }, .. })) => {
                    return Err(DependentRows::Places { output: name() });
                }
                Some(Spread::Mixed(meeting)) => {
                    return Err(DependentRows::Meet { output: name(), meeting: meeting.describe(graph) });
                }
                Some(Spread::Rows(rows)) if rows.axis == 0 && analysis.is_batch(&graph.ty(output).shape) => {}
                Some(Spread::Rows(_) | Spread::Shared) | None => {
                    let found = graph.ty(output).display(&graph.symbols).to_string();
                    return Err(DependentRows::Output { output: name(), found });
                }
            }
        }
        Ok(Self(analysis))
    }

    /// Whether a size of the graph is the same however many rows there are.
    pub fn is_shared(&self, size: &Dim) -> bool {
        self.0.shared_size(size).is_ok()
    }
}

/// The symbols that inputs begin with. Different ones are equal in calls of one batch.
///
/// # Errors
/// The first input that does not begin with a symbol, or that has one of them elsewhere.
pub fn batch_of(graph: &Graph) -> Result<Vec<SymbolId>, DependentRows> {
    let mut batch = Vec::new();
    for &input in graph.inputs() {
        let ty = graph.ty(input);
        let Some(symbol) = ty.shape.first().and_then(Dim::as_symbol) else {
            let (input, found) = (error::value_name(graph, input), ty.display(&graph.symbols).to_string());
            return Err(DependentRows::Input { input, found });
        };
        if !batch.contains(&symbol) {
            batch.push(symbol);
        }
    }
    for &input in graph.inputs() {
        let others = graph.ty(input).shape.iter().skip(1).flat_map(Dim::symbols);
        if let Some(symbol) = others.into_iter().find(|symbol| batch.contains(symbol)) {
            let (input, batch) = (error::value_name(graph, input), graph.symbols.get(symbol).name.clone());
            return Err(DependentRows::Elsewhere { input, batch });
        }
    }
    if batch.is_empty() { Err(DependentRows::NoInputs) } else { Ok(batch) }
}

/// How the rows of `batch`, as [`batch_of`] gives it, are spread over each value in use. Of what a loop computes it is
/// what holds in every iteration.
pub fn spreads(graph: &Graph, batch: &[SymbolId]) -> HashMap<ValueId, Spread> {
    let mut analysis = Analysis::new(graph, batch);
    analysis.region(graph.body);
    analysis.spreads
}

/// How often a node is looked at on average, at most: loops are, until what holds in every iteration is known, and
/// loops within them each time.
const ROUNDS: usize = 16;

struct Analysis<'g> {
    graph: &'g Graph,
    /// Those of the graph, but that a batch has a row.
    symbols: Symbols,
    /// How many rows there are.
    batch: Dim,
    spreads: HashMap<ValueId, Spread>,
    /// What is known of symbols that nodes give their values.
    sizes: HashMap<SymbolId, Size>,
    steps_left: usize,
}

impl<'g> Analysis<'g> {
    fn new(graph: &'g Graph, batch: &[SymbolId]) -> Self {
        let mut symbols = graph.symbols.clone();
        for &symbol in batch {
            let least = &mut symbols.get_mut(symbol).min;
            *least = (*least).max(1);
        }
        let own = || Rows { axis: 0, inner: Dim::constant(1), content: Content::Own };
        // All are names for the first.
        let count = batch.first().map_or(Dim::constant(1), |first| Dim::symbol(*first));
        let names = batch.iter().skip(1).map(|symbol| (*symbol, Size::Named(count.clone())));
        Self {
            graph,
            symbols,
            spreads: graph.inputs().iter().map(|input| (*input, Spread::Rows(own()))).collect(),
            sizes: names.collect(),
            batch: count,
            steps_left: graph.live_nodes().len().saturating_mul(ROUNDS),
        }
    }

    fn region(&mut self, region: RegionId) {
        let graph = self.graph;
        for &id in &graph.region(region).nodes {
            self.steps_left = self.steps_left.saturating_sub(1);
            if graph.node(id).op.is_control() {
                self.control(id);
            } else {
                self.node(id);
            }
        }
    }

    fn node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        self.bind_sizes(id);
        let spread = self.transfer(id, node);
        for &result in &node.results {
            self.define(id, result, spread.clone());
        }
    }

    /// Notes the spread of a value, as far as its type bears it out.
    fn define(&mut self, id: NodeId, value: ValueId, spread: Spread) {
        let spread = match spread {
            Spread::Mixed(_) => spread,
            placed => {
                let rows = if let Spread::Rows(rows) = placed { Some(rows) } else { None };
                Spread::placed(id, self.fits(rows, &self.graph.ty(value).shape))
            }
        };
        self.spreads.insert(value, spread);
    }

    /// Whether values of this shape have one row for each of the inputs.
    fn is_batch(&self, shape: &[Dim]) -> bool {
        shape.first().is_some_and(|dim| self.same_size(dim, &self.batch))
    }

    fn spread(&self, user: NodeId, value: ValueId) -> Spread {
        let missing = || Spread::Mixed(Meeting { node: user, why: Why::Unknown });
        self.spreads.get(&value).cloned().unwrap_or_else(missing)
    }
}

/// Rows where a value has some, or why it has not.
type Placed = Result<Option<Rows>, Why>;

impl Spread {
    fn placed(node: NodeId, placed: Placed) -> Self {
        match placed {
            Ok(None) => Self::Shared,
            Ok(Some(rows)) => Self::Rows(rows),
            Err(why) => Self::Mixed(Meeting { node, why }),
        }
    }

    fn rows(&self) -> Option<&Rows> {
        if let Self::Rows(rows) = self { Some(rows) } else { None }
    }
}
