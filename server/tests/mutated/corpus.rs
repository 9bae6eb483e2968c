//! Real requests: one and more for each kind of message, and what clients write on their connections.

use std::collections::HashMap;
use std::net::SocketAddr;

use ired::Daemon;
use ired_client::InferRequest;
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use ired_proto::inference::model_repository_parameter::ParameterChoice as LoadChoice;
use ired_proto::inference::*;
use ired_proto::ired::v1::upload_model_request::{File, Part, Start};
use ired_proto::ired::v1::{
    CompileRequest, DeleteLabelRequest, GetModuleRequest, ModelRef, SetLabelRequest, UploadModelRequest,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mutate::Mutator;
use crate::scripted::{http, request, x};

/// One thing that a client sent.
#[derive(Clone, Debug)]
pub(crate) enum Recorded {
    Grpc {
        path: String,
        messages: Vec<Vec<u8>>,
    },
    /// Method and path; the body.
    Rest {
        head: Vec<u8>,
        body: Vec<u8>,
    },
    /// All that a client wrote on one connection.
    Connection {
        grpc: bool,
        bytes: Vec<u8>,
    },
}

impl Recorded {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Grpc { .. } => "grpc",
            Self::Rest { .. } => "rest",
            Self::Connection { grpc: true, .. } => "grpc connection",
            Self::Connection { grpc: false, .. } => "rest connection",
        }
    }

    /// The same with something changed.
    pub(crate) fn changed(&self, mutator: &mut Mutator, others: &[&Self]) -> Self {
        let other = others[mutator.below(others.len())];
        match (self.clone(), other) {
            (Self::Grpc { path, mut messages }, Self::Grpc { messages: others, .. }) => {
                let at = mutator.below(messages.len());
                let other = others.first().map_or(&[][..], Vec::as_slice);
                messages[at] = mutator.change(&messages[at], other);
                Self::Grpc { path, messages }
            }
            (Self::Rest { head, body }, Self::Rest { body: other, head: other_head }) => {
                // Paths now and then, bodies mostly.
                match mutator.below(8) {
                    0 => Self::Rest { head: mutator.change(&head, other_head), body },
                    _ => Self::Rest { head, body: mutator.change(&body, other) },
                }
            }
            (Self::Connection { grpc, bytes }, Self::Connection { bytes: other, .. }) => {
                Self::Connection { grpc, bytes: mutator.change(&bytes, other) }
            }
            (original, _) => original,
        }
    }
}

/// Shared memory as a client makes it.
pub(crate) fn memory() -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().prefix("ired-mutated-").tempfile_in("/dev/shm").unwrap();
    std::fs::write(file.path(), [0; 256]).unwrap();
    file
}

pub(crate) async fn record(daemon: &Daemon, memory: &tempfile::NamedTempFile) -> Vec<Recorded> {
    let key = format!("/{}", memory.path().file_name().unwrap().to_str().unwrap());
    let mut recorded = messages(&key);
    recorded.extend(bodies(&key));
    recorded.extend(connections(daemon).await);
    recorded
}

/// What is recorded of single requests, as files: the path of gRPC or the method and path of REST, then the body.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let single = messages("/ired-seed").into_iter().chain(bodies("/ired-seed"));
    let mut seeds = Vec::new();
    for (at, recorded) in single.enumerate() {
        let (kind, head, body) = match recorded {
            Recorded::Grpc { path, messages } if path.starts_with("/inference.") && messages.len() == 1 => {
                ("grpc", path.into_bytes(), messages.concat())
            }
            Recorded::Rest { head, body } => ("rest", head, body),
            _ => continue,
        };
        seeds.push((format!("{at:02}-{kind}"), [&head[..], b"\n", &body].concat()));
    }
    seeds
}

