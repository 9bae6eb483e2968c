//! Every operation against numbers not made by us: `ops/*.toml`, written by `ops.py`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use ired_graph::{DType, Tensor, interpret, parse, verify};

/// `f32[2, 3] = 1 2 3 4 5 6`
fn tensor(text: &str) -> Tensor {
    let (ty, elements) = text.split_once('=').unwrap();
    let (name, shape) = ty.trim().trim_end_matches(']').split_once('[').unwrap();
    let dtype = DType::ALL.into_iter().find(|d| d.name() == name).unwrap();
    let shape: Vec<u64> =
        shape.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.parse().unwrap()).collect();
    let elements = elements.split_whitespace();
    match dtype {
        DType::Bool => Tensor::from_bools(&shape, &elements.map(|e| e == "true").collect::<Vec<_>>()),
        DType::F64 => {
            Tensor::from_f64s(dtype, &shape, &elements.map(|e| e.parse().unwrap()).collect::<Vec<_>>())
        }
        _ if dtype.is_float() => {
            let values: Vec<f64> = elements.map(|e| f64::from(e.parse::<f32>().unwrap())).collect();
            Tensor::from_f64s(dtype, &shape, &values)
        }
        _ => Tensor::from_integers(dtype, &shape, &elements.map(|e| e.parse().unwrap()).collect::<Vec<_>>()),
    }
}

fn type_text(text: &str) -> &str {
    text.split_once('=').unwrap().0.trim()
}

/// `within` is relative to the larger of the expected number and 1; without it, numbers are the same.
fn agree(found: &Tensor, expected: &Tensor, within: f64) -> bool {
    let close = |(f, e): (f64, f64)| {
        f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= within * e.abs().max(1.0)
    };
    let same_type = found.dtype() == expected.dtype() && found.shape() == expected.shape();
    match found.dtype().is_float() {
        true => same_type && found.to_f64s().into_iter().zip(expected.to_f64s()).all(close),
        false => found == expected,
    }
}

fn run(case: &toml::Table) -> Result<(), String> {
    let inputs: Vec<&str> = case["in"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let types = inputs.iter().enumerate().map(|(i, input)| format!("%{i} : {}", type_text(input)));
    let (parameters, op) = (types.collect::<Vec<_>>().join(", "), case["op"].as_str().unwrap());
    let text = format!("graph g {{ body({parameters}) {{ %99 = {op} yield %99 }} }}");
    let graph = parse(&text).map_err(|e| format!("{e}"))?;
    verify(&graph).map_err(|e| format!("{e:?}"))?;
    let inputs: Vec<Tensor> = inputs.into_iter().map(tensor).collect();
    let found = interpret(&graph, &inputs).map_err(|e| format!("{e:?}"))?.remove(0);
    let expected = tensor(case["out"].as_str().unwrap());
    let within = case.get("within").map_or(0.0, |v| v.as_float().unwrap());
    match agree(&found, &expected, within) {
        true => Ok(()),
        false => Err(format!("found {:?}, expected {:?}", found.to_f64s(), expected.to_f64s())),
    }
}

#[test]
fn every_operation_agrees_with_its_oracle() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ops");
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let table: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        for case in table["case"].as_array().unwrap() {
            let case = case.as_table().unwrap();
            count += 1;
            if let Err(problem) = run(case) {
                let family = path.file_stem().unwrap().to_string_lossy();
                failures.push(format!("{family}/{}: {problem}", case["name"].as_str().unwrap()));
            }
        }
    }
    assert!(count > 100, "only {count} cases");
    assert!(failures.is_empty(), "{} of {count} fail:\n{}", failures.len(), failures.join("\n"));
}
