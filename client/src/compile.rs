//! Compiling on the daemon and fetching what came out.

use ired_proto::ired::v1::compile_event::{Done, Event, Failed};
use ired_proto::ired::v1::get_module_response::{Info, Part};
use ired_proto::ired::v1::{CompileEvent, CompileRequest, GetModuleRequest, ModelRef, Target};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tonic::Streaming;

use crate::{Client, ClientError};

/// What a finished compilation says of itself.
pub type CompileOutcome = Done;

/// What a module download says of itself.
pub type ModuleInfo = Info;

/// A compilation in progress. Dropping it leaves the compilation to others who wait for it, or ends it.
#[derive(Debug)]
pub struct CompileEvents {
    events: Streaming<CompileEvent>,
    failed: Option<Failed>,
}

impl CompileEvents {
    /// The next event; `None` after the last. [`Event::Done`] is the last of a success.
    ///
    /// # Errors
    /// [`ClientError::Compile`] when the model cannot be compiled.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            match self.events.message().await {
                Ok(None) => return Ok(None),
                Ok(Some(CompileEvent { event: Some(Event::Failed(failed)) })) => self.failed = Some(failed),
                // An event of a newer daemon.
                Ok(Some(CompileEvent { event: None })) => {}
                Ok(Some(CompileEvent { event })) => return Ok(event),
                Err(status) => {
                    return Err(match self.failed.take() {
                        None => status.into(),
                        Some(failed) => ClientError::Compile {
                            kind: failed.kind,
                            message: status.message().to_owned(),
                            diagnostics: failed.diagnostics,
                        },
                    });
                }
            }
        }
    }

    /// Waits for the end, giving every event on the way to `watch`.
    ///
    /// # Errors
    /// [`ClientError::Compile`] when the model cannot be compiled.
    pub async fn finish(mut self, mut watch: impl FnMut(&Event)) -> Result<CompileOutcome, ClientError> {
        while let Some(event) = self.next().await? {
            watch(&event);
            if let Event::Done(done) = event {
                return Ok(done);
            }
        }
        Err(ClientError::protocol("a compilation that ended without a result"))
    }
}

impl Client {
    /// Compiles a model that the daemon has, for `targets` in the order of preference: the module has a variant for
    /// each. An empty target is the daemon's own machine, and so is no target.
    pub async fn compile(&self, model: ModelRef, targets: &[Target]) -> Result<CompileEvents, ClientError> {
        let (target, fallbacks) = first_and_rest(targets);
        let request = CompileRequest { model: Some(model), target, fallbacks };
        let events = self.compiler.clone().compile(request).await?.into_inner();
        Ok(CompileEvents { events, failed: None })
    }

    /// Writes a module compiled as [`Client::compile`] says to `out`, compiling first where needed. `progress` gets bytes written and
    /// bytes in all.
    ///
    /// # Errors
    /// [`ClientError::Write`] when `out` fails, [`ClientError::Protocol`] when bytes are missing.
    pub async fn get_module(
        &self,
        model: ModelRef,
        targets: &[Target],
        out: &mut (impl AsyncWrite + Unpin),
        mut progress: impl FnMut(u64, u64),
    ) -> Result<ModuleInfo, ClientError> {
        let (target, fallbacks) = first_and_rest(targets);
        let request = GetModuleRequest { model: Some(model), target, fallbacks };
        let mut parts = self.compiler.clone().get_module(request).await?.into_inner();
        let Some(Part::Info(info)) = parts.message().await?.and_then(|first| first.part) else {
            return Err(ClientError::protocol("a module that does not begin with its description"));
        };
        let mut written = 0u64;
        while let Some(next) = parts.message().await? {
            let Some(Part::Chunk(chunk)) = next.part else { continue };
            out.write_all(&chunk).await.map_err(|cause| ClientError::Write { cause })?;
            written += chunk.len() as u64;
            progress(written, info.module_bytes);
        }
        out.flush().await.map_err(|cause| ClientError::Write { cause })?;
        if written != info.module_bytes {
            return Err(ClientError::protocol(format!(
                "{written} bytes of a module of {}",
                info.module_bytes
            )));
        }
        Ok(info)
    }
}

fn first_and_rest(targets: &[Target]) -> (Option<Target>, Vec<Target>) {
    let rest = targets.get(1..).unwrap_or_default();
    (targets.first().cloned(), rest.to_vec())
}