fn grpc(method: &str, messages: &[impl Message]) -> Recorded {
    let service = if method.contains('/') { "ired.v1" } else { "inference.GRPCInferenceService/" };
    let separator = if method.contains('/') { "." } else { "" };
    let messages = messages.iter().map(Message::encode_to_vec).collect();
    Recorded::Grpc { path: format!("/{service}{separator}{method}"), messages }
}

fn parameters(pairs: &[(&str, ParameterChoice)]) -> HashMap<String, InferParameter> {
    let parameter = |choice: &ParameterChoice| InferParameter { parameter_choice: Some(choice.clone()) };
    pairs.iter().map(|(name, choice)| ((*name).to_owned(), parameter(choice))).collect()
}

fn tensor(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents,
        ..Default::default()
    }
}

fn messages(key: &str) -> Vec<Recorded> {
    let ask = |model: &str, input: InferInputTensor, raw: Option<Vec<u8>>| ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![input],
        raw_input_contents: raw.into_iter().map(Into::into).collect(),
        ..Default::default()
    };
    let raw = ask("m", tensor("FP32", &[2, 3], None), Some(x(2).data.to_vec()));
    let floats = InferTensorContents { fp32_contents: vec![1.0, -2.5, 3e-8], ..Default::default() };
    let typed = ask("m", tensor("FP32", &[1, 3], Some(floats)), None);
    let texts = InferTensorContents {
        bytes_contents: ["a", "", "text"].map(|text| text.into()).to_vec(),
        ..Default::default()
    };
    let typed_strings = ask("s", tensor("BYTES", &[1, 3], Some(texts)), None);
    let strings = b"\x01\0\0\0a\0\0\0\0\x04\0\0\0text".to_vec();
    let raw_strings = ask("s", tensor("BYTES", &[1, 3], None), Some(strings));
    let output = |pairs: &[(&str, ParameterChoice)]| InferRequestedOutputTensor {
        name: "y".to_owned(),
        parameters: parameters(pairs),
    };
    let options = ModelInferRequest {
        id: "7".to_owned(),
        model_version: "1".to_owned(),
        parameters: parameters(&[
            ("priority", ParameterChoice::Uint64Param(1)),
            ("timeout", ParameterChoice::Int64Param(1_000_000)),
            ("own", ParameterChoice::StringParam("text".to_owned())),
            ("factor", ParameterChoice::DoubleParam(0.5)),
        ]),
        outputs: vec![output(&[("classification", ParameterChoice::Int64Param(2))])],
        ..raw.clone()
    };
    let place = [
        ("shared_memory_region", ParameterChoice::StringParam("r".to_owned())),
        ("shared_memory_offset", ParameterChoice::Int64Param(8)),
        ("shared_memory_byte_size", ParameterChoice::Int64Param(24)),
    ];
    let mut shared = ask("m", tensor("FP32", &[2, 3], None), None);
    shared.inputs[0].parameters = parameters(&place);
    shared.outputs = vec![output(&place)];
    let sequence = |start: bool, end: bool| ModelInferRequest {
        parameters: parameters(&[
            ("sequence_id", ParameterChoice::Int64Param(7)),
            ("sequence_start", ParameterChoice::BoolParam(start)),
            ("sequence_end", ParameterChoice::BoolParam(end)),
        ]),
        ..ask("seq", tensor("FP32", &[1, 3], None), Some(x(1).data.to_vec()))
    };
    let load = |choices: Vec<(&str, LoadChoice)>| RepositoryModelLoadRequest {
        model_name: "sent".to_owned(),
        parameters: choices
            .into_iter()
            .map(|(name, choice)| {
                (name.to_owned(), ModelRepositoryParameter { parameter_choice: Some(choice) })
            })
            .collect(),
        ..Default::default()
    };
    let file = ("file:1/model.onnx", LoadChoice::BytesParam("one".into()));
    let config = ("config", LoadChoice::StringParam(CONFIG.to_owned()));
    let region = SystemSharedMemoryRegisterRequest {
        name: "r".to_owned(),
        key: key.to_owned(),
        offset: 0,
        byte_size: 256,
    };
    let trace = TraceSettingRequest {
        model_name: "m".to_owned(),
        settings: [("trace_rate", "3"), ("trace_level", "OFF")]
            .map(|(name, value)| {
                let value = vec![value.to_owned()];
                (name.to_owned(), trace_setting_request::SettingValue { value })
            })
            .into(),
    };
    let log = LogSettingsRequest {
        settings: [(
            "log_warning".to_owned(),
            log_settings_request::SettingValue {
                parameter_choice: Some(log_settings_request::setting_value::ParameterChoice::BoolParam(true)),
            },
        )]
        .into(),
    };
    let upload = [
        Part::Start(Start { name: "up".to_owned(), version: 0 }),
        Part::File(File { path: "model.onnx".to_owned(), bytes: 3 }),
        Part::Chunk("one".into()),
        Part::File(File { path: "w/part.bin".to_owned(), bytes: 0 }),
        Part::Chunk("weights".into()),
    ]
    .map(|part| UploadModelRequest { part: Some(part) });
    let model = Some(ModelRef { name: "m".to_owned(), version: 1 });
    let named = |name: &str| ModelReadyRequest { name: name.to_owned(), version: "1".to_owned() };
    let label = SetLabelRequest { name: "m".to_owned(), label: "stable".to_owned(), version: 1 };
    vec![
        grpc("ModelInfer", std::slice::from_ref(&raw)),
        grpc("ModelInfer", std::slice::from_ref(&typed)),
        grpc("ModelInfer", &[typed_strings]),
        grpc("ModelInfer", &[raw_strings]),
        grpc("ModelInfer", std::slice::from_ref(&options)),
        grpc("ModelInfer", &[shared.clone()]),
        grpc("ModelInfer", &[sequence(true, true)]),
        grpc("ModelStreamInfer", &[raw, typed, options, shared]),
        grpc("ModelStreamInfer", &[sequence(true, false), sequence(false, false), sequence(false, true)]),
        grpc("ModelReady", &[named("m")]),
        grpc("ModelMetadata", &[named("s")]),
        grpc("ModelConfig", &[named("seq")]),
        grpc("ModelStatistics", &[named("m")]),
        grpc("RepositoryIndex", &[RepositoryIndexRequest { repository_name: String::new(), ready: true }]),
        grpc("RepositoryModelLoad", &[load(vec![file, config.clone()])]),
        grpc("RepositoryModelLoad", &[load(vec![config])]),
        grpc(
            "RepositoryModelUnload",
            &[RepositoryModelUnloadRequest { model_name: "sent".to_owned(), ..Default::default() }],
        ),
        grpc("SystemSharedMemoryRegister", &[region]),
        grpc("SystemSharedMemoryStatus", &[SystemSharedMemoryStatusRequest { name: "r".to_owned() }]),
        grpc("SystemSharedMemoryUnregister", &[SystemSharedMemoryUnregisterRequest { name: "q".to_owned() }]),
        grpc("TraceSetting", &[trace]),
        grpc("LogSettings", &[log]),
        grpc("ModelService/UploadModel", &upload),
        grpc("ModelService/SetLabel", &[label]),
        grpc(
            "ModelService/DeleteLabel",
            &[DeleteLabelRequest { name: "m".to_owned(), label: "old".to_owned() }],
        ),
        grpc("CompileService/Compile", &[CompileRequest { model: model.clone(), ..Default::default() }]),
        grpc("CompileService/GetModule", &[GetModuleRequest { model, ..Default::default() }]),
    ]
}

