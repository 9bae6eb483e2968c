//! The memory budget: models make room for each other, and requests wait for what they take.

use std::time::Duration;

use ired::Daemon;
use ired_client::{Client, ClientError, InferRequest, InferResponse};
use tokio::task::JoinHandle;
use tonic::Code;

use crate::schedule::{metric, until_metric, until_waiting};
use crate::scripted::{Place, World, client, http, request, x};

/// A request of so many rows.
fn rows(model: &str, rows: u64) -> InferRequest {
    InferRequest { inputs: vec![x(rows)], ..request(model) }
}

/// Asks while the test goes on.
fn asking(client: &Client, request: InferRequest) -> JoinHandle<Result<InferResponse, ClientError>> {
    let client = client.clone();
    tokio::spawn(async move { client.infer(request).await })
}

/// A daemon of these models that has 1000 bytes.
async fn of_a_thousand(models: &[(&str, &str)]) -> (Place, World, Daemon, Client) {
    let mut place = Place::new(models);
    place.settings.memory_bytes = 1000;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    (place, world, daemon, client)
}

const IN_USE: &str = "ired_memory_in_use_bytes";

async fn metrics(daemon: &Daemon) -> String {
    String::from_utf8(http(daemon.metrics, "GET", "/metrics", &[], b"").await.body.to_vec()).unwrap()
}

