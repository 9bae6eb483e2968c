//! Control flow: branches and loops, the sizes and buffers that they carry.
//!
//! What has a size that is known ahead lives in memory made ahead: a branch writes its results there, and a loop has
//! two buffers for each state, which change places in every iteration. What has a size of the run's own making is an
//! allocation that the region hands over, and whoever gets it releases it after its last use (see the schedule).

mod carried;
mod loops;
mod sizes;

use std::cell::RefCell;

use ired_graph::{DType, Dim, Node, NodeId, Op, RegionId, TensorType, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::{Built, Host, at, bytes_of};
use crate::errors::{Diagnostic, DiagnosticKind};
use crate::passes::form_dispatches::Step;
use crate::program::dims::ScopeKind;

/// Marks control flow by the numbers of those results, and loops by those carried values, that are allocations
/// handed over.
pub(crate) const OWNED: &str = "ired.owned";

/// Marks an allocation that its block hands over.
pub(crate) const OWN: &str = "ired.own";

/// Where a region's output goes.
#[derive(Clone, Copy)]
enum Target<'m> {
    /// Into memory made ahead.
    Into(Value<'m>),
    /// Into an allocation of its own, which the region hands over.
    Own,
    /// Nowhere: it is the region's input of the same place.
    Unchanged,
}

/// An output of a region: where it goes, and the dimensions that it must have where that is known.
struct Output<'m> {
    target: Target<'m>,
    shape: Vec<Option<Dim>>,
}

/// A dispatch writes its output where the region it is in gives it.
#[derive(Clone, Copy)]
pub(super) enum Claim<'m> {
    Into(Value<'m>),
    Own,
}

