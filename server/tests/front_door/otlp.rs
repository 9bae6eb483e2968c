//! Traces that go to a collector over OTLP, and what happens when it does not take them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::pending;
use ired::Daemon;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::scripted::{Place, World, http};
use crate::traces::{BODY, TRACE, traceparent};

/// What a collector does with what it gets.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Takes,
    Refuses,
    NeverAnswers,
}

/// A collector in this process; it ends with the test.
#[derive(Clone)]
struct Collector {
    manner: Manner,
    taken: Arc<watch::Sender<Vec<ResourceSpans>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        match self.manner {
            Manner::Takes => {
                self.taken.send_modify(|taken| taken.extend(request.into_inner().resource_spans));
                Ok(Response::new(ExportTraceServiceResponse::default()))
            }
            Manner::Refuses => Err(Status::permission_denied("not yours")),
            Manner::NeverAnswers => pending().await,
        }
    }
}

impl Collector {
    async fn start(manner: Manner) -> (Self, SocketAddr) {
        let collector = Self { manner, taken: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        (collector, address)
    }

    /// All spans once there are so many, and of whom they are.
    async fn spans(&self, count: usize) -> (Vec<KeyValue>, Vec<Span>) {
        let all = |taken: &Vec<ResourceSpans>| -> Vec<Span> {
            let scopes = taken.iter().flat_map(|resource| &resource.scope_spans);
            scopes.flat_map(|scope| scope.spans.clone()).collect()
        };
        let mut taken = self.taken.subscribe();
        let enough = taken.wait_for(|taken| all(taken).len() >= count);
        let taken = tokio::time::timeout(Duration::from_secs(60), enough).await.unwrap().unwrap().clone();
        (taken[0].resource.clone().unwrap().attributes, all(&taken))
    }
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text),
        other => panic!("{key} is no text: {other:?}"),
    }
}

async fn infer(daemon: &Daemon, headers: &[(&str, &str)], body: &str) -> u16 {
    http(daemon.http, "POST", "/v2/models/m/infer", headers, body.as_bytes()).await.status
}

fn place(collector: SocketAddr) -> Place {
    let mut place = Place::new(&[("m.onnx", "")]);
    place.settings.tracing.otlp_endpoint = Some(format!("http://{collector}"));
    place.settings.server_name = "front".to_owned();
    place
}

async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let body = http(daemon.metrics, "GET", "/metrics", &[], b"").await.body;
    let text = String::from_utf8(body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// A counter once it has counted something, or after a while.
async fn counted(daemon: &Daemon, name: &str) -> u64 {
    for _ in 0..1000 {
        if metric(daemon, name).await > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    metric(daemon, name).await
}

#[tokio::test]
async fn spans_reach_the_collector_below_the_callers_span() {
    let (collector, address) = Collector::start(Manner::Takes).await;
    let daemon = place(address).start(&World::new()).await;
    let parent = traceparent(true);
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=7"), ("x-request-id", "r1")];
    assert_eq!(infer(&daemon, &headers, BODY).await, 200);
    let (resource, spans) = collector.spans(6).await;
    assert_eq!(text(&resource, "service.name"), Some("front"));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let request = spans.iter().find(|span| span.name == "infer m").unwrap();
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(
        (hex(&request.parent_span_id).as_str(), request.trace_state.as_str()),
        ("00f067aa0ba902b7", "vendor=7")
    );
    assert_eq!(text(&request.attributes, "ired.request_id"), Some("r1"));
    let steps: Vec<&Span> = spans.iter().filter(|span| span.name != "infer m").collect();
    let names: Vec<&str> = steps.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["queue", "input copy", "worker queue", "infer", "output copy"]);
    for step in steps {
        assert_eq!((&step.trace_id, &step.parent_span_id), (&request.trace_id, &request.span_id));
        assert!(request.start_time_unix_nano <= step.start_time_unix_nano);
        assert!(step.end_time_unix_nano <= request.end_time_unix_nano);
    }
    assert_eq!(counted(&daemon, "ired_trace_spans_exported_total").await, 6);
    daemon.stop().await;
}

#[tokio::test]
async fn a_failure_is_told_unless_its_caller_wants_no_trace() {
    let (collector, address) = Collector::start(Manner::Takes).await;
    let daemon = place(address).start(&World::new()).await;
    let wrong = BODY.replace("[1,3]", "[3,1]");
    let unsampled = traceparent(false);
    assert_eq!(infer(&daemon, &[("traceparent", &unsampled), ("x-request-id", "quiet")], &wrong).await, 400);
    assert_eq!(infer(&daemon, &[("x-request-id", "loud")], &wrong).await, 400);
    daemon.stop().await;
    let (_, spans) = collector.spans(1).await;
    assert_eq!(spans.len(), 1, "the last ones go out before the daemon ends: {spans:?}");
    assert_eq!(text(&spans[0].attributes, "ired.request_id"), Some("loud"));
    assert_eq!(text(&spans[0].attributes, "error.type"), Some("INVALID_ARGUMENT"));
    assert!(spans[0].status.as_ref().unwrap().message.contains("found shape [3, 1]"));
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_no_request() {
    let (_, address) = Collector::start(Manner::NeverAnswers).await;
    let daemon = place(address).start(&World::new()).await;
    let parent = traceparent(true);
    let headers = [("traceparent", parent.as_str())];
    // More than wait and are on their way at once.
    let mut left = 1024 + 2 * 64;
    while left > 0 {
        let some = (0..16).map(|_| infer(&daemon, &headers, BODY));
        assert_eq!(futures::future::join_all(some).await, [200; 16]);
        left -= 16;
    }
    assert!(metric(&daemon, "ired_trace_spans_dropped_total").await > 0);
    assert_eq!(metric(&daemon, "ired_trace_spans_exported_total").await, 0);
    tokio::time::timeout(Duration::from_secs(60), daemon.stop()).await.unwrap();
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted() {
    let (_, address) = Collector::start(Manner::Refuses).await;
    let daemon = place(address).start(&World::new()).await;
    assert_eq!(infer(&daemon, &[("traceparent", &traceparent(true))], BODY).await, 200);
    assert_eq!(counted(&daemon, "ired_trace_spans_dropped_total").await, 6);
    daemon.stop().await;
}
