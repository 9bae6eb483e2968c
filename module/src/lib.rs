//! The contract between compiler and runtime: the `.irm` container and what stands in it.
//!
//! The compiler writes modules, the runtime reads them, the server reads their signatures; they agree on
//! nothing else. This crate knows no tensor library, no MLIR and no device. Reading works without an allocator.

#![cfg_attr(not(feature = "std"), no_std)]

pub mod code;
pub mod dtype;
#[cfg(feature = "std")]
pub mod signature;

pub use dtype::DType;
