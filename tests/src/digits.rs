//! The digit classifier: a small trained model and handwritten digits that it was not trained on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ired_client::proto::ModelRef;
use ired_client::proto::compile_event::Event;
use ired_client::{
    Client, CompileOutcome, DataType, InferRequest, InferResponse, Tensor, Upload, UploadFile,
};

pub const CLASSES: usize = 10;

/// The model's file.
pub fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/digits/digits.onnx")
}

/// The model's file with other bytes, which answers as all do: `name` stands in it.
pub fn variant(name: &str) -> Result<Vec<u8>> {
    variant_of(std::fs::read(model())?, name)
}

/// The same of any model. Field 2 of an ONNX model (`producer_name`), of wire type 2, once more: the last one wins.
pub fn variant_of(mut model: Vec<u8>, name: &str) -> Result<Vec<u8>> {
    model.extend([0x12, u8::try_from(name.len()).context("a name of more than 255 bytes")?]);
    model.extend(name.as_bytes());
    Ok(model)
}

/// A classifier that answers otherwise: what it takes for white is half as bright.
pub fn brighter() -> Result<Vec<u8>> {
    let mut model = std::fs::read(model())?;
    let (white, half) = (16f32.to_le_bytes(), 8f32.to_le_bytes());
    let at = model.windows(4).rposition(|bytes| bytes == white).context("the model divides by no white")?;
    model[at..at + 4].copy_from_slice(&half);
    Ok(model)
}

/// Pixels of the samples, 64 each, and the digits they show.
pub fn samples() -> Result<(Vec<f32>, Vec<usize>)> {
    let text = std::fs::read_to_string(model().with_file_name("samples.json"))?;
    let samples: serde_json::Value = serde_json::from_str(&text)?;
    let samples = samples["samples"].as_array().context("no samples")?;
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for sample in samples {
        let rows = sample["image"].as_array().context("no image")?;
        let values = rows.iter().filter_map(|row| row.as_array()).flatten();
        pixels.extend(values.filter_map(|v| v.as_f64()).map(|v| v as f32));
        labels.push(sample["label"].as_u64().context("no label")? as usize);
    }
    ensure!(pixels.len() == labels.len() * 64, "{} pixels for {} samples", pixels.len(), labels.len());
    Ok((pixels, labels))
}

/// A request with the given images as one batch.
pub fn request(model: &str, pixels: &[f32]) -> InferRequest {
    let data: Vec<u8> = pixels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let image = Tensor {
        name: "image".into(),
        data_type: DataType::Fp32,
        shape: vec![pixels.len() as u64 / 64, 1, 8, 8],
        data: Bytes::from(data),
    };
    InferRequest { model: model.into(), inputs: vec![image], ..InferRequest::default() }
}

/// The most probable digit of each image in an answer.
pub fn answers(response: &InferResponse) -> Result<Vec<usize>> {
    let output = response.outputs.first().context("the answer has no output")?;
    Ok(most_probable_of(&output.data))
}

/// The most probable digit of each image by the bytes of an answer's output.
pub fn most_probable_of(output: &[u8]) -> Vec<usize> {
    let values: Vec<f32> = output.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    values.chunks(CLASSES).map(most_probable).collect()
}

/// The index of the largest value.
pub fn most_probable(probabilities: &[f32]) -> usize {
    let best = probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(digit, _)| digit)
}

/// Uploads a file as `name`.
pub async fn upload(client: &Client, name: &str, file: &Path) -> Result<ModelRef> {
    let files = vec![UploadFile { path: "model.onnx".into(), source: file.to_owned() }];
    let stored = client.upload(Upload { name: name.into(), version: None, files }, |_| ()).await?;
    Ok(ModelRef { name: stored.name, version: stored.version })
}

/// Compiles an uploaded model for the daemon's machine, giving every event to `watch`.
pub async fn compile(client: &Client, model: ModelRef, watch: impl FnMut(&Event)) -> Result<CompileOutcome> {
    let events = client.compile(model, &[]).await?;
    Ok(events.finish(watch).await?)
}

/// Uploads, compiles and loads the classifier as `name`.
pub async fn push(client: &Client, name: &str) -> Result<CompileOutcome> {
    push_file(client, name, &model()).await
}

/// The same with the model of a file.
pub async fn push_file(client: &Client, name: &str, file: &Path) -> Result<CompileOutcome> {
    let stored = upload(client, name, file).await?;
    let outcome = compile(client, stored, |_| ()).await?;
    client.load(name).await?;
    Ok(outcome)
}
