//! What code is generated for, one folder a target.

pub mod cpu;

pub use cpu::{CpuTarget, compile_executable};
