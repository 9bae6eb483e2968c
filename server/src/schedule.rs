//! Who runs when: requests that are inside a model version, from the first wait to the end of their work.
//!
//! Every model version has a lane, and all lanes share one machine. A lane holds what waits, in a queue for each
//! tenant ([`crate::tenants`]) that is ordered by priority, then by deadline, then by arrival, and counts what its
//! worker works on. A request that finds nobody waiting and a free place takes the place itself, under one lock,
//! without another task or a wake-up; any other waits, and whoever gives a place back hands it on before it leaves,
//! so nobody polls and nothing has to run in between.
//!
//! A lane's places are what keeps its worker busy and no more: what waits here can still be overtaken, joined,
//! refused and given up, what waits in the worker cannot. How many that is follows from the time the model takes,
//! which is measured; a configuration's instances set it instead. The next of a lane is of the tenant that has had
//! the least of its compute time. The machine has places of its own. Once they are all taken, the next goes to the lane
//! whose next tenant has had the least of the machine, and among those to the lane that has had the least itself
//! (`shares.rs`), so that whoever asks for much leaves others what is theirs, and idle ones save up nothing.
//!
//! A queue is worth its length only while those in it are still wanted. So a request is refused, with an estimate
//! of when to come again, as soon as it is known that it cannot be answered in time: at the door if the queue is
//! full, if the model's rate is used up, or if what is before it takes longer than it has; at its turn if the time
//! that is left is less than the model takes. Estimates are halved before they refuse anybody: to run one request
//! in vain costs less than to turn away one that could have been answered.
//!
//! Dropping a waiting request takes it out of the queue; dropping one that holds a place gives the place on.
//! Places are given through the request's own channel, and one that arrives at a request that has just gone comes
//! back by its own drop. That is all there is to cancellation.
//!
//! Where a model's configuration asks for it, requests that differ in their rows only are joined (`batch.rs`): a
//! lane then takes as many from its queue as fit. The first of them leads: its task starts one that runs them all,
//! so that nobody's going away takes an answer from the others. A lane holds back for a fuller batch only while
//! its worker has work, and never longer than the bound. What the compiler says that rows cost
//! (`sizes.rs`) decides how many are enough, and whether so many run in one piece. Requests of a sequence (`sequence.rs`) go through the same
//! lane, one at a time for each sequence, with their state and control tensors added.
//!
//! Memory is a place, too: the ledger (`crate::ledger`) has to grant a request's peak bytes ([`crate::peaks`]) before it
//! runs, and those of all who run as one; what one waits for is kept for it (`memory.rs`). Where there are too few and
//! nothing runs that will give some back, the request is told so; it makes room among loaded models and enters again with
//! what it got.
//!
//! A request that is run again and again (`iterations.rs`) goes through its lane with each run, like one that has just come.
//!
//! Not here: the bound on all that is inside, answers that are being encoded included, which a version's drain
//! waits for ([`crate::registry::Served`]), and the bytes of requests ([`crate::budget`]).

mod backlog;
mod charge;
mod estimate;
mod iterations;
mod lane;
mod machine;
mod memory;
mod policy;
mod queue;
mod rate;
mod refusal;
mod sequence;
mod shares;
mod sizes;
#[cfg(test)]
mod tests;

pub use iterations::{Iterations, LastOutput};
pub use lane::{Entered, Group, Lane, Member, Place, Turn};
pub use machine::Scheduler;
pub use policy::{AfterTimeout, Batching, Policy, QueuePolicy};
pub use queue::Ticket;
pub use rate::{Allowance, Rate};
pub use refusal::{Refusal, Subject, Why};
pub use sequence::{
    ControlInput, ControlValue, CorrelationId, SequenceId, SequencePolicy, SequenceTurn, Sequences,
    StateTensor, Step,
};
pub use sizes::Sizes;
