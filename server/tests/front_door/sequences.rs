//! Sequences: state between requests, control inputs, places, pauses.

use std::time::Duration;

use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::{ModelInferRequest, ModelMetadataRequest};
use tonic::Code;

use crate::schedule::{Grpc, asking, floats, grpc, with};
use crate::scripted::{Place, SEQUENCES, World};

fn config(batching: &str) -> String {
    format!("max_batch_size: 8 sequence_batching {{ {batching} {SEQUENCES} }}")
}

/// A step of sequence `id`: `s` starts it, `e` ends it.
fn step(id: u64, value: f32, flags: &str) -> ModelInferRequest {
    let request = with(asking("m", 1, value), "sequence_id", ParameterChoice::Int64Param(id as i64));
    let flag = |at| ParameterChoice::BoolParam(flags.contains(at));
    with(with(request, "sequence_start", flag('s')), "sequence_end", flag('e'))
}

async fn answer(grpc: &Grpc, request: ModelInferRequest) -> Result<f32, String> {
    let answer = grpc.clone().model_infer(request).await;
    let answer = answer.map_err(|status| {
        assert_eq!(status.code(), Code::InvalidArgument);
        status.message().to_owned()
    })?;
    let answer = answer.into_inner();
    assert_eq!(answer.outputs.len(), 1, "states are not answered");
    Ok(floats(&answer)[0])
}

#[tokio::test]
async fn a_sequence_keeps_its_state_and_no_others() {
    let config = config("oldest { max_candidate_sequences: 4 }");
    let (place, world) =
        (Place::new(&[("m/1/model.onnx", "sequence"), ("m/config.pbtxt", &config)]), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    assert_eq!(answer(&grpc, step(7, 1.0, "s")).await, Ok(1.0));
    assert_eq!(answer(&grpc, step(8, 10.0, "s")).await, Ok(10.0));
    assert_eq!(answer(&grpc, step(7, 2.0, "")).await, Ok(3.0));
    assert_eq!(answer(&grpc, step(8, 20.0, "")).await, Ok(30.0));
    assert_eq!(answer(&grpc, step(7, 3.0, "e")).await, Ok(13.0), "the end adds the id");
    let text = answer(&grpc, step(7, 1.0, "")).await.unwrap_err();
    assert!(text.starts_with("sequence `7` of model `m` is not in progress"), "{text}");
    // A start in the middle begins anew.
    assert_eq!(answer(&grpc, step(8, 5.0, "s")).await, Ok(5.0));
    assert_eq!(answer(&grpc, step(9, 5.0, "se")).await, Ok(14.0));
    // A start that is refused starts nothing.
    let mut wrong = step(11, 1.0, "s");
    wrong.inputs[0].shape = vec![3, 1];
    let text = answer(&grpc, wrong).await.unwrap_err();
    assert!(text.contains("found shape [3, 1]"), "{text}");
    let text = answer(&grpc, step(11, 1.0, "")).await.unwrap_err();
    assert!(text.starts_with("sequence `11` of model `m` is not in progress"), "{text}");
    let text = answer(&grpc, asking("m", 1, 1.0)).await.unwrap_err();
    assert!(text.contains("needs parameter `sequence_id`"), "{text}");
    let text = answer(&grpc, with(asking("m", 1, 1.0), "sequence_id", ParameterChoice::Int64Param(-1))).await;
    assert!(text.unwrap_err().starts_with("parameter `sequence_id`: found -1"));
    let named = |id: &str| ParameterChoice::StringParam(id.to_owned());
    let start = with(asking("m", 1, 1.0), "sequence_start", ParameterChoice::BoolParam(true));
    assert_eq!(answer(&grpc, with(start.clone(), "sequence_id", named("12"))).await, Ok(1.0));
    let text = answer(&grpc, with(start, "sequence_id", named("twelve"))).await.unwrap_err();
    assert!(text.contains("`twelve` does not fit control input `corrid`"), "{text}");

    let asked = ModelMetadataRequest { name: "m".to_owned(), version: String::new() };
    let metadata = grpc.clone().model_metadata(asked).await.unwrap().into_inner();
    let names = |tensors: &[ired_proto::inference::model_metadata_response::TensorMetadata]| {
        tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&metadata.inputs), names(&metadata.outputs)),
        (vec!["x".to_owned()], vec!["y".to_owned()])
    );
    daemon.stop().await;
}

