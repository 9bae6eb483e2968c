//! Loops: while a condition holds, or a number of times.

use std::cell::RefCell;

use ired_graph::{Dim, Node, RegionId, SymbolId, TensorType, ValueId};
use ired_mlir::{Builder, Compare, Type, Value};

use super::super::{Built, Host, bytes_of};
use super::carried::{Carried, Now, State, flatten};
use super::{Output, Target, mark_owned};
use crate::errors::{Diagnostic, DiagnosticKind};
use crate::program::dims::ScopeKind;

impl<'m> Host<'_, 'm> {
    /// A loop while its condition holds or, if `counted`, of that many iterations.
    pub(super) fn repeat(
        &mut self,
        node: &Node,
        counted: Option<(&Dim, SymbolId)>,
        b: &Builder<'m>,
    ) -> Built {
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
        let bytes = self.size(&bytes_of(&slice))?;
        Ok(b.slice(memory, b.muli(index, bytes), bytes))
    }
}
