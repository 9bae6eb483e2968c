//! What a dispatch computes of its own operands instead of reading them from memory.

use std::collections::{HashMap, HashSet};

use ired_graph::{DType, Dim, NodeId, Op, ValueId};

use super::epilogue::{Epilogues, Group};
use super::{Facts, attention, is_root, is_widening};
use crate::dispatch::Dispatch;
use crate::passes::axes::matching_axes;
use crate::weights::stored_weights;

/// Bounds on one kernel: what it computes and what it reads.
const MAX_NODES: usize = 64;
const MAX_INPUTS: usize = 24;

/// Where an operand is read from, which decides what may be computed in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// By a product: each element is read many times.
    Product,
    /// By attention that takes it from wherever the last axis is consecutive: in bf16, which is copied as tiles need it, or
    /// for few queries.
    Rows,
    /// The same, or where the second last axis is.
    Columns,
    /// By a window: a convolution or pool.
    Window,
    /// As it lies in memory.
    Memory,
    /// By a node after the root.
    Epilogue,
    /// Once an element of the iteration.
    Element,
    /// Many times: through a broadcast.
    Stretched,
}

/// Makes a dispatch of `group`, pulling in what it can. Whatever the dispatch reads becomes needed.
pub(super) fn complete(
    facts: &Facts<'_>,
    epilogues: &Epilogues,
    group: &Group,
    needed: &mut HashSet<ValueId>,
) -> Dispatch {
    let mut pull =
        Pull { facts, epilogues, nodes: group.nodes.clone(), places: HashMap::new(), moved: DType::BF16 };
    if let Some(first) = attention::first_rounded_product(facts, group) {
        let queries = facts.node(first).operands[0];
        pull.places.insert(queries, Place::Rows);
        pull.place_attention(first, group.root);
    } else if let Some(first) = attention::first_product_of_few(facts, group) {
        pull.moved = DType::F32;
        pull.place_attention(first, group.root);
    }
    for &id in &group.nodes {
        pull.place_operands(id, group.root);
    }
    pull.pull_weights(group.root);
    while pull.nodes.len() < MAX_NODES && pull.inputs().len() < MAX_INPUTS {
        let Some((value, id)) = pull.candidate() else { break };
        pull.nodes.push(id);
        let place = pull.places[&value];
        pull.pass_on(id, place);
    }
    let inputs = pull.inputs();
    needed.extend(&inputs);
    let mut nodes = pull.nodes;
    nodes.sort_by_key(|id| facts.position[id.index()]);
    let last = group.nodes[group.nodes.len() - 1];
    Dispatch {
        name: name(facts, group),
        root: group.root,
        nodes,
        inputs,
        outputs: facts.node(last).results.clone(),
        choice: None,
    }
}

struct Pull<'a, 'g> {
    facts: &'a Facts<'g>,
    epilogues: &'a Epilogues,
    nodes: Vec<NodeId>,
    places: HashMap<ValueId, Place>,
    /// The type of what attention takes from where it lies.
    moved: DType,
}

impl Pull<'_, '_> {
    fn place_operands(&mut self, id: NodeId, root: NodeId) {
        let op = &self.facts.node(id).op;
        let place = match op {
            Op::MatMul => Place::Product,
            Op::Conv { .. } | Op::Pool { .. } => Place::Window,
            Op::ScatterNd { .. } => return self.place_scatter(id),
            _ if id != root => Place::Epilogue,
            Op::Broadcast { .. } => Place::Stretched,
            _ => Place::Element,
        };
        self.mark(id, place);
    }

    /// Keys and values.
    fn place_attention(&mut self, first: NodeId, root: NodeId) {
        let [first, root] = [first, root].map(|id| &self.facts.node(id).operands);
        let places = [(first[1], Place::Columns), (root[1], Place::Rows)];
        for (value, place) in places {
            // What is read in two ways is read in the one that asks for less.
            self.places.entry(value).and_modify(|place| *place = Place::Product).or_insert(place);
        }
    }

