//! The memory budget: models make room for each other, and requests wait for what they take.

use std::time::Duration;

use ired::Daemon;
use ired_client::InferRequest;
use tonic::Code;

use crate::schedule::{until_metric, until_waiting};
use crate::scripted::{Place, World, client, http, request};

async fn metrics(daemon: &Daemon) -> String {
    String::from_utf8(http(daemon.metrics, "GET", "/metrics", &[], b"").await.body.to_vec()).unwrap()
}

#[tokio::test]
async fn models_beyond_the_budget_take_turns() {
    let pinned = "parameters { key: \"ired.pinned\" value { string_value: \"true\" } }";
    let mut place = Place::new(&[
        ("a.onnx", "resident:400"),
        ("b.onnx", "resident:400"),
        ("p.onnx", "resident:300"),
        ("p.config.pbtxt", pinned),
        ("large.onnx", "resident:2000"),
    ]);
    place.settings.memory_bytes = 1000;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let launched = world.seen().launched;
    for model in ["a", "b", "a", "p", "b", "b"] {
        client.infer(request(model)).await.unwrap();
    }
    let seen = world.seen();
    // Two of a and b are never there together; what is pinned stays.
    assert!(seen.launched - launched >= 3, "{seen:?}");
    assert_eq!(
        seen.launched - seen.shut_down,
        3,
        "a or b, p, and the one too large that was dropped: {seen:?}"
    );
    let text = metrics(&daemon).await;
    assert!(text.contains("ired_memory_budget_bytes 1000\n"), "{text}");
    assert!(text.contains("ired_memory_in_use_bytes 700\n"), "{text}");
    assert!(text.contains("ired_model_resident_bytes{model=\"a\",version=\"1\"} 0\n"), "{text}");
    let refused = client.infer(request("large")).await.unwrap_err();
    let reason = "model `large` needs 2000 bytes to be loaded; the budget is 1000";
    assert!(refused.to_string().contains(reason), "{refused}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_model_in_use_makes_no_room() {
    let mut place = Place::new(&[("a.onnx", "resident:600 block"), ("b.onnx", "resident:600")]);
    place.settings.memory_bytes = 1000;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let blocked = tokio::spawn({
        let client = client.clone();
        async move { client.infer(request("a")).await }
    });
    let before = world.until(|seen| seen.inside == 1).await.shut_down;
    let timeout = Some(Duration::from_millis(300));
    let refused = client.infer(InferRequest { timeout, ..request("b") }).await.unwrap_err();
    // Whoever of the client and the server sees first that the time is up.
    let codes = [Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled];
    assert!(codes.map(Some).contains(&refused.code()), "{refused:?}");
    assert_eq!(world.seen().shut_down, before, "a stays");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.infer(request("b")).await }
    });
    world.release();
    blocked.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn memory_that_is_given_up_goes_to_who_waits() {
    let mut place = Place::new(&[("a.onnx", "resident:600"), ("b.onnx", "resident:600")]);
    place.settings.memory_bytes = 1000;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    place.write("z.onnx", "resident:600 lingers");
    client.load("z").await.unwrap();
    let ask = |model: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.infer(request(model)).await })
    };
    let before = world.seen().shut_down;
    let gives_up = ask("a");
    world.until(|seen| seen.shut_down > before).await;
    let waits = ask("b");
    until_metric(&daemon, "nv_inference_pending_request_count{model=\"b\"", 1.0).await;
    gives_up.abort();
    waits.await.unwrap().unwrap();
    world.release();
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_the_memory_it_takes() {
    let mut place =
        Place::new(&[("m.onnx", "peak:600 block"), ("other.onnx", "peak:300"), ("large.onnx", "peak:2000")]);
    place.settings.memory_bytes = 1000;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let ask = |model: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.infer(request(model)).await })
    };
    let first = ask("m");
    world.until(|seen| seen.inside == 1).await;
    let second = ask("m");
    until_waiting(&daemon, 1.0).await;
    ask("other").await.unwrap().unwrap();
    assert_eq!(world.seen().inside, 1);
    let refused = ask("large").await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Some(Code::ResourceExhausted));
    let text = "model `large` needs 2000 bytes for the request; the budget is 1000, 600 in use";
    assert_eq!(refused.to_string(), text);
    world.release();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    daemon.stop().await;
}
