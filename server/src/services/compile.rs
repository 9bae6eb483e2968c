//! `ired.v1.CompileService`: compilation with its progress, and module downloads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use ired_proto::ired::v1::compile_event::{
    Done, Elsewhere, Event, Failed, Progress, Queued, Retrying, Started,
};
use ired_proto::ired::v1::compile_service_server::CompileService;
use ired_proto::ired::v1::get_module_response::{Info, Part};
use ired_proto::ired::v1::{
    CompileEvent, CompileRequest, Diagnostic, GetModuleRequest, GetModuleResponse, ModelRef, PhaseTime,
    SandboxLayer, Target, diagnostic,
};
use ired_worker::{CompileOptions, LayerState, Severity, TargetRequest};
use tonic::{Request, Response, Status};

use super::CHUNK_BYTES;
use crate::app::App;
use crate::cache::{self, CompiledModule, FlightEvent, Step, Ticket};
use crate::error::{CompileError, Error};
use crate::registry::default_options;
use crate::store::{StoreError, blocking};

/// Features of a target that a request may name; more than any CPU has.
const FEATURES: usize = 512;

/// Targets of one module.
const TARGETS: usize = ired_module::format::MAX_VARIANTS;

pub struct Compile(pub Arc<App>);

type Events<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl CompileService for Compile {
    type CompileStream = Events<CompileEvent>;

    async fn compile(
        &self,
        request: Request<CompileRequest>,
    ) -> Result<Response<Self::CompileStream>, Status> {
        let request = request.into_inner();
        let request = decode(&self.0, request.model, request.target, request.fallbacks)?;
        let events = follow(&self.0, request).await;
        let messages = events.flat_map(|event| {
            stream::iter(match event {
                Ok(event) => vec![message(event)],
                Err(error) => failed(error),
            })
        });
        Ok(Response::new(messages.boxed()))
    }

    type GetModuleStream = Events<GetModuleResponse>;

    async fn get_module(
        &self,
        request: Request<GetModuleRequest>,
    ) -> Result<Response<Self::GetModuleStream>, Status> {
        let request = request.into_inner();
        let request = decode(&self.0, request.model, request.target, request.fallbacks)?;
        let mut ticket = self.0.cache.request(request).await.map_err(Error::from)?;
        let module = ticket.wait().await.map_err(Error::from)?;
        Ok(Response::new(download(module)))
    }
}

pub(super) fn decode(
    app: &App,
    model: Option<ModelRef>,
    target: Option<Target>,
    fallbacks: Vec<Target>,
) -> Result<cache::CompileRequest, Error> {
    let model = model.ok_or_else(|| Error::invalid("the request names no model"))?;
    let source = app.registry.source(&model.name, model.version)?;
    if fallbacks.len() >= TARGETS {
        return Err(Error::invalid(format!(
            "{} targets; a module has at most {TARGETS}",
            1 + fallbacks.len()
        )));
    }
    let target = requested(target.unwrap_or_default())?;
    let fallbacks = fallbacks.into_iter().map(requested).collect::<Result<_, _>>()?;
    let options = CompileOptions { fallbacks, ..default_options(&app.settings) };
    Ok(cache::CompileRequest { source, target, options })
}

fn requested(target: Target) -> Result<TargetRequest, Error> {
    let plain = |text: &str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    let signed = |feature: &String| plain(feature) && feature.starts_with(['+', '-']);
    if !plain(&target.triple) || target.features.len() > FEATURES || !target.features.iter().all(signed) {
        return Err(Error::invalid("the target is no triple with features like `+avx2` and `-fma`"));
    }
    Ok(TargetRequest { triple: Some(target.triple).filter(|t| !t.is_empty()), features: target.features })
}

type Outcome = Result<Event, Arc<CompileError>>;

/// Compiles, or joins who compiles the same; the last event is `Done` or the error. Dropping the stream gives up.
pub(super) async fn follow(app: &App, request: cache::CompileRequest) -> BoxStream<'static, Outcome> {
    let started = Instant::now();
    match app.cache.request(request).await {
        Ok(ticket) => stream::unfold(Some(ticket), move |ticket| next(ticket, started)).boxed(),
        Err(error) => stream::iter([Err(error)]).boxed(),
    }
}

