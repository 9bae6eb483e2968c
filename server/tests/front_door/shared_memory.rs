//! Tensors in the shared memory of a client.

use std::path::PathBuf;

use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use ired_proto::inference::{
    CudaSharedMemoryRegisterRequest, InferParameter, ModelInferRequest, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryStatusRequest, SystemSharedMemoryUnregisterRequest,
};
use serde_json::json;
use tonic::Code;

use crate::scripted::{Place, World, http, x};

/// Shared memory as a client makes it, gone at the end of its test.
struct Memory(tempfile::NamedTempFile);

impl Memory {
    fn of(bytes: &[u8]) -> Self {
        let file = tempfile::Builder::new().prefix("ired-front-door-").tempfile_in("/dev/shm").unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Self(file)
    }

    fn key(&self) -> String {
        format!("/{}", self.0.path().file_name().unwrap().to_str().unwrap())
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(PathBuf::from(self.0.path())).unwrap()
    }
}

fn doubled(tensor: &ired_client::Tensor) -> Vec<u8> {
    let values = tensor.data.chunks_exact(4).map(|b| 2.0 * f32::from_le_bytes(b.try_into().unwrap()));
    values.flat_map(f32::to_le_bytes).collect()
}

fn in_region(region: &str, offset: i64, byte_size: i64) -> std::collections::HashMap<String, InferParameter> {
    let parameter = |value| InferParameter { parameter_choice: Some(value) };
    [
        ("shared_memory_region".to_owned(), parameter(ParameterChoice::StringParam(region.to_owned()))),
        ("shared_memory_offset".to_owned(), parameter(ParameterChoice::Int64Param(offset))),
        ("shared_memory_byte_size".to_owned(), parameter(ParameterChoice::Int64Param(byte_size))),
    ]
    .into()
}

fn ask(input: &str, byte_size: i64, output: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![2, 3],
            parameters: in_region(input, 8, byte_size),
            ..Default::default()
        }],
        outputs: vec![InferRequestedOutputTensor {
            name: "y".to_owned(),
            parameters: in_region(output, 4, 24),
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn tensors_lie_in_regions_over_grpc() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let sent = [&[0; 16], &x(2).data[..]].concat();
    let (input, output) = (Memory::of(&sent), Memory::of(&[7; 32]));
    let register = |name: &str, memory: &Memory, offset, byte_size| SystemSharedMemoryRegisterRequest {
        name: name.to_owned(),
        key: memory.key(),
        offset,
        byte_size,
    };
    grpc.system_shared_memory_register(register("in", &input, 8, 32)).await.unwrap();
    grpc.system_shared_memory_register(register("out", &output, 0, 32)).await.unwrap();
    let status = grpc.system_shared_memory_status(SystemSharedMemoryStatusRequest::default()).await.unwrap();
    let regions = status.into_inner().regions;
    assert_eq!(
        (regions.len(), regions["in"].key.as_str(), regions["in"].offset),
        (2, input.key().as_str(), 8)
    );

    let reply = grpc.model_infer(ask("in", 24, "out")).await.unwrap().into_inner();
    assert_eq!(output.bytes(), [&[7; 4], &doubled(&x(2))[..], &[7; 4]].concat());
    assert_eq!(reply.outputs[0].parameters, in_region("out", 4, 24));
    assert_eq!(reply.raw_output_contents, [bytes::Bytes::new()], "one for each output, empty");

    let cases = [
        (
            ask("in", 25, "out"),
            "input `x`: 25 bytes at offset 8 are not inside its shared memory region of 32 bytes",
        ),
        (ask("in", 12, "out"), "input `x`: found 12 bytes, its shape needs 24"),
        (ask("in", -1, "out"), "parameter `shared_memory_byte_size`: found -1, expected a whole number"),
        (ask("secret", 24, "out"), "input `x`: its shared memory region is not registered"),
        (ask("in", 24, "secret"), "output `y`: its shared memory region is not registered"),
    ];
    for (request, text) in cases {
        let refused = grpc.model_infer(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(text) && !refused.message().contains("secret"), "{refused}");
    }
    let twice = grpc.system_shared_memory_register(register("in", &input, 0, 8)).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    let cuda =
        grpc.cuda_shared_memory_register(CudaSharedMemoryRegisterRequest::default()).await.unwrap_err();
    assert_eq!(cuda.code(), Code::Unimplemented);
    assert!(cuda.message().starts_with("CUDA shared memory regions are not supported"), "{cuda}");

    // What a client takes away under a request is that request's error.
    input.0.as_file().set_len(20).unwrap();
    let refused = grpc.model_infer(ask("in", 24, "out")).await.unwrap_err();
    assert!(refused.message().starts_with("cannot read the inputs' shared memory"), "{refused}");
    let name = "in".to_owned();
    grpc.system_shared_memory_unregister(SystemSharedMemoryUnregisterRequest { name }).await.unwrap();
    let name = "in".to_owned();
    let gone = grpc.system_shared_memory_status(SystemSharedMemoryStatusRequest { name }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    daemon.stop().await;
}

#[tokio::test]
async fn tensors_lie_in_regions_over_rest() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let (input, output) = (Memory::of(&x(2).data), Memory::of(&[0; 24]));
    let post = async |path: &str, body: serde_json::Value| {
        http(daemon.http, "POST", path, &[], body.to_string().as_bytes()).await
    };
    for (name, memory) in [("in", &input), ("out", &output)] {
        let path = format!("/v2/systemsharedmemory/region/{name}/register");
        let reply = post(&path, json!({ "key": memory.key(), "offset": 0, "byte_size": 24 })).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let place_of = |region: &str| json!({ "shared_memory_region": region, "shared_memory_offset": 0, "shared_memory_byte_size": 24 });
    let request = json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": place_of("in") }],
        "outputs": [{ "name": "y", "parameters": place_of("out") }],
    });
    let reply = post("/v2/models/m/infer", request.clone()).await;
    assert_eq!(reply.json()["outputs"][0], json!({ "name": "y", "datatype": "FP32", "shape": [2, 3] }));
    assert_eq!(output.bytes(), doubled(&x(2)));

    let mut both = request;
    both["inputs"][0]["data"] = json!([1, 2, 3, 4, 5, 6]);
    let reply = post("/v2/models/m/infer", both).await;
    assert_eq!(
        (reply.status, reply.error().as_str()),
        (400, "input `x` has both data in the request and shared memory")
    );

    let get = async |path: &str| http(daemon.http, "GET", path, &[], b"").await;
    let region = json!([{ "name": "in", "key": input.key(), "offset": 0, "byte_size": 24 }]);
    assert_eq!(get("/v2/systemsharedmemory/region/in/status").await.json(), region);
    assert_eq!(get("/v2/systemsharedmemory/region/other/status").await.status, 404);
    assert_eq!(get("/v2/systemsharedmemory/status").await.json().as_array().unwrap().len(), 2);
    let refused =
        post("/v2/systemsharedmemory/region/r/register", json!({ "key": "/../etc/passwd", "byte_size": 1 }))
            .await;
    assert_eq!(refused.status, 400);
    assert!(!refused.error().contains("passwd"), "{}", refused.error());
    assert_eq!(post("/v2/systemsharedmemory/region/in/unregister", json!({})).await.status, 200);
    assert_eq!(post("/v2/systemsharedmemory/unregister", json!({})).await.status, 200);
    assert_eq!(get("/v2/systemsharedmemory/status").await.json(), json!([]));
    daemon.stop().await;
}
