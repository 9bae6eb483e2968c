//! Every graph pass keeps what a graph computes; the reference interpreter is the judge, before and after.
#![no_main]

use arbitrary::Unstructured;
use ired_compiler::passes::PASSES;
use ired_fuzz::{inputs_of, random_graph};
use ired_graph::{Graph, Tensor, interpret, verify};
use libfuzzer_sys::fuzz_target;

/// Rounding may differ where sums are taken in another order or weights are folded.
const TOLERANCE: f64 = 1e-4;

fuzz_target!(|data: &[u8]| {
    let Ok(graph) = random_graph(&mut Unstructured::new(data)) else { return };
    verify(&graph).expect("the builder makes graphs that verify");
    for size in [0, 1, 3] {
        // Sizes that do not fit each other are found when the graph runs.
        let Ok(expected) = interpret(&graph, &inputs_of(size)) else { continue };
        let mut after = graph.clone();
        for pass in PASSES {
            let before = after.to_string();
            pass.run(&mut after).unwrap_or_else(|error| panic!("{}: {error}\n{before}", pass.name));
            check(&after, &expected, size).unwrap_or_else(|problem| {
                panic!("{} at {size}: {problem}\n{before}\nbecame\n{after}", pass.name)
            });
        }
    }
});

fn check(graph: &Graph, expected: &[Tensor], size: u64) -> Result<(), String> {
    verify(graph).map_err(|errors| format!("{errors:?}"))?;
    let found = interpret(graph, &inputs_of(size)).map_err(|error| error.to_string())?;
    for (found, expected) in found.iter().zip(expected) {
        if (found.dtype(), found.shape()) != (expected.dtype(), expected.shape()) {
            return Err(format!("{}{:?} became {}{:?}", expected.dtype(), expected.shape(), found.dtype(), found.shape()));
        }
        for (f, e) in found.to_f64s().into_iter().zip(expected.to_f64s()) {
            let close = f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= TOLERANCE * e.abs().max(1.0);
            if !close && e.is_finite() {
                return Err(format!("{e} became {f}"));
            }
        }
    }
    Ok(())
}
