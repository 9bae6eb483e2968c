//! What Triton adds to the protocol, over both doors: classes, packed answers, streams.

use std::io::Read;

use ired::Daemon;
use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use ired_proto::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use serde_json::json;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;

use crate::scripted::{Place, World, http, x};

fn ask(rows: u64, id: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".to_owned(),
        id: id.to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![i64::try_from(rows).unwrap(), 3],
            ..Default::default()
        }],
        raw_input_contents: vec![x(rows).data],
        ..Default::default()
    }
}

/// The answer of `m` to a row, over gRPC, with its output as the highest class.
async fn highest_class(daemon: &Daemon) -> ModelInferResponse {
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let best = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(1)) };
    let wanted = InferRequestedOutputTensor {
        name: "y".to_owned(),
        parameters: [("classification".to_owned(), best)].into(),
    };
    let request = ModelInferRequest { outputs: vec![wanted], ..ask(1, "") };
    grpc.model_infer(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn an_output_is_told_as_its_classes() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let json = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 3], "data": [0.5, 2, 1, -1, -3, -2] }],
        "outputs": [{ "name": "y", "parameters": { "classification": 2 } }],
    });
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &[], json.to_string().as_bytes()).await;
    let expected = ["4.000000:1", "2.000000:2", "-2.000000:0", "-4.000000:2"];
    let output = json!({ "name": "y", "datatype": "BYTES", "shape": [2, 2], "data": expected });
    assert_eq!(reply.json()["outputs"][0], output);

    let reply = highest_class(&daemon).await;
    assert_eq!((reply.outputs[0].datatype.as_str(), &reply.outputs[0].shape), ("BYTES", &vec![1, 1]));
    assert_eq!(reply.raw_output_contents[0][..], *b"\x0a\0\0\x004.500000:2");
    daemon.stop().await;
}

