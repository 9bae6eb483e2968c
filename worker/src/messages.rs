//! What crosses the boundary between a parent and its worker: plain data, decoded without trust in the sender.

pub mod compile;
pub mod handshake;
pub mod module;
pub mod runtime;
pub mod sandbox;