/// A configuration that says something of everything.
const CONFIG: &str = r#"{"max_batch_size": 8, "dynamic_batching": {"preferred_batch_size": [4, 8],
    "max_queue_delay_microseconds": 100, "priority_levels": 2, "default_priority_level": 1},
    "version_policy": {"latest": {"num_versions": 2}}, "instance_group": [{"count": 2}],
    "model_warmup": [{"name": "w", "batch_size": 1, "inputs": {"x": {"dims": [3], "zero_data": true}}}],
    "parameters": {"ired.share": {"string_value": "2"}, "ired.label.stable": {"string_value": "1"}}}"#;

fn bodies(key: &str) -> Vec<Recorded> {
    let rest = |head: &str, body: &str| Recorded::Rest { head: head.into(), body: body.into() };
    let region = format!(r#"{{"key":"{key}","offset":0,"byte_size":256}}"#);
    let config = CONFIG.replace('"', "\\\"").replace('\n', " ");
    vec![
        rest(
            "POST /v2/models/m/infer",
            r#"{"id":"7","parameters":{"priority":1,"timeout":1000000,"own":"text","factor":0.5},
               "inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[[1,-2.5,3e-8],[4,5,6]]}],
               "outputs":[{"name":"y","parameters":{"classification":2}}]}"#,
        ),
        rest(
            "POST /v2/models/s/versions/1/infer",
            r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"BYTES","data":["a","\u00e9\"]",""]}],
               "outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#,
        ),
        rest(
            "POST /v2/models/m/infer",
            r#"{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","parameters":{"shared_memory_region":"r",
               "shared_memory_offset":8,"shared_memory_byte_size":24}}],"outputs":[{"name":"y"}]}"#,
        ),
        rest(
            "POST /v2/models/seq/infer",
            r#"{"parameters":{"sequence_id":"s","sequence_start":true,"sequence_end":true},
               "inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#,
        ),
        rest("POST /v2/repository/index", r#"{"ready":true}"#),
        rest("POST /v2/repository/models/sent/unload", r#"{"parameters":{"unload_dependents":true}}"#),
        rest(
            "POST /v2/repository/models/sent/load",
            &format!(r#"{{"parameters":{{"config":"{config}","file:1/model.onnx":"b25l"}}}}"#),
        ),
        rest("POST /v2/systemsharedmemory/region/r/register", &region),
        rest("POST /v2/logging", r#"{"log_verbose_level":1,"log_info":true}"#),
        rest("POST /v2/models/m/trace/setting", r#"{"trace_rate":"3","trace_level":["OFF"]}"#),
        rest("GET /v2/models/m/versions/1/config", ""),
        rest("GET /v2/models/m/stats", ""),
    ]
}

/// What real clients write, by letting them talk through us.
async fn connections(daemon: &Daemon) -> Vec<Recorded> {
    let (address, grpc) = tap(daemon.grpc).await;
    let client = ired_client::Client::connect(&address.to_string()).await.unwrap();
    client.infer(request("m")).await.unwrap();
    client.infer(InferRequest { id: "again".to_owned(), ..request("m") }).await.unwrap();
    client.models().await.unwrap();
    drop(client);
    let grpc = Recorded::Connection { grpc: true, bytes: grpc.await.unwrap() };

    let (address, rest) = tap(daemon.http).await;
    let json =
        r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}"#;
    let length = json.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str()), ("accept-encoding", "gzip")];
    let body = [json.as_bytes(), &[0; 12]].concat();
    let reply = http(address, "POST", "/v2/models/m/infer", &headers, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let rest = Recorded::Connection { grpc: false, bytes: rest.await.unwrap() };
    vec![grpc, rest]
}

/// A place to connect to that leads to `target`; gives all that the client of one connection wrote.
async fn tap(target: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let recorded = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = TcpStream::connect(target).await.unwrap().into_split();
        let back = tokio::spawn(async move { drop(tokio::io::copy(&mut from_server, &mut to_client).await) });
        let mut recorded = Vec::new();
        let mut part = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from_client.read(&mut part).await {
            recorded.extend_from_slice(&part[..read]);
            to_server.write_all(&part[..read]).await.unwrap();
        }
        drop(to_server);
        back.await.unwrap();
        recorded
    });
    (address, recorded)
}
