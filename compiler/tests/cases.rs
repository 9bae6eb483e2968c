//! The compiler's tests, in one binary: linking MLIR takes longer than running them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "cases/barriers.rs"]
mod barriers;
#[path = "cases/cache.rs"]
mod cache;
#[path = "cases/checks.rs"]
mod checks;
#[path = "cases/costs.rs"]
mod costs;
#[path = "cases/draws.rs"]
mod draws;
#[path = "cases/dynamic.rs"]
mod dynamic;
#[path = "cases/emulated.rs"]
mod emulated;
mod emulator;
#[path = "cases/end_to_end.rs"]
mod end_to_end;
#[path = "cases/exact.rs"]
mod exact;
#[path = "cases/harness.rs"]
mod harness;
#[path = "cases/notes.rs"]
mod notes;
#[path = "cases/passes.rs"]
mod passes;
#[path = "cases/phases.rs"]
mod phases;
#[path = "cases/random.rs"]
mod random;
#[path = "cases/schedule.rs"]
mod schedule;
#[path = "cases/variants.rs"]
mod variants;
