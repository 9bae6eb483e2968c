//! A client's bytes as the door reads and writes them. hyper asks more of a stream than a socket does: that its client
//! begins, and that what was said last is heard.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What HTTP/2 begins with, and less than the head of nearly any HTTP/1.1 request.
const BEGINNING_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// How long a client may take to end a connection that has ended here.
const LINGER: Duration = Duration::from_secs(1);

/// A stream whose reads fail unless the first bytes come in time, as hyper looks at how long a head takes only once it knows
/// what is spoken.
///
/// It ends once its client has ended it, too, or after a moment: the kernel answers what comes for a socket that is closed
/// with a reset, at which a client may give up before it has read what it was told.
pub(super) struct ClientStream<S> {
    stream: S,
    missing: usize,
    /// `None` once the first bytes have come.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Until when its client may end it; `None` while it has not ended here.
    ending: Option<Pin<Box<Sleep>>>,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        let deadline = Some(Box::pin(tokio::time::sleep(patience)));
        Self { stream, missing: BEGINNING_BYTES, deadline, ending: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                if self.deadline.is_some() {
                    self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
                    if self.missing == 0 {
                        self.deadline = None;
                    }
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let Some(deadline) = &mut self.deadline else { return Poll::Pending };
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, ending, .. } = &mut *self;
        let ending = match ending {
            Some(ending) => ending,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                ending.insert(Box::pin(tokio::time::sleep(LINGER)))
            }
        };
        // Asked first, so that a client that sends without end has no more than others.
        if ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut passed_over = [0; 4 << 10];
        let mut buffer = ReadBuf::new(&mut passed_over);
        match ready!(Pin::new(stream).poll_read(cx, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            // It has ended, in whatever way.
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair() -> (DuplexStream, ClientStream<DuplexStream>) {
        let (client, server) = duplex(1 << 16);
        (client, ClientStream::new(server, Duration::from_secs(60)))
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_client_has_ended_it_or_after_a_moment() {
        let (mut client, mut stream) = pair();
        let began = Instant::now();
        let mut end = || Pin::new(&mut stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        assert!(end().is_pending() || began.elapsed() >= LINGER);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        client.write_all(b"what crossed it").await.unwrap();
        assert!(end().is_pending() || began.elapsed() >= LINGER);
        drop(client);
        assert!(matches!(end(), Poll::Ready(Ok(()))));

        let (_client, mut stream) = pair();
        let began = Instant::now();
        stream.shutdown().await.unwrap();
        assert!(began.elapsed() >= LINGER);

        // One that sends on and on is not waited for longer.
        let (mut client, mut stream) = pair();
        let sending = tokio::spawn(async move { while client.write_all(&[7; 1 << 16]).await.is_ok() {} });
        tokio::time::timeout(8 * LINGER, stream.shutdown()).await.expect("an end").unwrap();
        drop(stream);
        sending.await.unwrap();
    }
}
