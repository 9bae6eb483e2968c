//! Kernels against the reference interpreter; one binary, because each links MLIR.

#![allow(unsafe_code, reason = "compiled kernels are called")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod attention;
mod bf16;
mod bytes;
mod complex;
mod contraction;
mod convolution;
mod element_types;
mod elementwise;
#[path = "../emulator/mod.rs"]
mod emulator;
mod foreign;
mod harness;
mod movement;
mod nested;
mod order;
mod quantized;
mod rows;
mod suppress;
mod tuning;
mod winograd;
