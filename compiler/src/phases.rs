//! The phases, by name and in order, and the one function that runs them.

mod digest;
mod import;

use std::fmt::Write as _;

use ired_frontends::{InputShape, ModelSource};
use ired_graph::Graph;
use ired_mlir::Context;
use ired_module::ModuleDraft;
use ired_module::format::MAX_VARIANTS;
use ired_module::signature::Provenance;

use crate::COMPILER;
use crate::errors::{CompileError, Diagnostic, DiagnosticKind, chain};
use crate::executables::{ObjectCache, build_image};
use crate::explain::{self, Explain};
use crate::module::Interface;
use crate::passes::form_dispatches::form_dispatches;
use crate::passes::{PASSES, Pass, PassError, Precision};
use crate::program::{Program, build_program};
use crate::schedule::schedule;
use crate::targets::CpuTarget;
use crate::tuning::{self, Tuning};

/// A step of compilation that one can stop after and look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The model as a graph, as its frontend read it.
    Input,
    /// The graph, rewritten.
    Graph,
    /// Dispatches and kernels as one MLIR module.
    Program,
    /// The same with barriers and shared memory.
    Schedule,
    /// Kernels as machine code.
    Executables,
    /// The compiled module.
    Module,
}

impl Phase {
    /// Every phase, in the order they run.
    pub const ALL: [Self; 6] =
        [Self::Input, Self::Graph, Self::Program, Self::Schedule, Self::Executables, Self::Module];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Graph => "graph",
            Self::Program => "program",
            Self::Schedule => "schedule",
            Self::Executables => "executables",
            Self::Module => "module",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// The file name of this phase's dump: `1_graph.graph`.
    fn dump_name(self) -> String {
        let extension = match self {
            Self::Input | Self::Graph => "graph",
            Self::Program | Self::Schedule => "mlir",
            Self::Executables | Self::Module => "txt",
        };
        format!("{}_{}.{extension}", self as u8, self.name())
    }
}

/// What to compile for, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: CpuTarget,
    /// Further machines that the module shall run on, in the order of preference: it has a variant for each.
    pub fallbacks: Vec<CpuTarget>,
    pub precision: Precision,
    /// Threads that compile kernels; at least one is used.
    pub threads: usize,
    /// Stops after this phase and gives its text, for the first target, instead of a module.
    pub stop_after: Option<Phase>,
    /// Gives a report on what would be compiled instead of a module.
    pub explain: Option<Explain>,
    /// What is known of the shapes of inputs besides what the model says.
    pub shapes: Vec<InputShape>,
    /// Ways to compute kernels that were measured to be the fastest.
    pub tuning: Tuning,
    /// What users call the model.
    pub model_name: String,
}

impl Options {
    /// Options for `target` on all of this machine's cores.
    pub fn new(target: CpuTarget) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            target,
            fallbacks: Vec::new(),
            precision: Precision::Exact,
            threads,
            stop_after: None,
            explain: None,
            shapes: Vec::new(),
            tuning: Tuning::default(),
            model_name: String::new(),
        }
    }

    /// These for each target, of which those that are the same are one.
    ///
    /// # Errors
    /// When code for a target would never be chosen.
    fn variants(&self) -> Result<Vec<Self>, CompileError> {
        let mut variants: Vec<Self> = Vec::new();
        for target in [&self.target].into_iter().chain(&self.fallbacks) {
            match variants.iter().find(|earlier| earlier.target.needs_no_more_than(target)) {
                Some(same) if same.target == *target => {}
                Some(earlier) => {
                    let (unused, before) = (target, &earlier.target);
                    let message = format!(
                        "code for `{unused}` would never run: `{before}`, which comes first, needs no more"
                    );
                    let hint = Some("name the target that needs most first".to_owned());
                    return Err(
                        Diagnostic { hint, ..Diagnostic::new(DiagnosticKind::Unsupported, message) }.into()
                    );
                }
                None => variants.push(Self { target: target.clone(), ..self.clone() }),
            }
        }
        if variants.len() > MAX_VARIANTS {
            let message = format!("{} targets; a module has at most {MAX_VARIANTS}", variants.len());
            return Err(Diagnostic::new(DiagnosticKind::ResourceLimit, message).into());
        }
        Ok(variants)
    }

    /// The graph passes that run for the precision and the target.
    fn passes(&self) -> Vec<&'static Pass> {
        let runs = |pass: &&Pass| pass.runs_for(self.precision) && pass.suits(&self.target);
        PASSES.iter().filter(runs).collect()
    }

    /// What of the options decides the module's content, in one canonical text.
    fn canonical(&self) -> String {
        let mut text = format!("target={} precision={}", self.target, self.precision.name());
        for InputShape { input, dims } in &self.shapes {
            let _ = write!(text, " shape={input:?}:{dims:?}");
        }
        if !self.tuning.is_empty() {
            let _ = write!(text, " tuning={}", blake3::hash(self.tuning.to_string().as_bytes()));
        }
        text
    }
}

