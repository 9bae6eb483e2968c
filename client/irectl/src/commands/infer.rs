//! `irectl infer`: one call to the daemon.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use ired_client::{Client, InferRequest, InferResponse, Version};

use crate::exit::printable;
use crate::tensors::{NamedTensor, json, npz};

#[derive(clap::Args)]
pub(crate) struct Infer {
    /// The model's name.
    model: String,
    /// Its version, or a label of one; the newest by default.
    #[arg(long)]
    version: Option<Version>,
    #[command(flatten)]
    source: Source,
    /// Where the outputs go, an npz archive.
    #[arg(long, value_name = "NPZ")]
    outputs: Option<PathBuf>,
    /// Give up after this many milliseconds.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Call this many times; the latency shown is the shortest.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Print the answer as KServe v2 JSON.
    #[arg(long)]
    json: bool,
    /// Print every response of a decoupled model as it comes; with `--json` a line each.
    #[arg(long, conflicts_with_all = ["outputs", "repeat"])]
    stream: bool,
    /// Ask for so many responses at most.
    #[arg(long, value_name = "N", requires = "stream")]
    max_responses: Option<NonZeroU32>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Inputs, an npz archive keyed by tensor name.
    #[arg(long, value_name = "NPZ")]
    inputs: Option<PathBuf>,
    /// Inputs, a KServe v2 request in JSON.
    #[arg(long, value_name = "JSON")]
    request: Option<PathBuf>,
}

impl Infer {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let tensors = match (&self.source.inputs, &self.source.request) {
            (Some(path), _) => npz::Archive::open(path)?.read_all()?,
            (None, Some(path)) => json::read_request(path)?,
            (None, None) => Vec::new(),
        };
        let request = InferRequest {
            model: self.model,
            version: self.version,
            inputs: tensors.into_iter().map(NamedTensor::try_into).collect::<Result<_>>()?,
            timeout: self.timeout_ms.map(Duration::from_millis),
            max_responses: self.max_responses,
            ..InferRequest::default()
        };
        if self.stream {
            return stream(client, request, self.json).await;
        }
        let (mut answer, mut latency) = timed(client, request.clone()).await?;
        for _ in 1..self.repeat {
            let (next, taken) = timed(client, request.clone()).await?;
            (answer, latency) = (next, latency.min(taken));
        }

        let outputs = print(answer, latency, self.json)?;
        if let Some(path) = &self.outputs {
            npz::write(path, &outputs)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints an answer, and gives its outputs.
fn print(answer: InferResponse, latency: Duration, as_json: bool) -> Result<Vec<NamedTensor>> {
    let outputs: Vec<NamedTensor> = answer.outputs.into_iter().map(NamedTensor::from).collect();
    if as_json {
        println!("{}", json::response(&answer.model, &answer.version, &outputs, latency)?);
    } else {
        for output in &outputs {
            println!("{}: {}", printable(&output.name), output.type_text());
        }
        println!("answered in {} us", latency.as_micros());
    }
    Ok(outputs)
}

/// Prints the responses to one request, each with the time since the request.
async fn stream(client: &Client, request: InferRequest, as_json: bool) -> Result<ExitCode> {
    let start = Instant::now();
    let mut responses = client.infer_stream(request).await?;
    while let Some(response) = responses.next().await? {
        print(response, start.elapsed(), as_json)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One call, and how long its answer took.
async fn timed(client: &Client, request: InferRequest) -> Result<(InferResponse, Duration)> {
    let start = Instant::now();
    let answer = client.infer(request).await?;
    Ok((answer, start.elapsed()))
}
