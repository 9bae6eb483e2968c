//! Modules from hand-written schedules, run on the template device with kernels in Rust.

#[path = "cases/calls.rs"]
mod calls;
#[path = "cases/control.rs"]
mod control;
#[path = "cases/faults.rs"]
mod faults;
#[path = "cases/harness.rs"]
mod harness;
#[path = "cases/inputs.rs"]
mod inputs;
#[path = "cases/lifetimes.rs"]
mod lifetimes;
#[path = "cases/loading.rs"]
mod loading;
#[path = "cases/memory.rs"]
mod memory;
