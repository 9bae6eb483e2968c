//! `cargo xtask demo`: builds ired, starts it, pushes a trained model, and calls it as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::daemon::Daemon;
use crate::process::{root, run as command, target_dir};

const MODEL: &str = "digits";
const CLASSES: usize = 10;
/// Calls of each kind; the fastest is shown.
const CALLS: usize = 20;

#[derive(Deserialize)]
struct Samples {
    source: String,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    label: usize,
    image: Vec<Vec<f32>>,
}

/// The part of a KServe v2 answer that the demo reads.
#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    shape: Vec<usize>,
    data: Vec<f32>,
}

pub(crate) fn run() -> Result<()> {
    command("cargo", &["build", "--release", "--workspace", "--bins"])?;
    let binaries = target_dir("release")?;
    let work = tempfile::tempdir().context("cannot make a temporary folder")?;
    let samples: Samples =
        serde_json::from_str(&std::fs::read_to_string(root().join("demo/digits/samples.json"))?)?;

    step("Starting ired");
    let daemon = Daemon::start(&binaries, work.path(), &[])?;
    println!("  ready: gRPC {}, REST {}", daemon.grpc, daemon.rest);

    step("Pushing demo/digits/digits.onnx: upload, compile in a sandboxed worker, load");
    daemon.push(&binaries, MODEL)?;

    step("Inputs");
    println!("  {}", samples.source);
    draw(&samples.samples);

    step("Inference");
    let request = request(&samples.samples);
    let request_file = work.path().join("request.json");
    std::fs::write(&request_file, request.to_string())?;
    let by_grpc = daemon.infer_by_grpc(&binaries, &request_file)?;
    let (by_rest, rest_latency) = daemon.infer_by_rest(&request)?;
    let right = show(&samples.samples, &by_grpc.0, &by_rest)?;
    println!("  {right} of {} right", samples.samples.len());
    let images = samples.samples.len();
    println!("  gRPC: {} us for the batch of {images}, the fastest of {CALLS} calls", by_grpc.1);
    println!(
        "  REST: {} us for the batch of {images}, the fastest of {CALLS} calls",
        rest_latency.as_micros()
    );

    step("Pushing the same model under another name: nothing is compiled again");
    daemon.push(&binaries, "digits-again")?;

    step("Stopping ired");
    let took = daemon.stop()?;
    println!("  ended by itself {} ms after SIGTERM", took.as_millis());
    ensure!(right == samples.samples.len(), "some digits were read wrong");
    Ok(())
}

fn step(title: &str) {
    println!("\n\x1b[1m{title}\x1b[0m");
}

impl Daemon {
    fn irectl(&self, binaries: &Path) -> Command {
        let mut irectl = Command::new(binaries.join("irectl"));
        irectl.args(["--server", &format!("http://{}", self.grpc)]).stdin(Stdio::null());
        irectl
    }

    fn push(&self, binaries: &Path, name: &str) -> Result<()> {
        let model: PathBuf = root().join("demo/digits/digits.onnx");
        let status = self.irectl(binaries).arg("push").arg(model).args(["--name", name]).status()?;
        ensure!(status.success(), "`irectl push` failed: {status}");
        Ok(())
    }

    /// The answer and its latency in microseconds, as `irectl` measured it.
    fn infer_by_grpc(&self, binaries: &Path, request: &Path) -> Result<(Answer, u64)> {
        let output = self
            .irectl(binaries)
            .args(["infer", MODEL, "--json", "--repeat", &CALLS.to_string(), "--request"])
            .arg(request)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "`irectl infer` failed: {}", output.status);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let latency =
            answer["parameters"]["latency_us"].as_u64().context("`irectl infer` gave no latency")?;
        Ok((serde_json::from_value(answer)?, latency))
    }

    fn infer_by_rest(&self, request: &serde_json::Value) -> Result<(Answer, Duration)> {
        let url = self.url(&format!("/v2/models/{MODEL}/infer"));
        let agent = ureq::Agent::new_with_defaults();
        let mut fastest: Option<(Answer, Duration)> = None;
        for _ in 0..CALLS {
            let start = Instant::now();
            let mut response = agent.post(&url).send_json(request).context("the REST call failed")?;
            let answer = response.body_mut().read_json().context("the REST answer is not KServe v2")?;
            let taken = start.elapsed();
            if fastest.as_ref().is_none_or(|(_, best)| taken < *best) {
                fastest = Some((answer, taken));
            }
        }
        fastest.context("no REST call was made")
    }
}

/// All samples as one batch, in the form both protocols' JSON takes.
fn request(samples: &[Sample]) -> serde_json::Value {
    let pixels: Vec<f32> = samples.iter().flat_map(|s| s.image.iter().flatten().copied()).collect();
    json!({
        "inputs": [
            { "name": "image", "datatype": "FP32", "shape": [samples.len(), 1, 8, 8], "data": pixels }
        ]
    })
}

/// Prints the images side by side, five to a row; a pixel is two characters wide.
fn draw(samples: &[Sample]) {
    const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
    for five in samples.chunks(5) {
        println!();
        for row in 0..8 {
            let line: String = five
                .iter()
                .map(|sample| {
                    let pixels = sample.image[row].iter().map(|value| SHADES[(value / 4.0) as usize % 5]);
                    pixels.flat_map(|shade| [shade, shade]).chain([' ', ' ']).collect::<String>()
                })
                .collect();
            println!("  {line}");
        }
    }
}

/// Prints one line a sample and returns how many were read right; both protocols must agree.
fn show(samples: &[Sample], by_grpc: &Answer, by_rest: &Answer) -> Result<usize> {
    let grpc = probabilities(by_grpc, samples.len())?;
    let rest = probabilities(by_rest, samples.len())?;
    let mut right = 0;
    println!("  label  gRPC says          REST says");
    for (i, sample) in samples.iter().enumerate() {
        let ((digit, p), (rest_digit, rest_p)) = (best(&grpc[i]), best(&rest[i]));
        ensure!(digit == rest_digit, "gRPC and REST disagree about sample {i}");
        right += usize::from(digit == sample.label);
        println!(
            "  {:>5}  {digit} ({:>5.1} %)        {rest_digit} ({:>5.1} %)",
            sample.label,
            p * 100.0,
            rest_p * 100.0
        );
    }
    Ok(right)
}

fn probabilities(answer: &Answer, samples: usize) -> Result<Vec<Vec<f32>>> {
    let output = answer.outputs.first().context("the answer has no output")?;
    ensure!(output.shape == [samples, CLASSES], "the answer's shape is {:?}", output.shape);
    Ok(output.data.chunks(CLASSES).map(<[f32]>::to_vec).collect())
}

fn best(probabilities: &[f32]) -> (usize, f32) {
    let (mut digit, mut highest) = (0, f32::MIN);
    for (i, &p) in probabilities.iter().enumerate() {
        if p > highest {
            (digit, highest) = (i, p);
        }
    }
    (digit, highest)
}