#[tokio::test]
async fn classes_have_the_names_of_the_models_file() {
    let files = [
        ("m/1/model.onnx", ""),
        ("m/config.pbtxt", "output { name: 'y' data_type: TYPE_FP32 label_filename: 'labels.txt' }"),
        ("m/labels.txt", "cat\r\n\ntench, Tinca tinca\n"),
        ("own/2/model.onnx", ""),
        ("own/2/config.pbtxt", "output { name: 'y' label_filename: 'names/of.txt' }"),
        ("own/2/names/of.txt", "zero\none"),
        ("none/1/model.onnx", ""),
        ("none/config.pbtxt", "output { name: 'y' label_filename: 'labels.txt' }"),
        ("out/1/model.onnx", ""),
        ("out/config.pbtxt", "output { name: 'y' label_filename: '../m/labels.txt' }"),
        ("link/1/model.onnx", ""),
        ("link/config.pbtxt", "output { name: 'y' label_filename: 'labels.txt' }"),
        ("long/1/model.onnx", ""),
        ("long/config.pbtxt", "output { name: 'y' label_filename: 'labels.txt' }"),
        ("long/labels.txt", &"x".repeat(513)),
        ("many/1/model.onnx", ""),
        ("many/config.pbtxt", "output { name: 'y' label_filename: 'labels.txt' }"),
        ("many/labels.txt", &"\n".repeat((1 << 20) + 1)),
    ];
    let (place, world) = (Place::new(&files), World::new());
    let secret = place.dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::os::unix::fs::symlink(&secret, place.path("link/labels.txt")).unwrap();
    let daemon = place.start(&world).await;
    let body = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0.5, 1, 2] }],
        "outputs": [{ "name": "y", "parameters": { "classification": 3 } }],
    });
    let classes = async |model: &str| {
        let path = format!("/v2/models/{model}/infer");
        let reply = http(daemon.http, "POST", &path, &[], body.to_string().as_bytes()).await.json();
        reply["outputs"][0]["data"].clone()
    };
    assert_eq!(classes("m").await, json!(["4.000000:2:tench, Tinca tinca", "2.000000:1", "1.000000:0:cat"]));
    assert_eq!(classes("own").await, json!(["4.000000:2", "2.000000:1:one", "1.000000:0:zero"]));
    let config = http(daemon.http, "GET", "/v2/models/m/config", &[], b"").await.json();
    assert_eq!(config["output"][0]["label_filename"], "labels.txt", "{config}");

    let reply = highest_class(&daemon).await;
    assert_eq!(reply.raw_output_contents[0][4..], *b"4.500000:2:tench, Tinca tinca");

    let index = http(daemon.http, "POST", "/v2/repository/index", &[], b"").await.json();
    let reason = |model: &str| {
        let found = index.as_array().unwrap().iter().find(|entry| entry["name"] == model).unwrap();
        found["reason"].as_str().unwrap().to_owned()
    };
    for (model, expected) in [
        (
            "none",
            "the configuration of `none`: `label_filename` `labels.txt` is no file of the model's folder",
        ),
        ("out", "`label_filename` `../m/labels.txt` does not stay in the model's folder"),
        ("link", "`label_filename` `labels.txt` is no file of the model's folder"),
        ("many", "has 1048577 lines; at most 1048576 are accepted for all outputs"),
        ("long", "`label_filename` `labels.txt` has 513 bytes in line 1; at most 512 are accepted"),
    ] {
        assert!(reason(model).contains(expected), "{model}: {}", reason(model));
    }

    // A load request has the file read again; one that brings the model brings its own.
    place.write("m/labels.txt", "a\nb\nc");
    let reply = http(daemon.http, "POST", "/v2/repository/models/m/load", &[], b"").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(classes("m").await, json!(["4.000000:2:c", "2.000000:1:b", "1.000000:0:a"]));
    let config = r#"{"output": [{"name": "y", "label_filename": "labels.txt"}]}"#;
    let parameters = json!({ "config": config, "file:1/model.onnx": "", "file:1/labels.txt": "cTAKcTE=" });
    let load = json!({ "parameters": parameters }).to_string();
    let reply = http(daemon.http, "POST", "/v2/repository/models/up/load", &[], load.as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(classes("up").await, json!(["4.000000:2", "2.000000:1:q1", "1.000000:0:q0"]));
    daemon.stop().await;
}

