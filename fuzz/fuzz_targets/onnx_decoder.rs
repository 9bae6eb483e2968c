//! Any bytes as an ONNX file: refused or understood, never a panic, and what is understood verifies.
#![no_main]

use bytes::Bytes;
use ired_frontends::{MemorySource, import};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(graph) = import(&MemorySource::new("model.onnx", Bytes::copy_from_slice(data))) {
        ired_graph::verify(&graph).expect("an imported graph verifies");
    }
});