    /// What makes floats of quantised weights belongs to the product, whoever else reads these.
    fn pull_weights(&mut self, root: NodeId) {
        let (graph, root) = (self.facts.graph, self.facts.node(root));
        if root.op != Op::MatMul {
            return;
        }
        let weights = stored_weights(graph, root.operands[1], &|value| self.facts.producer[value.index()]);
        for id in weights.filter(|weights| weights.quantized.is_some()).into_iter().flat_map(|w| w.nodes) {
            self.nodes.push(id);
            self.pass_on(id, Place::Product);
        }
    }

    /// The data is copied, or overwritten where it lies; every workgroup looks at all the indices.
    fn place_scatter(&mut self, id: NodeId) {
        let places = [Place::Memory, Place::Stretched, Place::Element];
        for (&operand, place) in self.facts.node(id).operands.iter().zip(places) {
            let entry = self.places.entry(operand).or_insert(place);
            if *entry == Place::Element {
                *entry = place;
            }
        }
    }

    /// Operands of a pulled node are read where the node itself is.
    fn pass_on(&mut self, id: NodeId, place: Place) {
        let place = match (&self.facts.node(id).op, place) {
            (Op::Broadcast { .. }, Place::Element) => Place::Stretched,
            (Op::Transpose { perm }, Place::Columns) if turns(perm) => Place::Rows,
            _ => place,
        };
        self.mark(id, place);
    }

    /// A value read in two places counts as read in the stricter one, which is the one that was there first but for
    /// [`Place::Element`].
    fn mark(&mut self, id: NodeId, place: Place) {
        for &operand in &self.facts.node(id).operands {
            let entry = self.places.entry(operand).or_insert(place);
            if *entry == Place::Element {
                *entry = place;
            }
        }
    }

    /// Operands that no node of the dispatch makes, in order of first use.
    fn inputs(&self) -> Vec<ValueId> {
        let mut made: HashSet<ValueId> = HashSet::new();
        for &id in &self.nodes {
            made.extend(&self.facts.node(id).results);
        }
        let mut inputs = Vec::new();
        for &id in &self.nodes {
            for operand in &self.facts.node(id).operands {
                if made.insert(*operand) {
                    inputs.push(*operand);
                }
            }
        }
        inputs
    }

    fn candidate(&self) -> Option<(ValueId, NodeId)> {
        self.inputs().into_iter().find_map(|value| {
            let id = self.facts.producer[value.index()]?;
            self.may_pull(value, id).then_some((value, id))
        })
    }

    fn may_pull(&self, value: ValueId, id: NodeId) -> bool {
        let node = self.facts.node(id);
        if self.epilogues.contains(id) || is_root(&node.op) || !node.regions.is_empty() {
            return false;
        }
        // What stands outside of a loop is computed once, and by whom is not decided here.
        let outside = self.facts.home[id.index()] != self.facts.home[self.nodes[0].index()];
        if outside && !node.operands.is_empty() {
            return false;
        }
        let place = self.places[&value];
        match &node.op {
            Op::Constant(_) | Op::Dims { .. } | Op::Iota { .. } => {
                matches!(place, Place::Epilogue | Place::Element | Place::Stretched)
            }
            Op::Broadcast { .. } => !matches!(place, Place::Window | Place::Memory),
            // Two bytes are read in place of four, and a machine may multiply them as they are.
            Op::Cast(_) if is_widening(self.facts.graph, node) => place != Place::Memory,
            Op::Transpose { perm } if matches!(place, Place::Rows | Place::Columns) => {
                let is_rows = perm.last() == Some(&(perm.len() - 1));
                let suits = if place == Place::Rows { is_rows } else { turns(perm) };
                self.is_moved(value) && self.is_ours(value) && suits
            }
            Op::Reshape { .. } if matches!(place, Place::Rows | Place::Columns) => {
                let [from, to] = [node.operands[0], value].map(|v| &self.facts.graph.ty(v).shape);
                let keeps_last =
                    from.len() >= 2 && to.len() >= 2 && from[from.len() - 2..] == to[to.len() - 2..];
                self.is_moved(value)
                    && self.is_ours(value)
                    && keeps_last
                    && !self.is_in_memory(node.operands[0])
            }
            Op::Transpose { .. } | Op::Slice { .. } | Op::Cast(_) | Op::BitCast(_) => {
                matches!(place, Place::Element | Place::Stretched)
            }
            Op::Reshape { .. } => {
                matches!(place, Place::Element | Place::Stretched)
                    && (moves_only_ones(self.facts, id) || only_splits(self.facts, id))
                    && !self.is_in_memory(node.operands[0])
            }
            Op::Pad { .. } | Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => {
                place == Place::Element && self.is_ours(value)
            }
            op if op.is_elementwise() => {
                (place == Place::Element && self.is_ours(value))
                    || (matches!(place, Place::Element | Place::Stretched)
                        && is_one_element(self.facts, value))
            }
            _ => false,
        }
    }

