//! Rows through branches and loops: what holds whichever branch is taken, and in every iteration.

use std::collections::HashSet;

use super::sizes::Size;
use super::{Analysis, Meeting, Rows, Spread, Why};
use crate::ops::control::{introduced_symbols, iteration_symbols};
use crate::{NodeId, Op, RegionId, SymbolId, ValueId};

impl Analysis<'_> {
    pub(super) fn control(&mut self, id: NodeId) {
        match self.graph.node(id).op {
            Op::If => self.branch(id),
            _ => self.repeat(id),
        }
    }

    fn branch(&mut self, id: NodeId) {
        let graph = self.graph;
        let node = graph.node(id);
        let condition = node.operands.first().map(|v| self.spread(id, *v));
        let outputs: Vec<&[ValueId]> = node.regions.iter().map(|r| &graph.region(*r).outputs[..]).collect();
        node.regions.iter().for_each(|region| self.region(*region));
        let (Some(Spread::Shared), [then, other]) = (&condition, outputs.as_slice()) else {
            return self.undecided(id, condition.as_ref());
        };
        for symbol in introduced_symbols(graph, node) {
            let size = self.size_from(symbol, &node.results, &[then, other]);
            self.sizes.insert(symbol, size);
        }
        for (position, &result) in node.results.iter().enumerate() {
            let [a, b] = [then, other].map(|outputs| outputs.get(position).copied().unwrap_or(result));
            let spread = self.either(id, [a, b], &self.spread(id, a), &self.spread(id, b));
            self.define(id, result, spread);
        }
    }

    /// States change from what holds before the first iteration to less and less, until an iteration changes nothing.
    fn repeat(&mut self, id: NodeId) {
        let graph = self.graph;
        let node = graph.node(id);
        let Some(&body) = node.regions.last() else { return };
        if let Op::Repeat { count, .. } = &node.op
            && let Err(why) = self.shared_size(count)
        {
            return self.undecided(id, Some(&Spread::Mixed(Meeting { node: id, why })));
        }
        let outputs = &graph.region(body).outputs[..];
        let own = iteration_symbols(graph, node);
        let mut dependent: HashSet<SymbolId> = HashSet::new();
        let mut state: Vec<Spread> = node.operands.iter().map(|v| self.spread(id, *v)).collect();
        loop {
            if self.steps_left == 0 {
                return self.undecided(id, None);
            }
            for &symbol in &own {
                let size =
                    if dependent.contains(&symbol) { Size::Dependent(Why::Size) } else { Size::Shared };
                self.sizes.insert(symbol, size);
            }
            for &region in &node.regions {
                for (&input, spread) in graph.region(region).inputs.iter().zip(&state) {
                    self.define(id, input, spread.clone());
                }
                self.region(region);
            }
            if let (Op::While, Some(&condition)) = (&node.op, self.condition(&node.regions)) {
                let condition = self.spread(id, condition);
                if condition != Spread::Shared {
                    return self.undecided(id, Some(&condition));
                }
            }
            let inputs = &graph.region(body).inputs;
            let step = |(position, &input): (usize, &ValueId)| {
                let output = outputs.get(position).copied().unwrap_or(input);
                self.either(id, [input, output], &self.spread(id, input), &self.spread(id, output))
            };
            let next: Vec<Spread> = inputs.iter().enumerate().map(step).collect();
            // The condition may have symbols of its own for what the body has.
            let varies = |symbol: &&SymbolId| {
                let inputs = node.regions.iter().map(|region| &graph.region(*region).inputs);
                let mut sizes = inputs.map(|of| self.size_from(**symbol, of, &[&node.operands, outputs]));
                sizes.any(|size| size != Size::Shared)
            };
            let found: HashSet<SymbolId> = own.iter().filter(varies).copied().collect();
            let settled = next == state && found.is_subset(&dependent);
            dependent.extend(found);
            state = next;
            if settled {
                break;
            }
        }
        self.results_of_loop(id, &state, outputs);
    }

    fn results_of_loop(&mut self, id: NodeId, state: &[Spread], outputs: &[ValueId]) {
        let node = self.graph.node(id);
        for symbol in introduced_symbols(self.graph, node) {
            let size = self.size_from(symbol, &node.results, &[&node.operands, outputs]);
            self.sizes.insert(symbol, size);
        }
        for (position, &result) in node.results.iter().enumerate() {
            let spread = match (state.get(position), outputs.get(position)) {
                (Some(state), _) => state.clone(),
                // A stack has the iterations in front.
                (None, Some(&slice)) => match self.spread(id, slice) {
                    Spread::Rows(rows) => Spread::Rows(Rows { axis: rows.axis + 1, ..rows }),
                    spread => spread,
                },
                (None, None) => Spread::Mixed(Meeting { node: id, why: Why::Unknown }),
            };
            self.define(id, result, spread);
        }
    }

    fn condition(&self, regions: &[RegionId]) -> Option<&ValueId> {
        regions.first().and_then(|region| self.graph.region(*region).outputs.first())
    }

    /// Nothing is known of the results of control flow that goes by `decided`.
    fn undecided(&mut self, id: NodeId, decided: Option<&Spread>) {
        let node = self.graph.node(id);
        let meeting = match decided {
            Some(Spread::Mixed(meeting)) => *meeting,
            Some(_) => Meeting { node: id, why: Why::Decision },
            None => Meeting { node: id, why: Why::Unknown },
        };
        let symbols = introduced_symbols(self.graph, node);
        self.sizes.extend(symbols.into_iter().map(|symbol| (symbol, Size::Dependent(Why::Size))));
        self.spreads.extend(node.results.iter().map(|result| (*result, Spread::Mixed(meeting))));
    }

    /// What holds of a value that is one of two.
    fn either(&self, id: NodeId, values: [ValueId; 2], a: &Spread, b: &Spread) -> Spread {
        let (a, b) = match (a, b) {
            (Spread::Mixed(_), _) => return a.clone(),
            (_, Spread::Mixed(_)) => return b.clone(),
            (Spread::Shared, Spread::Shared) => return Spread::Shared,
            (Spread::Rows(a), Spread::Rows(b)) => (a, b),
            _ => return Spread::Mixed(Meeting { node: id, why: Why::Together }),
        };
        let extents = [(values[0], a), (values[1], b)].map(|(v, rows)| self.shape(v).get(rows.axis));
        let placed = match extents {
            [Some(x), Some(y)] if self.same_size(x, y) => self.aligned(a, b).map(Some),
            _ => Err(Why::Together),
        };
        Spread::placed(id, placed)
    }

    /// What is known of a symbol that `values` have as a size and take from one or the other of `sources`.
    fn size_from(&self, symbol: SymbolId, values: &[ValueId], sources: &[&[ValueId]]) -> Size {
        for (position, &value) in values.iter().enumerate() {
            for (axis, dim) in self.shape(value).iter().enumerate() {
                if dim.as_symbol() != Some(symbol) {
                    continue;
                }
                let dims = sources.iter().filter_map(|source| self.shape(*source.get(position)?).get(axis));
                if let Err(why) = self.shared_sizes(dims) {
                    return Size::Dependent(why);
                }
            }
        }
        Size::Shared
    }
}
