//! Start, load, replace, unload, delete, stop.

use ired_client::proto::model;
use ired_proto::inference::model_repository_parameter::ParameterChoice;
use ired_proto::inference::{ModelRepositoryParameter, RepositoryModelLoadRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::scripted::{Place, World, channel, client, http, request};

#[tokio::test]
async fn it_is_ready_once_the_startup_loads_have_ended() {
    let (mut place, world) = (Place::new(&[("m.onnx", "hold"), ("bad.onnx", "unsupported")]), World::new());
    place.settings.strict_readiness = false;
    place.settings.grpc_during_startup = false;
    let daemon = place.start_early(&world).await;
    world.until(|seen| seen.compiles_started >= 1).await;
    assert_eq!(http(daemon.http, "GET", "/v2/health/live", &[], b"").await.status, 200);
    assert_eq!(http(daemon.http, "GET", "/v2/health/ready", &[], b"").await.status, 503);
    assert!(tokio::net::TcpStream::connect(daemon.grpc).await.is_err(), "gRPC opens when models answer");
    world.release();
    daemon.started().await.unwrap();
    let client = client(&daemon).await;
    assert!(client.ready().await.unwrap());
    client.infer(request("m")).await.unwrap();

    let models = client.models().await.unwrap();
    let bad = models.iter().find(|model| model.name == "bad").unwrap();
    assert_eq!(bad.state(), model::State::Unavailable);
    assert!(bad.reason.contains("operator of `n1` is not implemented"), "{}", bad.reason);
    let refused = client.infer(request("bad")).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    daemon.stop().await;
}

#[tokio::test]
async fn who_asks_for_a_model_that_is_loaded_since_the_start_waits_for_it() {
    let files = [("m.onnx", ""), ("slow.onnx", "hold"), ("bad.onnx", "hold unsupported")];
    let (mut place, world) = (Place::new(&files), World::new());
    // One for each, as two are held.
    place.settings.compile_slots = 3;
    let daemon = place.start_early(&world).await;
    let client = client(&daemon).await;
    client.infer(request("m")).await.unwrap();
    let ask = |model: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.infer(request(model)).await })
    };
    let (slow, bad) = (ask("slow"), ask("bad"));
    world.until(|seen| seen.compiles_started >= 3).await;
    let mut hurried = request("slow");
    hurried.timeout = Some(std::time::Duration::from_millis(1));
    client.infer(hurried).await.unwrap_err();
    world.release();
    slow.await.unwrap().unwrap();
    let refused = bad.await.unwrap().unwrap_err();
    assert!(format!("{refused:?}").contains("not implemented"), "{refused:?}");
    daemon.stop().await;
}

/// The ways to ask whether the daemon is ready, which agree.
async fn is_ready(daemon: &ired::Daemon) -> bool {
    let rest = http(daemon.http, "GET", "/v2/health/ready", &[], b"").await.status == 200;
    let grpc = client(daemon).await.ready().await.unwrap();
    let mut health = HealthClient::new(channel(daemon.grpc).await);
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!((grpc, status == ServingStatus::Serving), (rest, rest));
    rest
}

#[tokio::test]
async fn it_is_not_ready_while_a_model_of_the_start_is_missing() {
    let files = [
        ("m.onnx", ""),
        ("bad.onnx", "unsupported"),
        ("old/1/model.onnx", ""),
        ("old/2/model.onnx", "unsupported"),
        ("other.onnx", "unsupported"),
        ("gone.onnx", "unsupported"),
    ];
    let (place, world) = (Place::new(&files), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    assert!(!is_ready(&daemon).await);
    // What answers does all the same, and so does the older version of what has a bad one.
    client.infer(request("m")).await.unwrap();
    client.infer(request("old")).await.unwrap();
    let mut health = HealthClient::new(channel(daemon.grpc).await);
    let watched = HealthCheckRequest { service: "inference.GRPCInferenceService".to_owned() };
    let mut watched = health.watch(watched).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);

    client.load("bad").await.unwrap_err();
    place.write("bad.onnx", "");
    client.load("bad").await.unwrap();
    client.unload("other").await.unwrap();
    assert!(!is_ready(&daemon).await);
    std::fs::remove_file(place.path("gone.onnx")).unwrap();
    client.load("gone").await.unwrap_err();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert!(is_ready(&daemon).await);
    // Only what was wanted at the start is waited for.
    client.unload("m").await.unwrap();
    place.write("new.onnx", "unsupported");
    client.load("new").await.unwrap_err();
    assert!(is_ready(&daemon).await);
    daemon.stop().await;
}