/// Hears of a compilation as it goes. All methods do nothing unless written.
pub trait Observer: Send {
    /// `done` of `total` steps of `phase` are complete; `detail` is the one that comes next, for people.
    fn progress(&mut self, phase: Phase, done: u64, total: u64, detail: &str) {
        let _ = (phase, done, total, detail);
    }

    /// Whether to render dumps, which takes time.
    fn wants_dumps(&self) -> bool {
        false
    }

    /// The state after a phase: `name` is a file name such as `1_graph.graph`.
    fn dump(&mut self, name: &str, text: &str) {
        let _ = (name, text);
    }
}

/// An observer that does not look.
#[derive(Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// What a compilation gives.
pub enum Outcome {
    /// The module's variants, one for each target that differs, for [`ired_module::write_variants`].
    Module(Vec<ModuleDraft>),
    /// The text of the phase it was to stop after.
    Stopped { phase: Phase, text: String },
    /// The report.
    Explained(String),
}

/// Compiles a model.
///
/// # Errors
/// Everything that is wrong with the model, or not supported, or that went wrong here; as much of it at once as
/// the phase that met it can tell.
pub fn compile(
    source: &dyn ModelSource,
    options: &Options,
    cache: &dyn ObjectCache,
    observer: &mut dyn Observer,
) -> Result<Outcome, CompileError> {
    observer.progress(Phase::Input, 0, 1, source.file_name());
    let recorded = digest::Recorded::new(source);
    let graph = import::import(&recorded, &options.shapes)?;
    let digest = recorded.digest().map_err(|e| import::source_error(&e))?;
    observer.progress(Phase::Input, 1, 1, "");
    compile_graph(graph, digest, options, cache, observer)
}

/// Compiles a model that already is a graph; `model_digest` stands for its bytes.
///
/// # Errors
/// As [`compile`].
pub fn compile_graph(
    graph: Graph,
    model_digest: [u8; 32],
    options: &Options,
    cache: &dyn ObjectCache,
    observer: &mut dyn Observer,
) -> Result<Outcome, CompileError> {
    verify_model(&graph)?;
    let variants = options.variants()?;
    let mut stops = Stops { options, observer, looks: true };
    if let Some(stopped) = stops.after(Phase::Input, || graph.to_string()) {
        return Ok(stopped);
    }
    let model = Model {
        interface: Interface::of(&graph),
        source: options.explain.as_ref().map(|explain| explain::Source::of(&graph, explain)),
        digest: model_digest,
    };
    // Targets that are computed alike share the graph, and with it what has been folded.
    let mut optimized: Vec<(Vec<&str>, Graph)> = Vec::new();
    let mut drafts = Vec::with_capacity(variants.len());
    for options in &variants {
        let passes = options.passes();
        let names: Vec<&str> = passes.iter().map(|pass| pass.name).collect();
        let known = optimized.iter().position(|(known, _)| *known == names);
        let at = match known {
            Some(at) => at,
            None => {
                let mut graph = graph.clone();
                optimize(&mut graph, &passes, stops.observer)?;
                optimized.push((names, graph));
                optimized.len() - 1
            }
        };
        match compile_variant(&optimized[at].1, &model, options, cache, &mut stops)? {
            Outcome::Module(draft) => drafts.extend(draft),
            other => return Ok(other),
        }
        // Dumps of further targets would have the names of these.
        stops.looks = false;
    }
    Ok(Outcome::Module(drafts))
}

/// What is kept of a model from before passes rewrote it.
struct Model {
    interface: Interface,
    source: Option<explain::Source>,
    digest: [u8; 32],
}

