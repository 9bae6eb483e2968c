//! Requests that are kept: which, what is known of them, and who is shown them.

use ired::Daemon;
use ired_proto::ired::v1::trace_attribute::Value as Attribute;
use ired_proto::ired::v1::trace_service_client::TraceServiceClient;
use ired_proto::ired::v1::{GetTraceRequest, ListTracesRequest, TraceSpan};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::schedule::{asking, grpc, until_waiting};
use crate::scripted::{Place, World, channel, client, http, request};
use crate::security::{ROLES, token, with_access};

pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

pub(crate) fn traceparent(sampled: bool) -> String {
    format!("00-{TRACE}-00f067aa0ba902b7-0{}", u8::from(sampled))
}

pub(crate) const BODY: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#;

async fn get(daemon: &Daemon, path: &str) -> Value {
    http(daemon.http, "GET", path, &[], b"").await.json()
}

async fn ids(daemon: &Daemon, query: &str) -> Vec<String> {
    let list = get(daemon, &format!("/v1/requests{query}")).await;
    let id = |request: &Value| request["id"].as_str().unwrap().to_owned();
    list["requests"].as_array().unwrap().iter().map(id).collect()
}

fn names(spans: &[TraceSpan]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test]
async fn a_request_whose_caller_traces_it_is_kept_with_its_steps() {
    let (place, world) = (Place::new(&[("m.onnx", "takes:20")]), World::new());
    let daemon = place.start(&world).await;
    let mut call = Request::new(asking("m", 1, 1.0));
    call.get_mut().id = "mine".to_owned();
    call.metadata_mut().insert("traceparent", traceparent(true).parse().unwrap());
    let answer = grpc(&daemon).await.model_infer(call).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine");
    assert_eq!(answer.get_ref().id, "mine");

    let mut traces = TraceServiceClient::new(channel(daemon.grpc).await);
    let list = traces.list_traces(ListTracesRequest::default()).await.unwrap().into_inner().traces;
    assert_eq!((list[0].id.as_str(), list[0].model.as_str(), list[0].version), ("mine", "m", 1));
    assert_eq!(list[0].outcome, "ok");
    let by_id = async |id: &str| {
        let mut traces = traces.clone();
        let request = GetTraceRequest { id: id.to_owned() };
        traces.get_trace(request).await.map(|answer| answer.into_inner().trace.unwrap())
    };
    let trace = by_id("mine").await.unwrap();
    assert_eq!(by_id(TRACE).await.unwrap(), trace);
    assert_eq!(by_id("other").await.unwrap_err().code(), Code::NotFound);
    assert_eq!((trace.trace_id.as_str(), trace.traceparent), (TRACE, traceparent(true)));
    let steps = ["request", "queue", "input copy", "worker queue", "infer", "output copy"];
    assert_eq!(names(&trace.spans), steps);
    let [whole, steps @ ..] = trace.spans.as_slice() else { panic!("no spans") };
    assert_eq!((whole.start_ns, whole.end_ns, whole.parent), (0, list[0].duration_ns, None));
    for pair in steps.windows(2) {
        assert!(pair[0].start_ns <= pair[0].end_ns && pair[0].end_ns == pair[1].start_ns, "{pair:?}");
    }
    let infer = &steps[3];
    assert!(infer.end_ns - infer.start_ns >= 20_000_000 && infer.end_ns <= whole.end_ns, "{infer:?}");
    assert!(steps.iter().all(|step| step.parent == Some(0)));

    let rest = get(&daemon, "/v1/requests/mine").await;
    assert_eq!((&rest["version"], &rest["outcome"]), (&json!("1"), &json!("ok")));
    assert_eq!((&rest["trace_id"], &rest["duration_ns"]), (&json!(TRACE), &json!(list[0].duration_ns)));
    assert_eq!((&rest["spans"][4]["name"], &rest["spans"][4]["parent"]), (&json!("infer"), &json!(0)));
    let started = rest["started"].as_str().unwrap();
    let started = time::OffsetDateTime::parse(started, &time::format_description::well_known::Rfc3339);
    assert_eq!(started.unwrap().unix_timestamp_nanos(), i128::from(list[0].started_unix_ns));
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_neither_traced_nor_failed_nor_slow_leaves_nothing() {
    let mut place = Place::new(&[("m.onnx", ""), ("other.onnx", "")]);
    place.settings.tracing.slow_ms = 0;
    let daemon = place.start(&World::new()).await;
    let infer = async |path: &str, headers: &[(&str, &str)], body: &str| {
        http(daemon.http, "POST", path, headers, body.as_bytes()).await
    };
    let unsampled = traceparent(false);
    let plain = infer("/v2/models/m/infer", &[("traceparent", &unsampled)], BODY).await;
    assert_eq!((plain.status, plain.header("x-request-id")), (200, None));
    let named = infer("/v2/models/m/infer", &[("x-request-id", "r1")], BODY).await;
    assert_eq!(named.header("x-request-id"), Some("r1"), "its name comes back all the same");
    assert_eq!(ids(&daemon, "").await, [""; 0]);

    let failed =
        infer("/v2/models/m/infer", &[("x-request-id", "r2")], &BODY.replace("[1,3]", "[3,1]")).await;
    assert_eq!((failed.status, failed.header("x-request-id")), (400, Some("r2")));
    let unnamed = infer("/v2/models/other/infer", &[("traceparent", &traceparent(true))], BODY).await;
    let given = unnamed.header("x-request-id").unwrap();
    assert_eq!(ids(&daemon, "").await, [given, "r2"]);
    assert_eq!(ids(&daemon, "?limit=1").await, [given]);
    assert_eq!(ids(&daemon, "?model=m").await, ["r2"]);
    let failed = get(&daemon, "/v1/requests/r2").await;
    assert_eq!(failed["outcome"], "INVALID_ARGUMENT");
    assert_eq!(failed["error"], "input `x`: found shape [3, 1], expected [N, 3]");
    let strange = http(daemon.http, "GET", "/v1/requests?limit=many", &[], b"").await;
    assert_eq!(strange.status, 400);
    let unknown = http(daemon.http, "GET", "/v1/requests/%F0%9F%A6%80%0A", &[], b"").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.error(), "no request or trace `🦀\\n` is kept; the oldest are forgotten first");
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_that_turns_out_slow_is_kept_below_its_callers_span() {
    let mut place = Place::new(&[("m.onnx", "takes:30")]);
    place.settings.tracing.slow_ms = 20;
    let daemon = place.start(&World::new()).await;
    let unsampled = traceparent(false);
    let headers = [("traceparent", unsampled.as_str())];
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &headers, BODY.as_bytes()).await;
    let slow = get(&daemon, &format!("/v1/requests/{}", reply.header("x-request-id").unwrap())).await;
    assert_eq!((&slow["trace_id"], &slow["traceparent"]), (&json!(TRACE), &json!(unsampled)));
    assert_eq!((&slow["outcome"], &slow["spans"][4]["name"]), (&json!("ok"), &json!("infer")));
    daemon.stop().await;
}

