//! Random operators on random operands: what is imported verifies, and when it runs its values have the types that
//! shape inference gave them.
#![no_main]

use arbitrary::Unstructured;
use ired_frontends::{MemorySource, import};
use ired_fuzz::random_model;
use ired_graph::{Graph, InterpretError, Limits, Tensor, interpret_within};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = random_model(&mut Unstructured::new(data)) else { return };
    let Ok(graph) = import(&MemorySource::new("model.onnx", model.encode_to_vec().into())) else { return };
    ired_graph::verify(&graph).expect("an imported graph verifies");
    let Some(inputs) = inputs(&graph) else { return };
    let limits = Limits { live_bytes: 64 << 20, iterations: 256 };
    if let Err(error @ InterpretError::ResultType { .. }) = interpret_within(&graph, &inputs, limits) {
        panic!("{error}\n{graph}");
    }
});

/// Small numbers for every input, with 2 and 3 for its symbols.
fn inputs(graph: &Graph) -> Option<Vec<Tensor>> {
    let tensor = |id: &ired_graph::ValueId| {
        let ty = graph.ty(*id);
        let size = |d: &ired_graph::Dim| d.evaluate(&|symbol| Some(2 + i64::from(symbol.0 % 2)));
        let shape: Vec<u64> = ty.shape.iter().map(|d| u64::try_from(size(d)?).ok()).collect::<Option<_>>()?;
        let count = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n < 1 << 16)?;
        let values: Vec<f64> = (0..count).map(|i| (i % 5) as f64 - 1.0).collect();
        Some(Tensor::from_f64s(ty.dtype, &shape, &values))
    };
    graph.inputs().iter().map(tensor).collect()
}
