//! The front door over real sockets, with a scripted compiler and scripted models behind it.

#![allow(clippy::unwrap_used, reason = "a test that finds something else than it expects fails")]

mod compile;
mod extensions;
mod infer;
mod lifecycle;
mod malformed;
mod memory;
mod rest;
mod schedule;
mod scripted;
mod sequences;
mod settings;
mod shared_memory;