#[tokio::test]
async fn models_beyond_the_budget_take_turns() {
    let pinned = "parameters { key: \"ired.pinned\" value { string_value: \"true\" } }";
    let (_place, world, daemon, client) = of_a_thousand(&[
        ("a.onnx", "resident:400"),
        ("b.onnx", "resident:400"),
        ("p.onnx", "resident:300"),
        ("p.config.pbtxt", pinned),
        ("large.onnx", "resident:2000"),
    ])
    .await;
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
    let (_place, world, daemon, client) =
        of_a_thousand(&[("a.onnx", "resident:600 block"), ("b.onnx", "resident:600")]).await;
    let blocked = asking(&client, request("a"));
    let before = world.until(|seen| seen.inside == 1).await.shut_down;
    let timeout = Some(Duration::from_millis(300));
    let refused = client.infer(InferRequest { timeout, ..request("b") }).await.unwrap_err();
    // Whoever of the client and the server sees first that the time is up.
    let codes = [Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled];
    assert!(codes.map(Some).contains(&refused.code()), "{refused:?}");
    assert_eq!(world.seen().shut_down, before, "a stays");
    let waiting = asking(&client, request("b"));
    world.release();
    blocked.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn memory_that_is_given_up_goes_to_who_waits() {
    let (place, world, daemon, client) =
        of_a_thousand(&[("a.onnx", "resident:600"), ("b.onnx", "resident:600")]).await;
    place.write("z.onnx", "resident:600 lingers");
    client.load("z").await.unwrap();
    let ask = |model| asking(&client, request(model));
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
    let (_place, world, daemon, client) = of_a_thousand(&[
        ("m.onnx", "peak:600 block"),
        ("other.onnx", "peak:300"),
        ("large.onnx", "peak:2000"),
    ])
    .await;
    let ask = |model| asking(&client, request(model));
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

#[tokio::test]
async fn what_a_request_takes_follows_from_its_sizes_and_is_asked_once() {
    let (_place, world, daemon, client) = of_a_thousand(&[("m.onnx", "row-peak:100 block")]).await;
    let ask = |count| asking(&client, rows("m", count));
    let first = ask(6);
    world.until(|seen| seen.inside == 1).await;
    assert_eq!(metric(&daemon, IN_USE).await, Some(600.0));
    let second = ask(6);
    until_waiting(&daemon, 1.0).await;
    let refused = ask(11).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Some(Code::ResourceExhausted));
    let text = "model `m` needs 1100 bytes for the request; the budget is 1000, 600 in use";
    assert_eq!(refused.to_string(), text);
    world.release();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    for count in [2, 6, 2] {
        ask(count).await.unwrap().unwrap();
    }
    assert_eq!(world.seen().peaks_asked, 3, "6, 11 and 2 rows");
    assert_eq!(metric(&daemon, IN_USE).await, Some(0.0));
    daemon.stop().await;
}

/// Runs five requests of two rows behind one that blocks, and says the rows of each execution.
async fn joined(script: &str, memory_bytes: u64) -> Vec<u64> {
    let batching = "max_batch_size: 8 dynamic_batching { } instance_group { count: 1 }";
    let mut place = Place::new(&[("m/1/model.onnx", script), ("m/config.pbtxt", batching)]);
    place.settings.memory_bytes = memory_bytes;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let ask = |count| asking(&client, rows("m", count));
    let mut asked = vec![ask(1)];
    world.until(|seen| seen.inside == 1).await;
    for waiting in 1..=5 {
        asked.push(ask(2));
        until_waiting(&daemon, f64::from(waiting)).await;
    }
    world.release();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(metric(&daemon, IN_USE).await, Some(0.0));
    daemon.stop().await;
    world.seen().ran.iter().map(|(rows, _)| *rows).collect()
}

#[tokio::test]
async fn as_many_requests_are_joined_as_there_is_memory_for() {
    assert_eq!(joined("row-peak:100 block", 1000).await, [1, 8, 2]);
    assert_eq!(joined("row-peak:100 block", 500).await, [1, 4, 4, 2]);
    // Four rows take more than twice as much as two, which comes out when they were joined.
    assert_eq!(joined("square-peak:10 block", 160).await, [1, 4, 4, 2]);
    assert_eq!(joined("square-peak:10 block", 159).await, [1, 2, 2, 2, 2, 2]);
}

#[tokio::test]
async fn idle_models_make_room_for_requests() {
    let (_place, world, daemon, client) =
        of_a_thousand(&[("a.onnx", "resident:600 peak:300"), ("b.onnx", "resident:350 block")]).await;
    let ask = |model| asking(&client, request(model));
    let b = "ired_model_resident_bytes{model=\"b\",version=\"1\"}";
    assert_eq!(metric(&daemon, IN_USE).await, Some(950.0));
    ask("a").await.unwrap().unwrap();
    assert_eq!(metric(&daemon, b).await, Some(0.0));
    // One that is at work goes once it is done.
    let busy = ask("b");
    world.until(|seen| seen.inside == 1).await;
    let waiting = ask("a");
    until_metric(&daemon, "nv_inference_pending_request_count{model=\"a\"", 1.0).await;
    world.release();
    busy.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(metric(&daemon, b).await, Some(0.0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_what_runs_rather_than_have_models_go() {
    let (_place, world, daemon, client) = of_a_thousand(&[
        ("idle.onnx", "resident:300"),
        ("busy.onnx", "peak:500 block"),
        ("m.onnx", "peak:400"),
    ])
    .await;
    let ask = |model| asking(&client, request(model));
    let before = world.seen().shut_down;
    let busy = ask("busy");
    world.until(|seen| seen.inside == 1).await;
    let waiting = ask("m");
    until_metric(&daemon, "ired_queue_length{model=\"m\"", 1.0).await;
    world.release();
    busy.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(world.seen().shut_down, before);
    daemon.stop().await;
}

#[tokio::test]
async fn models_that_do_not_fit_together_while_they_run_take_turns() {
    let (_place, _, daemon, client) =
        of_a_thousand(&[("a.onnx", "resident:400 peak:300"), ("b.onnx", "resident:400 peak:300")]).await;
    let asked = (0..20).map(|at| client.infer(request(if at % 2 == 0 { "a" } else { "b" })));
    for answer in futures::future::join_all(asked).await {
        answer.unwrap();
    }
    daemon.stop().await;
}

#[tokio::test]
async fn two_requests_that_leave_no_room_for_their_models_take_turns() {
    let script = "resident:400 peak:500";
    let (_place, world, daemon, client) =
        of_a_thousand(&[("a.onnx", script), ("b.onnx", script), ("z.onnx", "peak:200 block")]).await;
    let ask = |model| asking(&client, request(model));
    let mut asked = vec![ask("z")];
    world.until(|seen| seen.inside == 1).await;
    for (model, pending) in [
        ("a", "nv_inference_pending_request_count{model=\"a\""),
        ("b", "nv_inference_pending_request_count{model=\"b\""),
    ] {
        asked.push(ask(model));
        until_metric(&daemon, pending, 1.0).await;
    }
    world.release();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_that_waits_for_memory_keeps_its_own_model() {
    let mut place = Place::new(&[("a.onnx", "resident:400 peak:500")]);
    place.settings.memory_bytes = 1000;
    place.settings.compile_memory_bytes = 400;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    place.write("c.onnx", "resident:100 hold");
    let load = tokio::spawn({
        let client = client.clone();
        async move { client.load("c").await }
    });
    let before = world.until(|seen| seen.compiles_started == 2).await.shut_down;
    let waiting = asking(&client, request("a"));
    until_metric(&daemon, "nv_inference_pending_request_count{model=\"a\"", 1.0).await;
    world.release();
    load.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(world.seen().shut_down, before, "a stays");
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_that_fits_only_without_its_model_is_refused_at_once() {
    let mut place = Place::new(&[("m.onnx", "resident:600 peak:500")]);
    place.settings.memory_bytes = 1000;
    let world = World::new();
    let daemon = place.start(&world).await;
    let refused = client(&daemon).await.infer(request("m")).await.unwrap_err();
    let text = "model `m` needs 500 bytes for the request; the budget is 1000, 600 in use";
    assert_eq!((refused.to_string().as_str(), refused.code()), (text, Some(Code::ResourceExhausted)));
    daemon.stop().await;
}

#[tokio::test]
async fn a_compilation_takes_its_memory_from_the_same_budget() {
    let mut place = Place::new(&[("a.onnx", "resident:500")]);
    place.settings.memory_bytes = 1000;
    place.settings.compile_memory_bytes = 600;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    assert_eq!(metric(&daemon, IN_USE).await, Some(500.0));
    place.write("c.onnx", "resident:100 hold");
    let load = tokio::spawn({
        let client = client.clone();
        async move { client.load("c").await }
    });
    world.until(|seen| seen.compiles_started == 2).await;
    assert_eq!(metric(&daemon, IN_USE).await, Some(600.0), "a made room");
    let waiting = asking(&client, request("a"));
    world.release();
    load.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(metric(&daemon, IN_USE).await, Some(600.0), "a and c");
    daemon.stop().await;
}

#[tokio::test]
async fn a_compilation_that_gets_no_memory_is_refused_with_the_numbers() {
    let pinned = "parameters { key: \"ired.pinned\" value { string_value: \"true\" } }";
    let mut place = Place::new(&[("a.onnx", "resident:500"), ("a.config.pbtxt", pinned)]);
    place.settings.memory_bytes = 1000;
    place.settings.compile_memory_bytes = 600;
    place.settings.compile_wall_s = 1;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    place.write("c.onnx", "resident:100");
    let refused = client.load("c").await.unwrap_err();
    let text = "a compilation needs 600 bytes of memory; the budget is 1000, 500 in use by what cannot go";
    assert!(refused.to_string().contains(text), "{refused}");
    assert_eq!(refused.code(), Some(Code::ResourceExhausted));
    client.infer(request("a")).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn versions_that_do_not_fit_together_while_they_are_tried_take_turns() {
    let mut place = Place::new(&[("z.onnx", "peak:200 block")]);
    place.settings.memory_bytes = 1000;
    place.settings.compile_memory_bytes = 10;
    place.settings.request_timeout_s = 20;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let busy = asking(&client, request("z"));
    world.until(|seen| seen.inside == 1).await;
    let load = |model: &'static str| {
        let warm_up = "model_warmup { name: \"w\" batch_size: 1 \
                       inputs { key: \"x\" value { data_type: TYPE_FP32 dims: 3 zero_data: true } } }";
        place.write(&format!("{model}.onnx"), "resident:400 peak:450");
        place.write(&format!("{model}.config.pbtxt"), &format!("max_batch_size: 8 {warm_up}"));
        let client = client.clone();
        tokio::spawn(async move { client.load(model).await })
    };
    let loads = ["a", "b"].map(load);
    world.until(|seen| seen.peaks_asked == 3).await;
    world.release();
    busy.await.unwrap().unwrap();
    for load in loads {
        load.await.unwrap().unwrap();
    }
    daemon.stop().await;
}
