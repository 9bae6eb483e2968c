//! Traces on their way to a collector that speaks OTLP: a bounded queue, and a task that empties it.
//!
//! A collector that is slow or gone costs spans, which are counted, and never a request's time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig};

use super::kept::Trace;
use super::otlp;
use crate::config::TracingSettings;
use crate::metrics::Counter;

/// Traces that wait for the collector.
const WAITING: usize = 1024;
/// Traces in one message.
const AT_ONCE: usize = 64;
/// How long the last ones may take when the daemon stops.
const PATIENCE: Duration = Duration::from_secs(3);

/// The way to the collector.
#[derive(Debug)]
pub struct Export {
    sender: mpsc::Sender<Arc<Trace>>,
    counts: Arc<ExportCounts>,
}

/// Spans that went, and those that did not.
#[derive(Debug, Default)]
pub struct ExportCounts {
    pub exported: Counter,
    pub dropped: Counter,
}

/// The task that sends; it ends with its queue.
#[derive(Debug)]
pub struct Exporting {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Export {
    /// Starts the task, where the settings name a collector. Nobody is connected to yet.
    ///
    /// # Errors
    /// Certificates that cannot be read, an endpoint that is none.
    pub fn start(settings: &TracingSettings, server_name: &str) -> anyhow::Result<Option<(Self, Exporting)>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let mut builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        if endpoint.starts_with("https:") {
            builder = builder.with_tls_config(tls(settings)?);
        }
        let mut exporter = builder.build().context("setting `tracing.otlp_endpoint` cannot be used")?;
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(server_name.to_owned()).with_attribute(version);
        exporter.set_resource(&resource.build());
        let (sender, waiting) = mpsc::channel(WAITING);
        let counts = Arc::new(ExportCounts::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(send(exporter, waiting, counts.clone(), stop.clone()));
        Ok(Some((Self { sender, counts }, Exporting { task, stop })))
    }

    /// Sends a trace off, or drops it where too many wait.
    pub(super) fn send(&self, trace: &Arc<Trace>) {
        if self.sender.try_send(trace.clone()).is_err() {
            self.counts.dropped.add(trace.spans.len() as u64);
        }
    }

    pub fn counts(&self) -> &ExportCounts {
        &self.counts
    }
}

impl Exporting {
    /// Sends what waits, and ends; a collector that does not take it in time gets no more.
    pub async fn end(self) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        if tokio::time::timeout(PATIENCE, self.task).await.is_err() {
            tracing::warn!("the collector of traces did not take the last ones in time");
            abort.abort();
        }
    }
}

fn tls(settings: &TracingSettings) -> anyhow::Result<ClientTlsConfig> {
    let config = ClientTlsConfig::new();
    let Some(path) = &settings.otlp_ca else { return Ok(config.with_native_roots()) };
    let pem = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}

async fn send(
    exporter: SpanExporter,
    mut waiting: mpsc::Receiver<Arc<Trace>>,
    counts: Arc<ExportCounts>,
    stop: CancellationToken,
) {
    let mut traces = Vec::with_capacity(AT_ONCE);
    let mut works = true;
    loop {
        tokio::select! {
            biased;
            // What came before the end is still there to be received.
            () = stop.cancelled(), if !waiting.is_closed() => waiting.close(),
            received = waiting.recv_many(&mut traces, AT_ONCE) => {
                if received == 0 {
                    return;
                }
                let spans: Vec<_> = traces.drain(..).flat_map(|trace| otlp::spans(&trace)).collect();
                let count = spans.len() as u64;
                let sent = exporter.export(spans).await;
                if let Err(error) = &sent && works {
                    tracing::warn!(%error, "the collector of traces does not take them; they are dropped and counted");
                }
                works = sent.is_ok();
                if works { &counts.exported } else { &counts.dropped }.add(count);
            }
        }
    }
}