#[tokio::test]
async fn nothing_is_made_for_a_request_that_is_wrong() {
    let config = config("direct { }");
    let (place, world) =
        (Place::new(&[("m/1/model.onnx", "sequence"), ("m/config.pbtxt", &config)]), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let mut wrong = step(1, 1.0, "s");
    for (shape, reason) in [
        (vec![1 << 45, 3], "input `x`: found shape [35184372088832, 3], expected [N, 3]"),
        (vec![1 << 20, 3], "input `x`: found 12 bytes, its shape needs 12582912"),
    ] {
        wrong.inputs[0].shape = shape;
        let text = answer(&grpc, wrong.clone()).await.unwrap_err();
        assert!(text.starts_with(reason), "{text}");
    }
    let mut many = with(asking("m", 9, 1.0), "sequence_id", ParameterChoice::Int64Param(2));
    many = with(many, "sequence_start", ParameterChoice::BoolParam(true));
    let text = answer(&grpc, many).await.unwrap_err();
    assert_eq!(text, "input `x` has 9 rows; the configuration of model `m` takes at most 8");
    assert_eq!(answer(&grpc, step(3, 1.0, "se")).await, Ok(4.0));
    daemon.stop().await;
}

#[tokio::test]
async fn requests_of_one_sequence_run_in_their_order_those_of_several_together() {
    let config = config("oldest { max_candidate_sequences: 8 }") + " instance_group { count: 1 }";
    let (place, world) =
        (Place::new(&[("m/1/model.onnx", "sequence takes:5"), ("m/config.pbtxt", &config)]), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    let streams = (1..=4u64).map(|id| {
        let mut grpc = grpc.clone();
        async move {
            let steps = (0..10).map(|at| step(id, 1.0, if at == 0 { "s" } else { "" }));
            let answers =
                grpc.model_stream_infer(tokio_stream::iter(steps.collect::<Vec<_>>())).await.unwrap();
            let mut answers = answers.into_inner();
            let mut found = Vec::new();
            while let Some(answer) = answers.message().await.unwrap() {
                assert_eq!(answer.error_message, "");
                found.push(floats(&answer.infer_response.unwrap())[0]);
            }
            found
        }
    });
    for found in futures::future::join_all(streams).await {
        assert_eq!(found, (1..=10).map(|n| n as f32).collect::<Vec<_>>());
    }
    let ran = world.seen().ran;
    assert_eq!(ran.iter().map(|(rows, _)| rows).sum::<u64>(), 40);
    assert!(ran.iter().any(|(rows, _)| *rows > 1), "{ran:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_with_several_sequences_has_the_requests_of_each_in_their_order() {
    let config = config("oldest { max_candidate_sequences: 8 }");
    let (place, world) =
        (Place::new(&[("m/1/model.onnx", "sequence"), ("m/config.pbtxt", &config)]), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    for round in 0..10 {
        // One after the other, as a client sends that has them all.
        let ids = (0..4).map(|id| 100 + 4 * round + id);
        let steps =
            ids.flat_map(|id| (0..25).map(move |at| step(id, at as f32, if at == 0 { "s" } else { "" })));
        let mut grpc = grpc.clone();
        let answers = grpc.model_stream_infer(tokio_stream::iter(steps.collect::<Vec<_>>()));
        let mut answers = answers.await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.error_message, "");
            found.push(floats(&answer.infer_response.unwrap())[0]);
        }
        let sums = (0..25).map(|at| (at * (at + 1) / 2) as f32).collect::<Vec<_>>();
        assert_eq!(found, sums.repeat(4));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_new_sequence_waits_for_a_place_which_an_end_or_a_pause_gives() {
    let config = "sequence_batching { direct { } max_sequence_idle_microseconds: 400000 ".to_owned()
        + SEQUENCES
        + "} max_batch_size: 1";
    let (place, world) =
        (Place::new(&[("m/1/model.onnx", "sequence"), ("m/config.pbtxt", &config)]), World::new());
    let daemon = place.start(&world).await;
    let grpc = grpc(&daemon).await;
    assert_eq!(answer(&grpc, step(1, 1.0, "s")).await, Ok(1.0));
    let second = tokio::spawn({
        let grpc = grpc.clone();
        async move { answer(&grpc, step(2, 2.0, "s")).await }
    });
    assert_eq!(answer(&grpc, step(1, 1.0, "e")).await, Ok(3.0));
    assert_eq!(second.await.unwrap(), Ok(2.0));
    // The second pauses, until it has lost its place to the third.
    assert_eq!(answer(&grpc, step(3, 4.0, "s")).await, Ok(4.0));
    let text = answer(&grpc, step(2, 1.0, "")).await.unwrap_err();
    assert!(text.starts_with("sequence `2` of model `m` is not in progress"), "{text}");

    // Who gives up waiting for a place has started nothing.
    let mut impatient = tonic::Request::new(step(4, 1.0, "s"));
    impatient.set_timeout(Duration::from_millis(20));
    assert!(grpc.clone().model_infer(impatient).await.is_err());
    let text = answer(&grpc, step(4, 1.0, "")).await.unwrap_err();
    assert!(text.starts_with("sequence `4` of model `m` is not in progress"), "{text}");
    daemon.stop().await;
}
