//! A connection and its requests as one task, where they are few: no other thread has to be woken for a request, and answers
//! that are ready at once go out in one write, which costs more than all else that is done for a small answer.

use std::io::{self, IoSlice};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Requests of a connection that are run by its own task; more of them are worth more threads.
const TOGETHER: usize = 16;
/// Written bytes that are kept at most; larger writes are not copied.
const KEPT_BYTES: usize = 16 << 10;

/// A connection `C` over a [`Gather`] of the stream `S`, with what it gives to its [`Requests`].
pub(super) struct Together<C, S> {
    connection: Pin<Box<C>>,
    gather: Gather<S>,
    requests: Requests,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Whether others had their turn since something was written.
    waited: bool,
}

/// A stream that keeps what is written until the connection's task sends it, or until there is too much of it.
pub(super) struct Gather<S>(Arc<Mutex<Kept<S>>>);

struct Kept<S> {
    stream: S,
    bytes: BytesMut,
    /// Whether the stream was given something since it was last flushed: TLS takes what the socket has no room for.
    unflushed: bool,
}

/// Where a connection leaves requests that are to be run.
#[derive(Clone, Default)]
pub(super) struct Requests(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl<C, S> Together<C, S> {
    /// The connection that `serve` makes of these.
    pub(super) fn new(stream: S, serve: impl FnOnce(Gather<S>, Requests) -> C) -> Self {
        let gather = Gather(Arc::new(Mutex::new(Kept { stream, bytes: BytesMut::new(), unflushed: false })));
        let requests = Requests::default();
        Self {
            connection: Box::pin(serve(Gather(gather.0.clone()), requests.clone())),
            gather,
            requests,
            running: FuturesUnordered::new(),
            waited: false,
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
    }

    /// Has the requests run that have come, here or, where there are many, by whom it may concern.
    fn begin(&mut self, cx: &mut Context<'_>) {
        let mut new = lock(&self.requests.0);
        if new.is_empty() {
            return;
        }
        for request in new.drain(..) {
            if self.running.len() < TOGETHER {
                self.running.push(request);
            } else {
                tokio::spawn(request);
            }
        }
        drop(new);
        self.run(cx);
    }
}

impl<C: Future, S: AsyncWrite + Unpin> Future for Together<C, S> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        this.run(cx);
        let result = this.connection.as_mut().poll(cx);
        if result.is_pending() {
            this.begin(cx);
        }
        let mut kept = lock(&this.gather.0);
        // More answers may be about to be ready, as those of one batch are.
        if result.is_pending() && !kept.bytes.is_empty() && !this.running.is_empty() && !this.waited {
            this.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.waited = false;
        // Who writes next hears of what goes wrong, and the socket wakes this task when there is room.
        let _ = kept.poll_flush(cx);
        result
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Requests {
    fn execute(&self, request: F) {
        // A panic ends its request, wherever that is run.
        lock(&self.0).push(AssertUnwindSafe(request).catch_unwind().map(drop).boxed());
    }
}

impl<S: AsyncWrite + Unpin> Kept<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.bytes))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(sent);
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut kept = lock(&self.0);
        let written = parts.iter().map(|part| part.len()).sum();
        if kept.bytes.len() + written <= KEPT_BYTES {
            parts.iter().for_each(|part| kept.bytes.extend_from_slice(part));
            return Poll::Ready(Ok(written));
        }
        ready!(kept.poll_send(cx))?;
        let written = ready!(Pin::new(&mut kept.stream).poll_write_vectored(cx, parts))?;
        kept.unflushed = true;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: [`Together`] sends after each poll of the connection.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut kept = lock(&self.0);
        ready!(kept.poll_send(cx))?;
        Pin::new(&mut kept.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::{mpsc, oneshot};
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// A stream that says how much each write of it was.
    struct Watched(DuplexStream, mpsc::UnboundedSender<usize>);

    impl AsyncWrite for Watched {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.0).poll_write(cx, bytes))?;
            self.1.send(written).unwrap();
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn what_is_written_at_once_is_sent_at_once_and_in_order() {
        let (mut client, server) = duplex(40_000);
        let (sender, mut writes) = mpsc::unbounded_channel();
        let sizes = [1, 200, 0, 7, KEPT_BYTES, 1, 100_003, 5, KEPT_BYTES - 5, 1];
        let sent: Vec<u8> = (0..sizes.iter().sum()).map(|at: usize| (at % 251) as u8).collect();
        let pieces = sent.clone();
        let go_on = CancellationToken::new();
        let serve = |mut stream: Gather<Watched>, _: Requests| {
            let go_on = go_on.clone();
            async move {
                let mut at = 0;
                for size in &sizes[..4] {
                    stream.write_all(&pieces[at..at + size]).await.unwrap();
                    stream.flush().await.unwrap();
                    at += size;
                }
                go_on.cancelled().await;
                for size in &sizes[4..] {
                    stream.write_all(&pieces[at..at + size]).await.unwrap();
                    at += size;
                }
                stream.shutdown().await.unwrap();
            }
        };
        let connection = tokio::spawn(Together::new(Watched(server, sender), serve));
        assert_eq!(writes.recv().await, Some(208), "four writes in one");
        go_on.cancel();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        connection.await.unwrap();
        assert!(received == sent);
    }

    /// A stream that takes everything, as TLS does, and has nobody see it before it is flushed.
    struct Hiding(Watched, Vec<u8>);

    impl AsyncWrite for Hiding {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let Self(stream, hidden) = self.get_mut();
            while !hidden.is_empty() {
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, hidden))?;
                hidden.drain(..written);
            }
            Pin::new(stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(self.as_mut().poll_flush(cx))?;
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn what_a_stream_has_taken_without_sending_it_is_flushed() {
        for size in [100, KEPT_BYTES + 100] {
            let (mut client, server) = duplex(64);
            let (sender, _writes) = mpsc::unbounded_channel();
            let serve = |mut stream: Gather<Hiding>, _: Requests| async move {
                stream.write_all(&vec![7; size]).await.unwrap();
                stream.flush().await.unwrap();
                std::future::pending::<()>().await;
            };
            let connection = tokio::spawn(Together::new(Hiding(Watched(server, sender), Vec::new()), serve));
            let mut received = vec![0; size];
            client.read_exact(&mut received).await.unwrap();
            assert!(received.iter().all(|&byte| byte == 7));
            connection.abort();
        }
    }

    #[tokio::test]
    async fn a_request_that_panics_ends_alone_and_the_others_end_with_their_connection() {
        let (_client, server) = duplex(64);
        let (ended, mut heard) = mpsc::unbounded_channel();
        let (sender, all_run) = oneshot::channel();
        let serve = |_: Gather<DuplexStream>, requests: Requests| async move {
            let (ready, mut running) = mpsc::channel(2 * TOGETHER);
            for number in 0..2 * TOGETHER {
                let (ended, ready) = (ended.clone(), ready.clone());
                requests.execute(async move {
                    ready.send(()).await.unwrap();
                    assert_ne!(number, 1, "this test's own panic");
                    // Not those that are many: their own tasks hear from the connection that it is gone.
                    if number < TOGETHER {
                        let _told = Ending(ended, number);
                        std::future::pending::<()>().await;
                    }
                });
            }
            for _ in 0..2 * TOGETHER {
                running.recv().await.unwrap();
            }
            sender.send(()).unwrap();
        };
        Together::new(server, serve).await;
        all_run.await.unwrap();
        let mut numbers = Vec::new();
        while let Some(number) = heard.recv().await {
            numbers.push(number);
        }
        numbers.sort_unstable();
        let expected: Vec<_> = (0..TOGETHER).filter(|&number| number != 1).collect();
        assert_eq!(numbers, expected);
    }

    /// Tells of its end.
    struct Ending(mpsc::UnboundedSender<usize>, usize);

    impl Drop for Ending {
        fn drop(&mut self) {
            self.0.send(self.1).unwrap();
        }
    }
}
