//! What fuzzers begin with: the requests that the daemon's tests record, the texts of `fuzz/seeds`, and the models of the
//! exported ONNX suite, where `cargo xtask conformance onnx` has exported it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::conformance;
use crate::process::{root, run_with, target_dir};

/// Larger models are slow, and hold nothing else.
const MAX_BYTES: usize = 8 << 10;

/// The folders of seeds for a fuzzer.
pub(super) fn gather(fuzzer: &str) -> Result<Vec<PathBuf>> {
    if fuzzer == "requests" {
        return Ok(vec![requests()?]);
    }
    let texts = root().join("fuzz/seeds").join(fuzzer);
    if texts.is_dir() {
        return Ok(vec![texts]);
    }
    let suite = conformance::suite_folder()?;
    if !matches!(fuzzer, "onnx_decoder" | "onnx_models") {
        return Ok(Vec::new());
    }
    if !suite.join("cases.json").exists() {
        eprintln!(
            "fuzz: without `cargo xtask conformance onnx` before, {fuzzer} has no models to begin with"
        );
        return Ok(Vec::new());
    }
    let seeds = target_dir("fuzz-seeds")?.join(fuzzer);
    if seeds.exists() {
        return Ok(vec![seeds]);
    }
    let made = target_dir("fuzz-seeds")?.join(format!("{fuzzer}.partial"));
    std::fs::create_dir_all(&made).with_context(|| format!("cannot make `{}`", made.display()))?;
    for kind in folders(&suite.join("static"))?.into_iter().chain(folders(&suite.join("dynamic"))?) {
        for case in folders(&kind)? {
            let mut model = std::fs::read(case.join("model.onnx")).unwrap_or_default();
            if fuzzer == "onnx_models" {
                model.extend(stored_inputs(&case));
            }
            if (1..=MAX_BYTES).contains(&model.len()) {
                let name = case.strip_prefix(&suite).unwrap_or(&case).to_string_lossy().replace('/', "-");
                std::fs::write(made.join(name), model)?;
            }
        }
    }
    std::fs::rename(&made, &seeds)?;
    Ok(vec![seeds])
}

/// What the tests of the daemon's doors record.
fn requests() -> Result<PathBuf> {
    let seeds = target_dir("fuzz-seeds")?.join("requests");
    // Others of a name that there is no more would stay.
    if seeds.exists() {
        std::fs::remove_dir_all(&seeds).with_context(|| format!("cannot remove `{}`", seeds.display()))?;
    }
    std::fs::create_dir_all(&seeds).with_context(|| format!("cannot make `{}`", seeds.display()))?;
    let test = "recorded_requests_are_what_the_fuzzer_reads";
    run_with(
        "cargo",
        &["test", "--quiet", "-p", "ired", "--test", "mutated", test],
        &[("SEEDS", &seeds.to_string_lossy())],
    )?;
    Ok(seeds)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    Ok(found)
}

/// The first test data of a case as more of the model: its graph once more, which readers join with the first, with
/// initializers that nothing uses, `value of #0` for the first input.
fn stored_inputs(case: &Path) -> Vec<u8> {
    let mut initializers = Vec::new();
    for position in 0.. {
        let file = case.join("test_data_set_0").join(format!("input_{position}.pb"));
        let Ok(mut tensor) = std::fs::read(file) else { break };
        tensor.extend(field(NAME_OF_TENSOR, format!("value of #{position}").as_bytes()));
        initializers.extend(field(INITIALIZER_OF_GRAPH, &tensor));
    }
    field(GRAPH_OF_MODEL, &initializers)
}

const GRAPH_OF_MODEL: u8 = 7;
const INITIALIZER_OF_GRAPH: u8 = 5;
const NAME_OF_TENSOR: u8 = 8;

/// A field of a protobuf message that is bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut written = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        written.push(length as u8 | 128);
        length >>= 7;
    }
    written.push(length as u8);
    written.extend(bytes);
    written
}