#[tokio::test]
async fn callers_are_followed_only_where_the_settings_say_so() {
    let mut place = Place::new(&[("m.onnx", "")]);
    place.settings.tracing.follow_callers = false;
    place.settings.tracing.slow_ms = 0;
    let daemon = place.start(&World::new()).await;
    let headers = [("traceparent", traceparent(true))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(http(daemon.http, "POST", "/v2/models/m/infer", &headers, BODY.as_bytes()).await.status, 200);
    assert_eq!(ids(&daemon, "").await, [""; 0]);
    daemon.stop().await;
}

#[tokio::test]
async fn joined_requests_know_which_others_of_them_are_traced() {
    let config = "max_batch_size: 8 dynamic_batching { } instance_group { count: 1 kind: KIND_CPU }";
    let (place, world) =
        (Place::new(&[("m/1/model.onnx", "block"), ("m/config.pbtxt", config)]), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let ask = |id: &str, sampled: bool| {
        let mut call = Request::new(asking("m", 2, 1.0));
        call.get_mut().id = id.to_owned();
        call.metadata_mut().insert("traceparent", traceparent(sampled).parse().unwrap());
        let mut grpc = grpc.clone();
        tokio::spawn(async move { grpc.model_infer(call).await.unwrap() })
    };
    let first = ask("first", false);
    world.until(|seen| seen.inside == 1).await;
    let mut asked = vec![first];
    for (id, sampled) in [("a", true), ("b", false), ("c", true)] {
        asked.push(ask(id, sampled));
        until_waiting(&daemon, asked.len() as f64 - 1.0).await;
    }
    world.release();
    for answer in asked {
        answer.await.unwrap();
    }
    let mut traces = TraceServiceClient::new(channel(daemon.grpc).await);
    let mut trace = async |id: &str| {
        traces.get_trace(GetTraceRequest { id: id.to_owned() }).await.unwrap().into_inner().trace.unwrap()
    };
    let (a, c) = (trace("a").await, trace("c").await);
    let batch = &a.spans[2];
    assert_eq!((batch.name.as_str(), batch.parent), ("batch", Some(0)));
    let numbers: Vec<_> = batch.attributes.iter().map(|a| (a.name.as_str(), a.value.clone())).collect();
    let number = |number| Some(Attribute::Integer(number));
    assert_eq!(numbers, [("requests", number(3)), ("rows", number(6))]);
    let context = |trace: &ired_proto::ired::v1::Trace| format!("{}-{}", trace.trace_id, trace.span_id);
    assert_eq!(batch.links, [context(&a), context(&c)]);
    assert_eq!(names(&a.spans[3..]), ["input copy", "worker queue", "infer", "output copy"]);
    assert!(a.spans[3..].iter().all(|span| span.parent == Some(2)));
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_whose_client_left_is_kept_as_cancelled() {
    let (place, world) = (Place::new(&[("m.onnx", "block")]), World::new());
    let daemon = place.start(&world).await;
    let setting = json!({ "trace_level": "TIMESTAMPS", "trace_rate": "1" }).to_string();
    http(daemon.http, "POST", "/v2/trace/setting", &[], setting.as_bytes()).await;
    let asking = client(&daemon).await;
    let asked = ired_client::InferRequest { id: "left".to_owned(), ..request("m") };
    let asked = tokio::spawn(async move { asking.infer(asked).await });
    world.until(|seen| seen.inside == 1).await;
    asked.abort();
    world.until(|seen| seen.cancelled == 1).await;
    let mut found = Vec::new();
    for _ in 0..1000 {
        found = ids(&daemon, "").await;
        if !found.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(found, ["left"]);
    let trace = get(&daemon, "/v1/requests/left").await;
    assert_eq!((&trace["outcome"], &trace["spans"][2]["name"]), (&json!("CANCELLED"), &json!("infer")));
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_that_waited_and_is_given_up_while_it_runs_has_had_its_turn() {
    let one = "instance_group { count: 1 }";
    let (place, world) = (Place::new(&[("m/1/model.onnx", "block"), ("m/config.pbtxt", one)]), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let ask = |id: &str| {
        let mut call = Request::new(asking("m", 1, 1.0));
        call.get_mut().id = id.to_owned();
        call.metadata_mut().insert("traceparent", traceparent(true).parse().unwrap());
        let mut grpc = grpc.clone();
        tokio::spawn(async move { grpc.model_infer(call).await })
    };
    let first = ask("first");
    world.until(|seen| seen.inside == 1).await;
    let second = ask("second");
    until_waiting(&daemon, 1.0).await;
    first.abort();
    world.until(|seen| seen.cancelled == 1 && seen.inside == 1).await;
    second.abort();
    world.until(|seen| seen.cancelled == 2).await;
    for _ in 0..1000 {
        if ids(&daemon, "").await.len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let kept = get(&daemon, "/v1/requests/second").await;
    let names: Vec<_> = kept["spans"].as_array().unwrap().iter().map(|span| &span["name"]).collect();
    assert_eq!(names, ["request", "queue", "infer"]);
    daemon.stop().await;
}

#[tokio::test]
async fn traces_are_shown_to_those_who_may_see_their_models() {
    let mut place = Place::new(&[("m1.onnx", ""), ("other.onnx", "")]);
    place.settings.tracing.slow_ms = 0;
    let people = ["reader", "admin"].map(|role| token(role, role));
    with_access(&mut place, &format!("{ROLES}{}{}", people[0].1, people[1].1));
    let daemon = place.start(&World::new()).await;
    let [reader, admin] = people.map(|(token, _)| format!("Bearer {token}"));
    for model in ["m1", "other"] {
        let headers =
            [("authorization", admin.as_str()), ("x-request-id", model), ("traceparent", &traceparent(true))];
        let path = format!("/v2/models/{model}/infer");
        assert_eq!(http(daemon.http, "POST", &path, &headers, BODY.as_bytes()).await.status, 200);
    }
    let ask =
        async |path: &str, who: &str| http(daemon.http, "GET", path, &[("authorization", who)], b"").await;
    let listed = async |who: &str| {
        let list = ask("/v1/requests", who).await.json();
        list["requests"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&admin).await, ["other", "m1"]);
    assert_eq!(listed(&reader).await, ["m1"]);
    assert_eq!(ask("/v1/requests/other", &admin).await.status, 200);
    assert_eq!(ask("/v1/requests/m1", &reader).await.status, 200);
    assert_eq!(ask("/v1/requests/other", &reader).await.status, 404);
    assert_eq!(http(daemon.http, "GET", "/v1/requests", &[], b"").await.status, 401);
    daemon.stop().await;
}
