//! ONNX import as a user meets it: models in, graphs or named errors out. Models are built here from messages.

#![allow(unreachable_pub, reason = "a test is no library: nothing is reachable")]

mod build;
mod hostile;
mod mutation;
mod operators;
mod structure;
mod unsupported;
