//! Profiles on demand: the next executions of a model that serves.

use std::time::Duration;

use ired::Daemon;
use ired_client::proto::{ProfileModelRequest, ProfileModelResponse};
use ired_client::{ClientError, InferRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::scripted::{Place, World, client, http, request, x};

async fn profile(
    daemon: &Daemon,
    executions: u32,
    seconds: u32,
) -> Result<ProfileModelResponse, ClientError> {
    let request = ProfileModelRequest { model: "m".to_owned(), version: 0, executions, seconds };
    client(daemon).await.profile(request).await
}

#[tokio::test]
async fn the_next_executions_are_looked_at_and_kept() {
    let (mut place, world) = (Place::new(&[("m.onnx", "takes:5")]), World::new());
    place.settings.tracing.slow_ms = 0;
    let daemon = place.start(&world).await;
    let asking = client(&daemon).await;
    let calling = {
        let asking = asking.clone();
        tokio::spawn(async move {
            for count in 0u32.. {
                let rows = 1 + u64::from(count % 2);
                let asked = InferRequest { id: count.to_string(), inputs: vec![x(rows)], ..request("m") };
                asking.infer(asked).await.unwrap();
            }
        })
    };
    let profile = profile(&daemon, 4, 60).await.unwrap();
    assert_eq!((profile.version, profile.executions, profile.threads, profile.left_out), (1, 4, 2, 0));
    assert_eq!(profile.compute_ns, 20_000_000);
    let found: Vec<_> =
        profile.dispatches.iter().map(|d| (d.result.as_str(), d.calls, d.operations)).collect();
    assert_eq!(profile.dispatches.len(), 2, "a row for each size: {found:?}");
    assert!(found.contains(&("f32[1, 3]", 2.0, Some(6.0))), "{found:?}");
    assert!(found.contains(&("f32[2, 3]", 2.0, Some(12.0))), "{found:?}");
    assert_eq!((profile.dispatches[0].time_ns, profile.dispatches[0].bytes), (10_000_000, None));
    assert_eq!(profile.dispatches[0].nodes, ["y (Mul)"]);

    let kept = asking.traces("m", 100).await.unwrap();
    assert_eq!(kept.len(), 4, "what was looked at, and nothing later");
    let trace = asking.trace(&kept[0].id).await.unwrap();
    let dispatches: Vec<_> = trace.spans.iter().filter(|span| span.name == "dispatch double").collect();
    assert_eq!(dispatches.iter().map(|span| span.thread).collect::<Vec<_>>(), [Some(0), Some(1)]);
    let infer = trace.spans.iter().position(|span| span.name == "infer").unwrap();
    assert!(dispatches.iter().all(|span| span.parent == Some(infer as u32)));
    assert!(dispatches[0].start_ns >= trace.spans[infer].start_ns);
    assert_eq!(dispatches[0].attributes[2].name, "nodes");
    calling.abort();
    let _ = calling.await;
    daemon.stop().await;
}

#[tokio::test]
async fn one_asks_at_a_time_within_bounds_and_gets_what_there_was() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let refused = async |executions, seconds| profile(&daemon, executions, seconds).await.unwrap_err();
    assert_eq!(refused(257, 1).await.to_string(), "`executions` is 257; it is at most 256");
    assert_eq!(refused(1, 61).await.code(), Some(Code::InvalidArgument));

    let asker = client(&daemon).await;
    let long = ProfileModelRequest { model: "m".to_owned(), version: 1, executions: 9, seconds: 60 };
    let first = tokio::spawn(async move {
        // Those below ask for moments.
        while asker.profile(long.clone()).await.is_err() {}
    });
    let mut refused = None;
    while refused.is_none() {
        let short = tokio::time::timeout(Duration::from_millis(20), profile(&daemon, 1, 60)).await;
        refused = short.ok().and_then(Result::err);
    }
    let error = refused.unwrap();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    assert_eq!(error.to_string(), "model `m` version 1 is being profiled already");
    // Who goes away makes room.
    first.abort();
    let _ = first.await;
    let mut again = profile(&daemon, 1, 1).await;
    while again.is_err() {
        again = profile(&daemon, 1, 1).await;
    }
    assert_eq!(again.unwrap().executions, 0, "nobody called the model");
    daemon.stop().await;
}

#[tokio::test]
async fn over_rest_what_is_sent_once_the_answer_has_begun_is_seen() {
    let (place, world) = (Place::new(&[("m.onnx", "takes:5")]), World::new());
    let daemon = place.start(&world).await;
    let mut stream = TcpStream::connect(daemon.http).await.unwrap();
    let head =
        "POST /v1/models/m/profile HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 34\r\n\r\n";
    stream.write_all(format!("{head}{}", r#"{"executions": 2.0, "seconds": 60}"#).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let again = http(daemon.http, "POST", "/v1/models/m/versions/1/profile", &[], b"").await;
    assert_eq!(
        (again.status, again.error()),
        (409, "model `m` version 1 is being profiled already".to_owned())
    );
    for _ in 0..2 {
        client(&daemon).await.infer(request("m")).await.unwrap();
    }
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    let (start, end) = (text.find('{').unwrap(), text.rfind('}').unwrap());
    let profile: Value = serde_json::from_str(&text[start..=end]).unwrap();
    let expected = json!({
        "version": "1", "executions": 2, "compute_ns": 10_000_000, "threads": 2, "left_out": 0,
        "dispatches": [{
            "kernel": "double", "nodes": ["y (Mul)"], "result": "f32[2, 3]", "calls": 2.0,
            "time_ns": 10_000_000, "operations": 12.0, "bytes": null,
        }],
    });
    assert_eq!(profile, expected);

    for (path, body, status, words) in [
        ("/v1/models/m/profile", r#"{"executions": 257}"#, 400, "at most 256"),
        ("/v1/models/m/profile", r#"{"seconds": 1e15}"#, 400, "at most 60"),
        ("/v1/models/m/profile", r#"{"second": 1}"#, 400, "unknown field"),
        ("/v1/models/nobody/profile", "", 404, "nobody"),
        ("/v1/models/m/versions/2/profile", "", 404, "version"),
    ] {
        let reply = http(daemon.http, "POST", path, &[], body.as_bytes()).await;
        assert_eq!(reply.status, status, "{path} {body}: {reply:?}");
        assert!(reply.error().contains(words), "{path} {body}: {}", reply.error());
    }
    daemon.stop().await;
}
