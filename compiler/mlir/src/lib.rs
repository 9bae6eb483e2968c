//! The one door to MLIR and LLVM: contexts, modules, a typed builder, pass pipelines, objects and linking.
//!
//! Everything the rest of the compiler does with MLIR goes through the safe handles here; what a kernel or a
//! schedule means is not known here. One [`Context`] belongs to one thread; as many threads as like may have one
//! each.
//!
//! LLVM ends the process on some errors that are not ours to catch (`report_fatal_error`: a pass pipeline that
//! LLVM cannot build, an instruction that a target cannot select, memory exhausted), and a release build of MLIR
//! does not check misuse of its own interfaces. Verified IR of the dialects registered here does neither, as far
//! as is known; compilation runs in a process of its own so that being wrong costs one job.

#![allow(unsafe_code, reason = "this crate is the foreign interface to MLIR, LLVM and lld")]

mod builder;
mod context;
mod error;
mod ir;
mod link;
mod module;
mod object;

pub use builder::{Builder, Compare, FloatCompare, OpBuilder};
pub use context::Context;
pub use error::{Diagnostic, Error, Severity};
pub use ir::{Attribute, Block, Location, Op, Region, Type, Value};
pub use link::link;
pub use module::Module;
pub use object::{Machine, MachineError, TargetSpec, host_features};
