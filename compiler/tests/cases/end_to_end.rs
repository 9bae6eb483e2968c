//! Whole graphs through the whole compiler, compared with the interpreter at several sizes.

use std::path::Path;

use ired_graph::parse;

use crate::emulated;
use crate::harness::{self, Compiled};

/// Every graph of `tests/programs`, at sizes around the edges of tiles and vectors.
#[test]
fn compiled_programs_compute_what_the_interpreter_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let mut paths: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failures = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let graph = parse(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let runs = emulated::compile(&graph);
        for size in [0, 1, 2, 7, 17, 40] {
            let inputs = harness::inputs(&graph, size);
            let expected = harness::reference(&graph, &inputs);
            for run in &runs {
                let outcome = expected.clone().and_then(|e| harness::compare(&e, &run(&inputs)?, 1e-5));
                failures.extend(outcome.err().map(|e| format!("{name} at {size}: {e}")));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Four bits a weight with scales of blocks, as exporters of language models write them: through every pass and into the
/// module they stay four bits.
#[test]
fn quantised_weights_stay_as_small_as_they_are() {
    let (k, n) = (224, 160);
    let bytes: String = (0..k * n / 2).map(|i| format!("{:02x}", i * 89 % 251)).collect();
    let scales: String = (0..k / 32 * n).map(|i| hex(0.01 + i as f32 / 65536.0)).collect();
    let graph = parse(&format!(
        "graph g {{
  symbol m
  param @w : u4[{n}, {k}] = hex\"{bytes}\"
  param @scales : f32[{n}, 7] = hex\"{scales}\"
  body(%0 : f32[m, {k}]) {{
    %1 = param @w : u4[{n}, {k}]
    %2 = cast %1 : f32[{n}, {k}]
    %3 = constant [8.0] : f32[]
    %4 = broadcast %3 : f32[{n}, {k}]
    %5 = sub %2, %4 : f32[{n}, {k}]
    %6 = param @scales : f32[{n}, 7]
    %7 = reshape %6 : f32[{n}, 7, 1]
    %8 = broadcast %7 : f32[{n}, 7, 32]
    %9 = reshape %8 : f32[{n}, {k}]
    %10 = mul %5, %9 : f32[{n}, {k}]
    %11 = transpose %10 perm=[1, 0] : f32[{k}, {n}]
    %12 = matmul %0, %11 : f32[m, {n}]
    yield %12
  }}
}}"
    ))
    .unwrap();
    let draft = harness::compile(&graph).unwrap();
    let stored: u64 = draft.params.iter().map(|param| param.bytes.len_bytes()).sum();
    assert_eq!(stored, (k * n / 2 + k / 32 * n * 4) as u64);
    let compiled = Compiled::load(&draft);
    for size in [0, 1, 2, 3, 7, 40] {
        let inputs = harness::inputs(&graph, size);
        let expected = harness::reference(&graph, &inputs).unwrap();
        harness::compare(&expected, &compiled.run(&inputs).unwrap(), 1e-5).unwrap();
    }
}

fn hex(number: f32) -> String {
    number.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