impl<'m> Host<'_, 'm> {
    pub(super) fn control(&mut self, id: NodeId, b: &Builder<'m>) -> Built {
        let graph = self.graph;
        let node = graph.node(id);
        let outcome = match &node.op {
            Op::If => self.branch(node, b),
            Op::While => self.repeat(node, None, b),
            Op::Repeat { count, index } => self.repeat(node, Some((count, *index)), b),
            _ => Err(Diagnostic::new(DiagnosticKind::Internal, format!("`{}` has regions", node.op.name()))),
        };
        outcome.map_err(|problem| at(problem, node))
    }

    fn branch(&mut self, node: &Node, b: &Builder<'m>) -> Built {
        let graph = self.graph;
        let condition = self.buffer(node.operands[0])?;
        let sizes = self.open_sizes(&[&node.results]);
        let mut outputs = Vec::with_capacity(node.results.len());
        for &result in &node.results {
            let target = match self.is_open(result) {
                true => Target::Own,
                false => Target::Into(self.allocate(graph.ty(result))?),
            };
            outputs.push(Output { target, shape: self.known_shape(&graph.ty(result).shape) });
        }
        let taken = self.read_condition(condition, b);
        let owned = outputs.iter().filter(|output| matches!(output.target, Target::Own)).count();
        let mut types = vec![b.index_type(); sizes.len()];
        types.resize(sizes.len() + owned, b.buffer_type());
        let (mut yes, mut no) = (Ok(()), Ok(()));
        // The two closures run one after the other, but both borrow the host.
        let host = RefCell::new(&mut *self);
        let arm = |region: RegionId, b: &Builder<'m>, outcome: &mut Built| {
            let host = &mut **host.borrow_mut();
            host.dims.enter(b.clone(), ScopeKind::Branch);
            let given = host.run_region(region, node, &outputs, b).and_then(|mut buffers| {
                let mut given = host.sizes_of(&graph.region(region).outputs, &sizes)?;
                given.append(&mut buffers);
                Ok(given)
            });
            host.dims.leave();
            given.unwrap_or_else(|problem| {
                *outcome = Err(problem);
                Vec::new()
            })
        };
        let results = b.if_else(
            taken,
            &types,
            |b| arm(node.regions[0], b, &mut yes),
            |b| arm(node.regions[1], b, &mut no),
        );
        yes.and(no)?;
        mark_owned(&results, (sizes.len()..results.len()).map(|i| i as i64), b);
        let (given_sizes, buffers) = results.split_at(sizes.len());
        self.bind_sizes(node, &node.results, &sizes, given_sizes)?;
        let mut buffers = buffers.iter().copied();
        for (&result, output) in node.results.iter().zip(&outputs) {
            let buffer = match output.target {
                Target::Into(buffer) => buffer,
                Target::Own | Target::Unchanged => {
                    self.owned.insert(result);
                    buffers.next().expect("a buffer for each result")
                }
            };
            self.buffers.insert(result, buffer);
        }
        Ok(())
    }

    /// Runs a region in the innermost scope and sees that its outputs get to where they go. Gives the allocations
    /// handed over, in order.
    fn run_region(
        &mut self,
        region: RegionId,
        node: &Node,
        outputs: &[Output<'m>],
        b: &Builder<'m>,
    ) -> Built<Vec<Value<'m>>> {
        let graph = self.graph;
        let values = &graph.region(region).outputs;
        let written = self.written_in(region);
        let mut claimed = vec![false; values.len()];
        for ((&value, output), claimed) in values.iter().zip(outputs).zip(&mut claimed) {
            let storage = self.storage(value);
            let claim = match output.target {
                // A result of another size must not be written before that is known.
                Target::Into(memory) if self.is_of_shape(value, &output.shape) => Claim::Into(memory),
                Target::Own => Claim::Own,
                Target::Into(_) | Target::Unchanged => continue,
            };
            if written.contains(&storage) && !self.claims.contains_key(&storage) {
                self.claims.insert(storage, claim);
                *claimed = true;
            }
        }
        self.steps(region, b)?;
        let mut own = Vec::new();
        for ((&value, output), claimed) in values.iter().zip(outputs).zip(claimed) {
            self.check_shape(node, value, &output.shape)?;
            let from = self.buffer(value)?;
            match output.target {
                Target::Into(memory) if !claimed => {
                    b.copy(from, memory);
                }
                Target::Into(_) | Target::Unchanged => {}
                Target::Own if claimed || self.hands_on(value, region) => own.push(from),
                Target::Own => {
                    let copy = self.allocate_own(graph.ty(value), b)?;
                    b.copy(from, copy);
                    own.push(copy);
                }
            }
        }
        Ok(own)
    }

    /// Whether `value` is an allocation that `region` got from within and may hand on; it does so once.
    fn hands_on(&mut self, value: ValueId, region: RegionId) -> bool {
        let graph = self.graph;
        let storage = self.storage(value);
        let here = match graph.producer(storage) {
            Some(id) => graph.region(region).nodes.contains(&id),
            None => graph.region(region).inputs.contains(&storage),
        };
        here && self.owned.remove(&storage)
    }

    /// The values that dispatches of a region write.
    fn written_in(&self, region: RegionId) -> Vec<ValueId> {
        let steps = self.plan.regions.get(&region).into_iter().flatten();
        let dispatches = steps.filter_map(|step| if let Step::Dispatch(d) = step { Some(d) } else { None });
        dispatches.flat_map(|dispatch| dispatch.outputs.iter().copied()).collect()
    }

    fn read_condition(&self, buffer: Value<'m>, b: &Builder<'m>) -> Value<'m> {
        b.await_all();
        let value = b.load_scalar(buffer, b.index(0), DType::Bool.name());
        b.cmpi(Compare::Ne, value, b.index(0))
    }

    /// An allocation that will be handed over, in the block that `b` fills.
    pub(super) fn allocate_own(&mut self, ty: &TensorType, b: &Builder<'m>) -> Built<Value<'m>> {
        let bytes = self.size(&bytes_of(ty))?;
        let buffer = b.alloc(bytes);
        if let Some(op) = buffer.definition() {
            op.set_attribute(OWN, b.unit_attribute());
        }
        Ok(buffer)
    }
}

fn mark_owned<'m>(results: &[Value<'m>], owned: impl IntoIterator<Item = i64>, b: &Builder<'m>) {
    let owned: Vec<_> = owned.into_iter().map(|i| b.i64_attribute(i)).collect();
    let op = results.first().and_then(|result| result.definition());
    if let Some(op) = op.filter(|_| !owned.is_empty()) {
        op.set_attribute(OWNED, b.array_attribute(&owned));
    }
}
