//! Graph passes as data: `tests/graph/PASS/CLAIM.graph` beside `CLAIM.expected.graph`. `BLESS=1 cargo test` writes
//! expectations. Every case also runs through the interpreter, before and after.

use std::path::{Path, PathBuf};

use ired_compiler::passes::{PASSES, Precision, describe_dispatches};
use ired_graph::{Graph, parse, verify};

use crate::harness;

#[test]
fn passes_do_what_their_cases_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graph");
    let mut failures = Vec::new();
    let mut cases = 0;
    for folder in sorted(&root) {
        let pass = folder.file_name().unwrap().to_str().unwrap().to_owned();
        for input in sorted(&folder) {
            let name = input.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".graph") && !name.ends_with(".expected.graph") {
                cases += 1;
                failures.extend(check(&pass, &input).err());
            }
        }
    }
    assert!(cases > 0, "no cases in {}", root.display());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

pub(crate) fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

fn check(pass: &str, input: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(input).unwrap();
    let before = parse(&text).map_err(|e| format!("{}: {e}", input.display()))?;
    verify(&before).map_err(|e| format!("{}: {e:?}", input.display()))?;
    let mut after = before.clone();
    let found = if pass == "form_dispatches" {
        describe_dispatches(&before)
    } else {
        let runs: Vec<_> = PASSES.iter().filter(|p| p.name == pass).collect();
        let pass = runs.first().ok_or_else(|| format!("there is no pass `{pass}`"))?;
        pass.run(&mut after).map_err(|e| format!("{}: {e}", input.display()))?;
        verify(&after).map_err(|e| format!("{}: {e:?}", input.display()))?;
        after = after.compact();
        // Two operands of eight bits each.
        let tolerance = if pass.runs_for(Precision::Exact) { 1e-5 } else { 2e-2 };
        compare(&before, &after, tolerance).map_err(|e| format!("{}: {e}", input.display()))?;
        after.to_string()
    };
    check_text(&input.with_extension("expected.graph"), &found)
}

/// Compares with a file, or writes it when blessed.
pub(crate) fn check_text(path: &Path, found: &str) -> Result<(), String> {
    if bless() {
        std::fs::write(path, found).unwrap();
        return Ok(());
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == found {
        return Ok(());
    }
    Err(format!("{}:\n--- expected\n{expected}\n+++ found\n{found}", path.display()))
}

#[allow(clippy::disallowed_methods, reason = "how tests are blessed, not a setting")]
fn bless() -> bool {
    std::env::var("BLESS").is_ok()
}

/// Runs both graphs on the same inputs, with every symbol at two sizes.
fn compare(before: &Graph, after: &Graph, tolerance: f64) -> Result<(), String> {
    for size in [2, 3] {
        let inputs = harness::inputs(before, size);
        let (expected, found) = (harness::reference(before, &inputs)?, harness::reference(after, &inputs)?);
        harness::compare(&expected, &found, tolerance)?;
    }
    Ok(())
}
