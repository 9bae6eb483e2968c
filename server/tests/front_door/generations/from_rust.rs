//! The same through the Rust client.

use std::num::NonZeroU32;

use ired_client::{ClientError, InferRequest, InferResponse, InferResponses, Tensor};

use super::*;
use crate::scripted::{client, request, x};

/// Of a large request.
const ROWS: u64 = 20_000;

fn rows(value: f32, rows: u64) -> InferRequest {
    let data: Vec<u8> = std::iter::repeat_n(value.to_le_bytes(), 3 * rows as usize).flatten().collect();
    let input = Tensor { shape: vec![rows, 3], data: data.into(), ..x(1) };
    InferRequest { inputs: vec![input], ..request("m") }
}

fn ask(value: f32) -> InferRequest {
    rows(value, 1)
}

fn large() -> InferRequest {
    rows(1.0, ROWS)
}

fn first(response: &InferResponse) -> f32 {
    let data = &response.outputs[0].data;
    f32::from_le_bytes(data[..4].try_into().unwrap())
}

/// First values of all that come, and the error if there is one.
async fn read(mut responses: InferResponses) -> (Vec<f32>, Option<ClientError>) {
    let mut values = Vec::new();
    loop {
        match responses.next().await {
            Ok(Some(response)) => values.push(first(&response)),
            Ok(None) => return (values, None),
            Err(error) => return (values, Some(error)),
        }
    }
}

#[tokio::test]
async fn responses_are_read_one_by_one_to_the_last() {
    let (place, world) = (place("sequence until:100", &config(ONE, LAST)), World::new());
    place.write("plain.onnx", "");
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let mut responses =
        client.infer_stream(InferRequest { id: "named".to_owned(), ..ask(1.0) }).await.unwrap();
    let one = responses.next().await.unwrap().unwrap();
    assert_eq!((&*one.id, &*one.model, first(&one)), ("named", "m", 1.0));
    let (values, error) = read(responses).await;
    assert_eq!((values.len(), error.is_none()), (99, true));

    let few = InferRequest { max_responses: NonZeroU32::new(3), ..ask(1.0) };
    let (values, error) = read(client.infer_stream(few).await.unwrap()).await;
    assert_eq!((values.len(), &values[..2], error.is_none()), (3, &[1.0, 2.0][..], true));
    // Of others it is their only answer.
    let plain = InferRequest { model: "plain".to_owned(), ..ask(1.0) };
    let (values, error) = read(client.infer_stream(plain).await.unwrap()).await;
    assert_eq!((values, error.is_none()), (vec![2.0], true));
    daemon.stop().await;
}

#[tokio::test]
async fn errors_are_those_of_other_calls() {
    let config = config(ONE, LAST);
    let (place, world) = (place("sequence until:1000000", &config), World::new());
    place.write("b/1/model.onnx", "block");
    let one_waits = "max_batch_size: 1 dynamic_batching { default_queue_policy { max_queue_size: 1 } } \
                     instance_group { count: 1 }";
    place.write("b/config.pbtxt", one_waits);
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let fails = async |request: InferRequest| {
        let responses = client.infer_stream(request).await.unwrap();
        read(responses).await.1.expect("an error")
    };
    let unknown = fails(InferRequest { model: "nobody".to_owned(), ..ask(1.0) }).await;
    assert_eq!(unknown.code(), Some(Code::NotFound));
    let same = client.infer(InferRequest { model: "nobody".to_owned(), ..ask(1.0) }).await.unwrap_err();
    assert_eq!(unknown.to_string(), same.to_string());
    let wrong = InferRequest { inputs: vec![Tensor { name: "z".to_owned(), ..x(1) }], ..ask(1.0) };
    assert_eq!(fails(wrong).await.code(), Some(Code::InvalidArgument));

    // What it said before an error came stays said.
    let late = InferRequest { timeout: Some(Duration::from_secs(1)), ..ask(1.0) };
    let (values, error) = read(client.infer_stream(late).await.unwrap()).await;
    assert!(!values.is_empty());
    assert_eq!(error.unwrap().code(), Some(Code::DeadlineExceeded));

    // One that is refused for now says when to come again.
    let ask_b = || InferRequest { model: "b".to_owned(), ..ask(1.0) };
    let others: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { read(client.infer_stream(ask_b()).await.unwrap()).await })
        })
        .collect();
    until_metric(&daemon, "ired_queue_length{model=\"b\"", 1.0).await;
    let refused = fails(ask_b()).await;
    assert_eq!(refused.code(), Some(Code::ResourceExhausted), "{refused}");
    assert!(refused.retry_after().is_some());
    world.release();
    for other in others {
        assert_eq!(other.await.unwrap().0, [2.0]);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn who_does_not_read_has_few_responses_made() {
    let (place, world) = (place("sequence until:1000000", &for_large(OLDEST)), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let mut slow = client.infer_stream(large()).await.unwrap();
    assert_eq!(first(&slow.next().await.unwrap().unwrap()), 1.0);
    // These have 50 runs each, the worker one at a time.
    for _ in 0..2 {
        let few = InferRequest { max_responses: NonZeroU32::new(50), ..ask(2.0) };
        assert_eq!(read(client.infer_stream(few).await.unwrap()).await.0.len(), 50);
    }
    let made = world.seen().ran.iter().filter(|(rows, _)| *rows == ROWS).count();
    assert!(made < 20, "{made} responses for a reader who has taken one");
    daemon.stop().await;
}

#[tokio::test]
async fn who_goes_away_ends_the_request() {
    let (place, world) = (place("sequence until:1000000", &for_large(ONE)), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let mut responses = client.infer_stream(ask(1.0)).await.unwrap();
    assert_eq!(first(&responses.next().await.unwrap().unwrap()), 1.0);
    drop(responses);
    // The only place is free.
    let few = InferRequest { max_responses: NonZeroU32::new(2), ..ask(1.0) };
    let (values, error) = read(client.infer_stream(few).await.unwrap()).await;
    assert_eq!((values.len(), values[0], error.is_none()), (2, 1.0, true));
    daemon.stop().await;
}
