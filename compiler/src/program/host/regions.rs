//! Control flow: branches and loops, the sizes and buffers that they carry.
//!
//! What has a size that is known ahead lives in memory made ahead: a branch writes its results there, and a loop has
//! two buffers for each state, which change places in every iteration. What has a size of the run's own making is an
//! allocation that the region hands over, and whoever gets it releases it after its last use (see the schedule).

use std::cell::RefCell;

use ired_graph::{DType, Dim, Node, NodeId, Op, RegionId, SymbolId, TensorType, ValueId};
use ired_mlir::{Builder, Compare, Type, Value};

use super::{Built, Host, at, bytes, unbound};
use crate::errors::{Diagnostic, DiagnosticKind};
use crate::passes::form_dispatches::Step;
use crate::program::checks;
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

/// One value that a loop carries.
#[derive(Clone, Copy)]
enum State<'m> {
    /// Never changes.
    Fixed(Value<'m>),
    /// The value, and memory for the next.
    Pair(Value<'m>, Value<'m>),
    Own(Value<'m>),
}

/// What a loop carries from one iteration to the next: sizes that change, and buffers.
struct Carried<'m> {
    /// State and axis of each size.
    sizes: Vec<(usize, usize)>,
    /// As they are at first.
    states: Vec<State<'m>>,
}

/// What a loop carries, at one point.
struct Now<'m> {
    counter: Option<Value<'m>>,
    sizes: Vec<Value<'m>>,
    states: Vec<State<'m>>,
}

