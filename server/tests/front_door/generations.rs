//! Decoupled models: one request on a stream that gets a response for each of its runs.

mod from_rust;

use std::collections::BTreeMap;
use std::time::Duration;

use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::model_infer_request::InferRequestedOutputTensor;
use ired_proto::inference::{
    ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelStatisticsRequest,
    ModelStreamInferResponse, RepositoryModelUnloadRequest,
};
use tonic::{Code, Streaming};

use crate::schedule::{Grpc, asking, floats, grpc, until_metric, until_waiting, with};
use crate::scripted::{Place, SEQUENCES, World, http};

/// A configuration whose sequences are single requests.
fn config(batching: &str, rest: &str) -> String {
    format!(
        "max_batch_size: 8 sequence_batching {{ iterative_sequence: true {batching} {SEQUENCES} \
         max_sequence_idle_microseconds: 600000000 }} \
         model_transaction_policy {{ decoupled: true }} {rest}"
    )
}

const LAST: &str = "parameters { key: 'ired.last' value { string_value: 'last' } }";
const OLDEST: &str = "oldest { max_candidate_sequences: 4 }";
const ONE: &str = "oldest { max_candidate_sequences: 1 }";

fn parameter(name: &str, value: &str) -> String {
    format!("parameters {{ key: '{name}' value {{ string_value: '{value}' }} }} ")
}

fn place(script: &str, config: &str) -> Place {
    Place::new(&[("m/1/model.onnx", script), ("m/config.pbtxt", config)])
}

/// A request with a name.
fn named(id: &str, value: f32) -> ModelInferRequest {
    ModelInferRequest { id: id.to_owned(), ..asking("m", 1, value) }
}

async fn stream(grpc: &Grpc, requests: Vec<ModelInferRequest>) -> Streaming<ModelStreamInferResponse> {
    let responses = grpc.clone().model_stream_infer(tokio_stream::iter(requests)).await;
    responses.unwrap().into_inner()
}

fn is_last(response: &ModelStreamInferResponse) -> bool {
    let response = response.infer_response.as_ref().unwrap();
    match response.parameters["triton_final_response"].parameter_choice {
        Some(ParameterChoice::BoolParam(last)) => last,
        ref other => panic!("{other:?}"),
    }
}

/// First values of a request's responses, and its error if it has one; the last says that it is.
async fn all(grpc: &Grpc, request: ModelInferRequest) -> (Vec<f32>, String) {
    let id = request.id.clone();
    let (mut responses, mut values) = (stream(grpc, vec![request]).await, Vec::new());
    let mut over = false;
    while let Some(response) = responses.message().await.unwrap() {
        assert!(!over, "{response:?} after the last");
        over = is_last(&response);
        let answer = response.infer_response.unwrap();
        assert_eq!(answer.id, id);
        if !response.error_message.is_empty() {
            assert!(over && answer.outputs.is_empty());
            assert_eq!(responses.message().await.unwrap(), None);
            return (values, response.error_message);
        }
        values.push(floats(&answer)[0]);
    }
    assert!(over, "no last response");
    (values, String::new())
}

fn counting(numbers: std::ops::RangeInclusive<u32>) -> (Vec<f32>, String) {
    (numbers.map(|number| number as f32).collect(), String::new())
}

