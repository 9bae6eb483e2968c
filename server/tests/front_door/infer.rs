//! Inference: every protocol gives the same, bounds hold, who goes away is cancelled.

use std::time::Duration;

use ired_client::{Client, ClientError};
use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::model_infer_request::InferInputTensor;
use ired_proto::inference::{InferTensorContents, ModelInferRequest};
use tokio::io::AsyncWriteExt;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::scripted::{Place, World, client, deflate, gzip, http, request, x};

#[tokio::test]
async fn every_protocol_gives_the_same_answer() {
    let (place, world) = (Place::new(&[("m/4/model.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let raw = client(&daemon).await.infer(request("m")).await.unwrap();
    assert_eq!((raw.model.as_str(), raw.version.as_str()), ("m", "4"));
    let expected: Vec<f32> = (0..6).map(|i| 2.0 * (i as f32 + 0.25)).collect();
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    assert_eq!(floats(&raw.outputs[0].data), expected);
    assert_eq!(raw.outputs[0].shape, [2, 3]);

    let values = floats(&x(2).data);
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let typed = ModelInferRequest {
        model_name: "m".to_owned(),
        id: "seven".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![2, 3],
            contents: Some(InferTensorContents { fp32_contents: values.clone(), ..Default::default() }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let typed_answer = grpc.model_infer(typed.clone()).await.unwrap().into_inner();
    assert_eq!(typed_answer.id, "seven");
    assert_eq!(typed_answer.raw_output_contents[0], raw.outputs[0].data);

    let streamed = grpc.model_stream_infer(tokio_stream::iter([typed.clone(), typed])).await.unwrap();
    let mut streamed = streamed.into_inner();
    for _ in 0..2 {
        let mut answer = streamed.message().await.unwrap().unwrap().infer_response.unwrap();
        assert!(answer.parameters.remove("triton_final_response").is_some(), "it says more on a stream");
        assert_eq!(answer, typed_answer);
    }
    assert!(streamed.message().await.unwrap().is_none());

    let json = serde_json::json!({ "id": "seven", "inputs": [
        { "name": "x", "shape": [2, 3], "datatype": "FP32", "data": [values[..3], values[3..]] }
    ] });
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &[], json.to_string().as_bytes()).await;
    let answer = reply.json();
    assert_eq!((reply.status, &answer["id"]), (200, &"seven".into()));
    assert_eq!(answer["outputs"][0]["data"], serde_json::json!(expected));
    assert_eq!(answer["outputs"][0]["shape"], serde_json::json!([2, 3]));

    let head = r#"{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","parameters":{"binary_data_size":24}}]}"#;
    let body = [head.as_bytes(), &x(2).data].concat();
    let length = head.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let reply = http(daemon.http, "POST", "/v2/models/m/versions/4/infer", &headers, &body).await;
    let split: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(&reply.body[split..], &raw.outputs[0].data[..]);
    let head: serde_json::Value = serde_json::from_slice(&reply.body[..split]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 24);
    daemon.stop().await;
}

#[tokio::test]
async fn strings_take_every_road() {
    let (place, world) = (Place::new(&[("m.onnx", "strings")]), World::new());
    let daemon = place.start(&world).await;
    let texts = ["a", "", "\u{e9}\"]"];
    let asked = ired_client::Tensor::of_strings("x", vec![1, 3], &texts).unwrap();

    let client = client(&daemon).await;
    let request = ired_client::InferRequest {
        model: "m".to_owned(),
        inputs: vec![asked.clone()],
        ..Default::default()
    };
    let y = client.infer(request).await.unwrap().outputs.remove(0);
    assert_eq!((y.data_type, &y.shape), (ired_client::DataType::Bytes, &vec![1, 3]));
    assert_eq!(y.strings().unwrap(), texts.map(str::as_bytes));

    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let contents = InferTensorContents {
        bytes_contents: texts.iter().map(|text| text.as_bytes().to_vec().into()).collect(),
        ..Default::default()
    };
    let input = |contents| InferInputTensor {
        name: "x".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1, 3],
        contents,
        ..Default::default()
    };
    let typed = ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![input(Some(contents))],
        ..Default::default()
    };
    let reply = grpc.model_infer(typed).await.unwrap().into_inner();
    assert_eq!((reply.outputs[0].datatype.as_str(), &reply.raw_output_contents[0]), ("BYTES", &asked.data));
    let cut_short = ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![input(None)],
        raw_input_contents: vec![asked.data.slice(1..)],
        ..Default::default()
    };
    let status = grpc.model_infer(cut_short).await.unwrap_err();
    assert!(status.message().contains("not one string"), "{}", status.message());

    let json = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"BYTES","data":[["a","","é\"]"]]}]}"#;
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &[], json.as_bytes()).await;
    assert_eq!(reply.status, 200);
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["outputs"][0]["data"], serde_json::json!(texts));
    assert_eq!(answer["outputs"][0]["datatype"], "BYTES");

    let head = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,3],"datatype":"BYTES","parameters":{{"binary_data_size":{}}}}}],"parameters":{{"binary_data_output":true}}}}"#,
        asked.data.len()
    );
    let length = head.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let reply =
        http(daemon.http, "POST", "/v2/models/m/infer", &headers, &[head.as_bytes(), &asked.data].concat())
            .await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.ends_with(&asked.data));

    let reply = http(daemon.http, "GET", "/v2/models/m", &[], b"").await;
    let described: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(described["inputs"][0]["datatype"], "BYTES");
    daemon.stop().await;
}