#[tokio::test]
async fn a_new_version_answers_before_the_old_one_goes() {
    let (place, world) = (Place::new(&[("m/1/model.onnx", "block one")]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let asking = client.clone();
    let inside = tokio::spawn(async move { asking.infer(request("m")).await });
    world.until(|seen| seen.inside == 1).await;

    place.write("m/2/model.onnx", "two");
    let loading = client.clone();
    let load = tokio::spawn(async move { loading.load("m").await });
    world.until(|seen| seen.launched == 2).await;
    // The old version waits for the request inside; the new one answers meanwhile.
    let answer = loop {
        let answer =
            client.infer(ired_client::InferRequest { version: Some(2.into()), ..request("m") }).await;
        match answer {
            Ok(answer) => break answer,
            Err(error) => assert_eq!(error.code(), Some(Code::Unavailable), "{error}"),
        }
    };
    assert_eq!(answer.version, "2");
    assert_eq!(world.seen().shut_down, 0);
    world.release();
    assert_eq!(inside.await.unwrap().unwrap().version, "1");
    load.await.unwrap().unwrap();
    assert_eq!(world.seen().shut_down, 1);
    assert_eq!(client.infer(request("m")).await.unwrap().version, "2");
    assert_eq!(client.model_metadata("m", None).await.unwrap().versions, ["2"]);

    // Nothing changed, so nothing is started.
    client.load("m").await.unwrap();
    assert_eq!(world.seen().launched, 2);
    // What cannot be loaded does not replace what answers.
    place.write("m/2/model.onnx", "unsupported");
    assert_eq!(client.load("m").await.unwrap_err().code(), Some(Code::Unimplemented));
    assert_eq!(client.infer(request("m")).await.unwrap().version, "2");
    daemon.stop().await;
}

#[tokio::test]
async fn a_bad_push_takes_nothing_away_also_after_a_restart() {
    let (place, world) =
        (Place::new(&[("repo/1/model.onnx", "one"), ("repo/2/model.onnx", "unsupported")]), World::new());
    let daemon = place.start(&world).await;
    let first = client(&daemon).await;
    assert_eq!(
        first.infer(request("repo")).await.unwrap().version,
        "1",
        "where the newest cannot, an older one does"
    );
    let push = async |client: &ired_client::Client, script: &str| {
        let source = place.dir.path().join("pushed");
        std::fs::write(&source, script).unwrap();
        let files = vec![ired_client::UploadFile { path: "model.onnx".to_owned(), source }];
        let upload = ired_client::Upload { name: "m".to_owned(), version: None, files };
        client.upload(upload, |_| {}).await.unwrap();
    };
    push(&first, "good").await;
    first.load("m").await.unwrap();
    push(&first, "unsupported").await;
    assert_eq!(first.load("m").await.unwrap_err().code(), Some(Code::Unimplemented));
    assert_eq!(first.infer(request("m")).await.unwrap().version, "1");
    push(&first, "stored, not loaded").await;
    daemon.stop().await;

    let daemon = place.start(&World::new()).await;
    let client = client(&daemon).await;
    assert_eq!(client.infer(request("m")).await.unwrap().version, "1");
    client.load("m").await.unwrap();
    assert_eq!(client.infer(request("m")).await.unwrap().version, "3");

    // A version whose files are gone goes with the next load.
    std::fs::remove_dir_all(place.path("repo/1")).unwrap();
    place.write("repo/2/model.onnx", "repaired");
    client.load("repo").await.unwrap();
    assert_eq!(client.model_metadata("repo", None).await.unwrap().versions, ["2"]);
    let listed = client.models().await.unwrap();
    assert!(!listed.iter().any(|model| model.name == "repo" && model.version == 1), "{listed:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn unload_delete_and_names() {
    let (place, world) = (Place::new(&[("kept.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    client.unload("kept").await.unwrap();
    assert!(!client.model_ready("kept", None).await.unwrap());
    assert_eq!(client.infer(request("kept")).await.unwrap_err().code(), Some(Code::Unavailable));
    client.load("kept").await.unwrap();
    client.infer(request("kept")).await.unwrap();
    assert_eq!(client.delete("kept", None).await.unwrap_err().code(), Some(Code::FailedPrecondition));
    assert_eq!(client.load("nobody").await.unwrap_err().code(), Some(Code::NotFound));
    assert_eq!(client.load("../kept").await.unwrap_err().code(), Some(Code::InvalidArgument));

    let mut grpc = ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient::connect(
        format!("http://{}", daemon.grpc),
    )
    .await
    .unwrap();
    let bytes = |content: &'static str| ModelRepositoryParameter {
        parameter_choice: Some(ParameterChoice::BytesParam(content.into())),
    };
    let mut load = RepositoryModelLoadRequest { model_name: "sent".to_owned(), ..Default::default() };
    load.parameters.insert("file:3/model.onnx".to_owned(), bytes("external:w.bin"));
    load.parameters.insert("file:3/w.bin".to_owned(), bytes("weights"));
    grpc.repository_model_load(load).await.unwrap();
    assert_eq!(client.infer(request("sent")).await.unwrap().version, "3");

    let body = r#"{"parameters":{"config":"{\"name\":\"sent\"}","file:3/model.onnx":"b3RoZXI="}}"#;
    let reply = http(daemon.http, "POST", "/v2/repository/models/sent/load", &[], body.as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.seen().launched, 4, "other content under the same version replaced it");

    assert_eq!(client.delete("sent", None).await.unwrap(), [3]);
    assert_eq!(client.infer(request("sent")).await.unwrap_err().code(), Some(Code::NotFound));
    daemon.stop().await;
}

#[tokio::test]
async fn stopping_answers_what_is_inside_and_refuses_the_rest() {
    let (place, world) = (Place::new(&[("m.onnx", "block")]), World::new());
    let daemon = place.start(&world).await;
    let (http_address, grpc_address) = (daemon.http, daemon.grpc);
    let client = client(&daemon).await;
    let mut health = HealthClient::new(channel(grpc_address).await);
    let status =
        health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    let watching = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap();

    let asking = client.clone();
    let inside = tokio::spawn(async move { asking.infer(request("m")).await });
    world.until(|seen| seen.inside == 1).await;
    let mut watched = watching.into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = tokio::spawn(daemon.stop());
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    while tokio::net::TcpStream::connect(http_address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.seen().shut_down, 0, "the worker lives while a request is inside");
    world.release();
    inside.await.unwrap().unwrap();
    stopping.await.unwrap();
    assert_eq!(world.seen().shut_down, 1);
    assert!(tokio::net::TcpStream::connect(grpc_address).await.is_err());
}

#[tokio::test]
async fn a_kept_connection_hears_that_it_ends() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let mut kept = tokio::net::TcpStream::connect(daemon.http).await.unwrap();
    let mut ask = async || {
        kept.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert_ne!(kept.read_buf(&mut answer).await.unwrap(), 0, "closed: {answer:?}");
        }
        String::from_utf8(answer).unwrap()
    };
    assert!(!ask().await.contains("connection: close"));
    let stopping = tokio::spawn(daemon.stop());
    let mut last = ask().await;
    while !last.contains("connection: close") {
        last = ask().await;
    }
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    assert_eq!(kept.read(&mut [0]).await.unwrap(), 0);
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_data_directory_has_one_daemon() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let compiler =
        std::sync::Arc::new(crate::scripted::ScriptedCompiler { world: world.clone(), build: "2" });
    let launcher = std::sync::Arc::new(crate::scripted::ScriptedLauncher(world));
    let second = ired::Daemon::start(place.settings.clone(), compiler, launcher).await;
    let error = second.err().unwrap().to_string();
    assert!(error.contains("is in use by another daemon"), "{error}");
    daemon.stop().await;
}
