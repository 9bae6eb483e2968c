//! Runs ONNX test cases through the importer and the reference interpreter, without a compiler: `interpret DIR...`,
//! a line a case, `NAME outcome detail`, and a count of outcomes at the end.
//!
//! A case is a folder with `model.onnx` and `test_data_set_*/{input,output}_*.pb`. Floats are right within 1e-3
//! relative and 1e-4 absolute; everything else is right when it is equal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ired_frontends::onnx::read_test_tensor;
use ired_frontends::{DirectorySource, ImportError, ImportErrorKind, import};
use ired_graph::{DType, Graph, Limits, Tensor, interpret_strings};
use ired_host::StringTable;

const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-4;

/// How a case ended, and what there is to say of it.
struct Verdict(&'static str, String);

fn main() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for folder in std::env::args().skip(1).map(PathBuf::from) {
        let Verdict(outcome, detail) = run(&folder).unwrap_or_else(|verdict| verdict);
        *counts.entry(outcome).or_default() += 1;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        println!("{name} {outcome} {}", detail.replace('\n', "; "));
    }
    let counts: Vec<String> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    println!("{}", counts.join(", "));
}

fn run(folder: &Path) -> Result<Verdict, Verdict> {
    let source = DirectorySource::open(&folder.join("model.onnx"))
        .map_err(|error| Verdict("no-case", error.to_string()))?;
    let graph = import(&source).map_err(|error| refused(&error))?;
    if let Err(errors) = ired_graph::verify(&graph) {
        return Err(Verdict(
            "invalid-graph",
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        ));
    }
    let sets = std::fs::read_dir(folder).map_err(|error| Verdict("no-case", error.to_string()))?;
    let mut sets: Vec<PathBuf> =
        sets.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| p.is_dir()).collect();
    sets.sort();
    for set in sets {
        run_set(&graph, &set)?;
    }
    Ok(Verdict("pass", String::new()))
}

fn refused(error: &ImportError) -> Verdict {
    let outcome = match error.kind() {
        ImportErrorKind::Unsupported => "unsupported",
        _ => "import-error",
    };
    Verdict(outcome, chain(error))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn run_set(graph: &Graph, set: &Path) -> Result<(), Verdict> {
    let mut strings = graph.call_strings();
    let (inputs, expected) = (tensors(set, "input", &mut strings)?, tensors(set, "output", &mut strings)?);
    let found = interpret_strings(graph, &inputs, Limits::default(), &mut strings)
        .map_err(|error| Verdict("interpret-error", chain(&error)))?;
    if found.len() != expected.len() {
        return Err(Verdict("wrong-count", format!("{} outputs; expected {}", found.len(), expected.len())));
    }
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        compare(found, expected, &strings)
            .map_err(|Verdict(outcome, detail)| Verdict(outcome, format!("output {i}: {detail}")))?;
    }
    Ok(())
}

fn tensors(set: &Path, prefix: &str, strings: &mut StringTable) -> Result<Vec<Tensor>, Verdict> {
    (0..)
        .map(|i| set.join(format!("{prefix}_{i}.pb")))
        .take_while(|path| path.exists())
        .map(|path| {
            let bytes = std::fs::read(&path).map_err(|error| Verdict("no-case", error.to_string()))?;
            read_test_tensor(Bytes::from(bytes), strings).map_err(|error| Verdict("no-case", chain(&error)))
        })
        .collect()
}

fn compare(found: &Tensor, expected: &Tensor, strings: &StringTable) -> Result<(), Verdict> {
    if found.dtype() != expected.dtype() {
        return Err(Verdict("wrong-dtype", format!("{}; expected {}", found.dtype(), expected.dtype())));
    }
    if found.shape() != expected.shape() {
        return Err(Verdict("wrong-shape", format!("{:?}; expected {:?}", found.shape(), expected.shape())));
    }
    if found.dtype() == DType::String && found != expected {
        let texts = |tensor: &Tensor| {
            let text = |handle| String::from_utf8_lossy(strings.get(handle).unwrap_or_default()).into_owned();
            tensor.to_handles().into_iter().map(text).collect::<Vec<_>>()
        };
        return Err(Verdict("wrong-value", format!("{:?}; expected {:?}", texts(found), texts(expected))));
    }
    let (f, e) = (found.to_f64s(), expected.to_f64s());
    let right = |f: f64, e: f64| match found.dtype().holds_integers() {
        true => true,
        false => f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= ABSOLUTE + RELATIVE * e.abs(),
    };
    let wrong = (0..f.len()).find(|&i| !right(f[i], e[i]));
    if let Some(i) = wrong {
        return Err(Verdict("wrong-value", format!("element {i} is {}; expected {}", f[i], e[i])));
    }
    if found.dtype().holds_integers() && found.to_integers() != expected.to_integers() {
        return Err(Verdict(
            "wrong-value",
            format!("{:?}; expected {:?}", found.to_integers(), expected.to_integers()),
        ));
    }
    Ok(())
}
