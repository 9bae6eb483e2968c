//! Who may do what: a gate in front of every door.
//!
//! The gate knows who calls and which permission the call needs, from one table (`needs.rs`). Where the path says which
//! model is meant, it also decides; for gRPC, whose messages say it, `Guarded` does, which implements every method of
//! every service, so that a new one does not compile before it is decided who may call it.

mod access;
mod caller;
mod gate;
mod guarded;
mod jwt;
mod needs;
mod origin;
mod tenants;
mod throttle;
mod token;

pub(crate) use access::{Access, AccessFile};
pub(crate) use caller::{Admitted, Caller};
pub(crate) use gate::Gate;
pub(crate) use guarded::Guarded;
pub(crate) use throttle::{Throttle, Throttled};
pub use token::Token;
