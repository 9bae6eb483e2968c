//! What strangers send: each mistake has its code and its text, and the daemon goes on.

use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use ired_proto::inference::{
    InferTensorContents, ModelInferRequest, TraceSettingRequest, trace_setting_request,
};
use ired_proto::ired::v1::UploadModelRequest;
use ired_proto::ired::v1::model_service_client::ModelServiceClient;
use ired_proto::ired::v1::upload_model_request::{File, Part, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::scripted::{Place, World, client, gzip, http, request};

#[tokio::test]
async fn a_body_that_unpacks_to_too_much_is_refused_while_it_is_unpacked() {
    let mut place = Place::new(&[("m.onnx", "")]);
    place.settings.message_bytes = 256 << 10;
    let daemon = place.start(&World::new()).await;
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 256 << 10);
    let headers = [("content-encoding", "gzip")];
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &headers, &bomb).await;
    assert_eq!(reply.status, 413);
    let found = reply.error();
    assert!(found.starts_with("the body has 2") || found.starts_with("the body has 3"), "{found}");

    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc))
        .await
        .unwrap()
        .send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let bomb = ModelInferRequest { raw_input_contents: vec![vec![0; 64 << 20].into()], ..Default::default() };
    assert!(grpc.model_infer(bomb).await.is_err());
    client(&daemon).await.infer(request("m")).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn rest() {
    let mut place = Place::new(&[("m.onnx", "")]);
    place.settings.message_bytes = 4096;
    let world = World::new();
    let daemon = place.start(&world).await;
    let infer = "/v2/models/m/infer";
    let input = |rest: &str| format!(r#"{{"inputs":[{{"name":"x",{rest}}}]}}"#);
    let cases: &[(&str, &str, String, u16, &str)] = &[
        (infer, "", "{".to_owned(), 400, "the request is not the expected JSON: EOF"),
        (infer, "", "[]".to_owned(), 400, "the request is not the expected JSON"),
        (infer, "", "{}".to_owned(), 400, "missing field `inputs`"),
        (infer, "", format!("{}1{}", "[".repeat(2000), "]".repeat(2000)), 400, "not the expected JSON"),
        (infer, "", r#"{"inputs":[]}"#.to_owned(), 400, "input `x` is missing"),
        (
            infer,
            "",
            input(r#""shape":[1,3],"datatype":"FP32","data":[1,2]"#),
            400,
            "has 2 values, its shape needs 3",
        ),
        (
            infer,
            "",
            input(r#""shape":[1,3],"datatype":"FP32","data":[1,2,"a"]"#),
            400,
            "not a value of its datatype",
        ),
        (
            infer,
            "",
            input(r#""shape":[1,3],"datatype":"FP32","data":{"a":1}"#),
            400,
            "`data` is not an array",
        ),
        (
            infer,
            "",
            input(r#""shape":[1,3],"datatype":"FP32""#),
            400,
            "neither `data` nor `binary_data_size`",
        ),
        (
            infer,
            "",
            input(r#""shape":[1,3],"datatype":"INT32","data":[1,2,3]"#),
            400,
            "found datatype INT32, expected FP32",
        ),
        (
            infer,
            "",
            input(r#""shape":[1,3],"datatype":"BYTES","data":["a"]"#),
            400,
            "`data` has 1 values, its shape needs 3",
        ),
        (infer, "", input(r#""shape":[1,3],"datatype":"FP3","data":[1]"#), 400, "`FP3` is not a datatype"),
        (
            infer,
            "",
            input(r#""shape":[3],"datatype":"FP32","data":[1,2,3]"#),
            400,
            "found shape [3], expected [N, 3]",
        ),
        (infer, "", input(r#""shape":[-1,3],"datatype":"FP32","data":[]"#), 400, "dimension -1 is negative"),
        (
            infer,
            "",
            input(r#""shape":[4611686018427387904,4611686018427387904],"datatype":"FP32","data":[]"#),
            400,
            "more bytes than can be counted",
        ),
        (
            infer,
            "",
            input(r#""shape":[1099511627776,3],"datatype":"BOOL","data":[]"#),
            400,
            "its shape needs",
        ),
        (
            infer,
            "Inference-Header-Content-Length: 99999",
            "{}".to_owned(),
            400,
            "says 99999 bytes of JSON; the body has 2",
        ),
        (
            infer,
            "Inference-Header-Content-Length: 18446744073709551616",
            "{}".to_owned(),
            400,
            "is not a length",
        ),
        (infer, "Inference-Header-Content-Length: -1", "{}".to_owned(), 400, "is not a length"),
        (
            infer,
            "Inference-Header-Content-Length: 13",
            r#"{"inputs":[]}abc"#.to_owned(),
            400,
            "3 bytes after the binary data",
        ),
        (infer, "content-encoding: br", "{}".to_owned(), 501, "content encoding `br` is not supported"),
        (infer, "content-encoding: gzip", "{}".to_owned(), 400, "the body is not what `gzip` makes"),
        (infer, "content-encoding: deflate", "{}".to_owned(), 400, "the body is not what `deflate` makes"),
        (infer, "", " ".repeat(5000), 413, "the body has 5000 bytes; at most 4096"),
        (
            "/v2/models/nobody/infer",
            "",
            input(r#""shape":[0,3],"datatype":"FP32","data":[]"#),
            404,
            "Request for unknown model: `nobody` is not found",
        ),
        (
            "/v2/models/m/versions/9/infer",
            "",
            input(r#""shape":[0,3],"datatype":"FP32","data":[]"#),
            404,
            "has no version 9; it has 1",
        ),
        (
            "/v2/models/m/versions/one/infer",
            "",
            input(r#""shape":[0,3],"datatype":"FP32","data":[]"#),
            404,
            "has no version one",
        ),
        (
            "/v2/repository/models/m/load",
            "",
            r#"{"parameters":{"file:1/model.onnx":"?"}}"#.to_owned(),
            400,
            "is not base64",
        ),
        (
            "/v2/repository/models/m/load",
            "",
            r#"{"parameters":{"file:x":""}}"#.to_owned(),
            400,
            "files are `file:VERSION/PATH`",
        ),
        (
            "/v2/repository/models/m/load",
            "",
            r#"{"parameters":{"config":"{\"ensemble_scheduling\":{}}"}}"#.to_owned(),
            501,
            "`ensemble_scheduling` is not supported",
        ),
        (
            "/v2/repository/models/m/load",
            "",
            r#"{"parameters":{"file:1/model.onnx":""}}"#.to_owned(),
            409,
            "exists already",
        ),
        ("/v3", "", String::new(), 404, "no method `/v3`"),
        ("/v2", "", String::new(), 405, "does not take this HTTP method"),
    ];
    for (path, header, body, status, text) in cases {
        let headers: Vec<(&str, &str)> = header.split_once(": ").into_iter().collect();
        let reply = http(daemon.http, "POST", path, &headers, body.as_bytes()).await;
        assert_eq!(reply.status, *status, "{path} {body:.80}: {reply:?}");
        assert!(reply.error().contains(text), "{path} {body:.80}: {}", reply.error());
    }
    let json =
        r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}"#;
    let length = json.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let reply = http(daemon.http, "POST", infer, &headers, format!("{json}abc").as_bytes()).await;
    assert_eq!(reply.error(), "input `x`: `binary_data_size` is 12, the body has 3 bytes left");
    // A head that is not HTTP, and one that is too large, end their own connection.
    for garbage in
        ["\0\0\0\0\r\n\r\n".to_owned(), format!("GET /v2 HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20))]
    {
        let mut stream = tokio::net::TcpStream::connect(daemon.http).await.unwrap();
        let _ = stream.write_all(garbage.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    client(&daemon).await.infer(request("m")).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn grpc() {
    let mut place = Place::new(&[("m.onnx", "")]);
    place.settings.message_bytes = 4096;
    let world = World::new();
    let daemon = place.start(&world).await;
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let tensor = |datatype: &str, shape: &[i64]| InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..Default::default()
    };
    let ask = |inputs: Vec<InferInputTensor>, raw: &[usize]| ModelInferRequest {
        model_name: "m".to_owned(),
        inputs,
        raw_input_contents: raw.iter().map(|&bytes| vec![0; bytes].into()).collect(),
        ..Default::default()
    };
    let typed = |contents: InferTensorContents| InferInputTensor {
        contents: Some(contents),
        ..tensor("FP32", &[1, 3])
    };
    let output = |name: &str| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
    let f32s = |values: &[f32]| InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() };
    let good = || ask(vec![tensor("FP32", &[1, 3])], &[12]);
    let cases = [
        (ask(vec![], &[]), Code::InvalidArgument, "input `x` is missing"),
        (
            ask(vec![tensor("FP32", &[1, 3])], &[11]),
            Code::InvalidArgument,
            "found 11 bytes, its shape needs 12",
        ),
        (ask(vec![tensor("FP32", &[1, 3])], &[12, 12]), Code::InvalidArgument, "has 2 entries for 1 inputs"),
        (
            ask(vec![tensor("FP32", &[1, 3]), tensor("FP32", &[1, 3])], &[12, 12]),
            Code::InvalidArgument,
            "is given twice",
        ),
        (
            ask(vec![tensor("FP64", &[1, 3])], &[24]),
            Code::InvalidArgument,
            "found datatype FP64, expected FP32",
        ),
        (
            ask(vec![tensor("BYTES", &[1, 3])], &[24]),
            Code::InvalidArgument,
            "found datatype BYTES, expected FP32",
        ),
        (
            ask(vec![tensor("FP32", &[1, 1 << 62])], &[0]),
            Code::InvalidArgument,
            "more bytes than can be counted",
        ),
        (ask(vec![typed(f32s(&[1.0]))], &[]), Code::InvalidArgument, "has 1 values, its shape needs 3"),
        (
            ask(vec![typed(f32s(&[1.0; 3]))], &[12]),
            Code::InvalidArgument,
            "both `contents` and `raw_input_contents`",
        ),
        (ask(vec![tensor("FP32", &[500, 3])], &[6000]), Code::OutOfRange, "message length too large"),
        (
            ModelInferRequest { outputs: vec![output("z")], ..good() },
            Code::InvalidArgument,
            "no output `z`; it has `y`",
        ),
        (
            ModelInferRequest { outputs: vec![output("y"), output("y")], ..good() },
            Code::InvalidArgument,
            "asked for twice",
        ),
        (
            ModelInferRequest { model_name: "nobody".to_owned(), ..good() },
            Code::NotFound,
            "Request for unknown model: `nobody` is not found",
        ),
        (
            ModelInferRequest { model_version: "7".to_owned(), ..good() },
            Code::NotFound,
            "has no version 7; it has 1",
        ),
    ];
    for (request, code, text) in cases {
        let status = grpc.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    let nowhere = TraceSettingRequest { model_name: "nobody".to_owned(), ..Default::default() };
    assert_eq!(grpc.trace_setting(nowhere).await.unwrap_err().code(), Code::NotFound);
    let deep = trace_setting_request::SettingValue { value: vec!["TENSORS".to_owned()] };
    let deep = [("trace_level".to_owned(), deep)].into();
    let refused =
        grpc.trace_setting(TraceSettingRequest { settings: deep, ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("found `TENSORS`, expected OFF or TIMESTAMPS"), "{refused}");
    grpc.model_infer(good()).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn a_flood_of_empty_tensors_is_refused_before_it_unfolds() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let inputs = vec![InferInputTensor::default(); 1 << 16];
    let flood = ModelInferRequest { model_name: "m".to_owned(), inputs, ..Default::default() };
    let refused = grpc.model_infer(flood).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "a message with more than 65536 fields");
    daemon.stop().await;
}

#[tokio::test]
async fn uploads() {
    let mut place = Place::new(&[("taken/1/model.onnx", "")]);
    place.settings.upload_bytes = 10;
    let world = World::new();
    let daemon = place.start(&world).await;
    let mut models = ModelServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let start = |name: &str, version| Part::Start(Start { name: name.to_owned(), version });
    let file = |path: &str, bytes| Part::File(File { path: path.to_owned(), bytes });
    let chunk = |text: &'static str| Part::Chunk(text.into());
    let cases = [
        (vec![], Code::InvalidArgument, "an upload begins with `start`"),
        (vec![chunk("a")], Code::InvalidArgument, "an upload begins with `start`"),
        (vec![start("m", 0)], Code::InvalidArgument, "the upload has no files"),
        (vec![start("m", 0), start("m", 0)], Code::InvalidArgument, "an upload has one `start`"),
        (vec![start("m", 0), chunk("a")], Code::InvalidArgument, "a chunk before its first file"),
        (vec![start("../m", 0)], Code::InvalidArgument, "`../m` is not a model name"),
        (vec![start("m", 0), file("/etc/x", 0)], Code::InvalidArgument, "`/etc/x` is not the name of a file"),
        (vec![start("m", 0), file("a/../../x", 0)], Code::InvalidArgument, "is not the name of a file"),
        (
            vec![start("m", 0), file("a", 0), file("./a", 0)],
            Code::InvalidArgument,
            "file `a` is in the upload twice",
        ),
        (
            vec![start("m", 0), file("a", 2), chunk("abc")],
            Code::InvalidArgument,
            "longer than the announced 2",
        ),
        (
            vec![start("m", 0), file("a", 9), chunk("abc")],
            Code::InvalidArgument,
            "has 3 bytes, announced were 9",
        ),
        (vec![start("m", 0), file("a", 11)], Code::ResourceExhausted, "has 11 bytes; at most 10"),
        (
            vec![start("m", 0), file("a", 0), chunk("123456"), chunk("123456")],
            Code::ResourceExhausted,
            "at most 10",
        ),
        (vec![start("m", 0), file("model.irm", 0), chunk("a")], Code::Unimplemented, "`accept_modules`"),
        (vec![start("taken", 1), file("model.onnx", 0), chunk("a")], Code::AlreadyExists, "exists already"),
    ];
    for (parts, code, text) in cases {
        let messages: Vec<_> =
            parts.into_iter().map(|part| UploadModelRequest { part: Some(part) }).collect();
        let status = models.upload_model(tokio_stream::iter(messages)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    let pending = place.settings.data_dir.join("uploads/content/pending");
    assert_eq!(std::fs::read_dir(pending).unwrap().count(), 0, "nothing of them is left");
    daemon.stop().await;
}