impl<'m> Carried<'m> {
    /// What `values`, as [`flatten`] orders them, are.
    fn unflatten(&self, counted: bool, values: &[Value<'m>]) -> Now<'m> {
        let mut values = values.iter().copied();
        let counter = if counted { values.next() } else { None };
        let sizes = values.by_ref().take(self.sizes.len()).collect();
        let mut next = || values.next().expect("as many values as there were");
        let states = self.states.iter().map(|state| match *state {
            State::Fixed(buffer) => State::Fixed(buffer),
            State::Pair(..) => State::Pair(next(), next()),
            State::Own(_) => State::Own(next()),
        });
        let states = states.collect();
        Now { counter, sizes, states }
    }

    /// The numbers of values that are allocations handed on.
    fn owned(&self, counted: bool) -> Vec<i64> {
        let mut at = i64::from(counted) + self.sizes.len() as i64;
        let mut owned = Vec::new();
        for state in &self.states {
            match state {
                State::Fixed(_) => {}
                State::Pair(..) => at += 2,
                State::Own(_) => {
                    owned.push(at);
                    at += 1;
                }
            }
        }
        owned
    }
}

impl<'m> State<'m> {
    /// Where the value is now.
    fn buffer(self) -> Value<'m> {
        match self {
            Self::Fixed(buffer) | Self::Pair(buffer, _) | Self::Own(buffer) => buffer,
        }
    }
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

    /// A loop while its condition holds or, if `counted`, of that many iterations.
    fn repeat(&mut self, node: &Node, counted: Option<(&Dim, SymbolId)>, b: &Builder<'m>) -> Built {
        let graph = self.graph;
        let (condition, body) = (node.regions[0], node.regions[node.regions.len() - 1]);
        let (results, stacked) = node.results.split_at(node.operands.len());
        let carried = self.start(node, condition, body, results, b)?;
        let mut stacks = Vec::with_capacity(stacked.len());
        for &stack in stacked {
            stacks.push(self.allocate(graph.ty(stack))?);
        }
        let count = match counted {
            Some((count, _)) => Some(self.size(count)?),
            None => None,
        };
        let shapes: Vec<Vec<Option<Dim>>> = {
            let inputs = &graph.region(body).inputs;
            let slices = stacked.iter().map(|stack| &graph.ty(*stack).shape[1..]);
            let shapes = inputs.iter().map(|input| graph.ty(*input).shape.as_slice()).chain(slices);
            shapes.map(|shape| self.known_shape(shape)).collect()
        };
        let sizes = self.sizes_of(&node.operands, &carried.sizes)?;
        let start = flatten(count.map(|_| b.index(0)), sizes, &carried.states);
        let types: Vec<Type<'m>> = start.iter().map(|value| value.ty()).collect();

        let (mut asked, mut done) = (Ok(()), Ok(()));
        let host = RefCell::new(&mut *self);
        let values = b.while_loop(
            &start,
            &types,
            |b, values| {
                let now = carried.unflatten(count.is_some(), values);
                let outcome = match (now.counter, count) {
                    (Some(counter), Some(count)) => Ok(b.cmpi(Compare::SignedLt, counter, count)),
                    _ => host.borrow_mut().ask(node, condition, &carried, &now, b),
                };
                let holds = outcome.unwrap_or_else(|problem| {
                    asked = Err(problem);
                    b.bool(false)
                });
                (holds, values.to_vec())
            },
            |b, values| {
                let host = &mut **host.borrow_mut();
                let now = carried.unflatten(count.is_some(), values);
                host.dims.enter(b.clone(), ScopeKind::Loop);
                if let (Some((_, index)), Some(counter)) = (counted, now.counter) {
                    host.dims.bind(index, counter);
                }
                let outcome = host.iterate(node, body, &carried, &now, (&stacks, &shapes), b);
                host.dims.leave();
                outcome.unwrap_or_else(|problem| {
                    done = Err(problem);
                    Vec::new()
                })
            },
        );
        asked.and(done)?;
        mark_owned(&values, carried.owned(count.is_some()), b);
        let last = carried.unflatten(count.is_some(), &values);
        self.bind_sizes(node, results, &carried.sizes, &last.sizes)?;
        for (&result, state) in results.iter().zip(last.states) {
            if matches!(state, State::Own(_)) {
                self.owned.insert(result);
            }
            self.buffers.insert(result, state.buffer());
        }
        self.buffers.extend(stacked.iter().copied().zip(stacks));
        Ok(())
    }

    /// What a loop carries, with the values that it starts from.
    fn start(
        &mut self,
        node: &Node,
        condition: RegionId,
        body: RegionId,
        results: &[ValueId],
        b: &Builder<'m>,
    ) -> Built<Carried<'m>> {
        let graph = self.graph;
        let (tested, region) = (&graph.region(condition).inputs, graph.region(body));
        let sizes = self.open_sizes(&[&region.inputs, tested, results]);
        let mut states = Vec::with_capacity(results.len());
        for (i, (&operand, &input)) in node.operands.iter().zip(&region.inputs).enumerate() {
            let shape = self.known_shape(&graph.ty(input).shape);
            self.check_shape(node, operand, &shape)?;
            let open = [input, tested[i], results[i]].into_iter().any(|value| self.is_open(value));
            let from = self.buffer(operand)?;
            let same = self.symbols_equal(operand, input) && self.storage(region.outputs[i]) == input;
            states.push(if open {
                let to = self.allocate_own(graph.ty(operand), b)?;
                b.copy(from, to);
                State::Own(to)
            } else if same {
                self.same.insert(results[i], operand);
                State::Fixed(from)
            } else {
                let ty = graph.ty(results[i]);
                let (now, next) = (self.allocate(ty)?, self.allocate(ty)?);
                b.copy(from, now);
                State::Pair(now, next)
            });
        }
        Ok(Carried { sizes, states })
    }