/// What happens next, and the ticket while there is more to come.
async fn next(ticket: Option<Ticket>, started: Instant) -> Option<(Outcome, Option<Ticket>)> {
    let mut ticket = ticket?;
    loop {
        match ticket.next().await {
            Step::Event(event) => {
                if let Some(event) = encode(&event) {
                    return Some((Ok(event), Some(ticket)));
                }
            }
            Step::End(Ok(module)) => return Some((Ok(Event::Done(done(&module, started))), None)),
            Step::End(Err(error)) => return Some((Err(error), None)),
        }
    }
}

fn message(event: Event) -> Result<CompileEvent, Status> {
    Ok(CompileEvent { event: Some(event) })
}

fn encode(event: &FlightEvent) -> Option<Event> {
    Some(match event {
        FlightEvent::Queued(ahead) => Event::Queued(Queued { ahead: *ahead }),
        FlightEvent::Elsewhere(replica) => Event::Elsewhere(Elsewhere { replica: replica.clone() }),
        FlightEvent::Retrying(reason) => Event::Retrying(Retrying { reason: reason.clone() }),
        FlightEvent::Worker(event) => match &**event {
            ired_worker::CompileEvent::Started { pid, sandbox } => Event::Started(Started {
                pid: *pid,
                sandbox: sandbox.layers.iter().map(|(name, state)| layer(name, state)).collect(),
            }),
            ired_worker::CompileEvent::Progress(progress) => Event::Progress(Progress {
                phase: progress.phase.clone(),
                done: progress.done,
                total: progress.total,
                detail: progress.detail.clone(),
            }),
            // The daemon asks for none.
            ired_worker::CompileEvent::Dump(_) => return None,
        },
    })
}

fn layer(name: &str, state: &LayerState) -> SandboxLayer {
    let (active, reason) = match state {
        LayerState::Active(note) => (true, note),
        LayerState::Unavailable(reason) => (false, reason),
    };
    SandboxLayer { name: name.to_owned(), active, reason: reason.clone() }
}

fn done(module: &CompiledModule, started: Instant) -> Done {
    let us = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let report = &module.report;
    let phase = |(phase, wall): &(String, std::time::Duration)| PhaseTime {
        phase: phase.clone(),
        wall_us: us(*wall),
    };
    Done {
        cached: module.cached,
        key: module.key.to_string(),
        module_bytes: module.bytes,
        phases: report.phases.iter().map(phase).collect(),
        peak_rss_bytes: report.peak_rss_bytes,
        warnings: report.warnings.iter().map(diagnostic).collect(),
        wall_us: us(started.elapsed()),
    }
}

fn diagnostic(found: &ired_worker::Diagnostic) -> Diagnostic {
    let severity = match found.severity {
        Severity::Error => diagnostic::Severity::Error,
        Severity::Warning => diagnostic::Severity::Warning,
        Severity::Note => diagnostic::Severity::Note,
    };
    Diagnostic {
        severity: severity.into(),
        message: found.message.clone(),
        location: found.location.clone().unwrap_or_default(),
        hint: found.hint.clone().unwrap_or_default(),
    }
}

/// A failure's last event and the status that ends the stream.
fn failed(error: Arc<CompileError>) -> Vec<Result<CompileEvent, Status>> {
    vec![message(Event::Failed(failure(&error))), Err(Error::Compile(error).into())]
}

pub(super) fn failure(error: &CompileError) -> Failed {
    let diagnostics = error.diagnostics().iter().map(diagnostic).collect();
    Failed { kind: error.kind().to_owned(), diagnostics }
}

fn download(module: CompiledModule) -> Events<GetModuleResponse> {
    let info = Info {
        key: module.key.to_string(),
        module_bytes: module.bytes,
        digest: module.digest.to_string(),
        cached: module.cached,
    };
    let first = stream::once(async { Ok(GetModuleResponse { part: Some(Part::Info(info)) }) });
    let chunks = stream::try_unfold(0u64, move |offset| {
        let (file, bytes) = (module.file.clone(), module.bytes);
        async move {
            if offset >= bytes {
                return Ok(None);
            }
            let chunk =
                blocking(move || read_at(&file, offset, bytes - offset)).await.map_err(Error::from)?;
            let next = offset + chunk.len() as u64;
            Ok(Some((GetModuleResponse { part: Some(Part::Chunk(chunk)) }, next)))
        }
    });
    first.chain(chunks).boxed()
}

fn read_at(file: &File, offset: u64, left: u64) -> Result<Bytes, StoreError> {
    let len = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
    let mut chunk = vec![0; len];
    file.read_exact_at(&mut chunk, offset).map_err(StoreError::io("read a module", "".as_ref()))?;
    Ok(chunk.into())
}
