//! What a connection may bring before a request is understood: bounded in bytes, in number and in time.

use ired_proto::inference::ServerLiveRequest;
use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::{Place, World, channel, client, http, request};

#[tokio::test]
async fn headers_are_bounded_in_bytes_and_number() {
    let daemon = Place::new(&[]).start(&World::new()).await;
    let live = "/v2/health/live";
    let long = "x".repeat(80 << 10);
    assert_eq!(http(daemon.http, "GET", live, &[("x-long", &long)], b"").await.status, 431);
    let many: Vec<String> = (0..200).map(|at| format!("x-{at}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(http(daemon.http, "GET", live, &many, b"").await.status, 431);
    assert_eq!(http(daemon.http, "GET", live, &many[..20], b"").await.status, 200);

    let channel = channel(daemon.grpc).await;
    let mut client = GrpcInferenceServiceClient::new(channel);
    let mut request = tonic::Request::new(ServerLiveRequest {});
    request.metadata_mut().insert("x-long", "x".repeat(20 << 10).parse().unwrap());
    assert!(client.server_live(request).await.is_err());
    client.server_live(ServerLiveRequest {}).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_begin_ends() {
    let mut place = Place::new(&[("m.onnx", "")]);
    (place.settings.header_timeout_s, place.settings.connections) = (1, 1);
    let daemon = place.start(&World::new()).await;
    for (door, beginning) in
        [(daemon.http, ""), (daemon.http, "P"), (daemon.grpc, ""), (daemon.grpc, "PRI * HTTP/2.0\r\n\r\nSM")]
    {
        let mut silent = TcpStream::connect(door).await.unwrap();
        silent.write_all(beginning.as_bytes()).await.unwrap();
        if door == daemon.http {
            let reply = http(daemon.http, "GET", "/v2/health/live", &[], b"").await;
            assert_eq!(reply.status, 200, "the only place is free again");
        } else {
            client(&daemon).await.infer(request("m")).await.unwrap();
        }
        let mut rest = Vec::new();
        let _ = silent.read_to_end(&mut rest).await;
    }
    // One that has begun may wait for as long as it likes before it asks.
    let begun = client(&daemon).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    begun.infer(request("m")).await.unwrap();
    drop(begun);
    daemon.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection() {
    let mut place = Place::new(&[]);
    (place.settings.header_timeout_s, place.settings.connections) = (1, 1);
    let daemon = place.start(&World::new()).await;
    let mut slow = TcpStream::connect(daemon.http).await.unwrap();
    slow.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: te").await.unwrap();
    assert_eq!(
        http(daemon.http, "GET", "/v2/health/live", &[], b"").await.status,
        200,
        "the only place is free again"
    );
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "), "{rest:?}");
    daemon.stop().await;
}
