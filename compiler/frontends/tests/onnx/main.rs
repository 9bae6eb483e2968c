//! ONNX import as a user meets it: models in, graphs or named errors out. Models are built here from messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "a test is no library: nothing is reachable")]

mod attention;
mod build;
mod classical;
mod complex;
mod computed;
mod contraction;
mod element_types;
mod experts;
mod fuzzed;
mod hostile;
mod images;
mod loops;
mod losses;
mod microsoft;
mod mutation;
mod one_node;
mod operators;
mod packed;
mod quantized;
mod random;
mod ranking;
mod recurrent;
mod rows;
mod sequences;
mod shapes;
mod signals;
mod structure;
mod text;
mod training;
mod transposed;
mod unsupported;