#[tokio::test]
async fn a_request_gets_a_response_for_each_run_until_the_model_says_that_it_was_the_last() {
    let (place, world) = (place("sequence until:3", &config(ONE, LAST)), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    assert_eq!(all(&grpc, named("a", 1.0)).await, counting(1..=3));
    // One place, which the first has given back; and its state is its own.
    assert_eq!(all(&grpc, named("", 2.0)).await.0, [2.0, 4.0]);
    // All rows have to be over.
    let mut rows = asking("m", 2, 3.0);
    rows.raw_input_contents[0] = [1f32, 1.0, 1.0, 3.0, 3.0, 3.0].map(f32::to_le_bytes).concat().into();
    assert_eq!(all(&grpc, rows).await, counting(1..=3));

    let asked = ModelStatisticsRequest { name: "m".to_owned(), ..Default::default() };
    let found = grpc.clone().model_statistics(asked).await.unwrap().into_inner().model_stats;
    let requests = found[0].inference_stats.as_ref().unwrap();
    assert_eq!(requests.success.as_ref().unwrap().count, 3);
    assert_eq!((requests.fail.as_ref().unwrap().count, found[0].execution_count), (0, 8));

    let name = || "m".to_owned();
    let config = grpc.clone().model_config(ModelConfigRequest { name: name(), ..Default::default() }).await;
    let config = config.unwrap().into_inner().config.unwrap();
    assert!(config.model_transaction_policy.unwrap().decoupled);
    let metadata =
        grpc.clone().model_metadata(ModelMetadataRequest { name: name(), ..Default::default() }).await;
    let metadata = metadata.unwrap().into_inner();
    let names = |tensors: &[ired_proto::inference::model_metadata_response::TensorMetadata]| {
        tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!((names(&metadata.inputs), names(&metadata.outputs)), (vec!["x".into()], vec!["y".into()]));
    daemon.stop().await;
}

#[tokio::test]
async fn who_takes_one_answer_is_refused_as_triton_does() {
    let (place, world) = (place("sequence until:3", &config(ONE, LAST)), World::new());
    let daemon = place.start(&world).await;
    let words = "ModelInfer RPC doesn't support models with decoupled transaction policy";
    let refused = grpc(&daemon).await.model_infer(named("a", 1.0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().starts_with(words), "{refused:?}");
    let body =
        [br#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,1,1]}]}"#.as_slice()].concat();
    let reply = http(daemon.http, "POST", "/v2/models/m/infer", &[], &body).await;
    assert_eq!(reply.status, 501);
    assert!(reply.error().starts_with(words), "{reply:?}");
    assert_eq!(world.seen().ran, []);
    daemon.stop().await;
}

#[tokio::test]
async fn a_bound_ends_a_request_too_and_the_model_is_told_of_its_end() {
    let bound = parameter("ired.max_responses", "3");
    let (place, world) = (place("sequence until:9", &config(ONE, &(bound + LAST))), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    // At the end the number of the sequence is added.
    assert_eq!(all(&grpc, named("a", 1.0)).await.0, [1.0, 2.0, 3.0 + 1.0]);
    let own = |number: i64| with(named("b", 1.0), "max_responses", ParameterChoice::Int64Param(number));
    assert_eq!(all(&grpc, own(2)).await.0, [1.0, 2.0 + 2.0]);
    assert_eq!(all(&grpc, own(100)).await.0, [1.0, 2.0, 3.0 + 3.0]);
    assert_eq!(all(&grpc, own(1)).await.0, [1.0 + 4.0]);
    let (values, error) = all(&grpc, own(0)).await;
    assert_eq!((values.len(), &*error), (0, "parameter `max_responses`: found 0, expected 1 or more"));
    assert_eq!(all(&grpc, named("", 5.0)).await.0, [5.0, 10.0], "the model ends it sooner");
    daemon.stop().await;
}

#[tokio::test]
async fn what_the_configuration_lists_is_the_requests_to_give_and_to_get() {
    let lists = "input [ { name: 'x' }, { name: 'state' } ] output [ { name: 'y' }, { name: 'next' }, { name: 'last' } ]";
    let never = SEQUENCES.replacen("[0, 1]", "[0, 0]", 1);
    let config = config(ONE, &format!("{lists} {LAST}")).replace(SEQUENCES, &never);
    let (place, world) = (place("sequence until:13", &config), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let mut request = named("a", 1.0);
    let (values, error) = all(&grpc, request.clone()).await;
    assert_eq!((values.len(), &*error), (0, "input `state` is missing"));
    let mut state = request.inputs[0].clone();
    state.name = "state".to_owned();
    request.inputs.push(state);
    request.raw_input_contents.push([10f32; 3].map(f32::to_le_bytes).concat().into());
    let asked = |name: &str| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
    request.outputs = ["next", "last", "y"].map(asked).to_vec();
    let mut responses = stream(&grpc, vec![request]).await;
    for sum in [11f32, 12.0, 13.0] {
        let response = responses.message().await.unwrap().unwrap();
        assert_eq!((&*response.error_message, is_last(&response)), ("", sum == 13.0));
        let answer = response.infer_response.unwrap();
        let names: Vec<_> = answer.outputs.iter().map(|output| &*output.name).collect();
        assert_eq!(names, ["next", "last", "y"]);
        let sums = [sum; 3].map(f32::to_le_bytes).concat();
        let expected = [sums.clone(), vec![u8::from(sum == 13.0)], sums];
        assert_eq!(answer.raw_output_contents, expected);
    }
    assert_eq!(responses.message().await.unwrap(), None);
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_that_fails_ends_its_request_and_no_other() {
    let (place, world) = (place("sequence until:9 breaks:30", &config(OLDEST, LAST)), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let wrong = ModelInferRequest { inputs: Vec::new(), raw_input_contents: Vec::new(), ..named("d", 1.0) };
    let requests = vec![named("a", 4.0), named("b", 30.0), named("c", 1.0), wrong];
    let mut responses = stream(&grpc, requests).await;
    let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
    while let Some(response) = responses.message().await.unwrap() {
        let (count, error) = found.entry(response.infer_response.unwrap().id).or_default();
        assert_eq!(*error, "", "nothing follows an error");
        if response.error_message.is_empty() {
            *count += 1;
        }
        *error = response.error_message;
    }
    assert_eq!(found["a"], (3, String::new()));
    assert_eq!((found["b"].0, found["b"].1.contains("scripted")), (0, true), "{found:?}");
    assert_eq!(found["c"], (9, String::new()));
    assert_eq!(found["d"], (0, "input `x` is missing".to_owned()));
    // The places of those that failed are free, and so is all else.
    for _ in 0..5 {
        assert!(!all(&grpc, named("e", 30.0)).await.1.is_empty());
    }
    assert_eq!(all(&grpc, named("f", 9.0)).await.0, [9.0]);
    until_metric(&daemon, "nv_inference_pending_request_count{model=\"m\"", 0.0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn other_answers_of_a_stream_keep_their_order_and_wait_for_no_generation() {
    let (place, world) = (place("sequence until:200", &config(OLDEST, LAST)), World::new());
    place.write("plain.onnx", "");
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let plain = |at: u32| ModelInferRequest { id: at.to_string(), ..asking("plain", 1, at as f32) };
    let mut requests: Vec<_> = (0..40).map(plain).collect();
    requests.insert(0, named("a", 1.0));
    requests.insert(9, named("b", 1.0));
    let mut responses = stream(&grpc, requests).await;
    let mut found: BTreeMap<bool, Vec<(String, f32)>> = BTreeMap::new();
    while let Some(response) = responses.message().await.unwrap() {
        assert_eq!(response.error_message, "");
        let answer = response.infer_response.unwrap();
        found.entry(answer.model_name == "m").or_default().push((answer.id.clone(), floats(&answer)[0]));
    }
    assert_eq!(found[&false], (0..40).map(|at| (at.to_string(), 2.0 * at as f32)).collect::<Vec<_>>());
    for id in ["a", "b"] {
        let own = found[&true].iter().filter(|(found, _)| found == id).map(|(_, value)| *value);
        assert_eq!(own.collect::<Vec<_>>(), counting(1..=200).0, "{id}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn others_get_their_turn_between_two_runs() {
    let config = config(OLDEST, LAST).replace("max_batch_size: 8", "max_batch_size: 1");
    let config = config + " instance_group { count: 1 }";
    let (place, world) = (place("sequence until:300 block takes:1", &config), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let ask = |value: f32| {
        let grpc = grpc.clone();
        tokio::spawn(async move { all(&grpc, named("", value)).await })
    };
    let mut going = vec![ask(10.0)];
    world.until(|seen| seen.inside == 1).await;
    for (at, value) in [11.0, 12.0].into_iter().enumerate() {
        going.push(ask(value));
        until_waiting(&daemon, 1.0 + at as f64).await;
    }
    world.release();
    for request in going {
        assert_eq!(request.await.unwrap().1, "");
    }
    let ran: Vec<f32> = world.seen().ran.iter().map(|(_, first)| *first).collect();
    let first = |value: f32| ran.iter().position(|&first| first == value).unwrap();
    let of_first = ran[..first(12.0)].iter().filter(|&&first| first == 10.0).count();
    assert!(of_first <= 2, "{ran:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn runs_of_several_requests_are_joined() {
    let config = config(OLDEST, LAST) + " instance_group { count: 1 }";
    let (place, world) = (place("sequence until:5 block", &config), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let ask = || {
        let grpc = grpc.clone();
        tokio::spawn(async move { all(&grpc, named("", 1.0)).await })
    };
    let mut going = vec![ask()];
    world.until(|seen| seen.inside == 1).await;
    going.extend([ask(), ask()]);
    until_waiting(&daemon, 2.0).await;
    world.release();
    for request in going {
        assert_eq!(request.await.unwrap(), counting(1..=5));
    }
    let ran = world.seen().ran;
    assert_eq!(ran.iter().map(|(rows, _)| rows).sum::<u64>(), 15);
    assert!(ran.iter().any(|(rows, _)| *rows > 1), "{ran:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn who_goes_away_ends_a_request_in_the_middle() {
    // One place: the next has it only once the one before is gone.
    let (place, world) = (place("sequence until:1000000 breaks:2000000", &config(ONE, LAST)), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    for round in 1..=5 {
        let mut responses = stream(&grpc, vec![named("a", round as f32)]).await;
        for at in 1..=round {
            let answer = responses.message().await.unwrap().unwrap().infer_response.unwrap();
            assert_eq!(floats(&answer)[0], (at * round) as f32);
        }
    }
    assert_eq!(all(&grpc, named("b", 1_000_000.0)).await.0, [1_000_000.0]);
    let seen = world.seen();
    assert_eq!((seen.inside, seen.ran.last()), (0, Some(&(1, 1_000_000.0))), "nothing goes on");
    until_metric(&daemon, "nv_inference_pending_request_count{model=\"m\"", 0.0).await;

    // And in the middle of a run.
    place.write("n/1/model.onnx", "sequence until:5 block");
    place.write("n/config.pbtxt", &config(ONE, LAST));
    grpc.clone().repository_model_load(load("n")).await.unwrap();
    let blocked =
        stream(&grpc, vec![ModelInferRequest { model_name: "n".to_owned(), ..named("a", 1.0) }]).await;
    world.until(|seen| seen.inside == 1).await;
    let cancelled = world.seen().cancelled;
    drop(blocked);
    world.until(|seen| seen.cancelled == cancelled + 1 && seen.inside == 0).await;
    daemon.stop().await;
}

fn load(model: &str) -> ired_proto::inference::RepositoryModelLoadRequest {
    ired_proto::inference::RepositoryModelLoadRequest { model_name: model.to_owned(), ..Default::default() }
}

/// A request whose responses are too many bytes to be buffered on the way.
fn large(value: f32) -> ModelInferRequest {
    ModelInferRequest { id: "slow".to_owned(), ..asking("m", 20_000, value) }
}

fn for_large(batching: &str) -> String {
    config(batching, LAST).replace("max_batch_size: 8", "max_batch_size: 100000")
        + " instance_group { count: 1 }"
}

/// A connection that takes little before it is read.
async fn small_window(daemon: &ired::Daemon) -> Grpc {
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{}", daemon.grpc)).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    Grpc::new(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn who_reads_slowly_has_few_responses_made_and_keeps_nobody_waiting() {
    let (place, world) = (place("sequence until:100", &for_large(OLDEST)), World::new());
    let daemon = place.start(&world).await;
    let mut slow = stream(&small_window(&daemon).await, vec![large(1.0)]).await;
    let of_slow = |seen: &crate::scripted::Seen| seen.ran.iter().filter(|(_, first)| *first == 1.0).count();
    world.until(|seen| of_slow(seen) > 0).await;
    // These have 50 runs each, the worker one at a time.
    let grpc = grpc(&daemon).await;
    for _ in 0..2 {
        assert_eq!(all(&grpc, named("b", 2.0)).await.0.len(), 50);
    }
    // What the connection holds, and what waits before it.
    let made = of_slow(&world.seen());
    assert!(made < 20, "{made} responses for a reader who has taken none");
    let mut count = 0;
    while let Some(response) = slow.message().await.unwrap() {
        count += 1;
        assert_eq!((&*response.error_message, is_last(&response)), ("", count == 100));
        assert_eq!(floats(&response.infer_response.unwrap())[0], count as f32);
    }
    assert_eq!(count, 100);
    daemon.stop().await;
}

#[tokio::test]
async fn who_does_not_read_a_stream_keeps_no_place_of_a_model() {
    let config = "max_batch_size: 100000 instance_group { count: 1 }";
    let (place, world) = (Place::new(&[("m/1/model.onnx", ""), ("n/1/model.onnx", "block")]), World::new());
    place.write("m/config.pbtxt", config);
    place.write("n/config.pbtxt", config);
    let daemon = place.start(&world).await;
    let of_n = |value| ModelInferRequest { model_name: "n".to_owned(), ..named("n", value) };
    // The first answer is more than the connection takes, and ready while the second still runs.
    let larger = || ModelInferRequest { id: "slow".to_owned(), ..asking("m", 90_000, 1.0) };
    let requests = vec![larger(), larger(), of_n(2.0)];
    let mut unread = stream(&small_window(&daemon).await, requests).await;
    world.until(|seen| seen.answered == 2 && seen.inside == 1).await;
    world.release();
    let mut grpc = grpc(&daemon).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), grpc.model_infer(of_n(3.0))).await;
    assert_eq!(floats(&answer.expect("the place is free").unwrap().into_inner())[0], 6.0);
    for expected in [2.0, 2.0, 4.0] {
        let response = unread.message().await.unwrap().unwrap();
        assert_eq!(floats(&response.infer_response.unwrap())[0], expected);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_deadline_is_for_all_runs_and_for_who_does_not_read_too() {
    let (place, world) = (place("sequence until:1000000", &for_large(ONE)), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let within = |request| with(request, "timeout", ParameterChoice::Int64Param(1_000_000));
    let (values, error) = all(&grpc, within(named("a", 1.0))).await;
    assert!(!values.is_empty());
    assert_eq!(error, "the deadline passed");
    // The only place is there for the next one, whether the reader knows of the end or not.
    let mut slow = stream(&small_window(&daemon).await, vec![within(large(1.0))]).await;
    world.until(|seen| seen.ran.iter().any(|(rows, _)| *rows > 1)).await;
    assert_eq!(all(&grpc, named("b", 1_000_000.0)).await.0, [1_000_000.0]);
    let mut told = String::new();
    while let Some(response) = slow.message().await.unwrap() {
        told = response.error_message;
    }
    assert_eq!(told, "the deadline passed");
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_stops_lets_a_request_come_to_its_end() {
    let (place, world) = (place("sequence until:100 takes:1", &config(ONE, LAST)), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let request = tokio::spawn(async move { all(&grpc, named("a", 1.0)).await });
    world.until(|seen| seen.answered > 2).await;
    daemon.stop().await;
    assert_eq!(request.await.unwrap(), counting(1..=100));
}

#[tokio::test]
async fn a_daemon_that_has_to_stop_waits_no_longer() {
    let mut place = place("sequence until:1000000 takes:1", &config(ONE, LAST));
    place.settings.drain_s = 0;
    let world = World::new();
    let daemon = place.start(&world).await;
    let mut responses = stream(&grpc(&daemon).await, vec![named("a", 1.0)]).await;
    world.until(|seen| seen.answered > 2).await;
    daemon.stop().await;
    while let Ok(Some(response)) = responses.message().await {
        assert!(response.error_message.is_empty() || is_last(&response));
    }
    assert_eq!(world.seen().inside, 0);
}

#[tokio::test]
async fn a_model_that_is_unloaded_lets_its_requests_end_or_tells_them() {
    for (drain_s, until) in [(10, 50), (0, 1_000_000)] {
        let mut place = place(&format!("sequence until:{until} takes:1"), &config(ONE, LAST));
        place.settings.drain_s = drain_s;
        let world = World::new();
        let daemon = place.start(&world).await;
        let grpc = grpc(&daemon).await;
        let request = {
            let grpc = grpc.clone();
            tokio::spawn(async move { all(&grpc, named("a", 1.0)).await })
        };
        world.until(|seen| seen.answered > 2).await;
        let unload = RepositoryModelUnloadRequest { model_name: "m".to_owned(), ..Default::default() };
        grpc.clone().repository_model_unload(unload).await.unwrap();
        let (values, error) = request.await.unwrap();
        assert_eq!((values.len() == until, error.is_empty()), (drain_s > 0, drain_s > 0), "{error}");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_request_counts_once_against_a_rate() {
    let rate = parameter("ired.requests_per_second", "0.001");
    let (place, world) = (place("sequence until:5", &config(ONE, &(rate + LAST))), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    assert_eq!(all(&grpc, named("a", 1.0)).await, counting(1..=5));
    let (values, error) = all(&grpc, named("b", 1.0)).await;
    assert!(values.is_empty());
    assert!(error.contains("0.001"), "{error}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_configuration_that_would_never_end_is_refused_by_name() {
    let last = |name: &str| parameter("ired.last", name);
    let alone = config(ONE, LAST).replace("model_transaction_policy { decoupled: true }", "");
    let cases = [
        (config(ONE, ""), "`iterative_sequence` needs parameter `ired.last`"),
        (alone, "`iterative_sequence` needs `model_transaction_policy { decoupled: true }`"),
        (config(ONE, &last("nobody")), "parameter `ired.last` is `nobody`; the model has no such output"),
        (
            config(ONE, &last("y")),
            "parameter `ired.last`: output `y` is f32, neither a bool nor a whole number",
        ),
        (
            config(ONE, &parameter("ired.max_responses", "0")),
            "parameter `ired.max_responses` is `0`, not a whole number from 1 on",
        ),
        (
            "model_transaction_policy { decoupled: true }".to_owned(),
            "`model_transaction_policy.decoupled without sequence_batching.iterative_sequence` is not supported",
        ),
        (
            last("last"),
            "ired.max_responses without sequence_batching.iterative_sequence` is not supported: a request is run once",
        ),
    ];
    let (place, world) = (place("sequence until:3", &config(ONE, LAST)), World::new());
    let daemon = place.start(&world).await;
    let mut grpc = grpc(&daemon).await;
    for (config, expected) in cases {
        place.write("m/config.pbtxt", &config);
        let error = grpc.repository_model_load(load("m")).await.unwrap_err();
        assert!(error.message().contains(expected), "{expected}: {error:?}");
    }
    // What answered before still does.
    assert_eq!(all(&grpc, named("a", 1.0)).await, counting(1..=3));
    let mut shared = named("a", 1.0);
    let region = [
        ("shared_memory_region", ParameterChoice::StringParam("nobody".to_owned())),
        ("shared_memory_byte_size", ParameterChoice::Int64Param(12)),
    ];
    let parameters = region.map(|(name, value)| {
        (name.to_owned(), ired_proto::inference::InferParameter { parameter_choice: Some(value) })
    });
    shared.outputs = vec![InferRequestedOutputTensor { name: "y".to_owned(), parameters: parameters.into() }];
    assert!(!all(&grpc, shared).await.1.is_empty());
    daemon.stop().await;
}

/// What a call of `generate_stream` was told.
fn events(reply: &crate::scripted::Reply) -> Vec<serde_json::Value> {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    let text = std::str::from_utf8(&reply.body).unwrap();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    events.map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[tokio::test]
async fn rest_has_each_response_as_an_event() {
    let (place, world) = (place("sequence until:3 breaks:60", &config(ONE, LAST)), World::new());
    place.write("plain.onnx", "");
    place.write("words.onnx", "strings");
    place.write("late/1/model.onnx", "sequence until:9 breaks:2");
    place.write("late/config.pbtxt", &config(ONE, LAST));
    let daemon = place.start(&world).await;
    let ask = |path: &str, body: &str| {
        let (path, body) = (format!("/v2/models/{path}"), body.to_owned());
        async move { http(daemon.http, "POST", &path, &[], body.as_bytes()).await }
    };
    let response = |model: &str, values: serde_json::Value| serde_json::json!({"model_name": model, "model_version": "1", "id": "a", "y": values});
    let reply = ask("m/generate_stream", r#"{"x": [1, 2.5, 0], "id": "a", "note": "passed over"}"#).await;
    let values = [[1.0, 2.5, 0.0], [2.0, 5.0, 0.0], [3.0, 7.5, 0.0]];
    assert_eq!(events(&reply), values.map(|values| response("m", values.into())));
    let bound = r#"{"id": "a", "x": [[2, 2, 2]], "parameters": {"max_responses": 1}, "priority": 1}"#;
    let only = response("m", [4.0, 4.0, 4.0].into());
    assert_eq!(events(&ask("m/versions/1/generate_stream", bound).await), std::slice::from_ref(&only));
    let reply = ask("m/generate", bound).await;
    assert_eq!(
        (reply.status, reply.json()["y"][0].clone()),
        (200, 5.0.into()),
        "its number is added: {reply:?}"
    );
    let reply = ask("m/generate", r#"{"x": [1, 1, 1]}"#).await;
    let several = "`generate` is for one response, and model `m` gives several; ask it by `generate_stream`";
    assert_eq!((reply.status, &*reply.error()), (400, several));
    // The first response decides the status; what comes after it is an event.
    for (body, words) in [
        (r#"{"x": [60, 0, 0]}"#, "scripted"),
        (r#"{"x": [1, 0]}"#, "found shape [1, 2]"),
        (r#"{"x": [[1, 0], [1]]}"#, "arrays beside each other are of different shapes"),
        (r#"{"x": [1, 0, true]}"#, "is not a value of its datatype"),
        (r#"{"x": {}}"#, "input `x`"),
        (r#"{"z": [1]}"#, "parameter `z`: found an array"),
        (r#"{}"#, "input `x` is missing"),
        ("[]", "it is no object"),
    ] {
        let reply = ask("m/generate_stream", body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.error().contains(words), "{body}: {reply:?}");
    }
    let reply = ask("m/generate_stream", r#"{"x": [0, 40, 0], "parameters": {"max_responses": 9}}"#).await;
    assert_eq!(events(&reply).len(), 9, "the first of each row counts");

    let found = events(&ask("late/generate_stream", r#"{"x": [1, 0, 0], "id": "a"}"#).await);
    assert_eq!((found.len(), &found[0]), (2, &response("late", [1.0, 0.0, 0.0].into())));
    assert!(found[1]["error"].as_str().unwrap().contains("scripted"), "{found:?}");

    // Models that give one response are asked in the same way.
    for method in ["generate", "generate_stream"] {
        let reply = ask(&format!("plain/{method}"), r#"{"x": [[1, 2, 3], [4, 5, 6]], "id": "a"}"#).await;
        let found = if method == "generate" { vec![reply.json()] } else { events(&reply) };
        assert_eq!(found, [response("plain", [2.0, 4.0, 6.0, 8.0, 10.0, 12.0].into())]);
    }
    let reply = ask("words/generate", r#"{"x": ["a", "\"", ""]}"#).await;
    assert_eq!(reply.json()["y"], serde_json::json!(["a", "\"", ""]));
    assert_eq!(ask("nobody/generate", "{}").await.status, 404);
    daemon.stop().await;
}
