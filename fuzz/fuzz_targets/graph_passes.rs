//! Every graph pass keeps what a graph computes; the reference interpreter is the judge, before and after.
#![no_main]

use arbitrary::Unstructured;
use ired_fuzz::{judge_graph, random_graph};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(graph) = random_graph(&mut Unstructured::new(data)) {
        judge_graph(&graph);
    }
});