    /// A loop's condition, in its region.
    fn ask(
        &mut self,
        node: &Node,
        condition: RegionId,
        carried: &Carried<'m>,
        now: &Now<'m>,
        b: &Builder<'m>,
    ) -> Built<Value<'m>> {
        let graph = self.graph;
        let inputs = &graph.region(condition).inputs;
        self.dims.enter(b.clone(), ScopeKind::Loop);
        self.buffers.extend(inputs.iter().copied().zip(now.states.iter().map(|state| state.buffer())));
        let outcome = self
            .bind_sizes(node, inputs, &carried.sizes, &now.sizes)
            .and_then(|()| self.steps(condition, b))
            .and_then(|()| self.buffer(graph.region(condition).outputs[0]));
        self.dims.leave();
        Ok(self.read_condition(outcome?, b))
    }

    /// One iteration; gives what the next one starts from.
    fn iterate(
        &mut self,
        node: &Node,
        body: RegionId,
        carried: &Carried<'m>,
        now: &Now<'m>,
        (stacks, shapes): (&[Value<'m>], &[Vec<Option<Dim>>]),
        b: &Builder<'m>,
    ) -> Built<Vec<Value<'m>>> {
        let graph = self.graph;
        let region = graph.region(body);
        self.bind_sizes(node, &region.inputs, &carried.sizes, &now.sizes)?;
        let mut targets = Vec::with_capacity(region.outputs.len());
        for (&input, state) in region.inputs.iter().zip(&now.states) {
            self.buffers.insert(input, state.buffer());
            targets.push(match *state {
                State::Fixed(_) => Target::Unchanged,
                State::Pair(_, next) => Target::Into(next),
                State::Own(_) => {
                    self.owned.insert(input);
                    Target::Own
                }
            });
        }
        if let Some(counter) = now.counter {
            for (&stack, &memory) in node.results[now.states.len()..].iter().zip(stacks) {
                targets.push(Target::Into(self.slice_of(graph.ty(stack), memory, counter, b)?));
            }
        }
        let outputs = targets.into_iter().zip(shapes);
        let outputs: Vec<Output<'m>> =
            outputs.map(|(target, shape)| Output { target, shape: shape.clone() }).collect();
        let mut own = self.run_region(body, node, &outputs, b)?.into_iter();
        let sizes = self.sizes_of(&region.outputs, &carried.sizes)?;
        let next = now.states.iter().map(|state| match *state {
            State::Fixed(buffer) => State::Fixed(buffer),
            State::Pair(now, next) => State::Pair(next, now),
            State::Own(_) => State::Own(own.next().expect("a buffer for each own output")),
        });
        let next: Vec<State<'m>> = next.collect();
        Ok(flatten(now.counter.map(|counter| b.addi(counter, b.index(1))), sizes, &next))
    }

    /// The bytes of slice `index` of a stack.
    fn slice_of(
        &mut self,
        stack: &TensorType,
        memory: Value<'m>,
        index: Value<'m>,
        b: &Builder<'m>,
    ) -> Built<Value<'m>> {
        let slice = TensorType::new(stack.dtype, stack.shape[1..].to_vec());
        let bits = slice.elements() * Dim::constant(slice.dtype.bits() as i64);
        if !self.graph.symbols.is_known_multiple(&bits, 8) {
            let message = format!("a loop collects slices of {} that are no whole bytes", slice.dtype);
            return Err(Diagnostic::new(DiagnosticKind::Unsupported, message));
        }
        let bytes = self.size(&bytes(&slice))?;
        Ok(b.slice(memory, b.muli(index, bytes), bytes))
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

    /// Whether a dimension of the value's is not known yet.
    fn is_open(&self, value: ValueId) -> bool {
        self.graph.ty(value).shape.iter().any(|dim| !self.dims.is_known(dim))
    }

    /// The dimensions that are known by now.
    fn known_shape(&self, shape: &[Dim]) -> Vec<Option<Dim>> {
        shape.iter().map(|dim| self.dims.is_known(dim).then(|| dim.clone())).collect()
    }

    /// Whether `value` provably has the dimensions that are known.
    fn is_of_shape(&self, value: ValueId, shape: &[Option<Dim>]) -> bool {
        let symbols = &self.graph.symbols;
        let found = &self.graph.ty(value).shape;
        found
            .iter()
            .zip(shape)
            .all(|(found, dim)| dim.as_ref().is_some_and(|d| symbols.is_known_eq(found, d)))
    }

    fn symbols_equal(&self, a: ValueId, b: ValueId) -> bool {
        let symbols = &self.graph.symbols;
        let (a, b) = (&self.graph.ty(a).shape, &self.graph.ty(b).shape);
        a.iter().zip(b).all(|(a, b)| symbols.is_known_eq(a, b))
    }

    fn check_shape(&mut self, node: &Node, value: ValueId, shape: &[Option<Dim>]) -> Built {
        checks::check_shape(self.graph, node, value, shape, &mut self.dims)
            .map_err(|e| unbound(self.graph, e))
    }

    /// Position and axis of every dimension that is open in one of `lists`, whose values correspond.
    fn open_sizes(&self, lists: &[&[ValueId]]) -> Vec<(usize, usize)> {
        let mut sizes = Vec::new();
        for (i, &value) in lists[0].iter().enumerate() {
            for axis in 0..self.graph.ty(value).rank() {
                let dims = lists.iter().map(|values| &self.graph.ty(values[i]).shape[axis]);
                if dims.into_iter().any(|dim| !self.dims.is_known(dim)) {
                    sizes.push((i, axis));
                }
            }
        }
        sizes
    }

    fn sizes_of(&mut self, values: &[ValueId], sizes: &[(usize, usize)]) -> Built<Vec<Value<'m>>> {
        let graph = self.graph;
        sizes.iter().map(|&(i, axis)| self.size(&graph.ty(values[i]).shape[axis])).collect()
    }

    /// Says what `sizes` of `values` are: gives symbols their values, and checks what else is said of them.
    fn bind_sizes(
        &mut self,
        node: &Node,
        values: &[ValueId],
        sizes: &[(usize, usize)],
        found: &[Value<'m>],
    ) -> Built {
        let graph = self.graph;
        let mut rest = Vec::new();
        for (&(i, axis), &size) in sizes.iter().zip(found) {
            let dim = &graph.ty(values[i]).shape[axis];
            match dim.as_symbol() {
                Some(symbol) if !self.dims.is_bound(symbol) => {
                    self.dims.bind(symbol, size);
                    checks::check_bounds(graph, node, symbol, size, &self.dims);
                }
                _ => rest.push((dim, size)),
            }
        }
        for (dim, size) in rest {
            checks::check_size(graph, node, dim, size, &mut self.dims).map_err(|e| unbound(graph, e))?;
        }
        Ok(())
    }

    fn read_condition(&self, buffer: Value<'m>, b: &Builder<'m>) -> Value<'m> {
        b.await_all();
        let value = b.load_scalar(buffer, b.index(0), DType::Bool.name());
        b.cmpi(Compare::Ne, value, b.index(0))
    }

    /// An allocation that will be handed over, in the block that `b` fills.
    pub(super) fn allocate_own(&mut self, ty: &TensorType, b: &Builder<'m>) -> Built<Value<'m>> {
        let bytes = self.size(&bytes(ty))?;
        let buffer = b.alloc(bytes);
        if let Some(op) = buffer.definition() {
            op.set_attribute(OWN, b.unit_attribute());
        }
        Ok(buffer)
    }
}

/// What registers hold, in order.
fn flatten<'m>(counter: Option<Value<'m>>, sizes: Vec<Value<'m>>, states: &[State<'m>]) -> Vec<Value<'m>> {
    let mut flat: Vec<Value<'m>> = counter.into_iter().chain(sizes).collect();
    for state in states {
        match *state {
            State::Fixed(_) => {}
            State::Pair(now, next) => flat.extend([now, next]),
            State::Own(buffer) => flat.push(buffer),
        }
    }
    flat
}

fn mark_owned<'m>(results: &[Value<'m>], owned: impl IntoIterator<Item = i64>, b: &Builder<'m>) {
    let owned: Vec<_> = owned.into_iter().map(|i| b.i64_attribute(i)).collect();
    let op = results.first().and_then(|result| result.definition());
    if let Some(op) = op.filter(|_| !owned.is_empty()) {
        op.set_attribute(OWNED, b.array_attribute(&owned));
    }
}
