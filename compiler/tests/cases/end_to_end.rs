//! Whole graphs through the whole compiler, compared with the interpreter at several sizes.

use std::path::Path;

use ired_graph::parse;

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
        let compiled = Compiled::new(&graph);
        for size in [0, 1, 2, 7, 17, 40] {
            let inputs = harness::inputs(&graph, size);
            let outcome = harness::reference(&graph, &inputs).and_then(|expected| {
                let found = compiled.run(&inputs).map_err(|e| format!("{e:?}"))?;
                harness::compare(&expected, &found, 1e-5)
            });
            failures.extend(outcome.err().map(|e| format!("{name} at {size}: {e}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
