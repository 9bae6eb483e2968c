//! Runs ONNX test cases through the importer and the reference interpreter, without a compiler: `interpret DIR...`,
//! a line a case, `NAME outcome detail`, and a count of outcomes at the end.
//!
//! A case is a folder with `model.onnx` and `test_data_set_*/{input,output}_*.pb`. Floats are right within 1e-3
//! relative and 1e-4 absolute; everything else is right when it is equal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ired_frontends::onnx::{TestOptional, read_test_optional, read_test_sequence, read_test_tensor};
use ired_frontends::{DirectorySource, ImportError, ImportErrorKind, import};
use ired_graph::{DType, Graph, Limits, Tensor, ValueId, interpret_strings};
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
    let inputs = tensors(graph, graph.inputs(), (set, "input"), &mut strings)?;
    let expected = tensors(graph, graph.outputs(), (set, "output"), &mut strings)?;
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

/// The data for `values`, of which several consecutive ones may be what one sequence or optional value consists of.
fn tensors(
    graph: &Graph,
    values: &[ValueId],
    (set, prefix): (&Path, &str),
    strings: &mut StringTable,
) -> Result<Vec<Tensor>, Verdict> {
    let name = |value: &ValueId| graph.value(*value).name.clone().unwrap_or_default();
    let (mut read, mut rest) = (Vec::new(), values);
    let mut file = 0;
    while let Some(first) = rest.first() {
        let path = set.join(format!("{prefix}_{file}.pb"));
        file += 1;
        if !path.exists() {
            break;
        }
        let bytes = std::fs::read(&path).map_err(|error| Verdict("no-case", error.to_string()))?;
        let bytes = Bytes::from(bytes);
        let unread = |error: ImportError| Verdict("no-case", chain(&error));
        let first_name = name(first);
        let whole = first_name.rsplit_once('.').map_or("", |(whole, _)| whole).to_owned();
        let is_part =
            |at: usize, part: &str| rest.get(at).is_some_and(|v| name(v) == format!("{whole}{part}"));
        let kind = |at: usize| {
            let (values, shapes) = (graph.ty(rest[at]), graph.ty(rest[at + 1]));
            let rank = shapes.shape[1].as_static().unwrap_or(0);
            (values.dtype, usize::try_from(rank).unwrap_or(0))
        };
        let taken = if is_part(0, ".values") && is_part(1, ".shapes") {
            let (dtype, rank) = kind(0);
            read.extend(read_test_sequence(bytes, (dtype, rank), strings).map_err(unread)?);
            2
        } else if is_part(0, ".present") {
            let sequence = is_part(1, ".values") && is_part(2, ".shapes");
            let held = sequence || is_part(1, "");
            let (dtype, rank) = if sequence { kind(1) } else { (DType::F32, 0) };
            let present = |present| Tensor::from_bools(&[], &[present]);
            match read_test_optional(bytes, (dtype, rank), strings).map_err(unread)? {
                TestOptional::Nothing => {
                    read.push(present(false));
                    if sequence {
                        read.extend(Tensor::new(dtype, vec![0], Bytes::new()).ok());
                        read.push(Tensor::from_i64s(&[0, rank as u64], &[]));
                    } else if held {
                        let ty = graph.ty(rest[1]);
                        let bytes = usize::from(ty.rank() == 0) * ty.dtype.bits().div_ceil(8);
                        let zeros = Tensor::new(ty.dtype, vec![0; ty.rank()], vec![0; bytes].into());
                        read.extend(zeros.ok());
                    }
                }
                TestOptional::Tensor(tensor) => read.extend([present(true), tensor]),
                TestOptional::Sequence([values, shapes]) => read.extend([present(true), values, shapes]),
            }
            if sequence { 3 } else { 1 + usize::from(held) }
        } else {
            read.push(read_test_tensor(bytes, strings).map_err(unread)?);
            1
        };
        rest = &rest[taken..];
    }
    Ok(read)
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
    let (f, e) = (found.to_parts().to_f64s(), expected.to_parts().to_f64s());
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
