//! The one place where the compiler is called: its types on one side, the messages' on the other.

mod observe;
mod source;
mod target;

use std::fs::File;
use std::io::{BufWriter, Seek, Write};

use ired_compiler::tuning::Tuning;
use ired_compiler::{
    CompileError, DiagnosticKind, Explain, InputShape, MemoryCache, Options, Outcome, Phase,
};
use ired_module::{WriteError, write_variants};
use ired_worker::child::usage;
use ired_worker::messages::full_text;
use ired_worker::{
    CompileJob, CompileReport, Diagnostic, ExplainRequest, FailureKind, MappedFile, Precision, Severity,
};

use crate::broker::Broker;
use crate::job::{Events, Failure};

/// Compiles `model` for the job's target into `output`.
pub(crate) fn compile(
    job: &CompileJob,
    model: MappedFile,
    broker: Broker,
    output: &mut File,
    events: Events,
) -> Result<CompileReport, Failure> {
    let options = options(job)?;
    let source = source::BrokeredSource::new(&job.file_name, model, broker);
    let mut observer = observe::Observed::new(events, job.options.dump);
    let outcome = ired_compiler::compile(&source, &options, &MemoryCache::default(), &mut observer)?;
    let module_bytes = write(outcome, output)?;
    Ok(CompileReport {
        module_bytes,
        phases: observer.finish(),
        peak_rss_bytes: usage().peak_rss_bytes,
        warnings: warnings(job, &options),
    })
}

/// What the user asked for and does not get, though it is no error.
fn warnings(job: &CompileJob, options: &Options) -> Vec<Diagnostic> {
    if job.options.precision == Precision::Exact {
        return Vec::new();
    }
    let targets = [&options.target].into_iter().chain(&options.fallbacks);
    let warning = |target| {
        let message = format!("precision `fast` changes nothing: `{target}` has no bf16 products");
        Diagnostic { severity: Severity::Warning, ..error(message, None) }
    };
    targets.filter(|target| !target.has_bf16_products()).map(warning).collect()
}

fn options(job: &CompileJob) -> Result<Options, Failure> {
    let resolve = |target| {
        let failed =
            |message| Failure { kind: FailureKind::Unsupported, diagnostics: vec![error(message, None)] };
        target::resolve(target).map_err(failed)
    };
    let mut options = Options::new(resolve(&job.target)?);
    options.fallbacks = job.options.fallbacks.iter().map(resolve).collect::<Result<_, _>>()?;
    if job.options.threads > 0 {
        options.threads = job.options.threads as usize;
    }
    options.precision = match job.options.precision {
        Precision::Exact => ired_compiler::passes::Precision::Exact,
        Precision::Fast => ired_compiler::passes::Precision::Fast,
    };
    options.model_name.clone_from(&job.model_name);
    let shapes = job.options.shapes.iter().cloned();
    options.shapes = shapes.map(|(input, dims)| InputShape { input, dims }).collect();
    options.explain = job.options.explain.as_ref().map(|request| {
        let ExplainRequest { sizes, nodes, candidates } = request.clone();
        Explain { sizes, nodes, candidates }
    });
    if let Some(text) = &job.options.tuning {
        // A file is for one target, whichever of them that is.
        let read = Tuning::parse(text, &options.target);
        let tuning = read.or_else(|wrong| {
            let others = options.fallbacks.iter();
            others.map(|target| Tuning::parse(text, target)).find_map(Result::ok).ok_or(wrong)
        });
        options.tuning = tuning.map_err(|wrong| Failure {
            kind: FailureKind::Unsupported,
            diagnostics: vec![error(wrong.to_string(), None)],
        })?;
    }
    if let Some(name) = &job.options.stop_after {
        let unknown = || Failure {
            kind: FailureKind::Unsupported,
            diagnostics: vec![error(format!("there is no phase `{name}`"), None)],
        };
        options.stop_after = Some(Phase::from_name(name).ok_or_else(unknown)?);
    }
    Ok(options)
}

fn write(outcome: Outcome, output: &mut File) -> Result<u64, Failure> {
    let failed = |error: &dyn std::error::Error| internal(format!("the module: {}", full_text(error)));
    let mut writer = BufWriter::with_capacity(1 << 20, output);
    match outcome {
        Outcome::Module(variants) => {
            write_variants(&variants, &mut writer).map_err(|error| match error {
                // A name of the model: the compiler's own texts are short.
                WriteError::LongString { .. } => Failure {
                    kind: FailureKind::ResourceLimit,
                    diagnostics: vec![self::error(format!("the module: {error}"), None)],
                },
                error => failed(&error),
            })?;
        }
        Outcome::Stopped { text, .. } | Outcome::Explained(text) => {
            writer.write_all(text.as_bytes()).map_err(|error| failed(&error))?
        }
    }
    writer.flush().map_err(|error| failed(&error))?;
    writer.seek(std::io::SeekFrom::End(0)).map_err(|error| failed(&error))
}

impl From<CompileError> for Failure {
    fn from(found: CompileError) -> Self {
        // What keeps the model from compiling at all goes before what may be implemented later.
        let order = [
            (DiagnosticKind::Internal, FailureKind::Internal),
            (DiagnosticKind::ResourceLimit, FailureKind::ResourceLimit),
            (DiagnosticKind::InvalidModel, FailureKind::InvalidModel),
            (DiagnosticKind::MissingFile, FailureKind::MissingFile),
            (DiagnosticKind::Unsupported, FailureKind::Unsupported),
        ];
        let has = |kind| found.diagnostics.iter().any(|diagnostic| diagnostic.kind == kind);
        let kind = order.into_iter().find(|(kind, _)| has(*kind));
        let diagnostics = found.diagnostics.into_iter().map(|diagnostic| Diagnostic {
            severity: Severity::Error,
            message: diagnostic.message,
            location: diagnostic.location,
            hint: diagnostic.hint,
        });
        Self {
            kind: kind.map_or(FailureKind::Internal, |(_, kind)| kind),
            diagnostics: diagnostics.collect(),
        }
    }
}

fn internal(message: String) -> Failure {
    Failure { kind: FailureKind::Internal, diagnostics: vec![error(message, None)] }
}

fn error(message: String, hint: Option<String>) -> Diagnostic {
    Diagnostic { severity: Severity::Error, message, location: None, hint }
}
