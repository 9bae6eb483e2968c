//! REST's descriptions, and that gRPC tells the same and describes itself.

use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::{ModelConfigRequest, RepositoryIndexRequest};
use serde_json::json;
use tokio_stream::StreamExt;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::scripted::{Place, World, channel, client, http, request};

#[tokio::test]
async fn no_memory_of_a_device_is_registered() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    for status in ["status", "region/r/status"] {
        let reply = http(daemon.http, "GET", &format!("/v2/cudasharedmemory/{status}"), &[], b"").await;
        assert_eq!((reply.status, reply.json()), (200, json!([])));
    }
    for unregister in ["unregister", "region/r/unregister"] {
        let reply = http(daemon.http, "POST", &format!("/v2/cudasharedmemory/{unregister}"), &[], b"").await;
        assert_eq!(reply.status, 200);
    }
    let register = "/v2/cudasharedmemory/region/r/register";
    let reply = http(daemon.http, "POST", register, &[], br#"{"key":"/k","byte_size":1}"#).await;
    assert_eq!(reply.status, 404);
    assert!(reply.error().contains("shared memory regions are not supported"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_of_grpc_learns_that_this_is_another_door() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let lost = ired_client::Client::connect(&daemon.http.to_string()).await.unwrap();
    let error = lost.models().await.unwrap_err();
    assert!(matches!(error, ired_client::ClientError::NotGrpc), "{error:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn both_protocols_describe_a_model_alike() {
    let (place, world) = (Place::new(&[("m/2/model.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    client.infer(request("m")).await.unwrap();
    let get = async |path: &str| {
        let reply = http(daemon.http, "GET", path, &[], b"").await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    };
    assert_eq!(get("/v2").await["name"], "ired");
    let expected = json!({
        "name": "m", "versions": ["2"], "platform": "ired_irm",
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 3] }],
        "outputs": [{ "name": "y", "datatype": "FP32", "shape": [-1, 3] }],
    });
    assert_eq!(get("/v2/models/m").await, expected);
    assert_eq!(get("/v2/models/m/versions/2").await, expected);
    let metadata = client.model_metadata("m", Some(2.into())).await.unwrap();
    assert_eq!((metadata.inputs[0].shape.as_slice(), metadata.platform.as_str()), (&[-1, 3][..], "ired_irm"));

    let config = get("/v2/models/m/config").await;
    assert_eq!(config["input"][0]["dims"], json!([-1, 3]));
    assert_eq!(config["version_policy"], json!({ "latest": { "num_versions": 1 } }));
    assert_eq!(config["input"][0]["data_type"], "TYPE_FP32");
    assert_eq!((&config["max_batch_size"], &config["backend"]), (&json!(0), &json!("ired")));
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let asked = ModelConfigRequest { name: "m".to_owned(), version: String::new() };
    let told = grpc.model_config(asked).await.unwrap().into_inner().config.unwrap();
    assert_eq!(told.input[0].dims, [-1, 3]);

    let stats = get("/v2/models/m/stats").await;
    assert_eq!(stats["model_stats"][0]["inference_count"], 1);
    assert_eq!(
        stats["model_stats"][0]["inference_stats"]["compute_infer"],
        json!({ "count": 1, "ns": 3000 })
    );
    assert_eq!(get("/v2/models/stats").await, stats);

    let index = http(daemon.http, "POST", "/v2/repository/index", &[], br#"{"ready":true}"#).await.json();
    assert_eq!(index, json!([{ "name": "m", "version": "2", "state": "READY", "reason": "" }]));
    let listed = grpc.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.models[0].state, "READY");
    let devices = client.devices().await.unwrap();
    assert_eq!((devices[0].driver.as_str(), devices[0].models.as_slice()), ("cpu", &["m/2".to_owned()][..]));
    daemon.stop().await;
}

#[tokio::test]
async fn reflection_lists_every_service() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    client(&daemon).await;
    let mut reflection = ServerReflectionClient::new(channel(daemon.grpc).await);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in [
        "inference.GRPCInferenceService",
        "ired.v1.ModelService",
        "ired.v1.CompileService",
        "ired.v1.DeviceService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
    daemon.stop().await;
}
