//! The schedule as data: `tests/schedule/CLAIM.graph` beside the host function it becomes, `CLAIM.expected.mlir`.

use std::collections::HashMap;
use std::path::Path;

use ired_compiler::targets::CpuTarget;
use ired_compiler::{Options, Outcome, Phase, Unobserved, compile_graph};
use ired_graph::parse;

use crate::harness::{self, Compiled};
use crate::passes::{check_text, sorted};

#[test]
fn schedules_are_what_their_cases_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schedule");
    let mut failures = Vec::new();
    let inputs: Vec<_> =
        sorted(&root).into_iter().filter(|p| p.extension().is_some_and(|e| e == "graph")).collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        let graph = parse(&std::fs::read_to_string(&input).unwrap()).unwrap_or_else(|e| panic!("{e}"));
        let target = CpuTarget::parse("x86_64-linux,+avx512f").expect("a known target");
        let options = Options { stop_after: Some(Phase::Schedule), ..Options::new(target) };
        let outcome = compile_graph(graph, [0; 32], &options, harness::cache(), &mut Unobserved);
        let Ok(Outcome::Stopped { text, .. }) = outcome else { panic!("no text of {}", input.display()) };
        let found = buffer_lines(&text);
        failures.extend(check_text(&input.with_extension("expected.mlir"), &found).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What the host does with buffers, with values named in order of appearance; without grids and constants, which are
/// the kernels' own business.
fn buffer_lines(text: &str) -> String {
    let host = text.find("func.func @main").map(|start| &text[start..]).unwrap_or_default();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut lines = String::new();
    for line in host.lines().map(str::trim) {
        let shown = ["alloc", "slice", "param", "dispatch", "barrier", "copy", "await", "output"];
        if !shown.iter().any(|op| line.contains(&format!("ired.{op}"))) {
            continue;
        }
        let line = without(&without(line, " grid("), " constants(");
        let mut rest = line.as_str();
        while let Some(start) = rest.find('%') {
            let end = rest[start + 1..].find(|c: char| !c.is_alphanumeric() && !"_-".contains(c));
            let end = end.map_or(rest.len(), |e| start + 1 + e);
            lines.push_str(&rest[..start]);
            let (name, next) = (&rest[start..end], names.len());
            match name.strip_prefix("%arg").or(name.strip_prefix("%c")) {
                Some(_) => lines.push_str(name.split('_').next().unwrap_or(name)),
                None => lines.push_str(&format!("%{}", names.entry(name.to_owned()).or_insert(next))),
            }
            rest = &rest[end..];
        }
        lines.push_str(rest);
        lines.push('\n');
    }
    lines
}

fn without(line: &str, start: &str) -> String {
    let Some(from) = line.find(start) else { return line.to_owned() };
    let to = line[from..].find(')').map_or(line.len(), |end| from + end + 1);
    format!("{}{}", &line[..from], &line[to..])
}

/// However long a chain is, two buffers are enough: what a step reads and what it writes.
#[test]
fn a_chain_takes_two_buffers() {
    let mut text = String::from("graph chain {\n  symbol n\n  body(%0 : f32[n, 16], %1 : f32[16, 16]) {\n");
    for i in 1..=9 {
        let operand = if i == 1 { 0 } else { i };
        text.push_str(&format!("    %{} = matmul %{operand}, %1 : f32[n, 16]\n", i + 1));
    }
    text.push_str("    yield %10\n  }\n}\n");
    let compiled = Compiled::new(&parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}")));
    let one = |n: u64| n * 16 * 4;
    for n in [4, 64] {
        assert_eq!(compiled.peak_bytes(&[vec![n, 16], vec![16, 16]]), 2 * one(n));
    }
}
