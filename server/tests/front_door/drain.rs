//! Stopping under load: what was let in is answered, and the rest hears that it was not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ired_client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tonic::Code;

use crate::scripted::{Place, World, request, x};

/// What became of the requests of all clients.
struct Tally {
    /// Everybody is connected before anybody asks.
    connected: Barrier,
    answered: AtomicU64,
    refused: AtomicU64,
}

/// Asks again and again until it is refused.
async fn ask_grpc(address: String, tally: Arc<Tally>) {
    let client = Client::connect(&address).await.unwrap();
    tally.connected.wait().await;
    loop {
        match client.infer(request("m")).await {
            Ok(answer) => {
                assert_eq!(answer.outputs[0].shape, [2, 3]);
                tally.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                // It was not let in, or the world's count would be another.
                assert_eq!(error.code(), Some(Code::Unavailable), "{error:?}");
                tally.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// The same over kept HTTP/1.1 connections, until one says that it ends.
async fn ask_rest(address: std::net::SocketAddr, tally: Arc<Tally>) {
    let head =
        r#"{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","parameters":{"binary_data_size":24}}]}"#;
    let body = [head.as_bytes(), &x(2).data].concat();
    let mut ask = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\ninference-header-content-length: {}\r\n\r\n",
        body.len(),
        head.len()
    )
    .into_bytes();
    ask.extend(body);
    let mut stream = TcpStream::connect(address).await.unwrap();
    tally.connected.wait().await;
    loop {
        stream.write_all(&ask).await.unwrap();
        let mut answer = Vec::new();
        let whole = |answer: &[u8]| {
            let text = String::from_utf8_lossy(answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            body.len() >= length.parse::<usize>().unwrap()
        };
        while !whole(&answer) {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert_ne!(read, 0, "cut off: {}", String::from_utf8_lossy(&answer));
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        tally.answered.fetch_add(1, Ordering::Relaxed);
        if text.contains("connection: close") {
            tally.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_was_let_in_is_dropped_under_load() {
    for round in 0..5 {
        let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
        let daemon = place.start(&world).await;
        let tally = Tally { connected: Barrier::new(32), answered: 0.into(), refused: 0.into() };
        let tally = Arc::new(tally);
        let (grpc, rest) = (daemon.grpc.to_string(), daemon.http);
        let clients: Vec<_> = (0..16)
            .flat_map(|_| {
                [
                    tokio::spawn(ask_grpc(grpc.clone(), tally.clone())),
                    tokio::spawn(ask_rest(rest, tally.clone())),
                ]
            })
            .collect();
        world.until(|seen| seen.answered > 200 * (round + 1)).await;
        daemon.stop().await;
        for client in clients {
            client.await.unwrap();
        }
        let (answered, seen) = (tally.answered.load(Ordering::Relaxed), world.seen());
        assert_eq!((answered, seen.inside, seen.cancelled), (seen.answered, 0, 0), "round {round}");
        assert_eq!(tally.refused.load(Ordering::Relaxed), 32);
    }
}