/// Compiles an optimised graph for one target.
fn compile_variant(
    graph: &Graph,
    model: &Model,
    options: &Options,
    cache: &dyn ObjectCache,
    stops: &mut Stops<'_>,
) -> Result<Outcome, CompileError> {
    if let Some(stopped) =
        stops.after(Phase::Graph, || format!("{graph}{}", crate::passes::describe_dispatches(graph)))
    {
        return Ok(stopped);
    }

    stops.observer.progress(Phase::Program, 0, 1, "");
    let context = Context::new();
    let mut plan = form_dispatches(graph);
    options.tuning.apply(graph, &mut plan, &options.target);
    let program = build_program(graph, &plan, &model.interface.names, &options.target, &context)
        .map_err(|diagnostics| CompileError { diagnostics })?;
    stops.observer.progress(Phase::Program, 1, 1, "");
    if let Some(stopped) = stops.after(Phase::Program, || program.module.to_string()) {
        return Ok(stopped);
    }

    stops.observer.progress(Phase::Schedule, 0, 1, "");
    schedule(&program.module).map_err(|e| Diagnostic::internal("the schedule does not verify", &e))?;
    stops.observer.progress(Phase::Schedule, 1, 1, "");
    if let Some(stopped) = stops.after(Phase::Schedule, || program.module.to_string()) {
        return Ok(stopped);
    }

    if let (Some(explain), Some(source)) = (&options.explain, &model.source) {
        let report = match explain.candidates {
            true => tuning::candidates(graph, &plan, &options.target),
            false => {
                explain::explain(source, &model.interface, graph, &plan, &program, &options.target, explain)
            }
        };
        return Ok(Outcome::Explained(report));
    }

    let total = program.executables.len() as u64;
    stops.observer.progress(Phase::Executables, 0, total, "");
    let image = {
        let observer = &mut *stops.observer;
        let mut progress = |done: usize| observer.progress(Phase::Executables, done as u64, total, "");
        build_image(&program.executables, &options.target, options.threads, cache, &mut progress)
            .map_err(|diagnostics| CompileError { diagnostics })?
    };
    if let Some(stopped) = stops.after(Phase::Executables, || describe_executables(&program, &image)) {
        return Ok(stopped);
    }

    stops.observer.progress(Phase::Module, 0, 1, "");
    let provenance = Provenance {
        model_digest: model.digest,
        model_name: options.model_name.clone(),
        compiler: COMPILER.to_owned(),
        options: options.canonical(),
    };
    let draft =
        crate::module::draft(graph, &plan, &program, &model.interface, image, &options.target, provenance)
            .map_err(|diagnostics| CompileError { diagnostics })?;
    stops.observer.progress(Phase::Module, 1, 1, "");
    Ok(Outcome::Module(vec![draft]))
}

/// A graph that does not verify is refused before anything trusts it.
fn verify_model(graph: &Graph) -> Result<(), CompileError> {
    ired_graph::verify(graph).map_err(|errors| CompileError {
        diagnostics: errors.iter().map(|e| Diagnostic::new(DiagnosticKind::InvalidModel, chain(e))).collect(),
    })
}

/// Runs every graph pass for the precision; after each, in debug builds, the verifier.
fn optimize(graph: &mut Graph, passes: &[&Pass], observer: &mut dyn Observer) -> Result<(), CompileError> {
    for (done, pass) in passes.iter().enumerate() {
        observer.progress(Phase::Graph, done as u64, passes.len() as u64, pass.name);
        pass.run(graph).map_err(|e: PassError| Diagnostic::internal(pass.name, &e))?;
        if cfg!(debug_assertions) {
            crate::passes::verify_after(pass.name, graph)?;
        }
    }
    observer.progress(Phase::Graph, PASSES.len() as u64, PASSES.len() as u64, "");
    Ok(())
}

struct Stops<'a> {
    options: &'a Options,
    observer: &'a mut dyn Observer,
    /// Whether what is compiled now may be dumped.
    looks: bool,
}

impl Stops<'_> {
    /// Dumps a phase if anyone looks, and says whether it was the last.
    fn after(&mut self, phase: Phase, text: impl FnOnce() -> String) -> Option<Outcome> {
        let last = self.options.stop_after == Some(phase);
        let dumps = self.looks && self.observer.wants_dumps();
        if !last && !dumps {
            return None;
        }
        let text = text();
        if dumps {
            self.observer.dump(&phase.dump_name(), &text);
        }
        last.then_some(Outcome::Stopped { phase, text })
    }
}

fn describe_executables(program: &Program<'_>, image: &[u8]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} dispatches, {} kernels, {} bytes of code",
        program.dispatch_count,
        program.executables.len(),
        image.len()
    );
    for executable in &program.executables {
        let _ = writeln!(text, "{}: {}", executable.symbol, executable.origin);
    }
    text
}
