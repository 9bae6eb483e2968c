//! Modules from hand-written schedules, run on the template device and on the CPU.

#![allow(clippy::unwrap_used, reason = "tests free")]

#[path = "cases/calls.rs"]
mod calls;
#[path = "cases/control.rs"]
mod control;
#[path = "cases/faults.rs"]
mod faults;
#[path = "cases/harness.rs"]
mod harness;
#[path = "cases/host_calls.rs"]
mod host_calls;
#[path = "cases/hostile.rs"]
mod hostile;
#[path = "cases/in_place.rs"]
mod in_place;
#[path = "cases/inputs.rs"]
mod inputs;
#[path = "cases/lifetimes.rs"]
mod lifetimes;
#[path = "cases/loading.rs"]
mod loading;
#[path = "cases/memory.rs"]
mod memory;
