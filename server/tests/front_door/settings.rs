//! What clients change while the daemon runs: the log, traces, a model's configuration.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::log_settings_request::{self, setting_value::ParameterChoice};
use ired_proto::inference::{
    LogSettingsRequest, TraceSettingRequest, log_settings_response, trace_setting_request,
};
use serde_json::json;
use tonic::Code;
use tracing_subscriber::fmt::MakeWriter;

use crate::scripted::{Place, Reply, World, client, http, request};

/// What was logged so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn with(&self, words: &[&str]) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

async fn post(address: std::net::SocketAddr, path: &str, body: serde_json::Value) -> Reply {
    http(address, "POST", path, &[], body.to_string().as_bytes()).await
}

/// One test, as a process has one log.
#[tokio::test]
async fn the_log_and_the_traces_are_changed_while_the_daemon_runs() {
    let lines = Lines::default();
    let writer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone());
    ired::logging::start("warn", writer).unwrap();
    let (place, world) = (Place::new(&[("logged.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let infer = async |id: &str| {
        let asked = ired_client::InferRequest { id: id.to_owned(), ..request("logged") };
        client(&daemon).await.infer(asked).await.unwrap();
    };
    let get = async |path: &str| http(daemon.http, "GET", path, &[], b"").await.json();

    let at_first = json!({
        "log_file": "", "log_format": "default", "log_verbose_level": 0,
        "log_error": true, "log_warning": true, "log_info": false,
    });
    assert_eq!(get("/v2/logging").await, at_first);
    infer("quiet").await;
    assert_eq!(lines.with(&["inference", "quiet"]), 0);
    let verbose = post(daemon.http, "/v2/logging", json!({ "log_verbose_level": 1 })).await;
    assert_eq!((verbose.status, &verbose.json()["log_verbose_level"]), (200, &json!(1)));
    infer("loud").await;
    assert_eq!(lines.with(&["DEBUG", "inference", "loud"]), 1);
    let parent = crate::traces::traceparent(true);
    let headers = [("x-request-id", "wrong"), ("traceparent", parent.as_str())];
    let body = crate::traces::BODY.replace("[1,3]", "[3,1]");
    assert_eq!(
        http(daemon.http, "POST", "/v2/models/logged/infer", &headers, body.as_bytes()).await.status,
        400
    );
    assert_eq!(lines.with(&["DEBUG", "inference refused", "wrong", crate::traces::TRACE]), 1);

    let mut grpc = GrpcInferenceServiceClient::connect(format!("http://{}", daemon.grpc)).await.unwrap();
    let setting = |choice| log_settings_request::SettingValue { parameter_choice: Some(choice) };
    let settings = [
        ("log_verbose_level".to_owned(), setting(ParameterChoice::Uint32Param(0))),
        ("log_info".to_owned(), setting(ParameterChoice::BoolParam(true))),
    ];
    let changed = grpc.log_settings(LogSettingsRequest { settings: settings.into() }).await.unwrap();
    let expected = log_settings_response::setting_value::ParameterChoice::BoolParam(true);
    assert_eq!(changed.into_inner().settings["log_info"].parameter_choice, Some(expected));
    infer("quiet again").await;
    assert_eq!(lines.with(&["quiet again"]), 0);

    let wrong = [
        (json!({ "log_info": 1 }), "log setting `log_info`: expected a boolean"),
        (json!({ "log_file": "/tmp/x" }), "log setting `log_file`: expected ``, which cannot be changed"),
        (json!({ "log_color": true }), "there is no log setting `log_color`"),
    ];
    for (body, text) in wrong {
        let refused = post(daemon.http, "/v2/logging", body).await;
        assert_eq!((refused.status, refused.error().as_str()), (400, text));
    }
    assert_eq!(get("/v2/logging").await["log_info"], json!(true));

    let off = get("/v2/trace/setting").await;
    assert_eq!((&off["trace_level"], &off["trace_rate"]), (&json!(["OFF"]), &json!("1000")));
    let level = trace_setting_request::SettingValue { value: vec!["TIMESTAMPS".to_owned()] };
    let rate = trace_setting_request::SettingValue { value: vec!["2".to_owned()] };
    let settings = [("trace_level".to_owned(), level), ("trace_rate".to_owned(), rate)].into();
    let model_name = "logged".to_owned();
    grpc.trace_setting(TraceSettingRequest { settings, model_name }).await.unwrap();
    assert_eq!(get("/v2/models/logged/trace/setting").await["trace_rate"], json!("2"));
    assert_eq!(get("/v2/trace/setting").await, off);
    for id in ["traced 0", "traced 1", "traced 2"] {
        infer(id).await;
    }
    let traced = |id| lines.with(&["trace", "logged", id, "compute_us=3"]);
    assert_eq!((traced("traced 0"), traced("traced 1"), traced("traced 2")), (1, 0, 1));
    let cleared = post(daemon.http, "/v2/models/logged/trace/setting", json!({ "trace_level": null })).await;
    assert_eq!(cleared.json()["trace_level"], json!(["OFF"]));
    daemon.stop().await;
}

#[tokio::test]
async fn a_configuration_declares_the_rows_of_a_batch() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let load = async |config: &str| {
        post(daemon.http, "/v2/repository/models/m/load", json!({ "parameters": { "config": config } })).await
    };
    let config = async || http(daemon.http, "GET", "/v2/models/m/config", &[], b"").await.json();
    assert_eq!(load(r#"{"name":"m","max_batch_size":"1"}"#).await.status, 200);
    let declared = config().await;
    assert_eq!((&declared["max_batch_size"], &declared["input"][0]["dims"]), (&json!(1), &json!([3])));
    let refused = client(&daemon).await.infer(request("m")).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidArgument));
    assert_eq!(refused.to_string(), "input `x` has 2 rows; the configuration of model `m` takes at most 1");

    for (config, text) in [
        ("max_batch_size: 1", "failed to load `m`: the model's configuration cannot be read"),
        (r#"{"max_batch_size":-1}"#, "the configuration of `m`: `max_batch_size` is negative"),
        (r#"{"dynamic_batching":{}}"#, "`dynamic_batching` needs a `max_batch_size`"),
    ] {
        let error = load(config).await.error();
        assert!(error.contains(text), "{error}");
    }
    // A load without a configuration takes back what one said.
    assert_eq!(post(daemon.http, "/v2/repository/models/m/load", json!({})).await.status, 200);
    let plain = config().await;
    assert_eq!((&plain["max_batch_size"], &plain["input"][0]["dims"]), (&json!(0), &json!([-1, 3])));
    client(&daemon).await.infer(request("m")).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn a_server_has_the_name_it_is_given() {
    let mut place = Place::new(&[]);
    place.settings.server_name = "triton".to_owned();
    let daemon = place.start(&World::new()).await;
    assert_eq!(http(daemon.http, "GET", "/v2", &[], b"").await.json()["name"], "triton");
    daemon.stop().await;
}
