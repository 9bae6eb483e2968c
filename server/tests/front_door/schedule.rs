//! Who runs when: joined requests, priorities, refusals with a hint, and the configuration that asks for them.

use std::collections::HashMap;
use std::time::Duration;

use ired::Daemon;
use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::model_config::SchedulingChoice;
use ired_proto::inference::model_infer_request::InferInputTensor;
use ired_proto::inference::{
    InferParameter, ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelStatisticsRequest,
    RepositoryIndexRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::scripted::{Place, World, channel, client, http};

pub(crate) type Grpc = GrpcInferenceServiceClient<Channel>;

pub(crate) async fn grpc(daemon: &Daemon) -> Grpc {
    GrpcInferenceServiceClient::new(channel(daemon.grpc).await)
}

/// A request of so many rows that all hold `value`.
pub(crate) fn asking(model: &str, rows: i64, value: f32) -> ModelInferRequest {
    let data: Vec<u8> = std::iter::repeat_n(value.to_le_bytes(), rows as usize * 3).flatten().collect();
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![rows, 3],
            ..Default::default()
        }],
        raw_input_contents: vec![data.into()],
        ..Default::default()
    }
}

pub(crate) fn with(mut request: ModelInferRequest, name: &str, value: ParameterChoice) -> ModelInferRequest {
    request.parameters.insert(name.to_owned(), InferParameter { parameter_choice: Some(value) });
    request
}

