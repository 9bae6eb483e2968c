//! The compiler's tests, in one binary: linking MLIR takes longer than running them.

#[path = "cases/end_to_end.rs"]
mod end_to_end;
#[path = "cases/harness.rs"]
mod harness;
#[path = "cases/passes.rs"]
mod passes;
#[path = "cases/random.rs"]
mod random;
