//! Requests whose answers are known to the bit.

use std::ops::Range;

use anyhow::{Result, ensure};
use bytes::Bytes;
use ired_client::{Client, InferRequest, InferResponse};

use crate::digits;

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Question {
    pub request: InferRequest,
    pub answer: Bytes,
    /// Which of the samples it is about.
    pub samples: Range<usize>,
}

/// Asks a daemon that nothing disturbs; what it says has to be the digits that the images show, and the same each time.
pub async fn questions(client: &Client, model: &str) -> Result<Vec<Question>> {
    let (_, labels) = digits::samples()?;
    let questions = repeatable(client, model).await?;
    for question in &questions {
        let found = digits::most_probable_of(&question.answer);
        ensure!(found == labels[question.samples.clone()], "the model does not know its digits");
    }
    Ok(questions)
}

/// The same of a model that may take digits for others.
pub(crate) async fn repeatable(client: &Client, model: &str) -> Result<Vec<Question>> {
    let (pixels, labels) = digits::samples()?;
    let mut questions = Vec::new();
    for rows in [1, 2, 3, 5, 8, 13] {
        for from in (0..labels.len().saturating_sub(rows)).step_by(7) {
            let request = digits::request(model, &pixels[from * 64..(from + rows) * 64]);
            let answer = output(&client.infer(request.clone()).await?)?;
            for _ in 0..2 {
                ensure!(
                    output(&client.infer(request.clone()).await?)? == answer,
                    "answers differ in their bits"
                );
            }
            questions.push(Question { request, answer, samples: from..from + rows });
        }
    }
    Ok(questions)
}

/// The bytes of the only output.
pub fn output(response: &InferResponse) -> Result<Bytes> {
    ensure!(response.outputs.len() == 1, "{} outputs, expected one", response.outputs.len());
    Ok(response.outputs[0].data.clone())
}

impl Question {
    /// The same of another model that is equal.
    pub fn to(&self, model: &str) -> Self {
        Self { request: InferRequest { model: model.to_owned(), ..self.request.clone() }, ..self.clone() }
    }

    /// As REST has it, on a connection of its own: JSON, and the tensor after it.
    pub fn as_rest(&self) -> Vec<u8> {
        self.as_rest_on("close")
    }

    /// The same on a connection that is kept.
    pub fn as_kept_rest(&self) -> Vec<u8> {
        self.as_rest_on("keep-alive")
    }

    fn as_rest_on(&self, connection: &str) -> Vec<u8> {
        let input = &self.request.inputs[0];
        let json = serde_json::json!({
            "inputs": [{"name": input.name, "datatype": "FP32", "shape": input.shape,
                        "parameters": {"binary_data_size": input.data.len()}}],
            "parameters": {"binary_data_output": true}
        })
        .to_string();
        let head = format!(
            "POST /v2/models/{}/infer HTTP/1.1\r\nhost: chaos\r\nconnection: {connection}\r\ncontent-length: {}\r\n\
             inference-header-content-length: {}\r\n\r\n",
            self.request.model,
            json.len() + input.data.len(),
            json.len()
        );
        [head.as_bytes(), json.as_bytes(), &input.data].concat()
    }
}
