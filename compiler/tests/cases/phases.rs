//! What callers of the compiler rely on: phases by name, progress, dumps, the cache, errors, one result for one model.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use ired_compiler::tuning::Tuning;
use ired_compiler::{
    DiagnosticKind, Explain, MemoryCache, ObjectCache, Observer, Options, Outcome, Phase, Unobserved,
    compile, compile_graph,
};
use ired_frontends::MemorySource;
use ired_graph::{Graph, Tensor, parse};
use ired_module::Module;

use crate::harness::{self, Compiled};

const TWO_LAYERS: &str = r#"graph two_layers {
  symbol batch min 1 max 64
  body(%0 "x" : f32[batch, 8], %1 "w" : f32[8, 8], %2 "mask" : f32[batch, 8]) {
    %3 = matmul %0, %1 : f32[batch, 8]
    %4 = tanh %3 : f32[batch, 8]
    %5 = matmul %4, %1 : f32[batch, 8]
    %6 = tanh %5 : f32[batch, 8]
    %7 "y" = mul %6, %2 : f32[batch, 8]
    yield %7
  }
}
"#;

fn two_layers() -> Graph {
    parse(TWO_LAYERS).unwrap_or_else(|e| panic!("{e}"))
}

#[derive(Default)]
struct Watcher {
    phases: Vec<Phase>,
    dumps: Vec<String>,
    complete: bool,
}

impl Observer for Watcher {
    fn progress(&mut self, phase: Phase, done: u64, total: u64, _: &str) {
        if self.phases.last() != Some(&phase) {
            self.phases.push(phase);
        }
        assert!(done <= total);
        self.complete = phase == Phase::Module && done == total;
    }

    fn wants_dumps(&self) -> bool {
        true
    }

    fn dump(&mut self, name: &str, text: &str) {
        assert!(!text.is_empty(), "{name}");
        self.dumps.push(name.to_owned());
    }
}

#[test]
fn every_phase_is_seen_and_can_be_the_last() {
    let mut watcher = Watcher::default();
    let outcome = compile_graph(two_layers(), [0; 32], &harness::options(), harness::cache(), &mut watcher);
    assert!(matches!(outcome, Ok(Outcome::Module(_))));
    assert!(watcher.complete);
    assert!(watcher.phases.is_sorted() && watcher.phases.len() >= 5, "{:?}", watcher.phases);
    assert_eq!(
        watcher.dumps,
        ["0_input.graph", "1_graph.graph", "2_program.mlir", "3_schedule.mlir", "4_executables.txt"]
    );
    for phase in &Phase::ALL[..5] {
        assert_eq!(Phase::from_name(phase.name()), Some(*phase));
        let options = Options { stop_after: Some(*phase), ..harness::options() };
        match compile_graph(two_layers(), [0; 32], &options, harness::cache(), &mut Unobserved) {
            Ok(Outcome::Stopped { phase: stopped, .. }) => assert_eq!(stopped, *phase),
            _ => panic!("did not stop after {}", phase.name()),
        }
    }
}

#[test]
fn one_model_gives_one_module_on_any_number_of_threads() {
    let bytes = |threads| {
        let options = Options { threads, ..harness::options() };
        match compile_graph(two_layers(), [7; 32], &options, &MemoryCache::default(), &mut Unobserved) {
            Ok(Outcome::Module(drafts)) => drafts[0].to_bytes().unwrap(),
            _ => panic!("no module"),
        }
    };
    let module = bytes(1);
    let read = Module::parse(&module).unwrap();
    assert_eq!(read.provenance_ref().unwrap().compiler, ired_compiler::COMPILER);
    assert!(module == bytes(1), "the same compilation gave two modules");
    assert!(module == bytes(4), "threads change the module");
}

/// Counts what is compiled rather than found.
#[derive(Default)]
struct Counting {
    cache: MemoryCache,
    compiled: AtomicUsize,
}

impl ObjectCache for Counting {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        self.cache.get(key)
    }

    fn put(&self, key: [u8; 32], object: &[u8]) {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        self.cache.put(key, object);
    }
}

