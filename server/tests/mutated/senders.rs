//! Ways to send what was changed, and how that ends.

use bytes::Bytes;
use ired::Daemon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Request;
use tonic::transport::Channel;

use crate::corpus::Recorded;
use crate::plain::Plain;

/// Sends it and reads what comes until that ends. Gives the status of a REST answer.
pub(crate) async fn send(daemon: &Daemon, channel: Channel, message: &Recorded) -> Option<u16> {
    match message {
        Recorded::Grpc { path, messages } => {
            call(channel, path, messages.clone()).await;
            None
        }
        Recorded::Rest { head, body } => {
            // What became of the line's end in between is not sent: then this would be another request.
            let head: Vec<u8> = head.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
            let length = format!(
                " HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let request = [&head[..], length.as_bytes(), body].concat();
            let answer = exchange(daemon.http, &request).await;
            answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok())
        }
        Recorded::Connection { grpc, bytes } => {
            let address = if *grpc { daemon.grpc } else { daemon.http };
            exchange(address, bytes).await;
            None
        }
    }
}

/// Everything that comes back until the connection ends.
async fn exchange(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    // The server may close before it has read all.
    let sent = async {
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let _ = tokio::join!(sent, read.read_to_end(&mut answer));
    answer
}

/// Sends these messages as one call, whatever the method takes.
async fn call(channel: Channel, path: &str, messages: Vec<Vec<u8>>) {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("the server takes calls");
    let path = path.parse().expect("a recorded path");
    let messages = tokio_stream::iter(messages.into_iter().map(Bytes::from));
    let Ok(response) = grpc.streaming(Request::new(messages), path, Plain).await else { return };
    let mut answers = response.into_inner();
    while let Ok(Some(_)) = answers.message().await {}
}
