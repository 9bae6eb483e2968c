//! The container and its verifier, against what writers make and what strangers send.

#[path = "cases/adversary.rs"]
mod adversary;
#[path = "cases/bytecode.rs"]
mod bytecode;
#[path = "cases/notes.rs"]
mod notes;
#[path = "cases/round_trip.rs"]
mod round_trip;
#[path = "cases/sample.rs"]
mod sample;
#[cfg(feature = "seal")]
#[path = "cases/seal.rs"]
mod seal;
