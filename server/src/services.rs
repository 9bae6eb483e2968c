//! The front door: each service decodes a request, makes one call behind the door, and encodes the answer.

pub mod compile;
pub mod devices;
pub mod inference;
pub mod models;
pub mod rest;
mod settings;
mod transfer;

/// Bytes of a file sent in one message.
const CHUNK_BYTES: usize = 1 << 20;