#[tokio::test]
async fn packed_requests_are_unpacked() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let head =
        r#"{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","parameters":{"binary_data_size":24}}]}"#;
    let body = [head.as_bytes(), &x(2).data].concat();
    let length = head.len().to_string();
    let plain = [("Inference-Header-Content-Length", length.as_str())];
    let expected = http(daemon.http, "POST", "/v2/models/m/infer", &plain, &body).await;
    assert_eq!(expected.status, 200);
    for (encoding, packed) in [("gzip", gzip(&body)), ("deflate", deflate(&body))] {
        let headers = [plain[0], ("Content-Encoding", encoding)];
        let reply = http(daemon.http, "POST", "/v2/models/m/infer", &headers, &packed).await;
        assert_eq!((reply.status, reply.body), (200, expected.body.clone()), "{encoding}");
    }

    let grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let input = InferInputTensor {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![2, 3],
        ..Default::default()
    };
    let asked = ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![x(2).data],
        ..Default::default()
    };
    let expected = grpc.clone().model_infer(asked.clone()).await.unwrap().into_inner();
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let mut packing = grpc.clone().send_compressed(encoding);
        assert_eq!(packing.model_infer(asked.clone()).await.unwrap().into_inner(), expected);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn large_tensors_take_the_same_road() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let large = x(100_000);
    let asked = ired_client::InferRequest { inputs: vec![large.clone()], ..request("m") };
    let raw = client(&daemon).await.infer(asked).await.unwrap();
    let values: Vec<f32> =
        large.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let json = serde_json::json!({ "inputs": [
        { "name": "x", "shape": [100_000, 3], "datatype": "FP32", "data": values }
    ], "outputs": [{ "name": "y", "parameters": { "binary_data": true } }] });
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &[], json.to_string().as_bytes()).await;
    let split: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert!(reply.body[split..] == raw.outputs[0].data[..]);
    daemon.stop().await;
}

async fn blocked(
    client: &Client,
    world: &World,
    count: u64,
) -> Vec<tokio::task::JoinHandle<Result<(), ClientError>>> {
    let spawn = |_| {
        let client = client.clone();
        tokio::spawn(async move { client.infer(request("m")).await.map(|_| ()) })
    };
    let tasks = (0..count).map(spawn).collect();
    world.until(|seen| seen.inside == count).await;
    tasks
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_only_that_model() {
    let mut place = Place::new(&[("m.onnx", "block"), ("other.onnx", "")]);
    place.settings.queue_limit = 2;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let inside = blocked(&client, &world, 2).await;
    let refused = client.infer(request("m")).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::ResourceExhausted));
    assert_eq!(refused.to_string(), "model `m` has 2 requests inside already");
    client.infer(request("other")).await.unwrap();
    world.release();
    for task in inside {
        task.await.unwrap().unwrap();
    }
    client.infer(request("m")).await.unwrap();
    let metrics = http(daemon.metrics, "GET", "/metrics", &[], b"").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("nv_inference_request_success{model=\"m\",version=\"1\"} 3"), "{metrics}");
    assert!(
        metrics.contains("nv_inference_request_failure{model=\"m\",reason=\"REJECTED\",version=\"1\"} 1"),
        "{metrics}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_the_inference() {
    let (place, world) = (Place::new(&[("m.onnx", "block")]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let timeout = Some(Duration::from_millis(50));
    let late = client.infer(ired_client::InferRequest { timeout, ..request("m") }).await.unwrap_err();
    assert!(matches!(late.code(), Some(Code::DeadlineExceeded | Code::Cancelled)), "{late:?}");
    world.until(|seen| seen.cancelled == 1).await;

    let json = r#"{"parameters":{"timeout":50000},"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &[], json.as_bytes()).await;
    assert_eq!((reply.status, reply.error().as_str()), (504, "the deadline passed"));
    world.until(|seen| seen.cancelled == 2).await;
    daemon.stop().await;
}

#[tokio::test]
async fn who_disconnects_is_cancelled() {
    let (place, world) = (Place::new(&[("m.onnx", "block")]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    for task in blocked(&client, &world, 3).await {
        task.abort();
    }
    world.until(|seen| seen.cancelled == 3 && seen.inside == 0).await;

    let json = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
    let mut stream = tokio::net::TcpStream::connect(daemon.http).await.unwrap();
    let head = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    world.until(|seen| seen.inside == 1).await;
    drop(stream);
    world.until(|seen| seen.cancelled == 4).await;

    let stats = client.statistics("m", None).await.unwrap();
    assert_eq!(stats[0].inference_stats.unwrap().fail.unwrap().count, 4);
    world.release();
    client.infer(request("m")).await.unwrap();
    daemon.stop().await;
}
