//! The contract between compiler and runtime: the `.irm` container and what stands in it.
//!
//! The compiler writes modules, the runtime reads them, the server reads their signatures; they agree on
//! nothing else. This crate knows no tensor library, no MLIR and no device. Reading works without an allocator.
//!
//! [`Module::parse`] then [`Module::verify`] make any bytes safe to run or refuse them; `ModuleDraft::write`
//! makes bytes that pass both.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

mod access;
pub mod code;
mod costs;
mod describe;
pub mod dtype;
mod error;
pub mod format;
mod host_calls;
#[cfg(feature = "std")]
pub mod notes;
mod reader;
#[cfg(feature = "seal")]
pub mod seal;
#[cfg(feature = "std")]
pub mod signature;
pub mod texts;
mod verify;
mod words;
#[cfg(feature = "std")]
mod writer;

pub use access::{Access, AccessList};
pub use costs::{Costs, MAX_COSTS, ONE_ROW, efficient_rows};
pub use describe::Describe;
pub use dtype::DType;
pub use error::{CodeProblem, ParseError, Verify, VerifyError};
pub use format::SectionKind;
#[cfg(feature = "std")]
pub use host_calls::HostCallDraft;
pub use host_calls::{HostCallRef, TensorKind, TensorKinds};
pub use reader::{
    DimRef, Dims, EntryPointRef, EntryPoints, Function, Instructions, KernelRef, Module, ParamRef, PeakRef,
    ProvenanceRef, RowsRef, Strings, TargetRef, TensorRef, Tensors,
};
#[cfg(feature = "std")]
pub use writer::{
    ExecutableDraft, KernelEntry, ModuleDraft, ParamDraft, ParamSource, WriteError, write_variants,
};
