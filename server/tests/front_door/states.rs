//! What sequences keep between runs has its part of the memory budget for as long as it lives. A row's state is 12 bytes.

use ired::Daemon;
use ired_client::Client;
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::{ModelInferRequest, ModelStreamInferResponse};
use tonic::{Code, Status, Streaming};

use crate::schedule::{Grpc, asking, floats, grpc, metric, until_metric, with};
use crate::scripted::{Place, SEQUENCES, World, client, request};

const IN_USE: &str = "ired_memory_in_use_bytes";

/// Where each sequence is one request.
fn iterative() -> String {
    format!(
        "max_batch_size: 1000 instance_group {{ count: 1 }} model_transaction_policy {{ decoupled: true }} \
         sequence_batching {{ iterative_sequence: true {SEQUENCES} }} \
         parameters {{ key: 'ired.last' value {{ string_value: 'last' }} }}"
    )
}

/// Where they are several, and end when they pause for so long.
fn paused_for(microseconds: u64) -> String {
    format!(
        "max_batch_size: 1000 \
         sequence_batching {{ {SEQUENCES} max_sequence_idle_microseconds: {microseconds} }}"
    )
}

/// A daemon of 1000 bytes, whose model `m` has 400 of them.
async fn of_a_thousand(script: &str, config: &str, others: &[(&str, &str)]) -> (Place, Daemon, Grpc) {
    let mut place = Place::new(others);
    place.write("m/1/model.onnx", &format!("{script} resident:400"));
    place.write("m/config.pbtxt", config);
    place.settings.memory_bytes = 1000;
    let daemon = place.start(&World::new()).await;
    let grpc = grpc(&daemon).await;
    (place, daemon, grpc)
}

async fn stream(grpc: &Grpc, request: ModelInferRequest) -> Streaming<ModelStreamInferResponse> {
    let responses = grpc.clone().model_stream_infer(tokio_stream::once(request)).await;
    responses.unwrap().into_inner()
}

async fn error(grpc: &Grpc, request: ModelInferRequest) -> String {
    let mut responses = stream(grpc, request).await;
    let mut last = String::new();
    while let Some(response) = responses.message().await.unwrap() {
        last = response.error_message;
    }
    last
}

/// A request of sequence `id`: `s` starts it, `e` ends it.
async fn step(grpc: &Grpc, id: i64, rows: i64, flags: &str) -> Result<f32, Status> {
    let request = with(asking("m", rows, 1.0), "sequence_id", ParameterChoice::Int64Param(id));
    let flag = |at| ParameterChoice::BoolParam(flags.contains(at));
    let request = with(with(request, "sequence_start", flag('s')), "sequence_end", flag('e'));
    Ok(floats(&grpc.clone().model_infer(request).await?.into_inner())[0])
}

#[tokio::test]
async fn those_of_a_request_that_is_run_again_and_again_go_with_it() {
    let (_place, daemon, grpc) = of_a_thousand("sequence until:1000000", &iterative(), &[]).await;
    until_metric(&daemon, IN_USE, 400.0).await;
    let mut responses = stream(&grpc, asking("m", 2, 1.0)).await;
    for _ in 0..3 {
        assert_eq!(responses.message().await.unwrap().unwrap().error_message, "");
    }
    assert_eq!(metric(&daemon, IN_USE).await, Some(424.0));
    // Who goes away takes them along, and so does a deadline.
    drop(responses);
    until_metric(&daemon, IN_USE, 400.0).await;
    let brief = with(asking("m", 3, 1.0), "timeout", ParameterChoice::Int64Param(100_000));
    assert_eq!(error(&grpc, brief).await, "the deadline passed");
    until_metric(&daemon, IN_USE, 400.0).await;
    assert_eq!(error(&grpc, asking("m", 4, 1_000_000.0)).await, "");
    until_metric(&daemon, IN_USE, 400.0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn those_of_a_run_that_failed_go_with_its_request() {
    let (_place, daemon, grpc) = of_a_thousand("sequence until:1000000 breaks:3", &iterative(), &[]).await;
    let failed = error(&grpc, asking("m", 2, 1.0)).await;
    assert!(failed.contains("scripted"), "{failed}");
    until_metric(&daemon, IN_USE, 400.0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn more_than_there_is_is_refused_with_the_numbers() {
    let (_place, daemon, grpc) = of_a_thousand("sequence until:3", &iterative(), &[]).await;
    let words = "model `m` needs 612 bytes for the states of the sequence; the budget is 1000, 400 in use";
    assert_eq!(error(&grpc, asking("m", 51, 1.0)).await, words);
    assert_eq!(error(&grpc, asking("m", 50, 1.0)).await, "");
    until_metric(&daemon, IN_USE, 400.0).await;
    daemon.stop().await;

    let (_place, daemon, grpc) = of_a_thousand("sequence", &paused_for(600_000_000), &[]).await;
    let refused = step(&grpc, 1, 51, "s").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, words));
    // It has not begun.
    assert_eq!(step(&grpc, 1, 51, "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(step(&grpc, 1, 30, "s").await.unwrap(), 1.0);
    let words = "model `m` needs 300 bytes for the states of the sequence; the budget is 1000, 760 in use";
    assert_eq!(step(&grpc, 2, 25, "s").await.unwrap_err().message(), words);
    // Those that are there go on.
    assert_eq!(step(&grpc, 1, 30, "").await.unwrap(), 2.0);
    assert_eq!(metric(&daemon, IN_USE).await, Some(760.0));
    assert_eq!(step(&grpc, 1, 30, "e").await.unwrap(), 4.0);
    until_metric(&daemon, IN_USE, 400.0).await;
    assert_eq!(step(&grpc, 2, 25, "s").await.unwrap(), 1.0);
    daemon.stop().await;
}

#[tokio::test]
async fn those_of_a_sequence_that_paused_for_too_long_go_although_nobody_asks() {
    let (_place, daemon, grpc) = of_a_thousand("sequence", &paused_for(3_000_000), &[]).await;
    for id in 1..4 {
        step(&grpc, id, 10, "s").await.unwrap();
    }
    until_metric(&daemon, IN_USE, 760.0).await;
    until_metric(&daemon, IN_USE, 400.0).await;
    // And again.
    step(&grpc, 1, 10, "s").await.unwrap();
    until_metric(&daemon, IN_USE, 520.0).await;
    until_metric(&daemon, IN_USE, 400.0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn models_that_are_idle_make_room_for_them_and_wait_for_it() {
    let pinned = "parameters { key: 'ired.pinned' value { string_value: 'true' } }";
    let config = format!("{} {pinned}", iterative());
    let others = [("other.onnx", "resident:500")];
    let (_place, daemon, grpc) = of_a_thousand("sequence until:1000000", &config, &others).await;
    until_metric(&daemon, IN_USE, 900.0).await;
    let mut responses = stream(&grpc, asking("m", 40, 1.0)).await;
    assert_eq!(responses.message().await.unwrap().unwrap().error_message, "");
    assert_eq!(metric(&daemon, IN_USE).await, Some(880.0), "the other model has made room");
    let client: Client = client(&daemon).await;
    let waiting = tokio::spawn(async move { client.infer(request("other")).await });
    until_metric(&daemon, "nv_inference_pending_request_count{model=\"other\"", 1.0).await;
    drop(responses);
    waiting.await.unwrap().unwrap();
    until_metric(&daemon, IN_USE, 900.0).await;
    daemon.stop().await;
}