#[tokio::test]
async fn an_answer_is_packed_as_its_client_asks() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let head = r#"{"inputs":[{"name":"x","shape":[400,3],"datatype":"FP32","parameters":{"binary_data_size":4800}}],"parameters":{"binary_data_output":true}}"#;
    // Rows that are alike, which every packer makes less of.
    let body = [head.as_bytes(), &x(1).data.repeat(400)].concat();
    let length = head.len().to_string();
    let infer = async |accepted: &'static str| {
        let headers = [("Inference-Header-Content-Length", length.as_str()), ("Accept-Encoding", accepted)];
        http(daemon.http, "POST", "/v2/models/m/infer", &headers, &body).await
    };
    let plain = infer("identity").await;
    assert_eq!((plain.status, plain.header("content-encoding")), (200, None));
    let gzip = infer("gzip").await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&gzip.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    assert!(gzip.body.len() < plain.body.len());
    assert_eq!(
        gzip.header("inference-header-content-length"),
        plain.header("inference-header-content-length")
    );
    let deflate = infer("br, deflate").await;
    assert_eq!(deflate.header("content-encoding"), Some("deflate"));
    let mut unpacked = Vec::new();
    flate2::read::ZlibDecoder::new(&deflate.body[..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == plain.body);

    let grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let mut accepting = grpc.accept_compressed(CompressionEncoding::Gzip);
    let plain = accepting.model_infer(ask(400, "")).await.unwrap();
    assert!(plain.metadata().get("grpc-encoding").is_none(), "who packs nothing gets nothing packed");
    let mut packing = accepting.send_compressed(CompressionEncoding::Gzip);
    let packed = packing.model_infer(ask(400, "")).await.unwrap();
    assert_eq!(packed.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(packed.into_inner(), plain.into_inner());
    daemon.stop().await;
}

#[tokio::test]
async fn a_stream_answers_in_order_and_says_which_answer_is_the_last() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let yes = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let asked: Vec<ModelInferRequest> = (0..40u64)
        .map(|at| {
            let mut request = ask(1 + 50 * (at % 3), &at.to_string());
            request.parameters.insert("triton_enable_empty_final_response".to_owned(), yes.clone());
            if at == 7 {
                request.raw_input_contents.clear();
            }
            request
        })
        .collect();
    let answers = grpc.model_stream_infer(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 40);
    for (at, answer) in answers.iter().enumerate() {
        let response = answer.infer_response.as_ref().unwrap();
        assert_eq!(response.id, at.to_string());
        assert_eq!(response.parameters["triton_final_response"], yes);
        assert_eq!(answer.error_message.is_empty(), at != 7, "{}", answer.error_message);
        assert_eq!(response.outputs.is_empty(), at == 7);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_cancelled() {
    let (place, world) = (Place::new(&[("m.onnx", "block")]), World::new());
    let daemon = place.start(&world).await;
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let (asking, asked) = tokio::sync::mpsc::channel(3);
    let answers = grpc.model_stream_infer(ReceiverStream::new(asked)).await.unwrap();
    for at in 0..3 {
        asking.send(ask(1, &at.to_string())).await.unwrap();
    }
    world.until(|seen| seen.inside == 3).await;
    drop((answers, asking));
    world.until(|seen| seen.cancelled == 3 && seen.inside == 0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_body_without_json_is_the_only_input() {
    let (place, world) = (Place::new(&[("m.onnx", ""), ("t.onnx", "strings")]), World::new());
    let daemon = place.start(&world).await;
    let raw = [("Inference-Header-Content-Length", "0")];
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &raw, &x(2).data).await;
    assert_eq!(reply.status, 200);
    let split: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    let head: serde_json::Value = serde_json::from_slice(&reply.body[..split]).unwrap();
    assert_eq!(head["outputs"][0]["shape"], json!([2, 3]));
    assert_eq!(reply.body.len() - split, 24);
    let odd = http(daemon.http, "POST", "/v2/models/m/infer", &raw, &x(2).data[..20]).await;
    assert_eq!(
        (odd.status, odd.error().as_str()),
        (400, "input `x`: 5 elements do not say its shape; send it with JSON")
    );
    // Three strings are more than the one that a body can be.
    let text = http(daemon.http, "POST", "/v2/models/t/infer", &raw, b"text").await;
    assert_eq!(text.status, 400);
    daemon.stop().await;
}

/// The document's paths are there, take the methods it names and no others.
#[tokio::test]
async fn the_openapi_document_names_every_method_of_its_paths() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let document = http(daemon.http, "GET", "/openapi.json", &[], b"").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 25);
    for (path, operations) in paths {
        let url = path
            .replace("{model}", "m")
            .replace("{version}", "1")
            .replace("{region}", "r")
            .replace("{repository}", "default")
            .replace("{id}", "i");
        let wrong = http(daemon.http, "PATCH", &url, &[], b"").await;
        assert_eq!(wrong.status, 405, "{path}: {wrong:?}");
        let mut allowed: Vec<&str> = wrong.header("allow").unwrap().split(',').map(str::trim).collect();
        allowed.retain(|method| *method != "HEAD");
        allowed.sort_unstable();
        let methods = ["delete", "get", "post"].iter().filter(|method| operations.get(**method).is_some());
        let methods: Vec<String> = methods.map(|method| method.to_uppercase()).collect();
        assert_eq!(allowed, methods, "{path}");
    }
    daemon.stop().await;
}