    fn is_moved(&self, value: ValueId) -> bool {
        self.facts.graph.ty(value).dtype == self.moved
    }

    /// Whether the dispatch is the only reader.
    fn is_ours(&self, value: ValueId) -> bool {
        !self.facts.is_output[value.index()]
            && self.facts.readers[value.index()].iter().all(|reader| self.nodes.contains(reader))
    }

    /// Whether the value is stored whatever this dispatch does.
    fn is_in_memory(&self, value: ValueId) -> bool {
        match self.facts.producer[value.index()] {
            None => true,
            Some(id) => {
                matches!(self.facts.node(id).op, Op::Param(_))
                    || self.epilogues.contains(id)
                    || self.facts.is_output[value.index()]
            }
        }
    }
}

/// Whether the second last axis of a transpose is the last one of its operand.
fn turns(perm: &[usize]) -> bool {
    perm.iter().rev().nth(1) == Some(&(perm.len() - 1))
}

/// Whether a reshape only adds and drops axes of size one.
fn moves_only_ones(facts: &Facts<'_>, id: NodeId) -> bool {
    let node = facts.node(id);
    long_axes(facts, node.operands[0]) == long_axes(facts, node.results[0])
}

/// Whether a reshape only splits axes, and adds and drops such of size one: where an element was takes no division to find.
fn only_splits(facts: &Facts<'_>, id: NodeId) -> bool {
    let node = facts.node(id);
    let [from, to] = [node.operands[0], node.results[0]].map(|value| long_axes(facts, value));
    matching_axes(&from, &to).is_some_and(|groups| groups.iter().all(|(from, _)| from.len() == 1))
}

/// The sizes of a value but for those that are one.
fn long_axes(facts: &Facts<'_>, value: ValueId) -> Vec<Dim> {
    let one = Dim::constant(1);
    facts.graph.values[value.index()].ty.shape.iter().filter(|size| **size != one).cloned().collect()
}

fn is_one_element(facts: &Facts<'_>, value: ValueId) -> bool {
    facts.graph.values[value.index()].ty.shape.iter().all(|d| *d == Dim::constant(1))
}

/// `matmul_add_erf`: the root and the first few nodes after it.
fn name(facts: &Facts<'_>, group: &Group) -> String {
    const NAMED: usize = 5;
    let mut name = String::new();
    for &id in group.nodes.iter().take(NAMED) {
        if !name.is_empty() {
            name.push('_');
        }
        name.push_str(&op_name(&facts.node(id).op));
    }
    if group.nodes.len() > NAMED {
        name.push_str(&format!("_{}", group.nodes.len() - NAMED));
    }
    name
}

fn op_name(op: &Op) -> String {
    let text = match op {
        Op::Unary(f) => format!("{f:?}"),
        Op::Binary(f) => format!("{f:?}"),
        Op::Compare(f) => format!("{f:?}"),
        Op::Cast(dtype) => format!("to_{dtype}"),
        Op::BitCast(dtype) => format!("as_{dtype}"),
        Op::Reduce { function, .. } => format!("reduce_{function:?}"),
        Op::Pool { function, .. } => format!("pool_{function:?}"),
        other => {
            let debug = format!("{other:?}");
            debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
        }
    };
    text.to_lowercase()
}
