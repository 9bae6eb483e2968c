//! Accepting connections: bounded in number, in the time a request's head may take, and ended in good order.

mod client_stream;
mod together;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustix::net::Shutdown;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::client_stream::ClientStream;
use self::together::{Requests, Together};
use crate::config::Settings;
use crate::tls::Tls;

/// Connections that the kernel holds before they are accepted.
const BACKLOG: u32 = 1024;
/// The largest set of headers, in bytes.
const HEADER_BYTES: u32 = 16 << 10;
/// Flow-control windows: a tensor of some megabytes should not wait for round trips, and what has come should be looked at
/// before it is out of the processor's caches.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// The largest part that a client may send a message in: each costs a look at it.
const FRAME_BYTES: u32 = 256 << 10;
/// A connection whose peer is silent gets a ping, and this long again to answer it.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long an HTTP/1.1 client has to learn from an answer that its connection ends, before an idle one is closed:
/// it may be sending on it just then.
const LINGER: Duration = Duration::from_secs(1);
/// What the end of a connection's beginning takes on a busy machine, once the kernel has answered it.
const HANDSHAKE: Duration = Duration::from_millis(20);
/// The pause after an accept that failed, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC: HTTP/2 only.
    Grpc,
    /// HTTP/1.1 and HTTP/2.
    Rest,
}

/// A port that is ours alone but refuses connections until it is served.
#[derive(Debug)]
pub struct Port {
    socket: TcpSocket,
    pub address: SocketAddr,
}

impl Port {
    /// Takes the port; port 0 takes any free one.
    ///
    /// # Errors
    /// An address that resolves to nothing, or that another socket has taken.
    pub async fn take(address: &str) -> io::Result<Self> {
        let address = tokio::net::lookup_host(address)
            .await?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the address resolves to nothing"))?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if address.port() == 0 {
            socket.set_reuseaddr(false)?;
            socket.bind(address)?;
        } else {
            // A daemon that is started again need not wait for old connections to time out.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            // Sockets that share an address may all bind it; only one can listen. It listens for a moment to
            // find out, in which it answers nobody, and shares the address with nobody from then on.
            answer_no_more(SockRef::from(&socket));
            rustix::net::listen(&socket, 1)?;
            rustix::net::shutdown(&socket, Shutdown::Both)?;
            // There is none where the kernel has no filters.
            let _ = SockRef::from(&socket).detach_filter();
            socket.set_reuseaddr(false)?;
        }
        Ok(Self { address: socket.local_addr()?, socket })
    }

    pub fn listen(self) -> io::Result<TcpListener> {
        // Connections of an earlier daemon that still linger are in the way of a socket that does not share.
        self.socket.set_reuseaddr(true)?;
        self.socket.listen(BACKLOG)
    }
}

/// Who is at the other end of a connection; every request carries it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The names in its certificate, where it showed one that an authority vouches for.
    pub certificate: Option<Arc<[String]>>,
}

/// How connections to a port are answered.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) protocol: Protocol,
    pub(crate) router: Router,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) settings: Arc<Settings>,
}

/// Has the kernel pass over whoever begins a connection to a socket that listens, as closing it resets those that it has
/// answered. They try again a second later, and find that there is nobody, or the daemon that was started next.
fn answer_no_more(listener: SockRef<'_>) {
    // A packet filter: "load the flags of the TCP header; if SYN is among them keep nothing, else everything".
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = listener.attach_filter(&filter) {
        tracing::debug!(%error, "connections may be cut off that come while the door is closed");
    }
}