pub(crate) fn floats(response: &ModelInferResponse) -> Vec<f32> {
    let bytes = response.raw_output_contents[0].chunks_exact(4);
    bytes.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

pub(crate) type Answering = tokio::task::JoinHandle<Result<ModelInferResponse, Status>>;

fn ask(grpc: &Grpc, request: ModelInferRequest) -> Answering {
    let mut grpc = grpc.clone();
    tokio::spawn(async move { Ok(grpc.model_infer(request).await?.into_inner()) })
}

pub(crate) async fn metric(daemon: &Daemon, name: &str) -> Option<f64> {
    let reply = http(daemon.metrics, "GET", "/metrics", &[], b"").await;
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

/// Waits until a metric has come to this.
pub(crate) async fn until_metric(daemon: &Daemon, name: &str, value: f64) {
    for _ in 0..1000 {
        if metric(daemon, name).await == Some(value) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is {:?}, not {value}", metric(daemon, name).await);
}

/// Waits until so many requests of model `m` wait for their turn.
pub(crate) async fn until_waiting(daemon: &Daemon, count: f64) {
    until_metric(daemon, "ired_queue_length{model=\"m\"", count).await;
}

/// A daemon whose model `m` runs its first request, with rows of 1, until the world is released.
struct Busy {
    daemon: Daemon,
    grpc: Grpc,
    world: World,
    first: Answering,
    _place: Place,
}

async fn busy(config: &str) -> Busy {
    busy_at(Place::new(&[("m/1/model.onnx", "block"), ("m/config.pbtxt", config)])).await
}

async fn busy_at(place: Place) -> Busy {
    let world = World::new();
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let first = ask(&grpc, asking("m", 1, 1.0));
    world.until(|seen| seen.inside == 1).await;
    Busy { daemon, grpc, world, first, _place: place }
}

const BATCHING: &str = "max_batch_size: 8 dynamic_batching { } instance_group { count: 1 kind: KIND_CPU }";

#[tokio::test]
async fn requests_that_wait_run_as_one_and_each_gets_its_own_rows() {
    let Busy { daemon, grpc, world, first, _place } = busy(BATCHING).await;
    let mut answers = vec![(1, 1.0, first)];
    for (rows, value) in [(2, 2.0), (3, 3.0), (3, 4.0), (1, 5.0)] {
        answers.push((rows, value, ask(&grpc, asking("m", rows, value))));
        until_waiting(&daemon, answers.len() as f64 - 1.0).await;
    }
    world.release();
    for (rows, value, answer) in answers {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.outputs[0].shape, [rows, 3]);
        assert_eq!(floats(&answer), vec![2.0 * value; rows as usize * 3]);
    }
    // The first alone, as nothing ran; then what fits into eight rows; then the rest.
    assert_eq!(world.seen().ran, [(1, 1.0), (8, 2.0), (1, 5.0)]);

    let asked = ModelStatisticsRequest { name: "m".to_owned(), version: String::new() };
    let stats = grpc.clone().model_statistics(asked).await.unwrap().into_inner().model_stats.remove(0);
    assert_eq!((stats.inference_count, stats.execution_count), (10, 3));
    assert_eq!(stats.inference_stats.unwrap().success.unwrap().count, 5);
    let sizes: Vec<(u64, u64)> = stats
        .batch_stats
        .iter()
        .map(|batch| (batch.batch_size, batch.compute_infer.unwrap().count))
        .collect();
    assert_eq!(sizes, [(1, 2), (8, 1)]);
    let count = metric(&daemon, "ired_batch_rows_bucket{model=\"m\",version=\"1\",le=\"4\"}").await;
    assert_eq!(count, Some(2.0));

    let text = grpc.clone().model_infer(asking("m", 9, 1.0)).await.unwrap_err();
    assert_eq!(text.message(), "input `x` has 9 rows; the configuration of model `m` takes at most 8");
    daemon.stop().await;
}

#[tokio::test]
async fn requests_are_joined_unasked_and_count_as_requests() {
    let mut place = Place::new(&[("m.onnx", "block")]);
    place.settings.default_max_batch_size = 4;
    let Busy { daemon, grpc, world, first, _place } = busy_at(place).await;
    // As many places as nobody joined has; what joins has two.
    let second = ask(&grpc, asking("m", 1, 2.0));
    world.until(|seen| seen.inside == 2).await;
    let mut answers = vec![first, second];
    for (rows, value) in [(2, 3.0), (1, 4.0), (3, 5.0)] {
        answers.push(ask(&grpc, asking("m", rows, value)));
        until_waiting(&daemon, answers.len() as f64 - 2.0).await;
    }
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let mut ran = world.seen().ran;
    ran.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(ran, [(1, 1.0), (1, 2.0), (3, 3.0), (3, 5.0)]);
    let asked = ModelStatisticsRequest { name: "m".to_owned(), version: String::new() };
    let stats = grpc.clone().model_statistics(asked).await.unwrap().into_inner().model_stats.remove(0);
    assert_eq!((stats.inference_count, stats.execution_count), (5, 4));
    daemon.stop().await;
}

#[tokio::test]
async fn what_rounds_by_the_number_of_rows_is_not_joined_unasked() {
    let mut place = Place::new(&[("m.onnx", "block rounds")]);
    place.settings.default_max_batch_size = 4;
    let Busy { daemon, grpc, world, first, _place } = busy_at(place).await;
    let mut answers = vec![first];
    for value in [2.0, 3.0, 4.0] {
        answers.push(ask(&grpc, asking("m", 1, value)));
    }
    world.until(|seen| seen.inside == 4).await;
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert!(world.seen().ran.iter().all(|(rows, _)| *rows == 1), "{:?}", world.seen().ran);
    daemon.stop().await;
}

#[tokio::test]
async fn a_batch_goes_on_for_those_who_stay() {
    let Busy { daemon, grpc, world, first, _place } = busy(BATCHING).await;
    let leader = ask(&grpc, asking("m", 1, 2.0));
    until_waiting(&daemon, 1.0).await;
    let follower = ask(&grpc, asking("m", 1, 3.0));
    until_waiting(&daemon, 2.0).await;
    // The two are joined when the first is given up, and then the one that leads goes.
    first.abort();
    world.until(|seen| seen.ran.len() == 2).await;
    assert_eq!(world.seen().ran[1], (2, 2.0));
    leader.abort();
    let _ = leader.await;
    world.release();
    assert_eq!(floats(&follower.await.unwrap().unwrap()), [6.0; 3]);

    // One that nobody waits for any more is cancelled.
    let cancelled = world.seen().cancelled;
    assert_eq!(cancelled, 1, "the first");
    daemon.stop().await;
}

#[tokio::test]
async fn a_fuller_batch_is_waited_for_no_longer_than_the_bound() {
    let config = "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4] max_queue_delay_microseconds: 300000 } \
                  instance_group { count: 8 }";
    let Busy { daemon, grpc, world, first, _place } = busy(config).await;
    let mut answers = vec![first];
    // Nothing else runs these two than the end of the wait.
    answers.extend([2.0, 3.0].map(|value| ask(&grpc, asking("m", 1, value))));
    let seen = world.until(|seen| seen.ran.len() > 1).await;
    assert_eq!(seen.ran[1].0, 2, "{seen:?}");
    // Four rows are worth it at once.
    answers.extend([4.0, 5.0].map(|value| ask(&grpc, asking("m", 2, value))));
    let seen = world.until(|seen| seen.ran.len() > 2).await;
    assert_eq!(seen.ran[2].0, 4, "{seen:?}");
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_urgent_overtake_those_that_wait() {
    let Busy { daemon, grpc, world, first, _place } = busy("instance_group { count: 1 }").await;
    let mut answers = vec![first];
    for (value, priority) in [(2.0, 0), (3.0, 2), (4.0, 1), (5.0, 2)] {
        let request = with(asking("m", 1, value), "priority", ParameterChoice::Uint64Param(priority));
        answers.push(ask(&grpc, request));
        until_waiting(&daemon, answers.len() as f64 - 1.0).await;
    }
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let order: Vec<f32> = world.seen().ran.iter().map(|(_, value)| *value).collect();
    assert_eq!(order, [1.0, 4.0, 3.0, 5.0, 2.0]);
    daemon.stop().await;
}

#[tokio::test]
async fn a_refusal_says_when_to_come_again() {
    let config = "max_batch_size: 1 dynamic_batching { default_queue_policy { max_queue_size: 1 } } \
                  instance_group { count: 1 }";
    let files = [
        ("m/1/model.onnx", "block"),
        ("m/config.pbtxt", config),
        ("r.onnx", ""),
        (
            "r.config.pbtxt",
            "parameters { key: \"ired.requests_per_second\" value { string_value: \"0.1\" } }",
        ),
    ];
    let (place, world) = (Place::new(&files), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let first = ask(&grpc, asking("m", 1, 1.0));
    world.until(|seen| seen.inside == 1).await;
    let second = ask(&grpc, asking("m", 1, 2.0));
    until_waiting(&daemon, 1.0).await;

    let refused = grpc.clone().model_infer(asking("m", 1, 3.0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "model `m` has 1 requests waiting already");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);

    let json = br#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &[], json).await;
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);

    assert_eq!(http(daemon.http, "POST", "/v2/models/r/infer", &[], json).await.status, 200);
    let reply = http(daemon.http, "POST", "/v2/models/r/infer", &[], json).await;
    assert_eq!(
        (reply.status, reply.error().as_str()),
        (429, "model `r` takes 0.1 requests a second at most")
    );
    assert!((9..=10).contains(&reply.header("retry-after").unwrap().parse::<u64>().unwrap()));
    world.release();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_answered_in_time_is_not_run() {
    let config = "instance_group { count: 1 }";
    let files = [("m/1/model.onnx", "takes:1000"), ("m/config.pbtxt", config)];
    let (place, world) = (Place::new(&files), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    grpc.clone().model_infer(asking("m", 1, 1.0)).await.unwrap();
    let running = ask(&grpc, asking("m", 1, 2.0));
    world.until(|seen| seen.inside == 1).await;
    let late = with(asking("m", 1, 3.0), "timeout", ParameterChoice::Int64Param(400_000));
    let refused = grpc.clone().model_infer(late).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().starts_with("model `m` would answer in "), "{refused:?}");
    running.await.unwrap().unwrap();
    assert_eq!(world.seen().ran.len(), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn requests_given_up_at_any_moment_leave_nothing_behind() {
    let config = "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 500 }";
    let files = [("m/1/model.onnx", "takes:1"), ("m/config.pbtxt", config), ("n.onnx", "takes:1")];
    let (place, world) = (Place::new(&files), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let mut random = 7u64;
    let mut next = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    for _ in 0..20 {
        let asked: Vec<(u64, Answering)> = (0..40)
            .map(|at| {
                let model = if next(2) == 0 { "m" } else { "n" };
                (next(4000), ask(&grpc, asking(model, 1, at as f32)))
            })
            .collect();
        for (at, (us, answer)) in asked.into_iter().enumerate() {
            if us < 2000 {
                tokio::time::sleep(Duration::from_micros(us / 20)).await;
                answer.abort();
            } else {
                assert_eq!(floats(&answer.await.unwrap().unwrap()), [2.0 * at as f32; 3]);
            }
        }
    }
    world.until(|seen| seen.inside == 0).await;
    until_waiting(&daemon, 0.0).await;
    for model in ["m", "n"] {
        let name = format!("nv_inference_pending_request_count{{model=\"{model}\"");
        until_metric(&daemon, &name, 0.0).await;
        grpc.clone().model_infer(asking(model, 1, 1.0)).await.unwrap();
    }
    daemon.stop().await;
}

fn says_independent(value: &str) -> String {
    format!("parameters {{ key: \"ired.rows_independent\" value {{ string_value: \"{value}\" }} }}")
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_is_told_by_name() {
    let insisted = format!("max_batch_size: 8 dynamic_batching {{ }} {}", says_independent("true"));
    let unclear = says_independent("yes");
    let files = [
        ("m.onnx", ""),
        ("a/1/model.onnx", ""),
        ("a/config.pbtxt", "max_batchsize: 3"),
        ("b/1/model.onnx", ""),
        ("b/config.pbtxt", "input { name: \"z\" data_type: TYPE_FP32 }"),
        ("c/1/model.onnx", ""),
        ("c/config.pbtxt", "input { name: \"x\" data_type: TYPE_INT8 }"),
        ("d/1/model.onnx", ""),
        ("d/config.pbtxt", "ensemble_scheduling { }"),
        ("e/1/model.onnx", ""),
        ("e/config.pbtxt", "dynamic_batching { }"),
        ("f/1/model.onnx", "centers"),
        ("f/config.pbtxt", "max_batch_size: 8 dynamic_batching { }"),
        ("g/1/model.onnx", "centers"),
        ("g/config.pbtxt", insisted.as_str()),
        ("h/1/model.onnx", "centers"),
        ("h/config.pbtxt", "max_batch_size: 8"),
        ("i/1/model.onnx", ""),
        ("i/config.pbtxt", unclear.as_str()),
    ];
    let (place, world) = (Place::new(&files), World::new());
    let daemon = place.start(&world).await;
    let mut grpc = grpc(&daemon).await;
    let index = grpc.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    let reasons: HashMap<String, String> =
        index.models.into_iter().map(|model| (model.name, model.reason)).collect();
    let expected = [
        ("m", ""),
        ("a", "max_batchsize"),
        ("b", "the configuration of `b`: the model has no input `z`; it has `x`"),
        ("c", "the configuration of `c`: input `x` is TYPE_INT8; the model's is TYPE_FP32"),
        ("d", "the configuration of `d`: `ensemble_scheduling` is not supported"),
        ("e", "the configuration of `e`: `dynamic_batching` needs a `max_batch_size` of 1 or more"),
        (
            "f",
            "the configuration of `f`: `dynamic_batching` is not possible: rows of output `y` depend on each other: \
             `/mean` (ReduceMean) works along the rows; if you know better, the parameter `ired.rows_independent` of the \
             configuration says so",
        ),
        ("g", ""),
        // Its requests run one by one.
        ("h", ""),
        ("i", "the configuration of `i`: `ired.rows_independent` is `yes`, neither true nor false"),
    ];
    for (model, reason) in expected {
        assert!(reasons[model].contains(reason), "{model}: {}", reasons[model]);
        assert_eq!(reasons[model].is_empty(), reason.is_empty(), "{model}: {}", reasons[model]);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_load_request_may_bring_the_configuration() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let mut grpc = grpc(&daemon).await;
    let load = |config: &str| serde_json::json!({ "parameters": { "config": config } }).to_string();
    let config = load(r#"{"max_batch_size": 4, "dynamic_batching": {"preferred_batch_size": [2]}}"#);
    let reply = http(daemon.http, "POST", "/v2/repository/models/m/load", &[], config.as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let asked = || ModelConfigRequest { name: "m".to_owned(), version: String::new() };
    let found = grpc.model_config(asked()).await.unwrap().into_inner().config.unwrap();
    assert_eq!((found.max_batch_size, &found.input[0].dims), (4, &vec![3]));
    match found.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(batching)) => assert_eq!(batching.preferred_batch_size, [2]),
        other => panic!("{other:?}"),
    }
    let found = http(daemon.http, "GET", "/v2/models/m/config", &[], b"").await.json();
    assert_eq!(found["dynamic_batching"]["preferred_batch_size"], serde_json::json!([2]), "{found}");
    let wrong = load(r#"{"max_batch_size": 4, "dynamic_batch": {}}"#);
    let reply = http(daemon.http, "POST", "/v2/repository/models/m/load", &[], wrong.as_bytes()).await;
    assert!(reply.status == 400 && reply.error().contains("dynamic_batch"), "{reply:?}");
    // Without one the model is as its files say.
    let reply = http(daemon.http, "POST", "/v2/repository/models/m/load", &[], b"").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let found = grpc.model_config(asked()).await.unwrap().into_inner().config.unwrap();
    assert_eq!((found.max_batch_size, &found.input[0].dims), (0, &vec![-1, 3]));

    // Beside it, the only file is the model, whatever its name.
    let parameters = serde_json::json!({ "config": r#"{"max_batch_size": 4}"#, "file:1/net.onnx": "" });
    let body = serde_json::json!({ "parameters": parameters }).to_string();
    let reply = http(daemon.http, "POST", "/v2/repository/models/n/load", &[], body.as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let found = http(daemon.http, "GET", "/v2/models/n/config", &[], b"").await.json();
    assert_eq!(found["max_batch_size"], 4, "{found}");
    daemon.stop().await;
}

#[tokio::test]
async fn the_wait_that_is_expected_is_told_wherever_queues_are() {
    let mut place = Place::new(&[("m.onnx", "block")]);
    place.settings.executions = 1;
    let world = World::new();
    let daemon = place.start(&world).await;
    let told = async || {
        let activity = client(&daemon).await.activity().await.unwrap();
        let models = http(daemon.http, "GET", "/v1/models", &[], b"").await.json();
        let status = http(daemon.http, "GET", "/v1/status", &[], b"").await.json();
        let gauge = metric(&daemon, "ired_queue_expected_wait_seconds{model=\"m\"").await;
        let listed = models["models"][0]["requests"]["expected_wait_ns"].as_u64();
        let overall = status["requests"]["expected_wait_ns"].as_u64();
        (activity.models[0].expected_wait_ns, listed, overall, gauge, status["requests"]["waiting"].clone())
    };
    assert_eq!(told().await, (Some(0), Some(0), Some(0), Some(0.0), 0.into()));
    let grpc = grpc(&daemon).await;
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let mut grpc = grpc.clone();
            tokio::spawn(async move { grpc.model_infer(asking("m", 1, 1.0)).await })
        })
        .collect();
    until_waiting(&daemon, 1.0).await;
    assert_eq!(told().await, (None, None, None, None, 1.into()), "the model has not run yet");
    world.release();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    until_waiting(&daemon, 0.0).await;
    assert_eq!(told().await, (Some(0), Some(0), Some(0), Some(0.0), 0.into()));
    daemon.stop().await;
}
