//! A server that speaks what the daemon uses of S3, keeps its conditions at one moment, counts, and fails on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the server does instead of answering well.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// 500 to everything.
    Broken,
    /// 403 to everything.
    Forbidden,
    /// No answer to anything.
    Silent,
    /// Answers that break off half way.
    Torn,
    /// Answers that go on for ever, a byte at a time.
    Dripping,
    /// A byte of each answer is another.
    Lying,
    /// Answers that were cut short and say nothing of it.
    Short,
    /// Nothing that was put is seen by those who ask for it.
    Stale,
    /// Conditions of puts are passed over.
    Unconditional,
}

#[derive(Default)]
struct Content {
    objects: BTreeMap<String, Bytes>,
    parts: BTreeMap<String, BTreeMap<u32, Bytes>>,
    requests: u64,
    fault: Fault,
    puts: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Content>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }
}

/// A running server; ends on drop.
pub(crate) struct ObjectServer {
    pub(crate) address: SocketAddr,
    content: Shared,
    server: Option<JoinHandle<()>>,
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl ObjectServer {
    pub(crate) async fn start() -> Self {
        let (mut server, listener) = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            (Self { address, content: Shared::default(), server: None }, listener)
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let router = Router::new().fallback(answer).with_state(self.content.clone());
        self.server = Some(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    }

    /// Refuses connections from now on.
    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.stop();
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        self.serve(listener);
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.content.lock().fault = fault;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.content.lock().requests
    }

    /// The names below a prefix.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let content = self.content.lock();
        content.objects.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// How often something was put under each name below a prefix.
    pub(crate) fn puts(&self, prefix: &str) -> BTreeMap<String, u64> {
        let content = self.content.lock();
        content
            .puts
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(n, c)| (n.clone(), *c))
            .collect()
    }

    pub(crate) fn object(&self, name: &str) -> Option<Bytes> {
        self.content.lock().objects.get(name).cloned()
    }

    pub(crate) fn put(&self, name: &str, object: Bytes) {
        self.content.lock().objects.insert(name.to_owned(), object);
    }

    pub(crate) fn options(&self) -> Vec<String> {
        let options = [format!("AWS_ENDPOINT=http://{}", self.address), "AWS_ACCESS_KEY_ID=test".to_owned()];
        [&options[..], &["AWS_SECRET_ACCESS_KEY=test".to_owned()]].concat()
    }
}

fn tag(object: &[u8]) -> String {
    format!("\"{}\"", blake3::hash(object).to_hex())
}

async fn answer(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let fault = {
        let mut content = shared.lock();
        content.requests += 1;
        content.fault
    };
    let name = request.uri().path().trim_start_matches("/bucket/").to_owned();
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let Ok(body) = axum::body::to_bytes(request.into_body(), 1 << 30).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match fault {
        Fault::Broken => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Fault::Forbidden => return StatusCode::FORBIDDEN.into_response(),
        Fault::Silent => return std::future::pending().await,
        _ => {}
    }
    if let Some(upload) = query.get("uploadId") {
        return part(&shared, &method, &name, upload, &query, body);
    }
    match method {
        Method::PUT => put(&mut shared.lock(), fault, &name, &headers, body),
        Method::GET | Method::HEAD => get(&shared, fault, &name, &headers),
        Method::DELETE => {
            shared.lock().objects.remove(&name);
            StatusCode::NO_CONTENT.into_response()
        }
        Method::POST if query.contains_key("uploads") => {
            let mut content = shared.lock();
            let upload = format!("upload-{}", content.requests);
            content.parts.insert(upload.clone(), BTreeMap::new());
            format!(
                "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>{name}</Key>\
                 <UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            )
            .into_response()
        }
        _ => StatusCode::NOT_IMPLEMENTED.into_response(),
    }
}

fn put(content: &mut Content, fault: Fault, name: &str, headers: &HeaderMap, body: Bytes) -> Response {
    let there = content.objects.get(name);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if fault != Fault::Unconditional {
        let created = header("if-none-match").is_none_or(|_| there.is_none());
        let matched = header("if-match").is_none_or(|seen| there.is_some_and(|object| tag(object) == seen));
        if !created || !matched {
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
    }
    let tag = tag(&body);
    *content.puts.entry(name.to_owned()).or_default() += 1;
    content.objects.insert(name.to_owned(), body);
    [("etag", tag)].into_response()
}

fn get(shared: &Shared, fault: Fault, name: &str, headers: &HeaderMap) -> Response {
    let object = shared.lock().objects.get(name).cloned();
    let Some(object) = object.filter(|_| fault != Fault::Stale) else {
        let body = "<Error><Code>NoSuchKey</Code></Error>";
        return (StatusCode::NOT_FOUND, body).into_response();
    };
    let mut answer = Response::builder()
        .header("etag", tag(&object))
        .header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT");
    let range = headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes="));
    let mut body = object.to_vec();
    if let Some((from, to)) = range.and_then(|range| range.split_once('-')) {
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let content_range = format!("bytes {from}-{to}/{}", body.len());
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", content_range);
        body = body[from..=to].to_vec();
    }
    let length = body.len();
    let body = match fault {
        Fault::Lying => {
            body[length / 2] ^= 1;
            Body::from(body)
        }
        Fault::Short => Body::from(body[..length - 1].to_vec()),
        Fault::Torn => {
            answer = answer.header("content-length", length);
            let half = Ok(Bytes::from(body[..length / 2].to_vec()));
            Body::from_stream(futures::stream::iter([half, Err(std::io::Error::other("torn"))]))
        }
        Fault::Dripping => {
            answer = answer.header("content-length", length);
            Body::from_stream(futures::stream::unfold(body.into_iter(), |mut rest| async move {
                tokio::time::sleep(Duration::from_millis(400)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from(vec![rest.next()?])), rest))
            }))
        }
        _ => Body::from(body),
    };
    answer.body(body).unwrap()
}

fn part(
    shared: &Shared,
    method: &Method,
    name: &str,
    upload: &str,
    query: &BTreeMap<String, String>,
    body: Bytes,
) -> Response {
    let mut content = shared.lock();
    match *method {
        Method::PUT => {
            let (number, tag) = (query["partNumber"].parse().unwrap(), tag(&body));
            content.parts.get_mut(upload).unwrap().insert(number, body);
            [("etag", tag)].into_response()
        }
        Method::POST => {
            let parts = content.parts.remove(upload).unwrap();
            let object: Vec<u8> = parts.into_values().flatten().collect();
            let tag = tag(&object);
            *content.puts.entry(name.to_owned()).or_default() += 1;
            content.objects.insert(name.to_owned(), object.into());
            format!(
                "<CompleteMultipartUploadResult><Bucket>bucket</Bucket><Key>{name}</Key><ETag>{tag}</ETag>\
                 </CompleteMultipartUploadResult>"
            )
            .into_response()
        }
        _ => {
            content.parts.remove(upload);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}