/// Serves until `stop`, then lets the requests inside end for as long as `drain`.
pub(crate) async fn serve(listener: TcpListener, door: Door, stop: CancellationToken) {
    let all_places = u32::try_from(door.settings.connections.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    let places = Arc::new(Semaphore::new(all_places as usize));
    let connections = GracefulShutdown::new();
    let attend = |stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit| {
        // Small answers go out at once; failing that they go out late.
        let _ = stream.set_nodelay(true);
        let (door, watcher, stop) = (door.clone(), connections.watcher(), stop.clone());
        tokio::spawn(async move {
            match &door.tls {
                None => door.answer(stream, Peer { address, certificate: None }, watcher, stop).await,
                Some(tls) => match tls.accept(door.protocol, stream, door.patience()).await {
                    Ok((stream, certificate)) => {
                        door.answer(stream, Peer { address, certificate }, watcher, stop).await;
                    }
                    Err(error) => tracing::debug!(%address, %error, "no TLS handshake"),
                },
            }
            drop(place);
        });
    };
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, place))
        };
        let ((stream, address), place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        attend(stream, address, place);
    }
    // Those that the kernel has answered already would be cut off. It is asked itself: what the runtime has heard of it may be
    // old on a busy machine.
    if let Ok(listener) = listener.into_std() {
        answer_no_more(SockRef::from(&listener));
        // For those that have begun.
        tokio::time::sleep(HANDSHAKE).await;
        while let Ok(place) = places.clone().try_acquire_owned()
            && let Ok((stream, address)) = listener.accept()
        {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                attend(stream, address, place);
            }
        }
    }
    let drain = door.settings.drain();
    if door.protocol == Protocol::Rest {
        // HTTP/2 says goodbye itself. Nobody is left once every place is free.
        let _ = tokio::time::timeout(LINGER.min(drain), places.acquire_many(all_places)).await;
    }
    if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
        tracing::warn!(protocol = ?door.protocol, "connections did not end in time");
    }
}

impl Door {
    /// How long a client may take to begin.
    fn patience(&self) -> Duration {
        Duration::from_secs(self.settings.header_timeout_s.max(1))
    }

    /// Answers what comes in one connection until it ends.
    async fn answer<S>(&self, stream: S, peer: Peer, watcher: Watcher, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(Infallibly { router: self.router.clone(), stop, peer });
        let stream = ClientStream::new(stream, self.patience());
        let serve = |stream, requests| {
            let builder = self.builder(requests);
            watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned())
        };
        // A connection that breaks is its client's affair.
        let _ = Together::new(stream, serve).await;
    }

    fn builder(&self, requests: Requests) -> auto::Builder<Requests> {
        let mut builder = auto::Builder::new(requests);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.patience()).max_buf_size(64 << 10);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEADER_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(self.settings.streams_per_connection)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        match self.protocol {
            Protocol::Grpc => builder.http2_only(),
            Protocol::Rest => builder,
        }
    }
}

/// A router as a service over hyper's bodies, which ends HTTP/1.1 connections with an answer once it is to stop.
#[derive(Clone)]
struct Infallibly {
    router: Router,
    stop: CancellationToken,
    peer: Peer,
}

impl Service<Request<hyper::body::Incoming>> for Infallibly {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let version = request.version();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        let answer = self.router.call(request);
        let stop = self.stop.clone();
        Box::pin(async move {
            let mut answer = answer.await?;
            if version <= Version::HTTP_11 && stop.is_cancelled() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_port_has_one_owner_before_it_is_served() {
        let free = Port::take("127.0.0.1:0").await.unwrap();
        let address = free.address.to_string();
        assert_eq!(Port::take(&address).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(free);
        let first = Port::take(&address).await.unwrap();
        let everywhere = format!("0.0.0.0:{}", first.address.port());
        for same in [&address, &everywhere] {
            assert_eq!(Port::take(same).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        assert!(tokio::net::TcpStream::connect(first.address).await.is_err(), "nobody answers yet");
        let listener = first.listen().unwrap();
        let (client, server) = tokio::join!(tokio::net::TcpStream::connect(&address), listener.accept());
        // The side that closes first keeps its address for a while; a new owner does not wait for that.
        drop((server.unwrap(), listener));
        drop(client.unwrap());
        Port::take(&address).await.unwrap().listen().unwrap();
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_a_port_is_taken() {
        let address = Port::take("127.0.0.1:0").await.unwrap().address;
        let ended = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let ended = ended.clone();
                std::thread::spawn(move || {
                    let mut let_in = 0;
                    while !ended.load(Ordering::Relaxed) {
                        let patience = Duration::from_millis(1);
                        let stream = std::net::TcpStream::connect_timeout(&address, patience);
                        // One that happens to get this very port as its own has met itself.
                        let_in +=
                            u32::from(stream.is_ok_and(|stream| stream.local_addr().unwrap() != address));
                    }
                    let_in
                })
            })
            .collect();
        for _ in 0..2000 {
            drop(Port::take(&address.to_string()).await);
            std::thread::yield_now();
        }
        ended.store(true, Ordering::Relaxed);
        let let_in: u32 = asking.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(let_in, 0);
    }
}