#[test]
fn each_different_kernel_is_compiled_once() {
    let graph = parse(
        r#"graph layers {
  symbol n
  body(%0 : f32[n, 8], %1 : f32[8, 8]) {
    %2 = matmul %0, %1 : f32[n, 8]
    %3 = matmul %2, %1 : f32[n, 8]
    %4 = matmul %3, %1 : f32[n, 8]
    yield %4
  }
}
"#,
    )
    .unwrap_or_else(|e| panic!("{e}"));
    let cache = Counting::default();
    for _ in 0..2 {
        let outcome = compile_graph(graph.clone(), [0; 32], &harness::options(), &cache, &mut Unobserved);
        let Ok(Outcome::Module(drafts)) = outcome else { panic!("no module") };
        assert_eq!(drafts[0].executable.entries.len(), 1);
        assert_eq!(cache.compiled.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let compiled = Compiled::new(&two_layers());
    let input = |rows: u64, columns: u64| {
        let count = usize::try_from(rows * columns).unwrap();
        Tensor::from_f32s(&[rows, columns], &vec![0.5; count])
    };
    let w = input(8, 8);
    assert!(compiled.run(&[input(3, 8), w.clone(), input(3, 8)]).is_ok());
    for (x, mask, word) in [
        (input(3, 8), input(4, 8), "mask"),
        (input(65, 8), input(65, 8), "batch"),
        (input(3, 7), input(3, 8), "x"),
    ] {
        let error = compiled.run(&[x, w.clone(), mask]).expect_err("sizes that do not fit");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn faults_of_the_model_are_diagnostics_with_kinds() {
    let garbage = MemorySource::new("model.onnx", bytes::Bytes::from_static(b"\x08\x07not a model"));
    let error = compile(&garbage, &harness::options(), harness::cache(), &mut Unobserved).err().unwrap();
    assert_eq!(error.diagnostics[0].kind, DiagnosticKind::InvalidModel, "{error}");

    let data_dependent = parse(
        r#"graph g {
  symbol m
  body(%0 "x" : f32[4]) {
    %1 = iota axis=0 : f32[m]
    yield %1
  }
}
"#,
    )
    .unwrap_or_else(|e| panic!("{e}"));
    let outcome =
        compile_graph(data_dependent, [0; 32], &harness::options(), harness::cache(), &mut Unobserved);
    let error = outcome.err().unwrap();
    assert_eq!(error.diagnostics[0].kind, DiagnosticKind::InvalidModel, "{error}");
    assert!(error.to_string().contains("`m`"), "{error}");
}

#[test]
fn a_value_read_by_exponentially_many_paths_compiles() {
    let mut text =
        String::from("graph doubling {\n  symbol n min 1 max 64\n  body(%0 \"x\" : f32[n, 8]) {\n");
    for i in 1..=64 {
        writeln!(text, "    %{i} = add %{0}, %{0} : f32[n, 8]", i - 1).unwrap();
    }
    text.push_str("    yield %64\n  }\n}\n");
    let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    harness::compile(&graph).unwrap();
}

#[test]
fn a_tuning_changes_the_kernels_it_names_and_the_options_a_module_states() {
    let mut options = harness::options();
    let outcome = |options: &Options| {
        let outcome = compile_graph(two_layers(), [0; 32], options, &MemoryCache::default(), &mut Unobserved);
        outcome.unwrap_or_else(|e| panic!("{e}"))
    };
    let modules_options = |options: &Options| match outcome(options) {
        Outcome::Module(mut drafts) => drafts.remove(0).provenance.options,
        _ => panic!("a module is compiled"),
    };
    let program = |options: &Options| {
        let options = Options { stop_after: Some(Phase::Program), ..options.clone() };
        match outcome(&options) {
            Outcome::Stopped { text, .. } => text,
            _ => panic!("the program is dumped"),
        }
    };
    let usual = (program(&options), modules_options(&options));
    options.explain = Some(Explain { candidates: true, ..Explain::default() });
    let candidates = match outcome(&options) {
        Outcome::Explained(text) => text,
        _ => panic!("the candidates are listed"),
    };
    options.explain = None;
    // A file has one entry of a problem.
    let (header, entries) = candidates.split_once("[[kernel]]").unwrap();
    let first = entries.split("[[kernel]]").next().unwrap();
    let tuned = |text: &str| Tuning::parse(text, &options.target).unwrap_or_else(|e| panic!("{e}"));
    let none = Options { tuning: tuned(header), ..options.clone() };
    assert_eq!((program(&none), modules_options(&none)), usual);
    let other = format!("{header}[[kernel]]{}", first.replace("k=8", "k=9"));
    let other = Options { tuning: tuned(&other), ..options.clone() };
    assert_eq!(program(&other), usual.0, "a problem that does not occur is ignored");
    let named = Options { tuning: tuned(&format!("{header}[[kernel]]{first}")), ..options.clone() };
    assert_ne!(program(&named), usual.0);
    assert_ne!(modules_options(&named), usual.1);
    assert_ne!(modules_options(&named), modules_options(&other));
}
