//! What a loop carries from one iteration to the next, and the registers that hold it.

use ired_mlir::Value;

/// One value that a loop carries.
#[derive(Clone, Copy)]
pub(super) enum State<'m> {
    /// Never changes.
    Fixed(Value<'m>),
    /// The value, and memory for the next.
    Pair(Value<'m>, Value<'m>),
    Own(Value<'m>),
}

/// What a loop carries from one iteration to the next: sizes that change, and buffers.
pub(super) struct Carried<'m> {
    /// State and axis of each size.
    pub(super) sizes: Vec<(usize, usize)>,
    /// As they are at first.
    pub(super) states: Vec<State<'m>>,
}

/// What a loop carries, at one point.
pub(super) struct Now<'m> {
    pub(super) counter: Option<Value<'m>>,
    pub(super) sizes: Vec<Value<'m>>,
    pub(super) states: Vec<State<'m>>,
}

impl<'m> Carried<'m> {
    /// What `values`, as [`flatten`] orders them, are.
    pub(super) fn unflatten(&self, counted: bool, values: &[Value<'m>]) -> Now<'m> {
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
    pub(super) fn owned(&self, counted: bool) -> Vec<i64> {
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
    pub(super) fn buffer(self) -> Value<'m> {
        match self {
            Self::Fixed(buffer) | Self::Pair(buffer, _) | Self::Own(buffer) => buffer,
        }
    }
}

/// What registers hold, in order.
pub(super) fn flatten<'m>(
    counter: Option<Value<'m>>,
    sizes: Vec<Value<'m>>,
    states: &[State<'m>],
) -> Vec<Value<'m>> {
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
