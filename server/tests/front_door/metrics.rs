//! What the metrics say, that they go with their models, and that dashboards and alerts ask for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ired::Daemon;
use ired_client::{InferRequest, Upload, UploadFile};
use serde_json::Value;

use crate::scripted::{Place, World, client, http, request};
use crate::security::with_access;

async fn metrics(daemon: &Daemon) -> String {
    let body = http(daemon.metrics, "GET", "/metrics", &[], b"").await.body;
    String::from_utf8(body.to_vec()).unwrap()
}

fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

/// Families by name, with their kinds.
fn families(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

/// A daemon on which everything has happened that a metric counts.
async fn busy(place: &Place) -> Daemon {
    let daemon = place.start(&World::new()).await;
    let client = client(&daemon).await;
    client.infer(request("m")).await.unwrap();
    let wrong = InferRequest { inputs: Vec::new(), ..request("m") };
    client.infer(wrong).await.unwrap_err();
    daemon
}

#[tokio::test]
async fn latencies_are_counted_by_step_and_in_tritons_bounds() {
    let place = Place::new(&[("m.onnx", "takes:60")]);
    let daemon = busy(&place).await;
    let text = metrics(&daemon).await;
    let of = |sample: &str| value(&text, sample).unwrap_or_else(|| panic!("no {sample} in {text}"));
    let model = "model=\"m\",version=\"1\"";
    assert_eq!(of(&format!("ired_request_duration_seconds_bucket{{{model},le=\"0.05\"}}")), 0.0);
    assert_eq!(of(&format!("ired_request_duration_seconds_bucket{{{model},le=\"+Inf\"}}")), 1.0);
    assert_eq!(of(&format!("ired_request_duration_seconds_count{{{model}}}")), 1.0);
    assert!(of(&format!("ired_request_duration_seconds_sum{{{model}}}")) >= 0.06);
    assert_eq!(of(&format!("ired_step_duration_seconds_sum{{{model},step=\"infer\"}}")), 0.06);
    assert_eq!(
        of(&format!("ired_step_duration_seconds_bucket{{{model},step=\"output\",le=\"0.00002\"}}")),
        1.0
    );
    assert_eq!(of(&format!("nv_inference_first_response_histogram_ms_bucket{{{model},le=\"5000\"}}")), 1.0);
    assert!(of("nv_cpu_utilization") <= 1.0);
    daemon.stop().await;
}

#[tokio::test]
async fn the_metrics_of_a_model_that_is_deleted_go() {
    let place = Place::new(&[]);
    let daemon = place.start(&World::new()).await;
    let client = client(&daemon).await;
    let file = place.dir.path().join("model.onnx");
    std::fs::write(&file, "").unwrap();
    let files = vec![UploadFile { path: "model.onnx".to_owned(), source: file }];
    client.upload(Upload { name: "up".to_owned(), version: None, files }, |_| {}).await.unwrap();
    client.load("up").await.unwrap();
    client.infer(request("up")).await.unwrap();
    assert!(metrics(&daemon).await.contains("model=\"up\""));
    client.delete("up", None).await.unwrap();
    let text = metrics(&daemon).await;
    assert!(!text.contains("\"up\""), "{text}");
    daemon.stop().await;
}

/// Every word of a query that is the name of a metric of ours.
fn names(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ired_") || word.starts_with("nv_")).collect()
}

fn deploy(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(path)
}

/// The queries of a dashboard, in panels, in rows of them, and in variables.
fn queries(found: &mut Vec<String>, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr" | "query" | "definition", Value::String(query)) => found.push(query.clone()),
                    _ => queries(found, value),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(found, value)),
        _ => {}
    }
}

#[tokio::test]
async fn dashboards_and_alerts_ask_for_metrics_that_there_are() {
    let mut place = Place::new(&[("m.onnx", "")]);
    // Nobody listens there; the counters of spans are there all the same.
    place.settings.tracing.otlp_endpoint = Some("http://127.0.0.1:9".to_owned());
    let daemon = busy(&place).await;
    let text = metrics(&daemon).await;
    let known = families(&text);
    let mut asked = Vec::new();
    for entry in std::fs::read_dir(deploy("grafana")).unwrap() {
        let dashboard = std::fs::read(entry.unwrap().path()).unwrap();
        queries(&mut asked, &serde_json::from_slice(&dashboard).unwrap());
    }
    let alerts = std::fs::read_to_string(deploy("prometheus/alerts.yaml")).unwrap();
    asked.extend(alerts.lines().filter_map(|line| line.trim().strip_prefix("expr:")).map(str::to_owned));
    assert!(asked.len() > 20, "found {} queries: are they elsewhere now?", asked.len());
    let mut histograms = 0;
    for query in &asked {
        for name in names(query) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = family.filter(|family| known.get(family) == Some(&"histogram"));
            histograms += usize::from(family.is_some());
            let is_there = family.is_some() || known.contains_key(name);
            assert!(is_there, "there is no metric `{name}`, which is asked for by {query}");
        }
    }
    assert!(histograms > 0);
    daemon.stop().await;
}

#[tokio::test]
async fn every_metric_has_a_line_in_the_documentation() {
    let mut place = Place::new(&[("m.onnx", "")]);
    place.settings.tracing.otlp_endpoint = Some("http://127.0.0.1:9".to_owned());
    let daemon = busy(&place).await;
    assert_documented(&metrics(&daemon).await);
    daemon.stop().await;
}

fn assert_documented(text: &str) {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/observability.md");
    let document = std::fs::read_to_string(document).unwrap();
    let missing: Vec<&str> =
        families(text).into_keys().filter(|name| !document.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, [""; 0], "metrics that docs/observability.md does not name");
}

#[tokio::test]
async fn every_metric_of_callers_has_a_line_too() {
    let mut place = Place::new(&[("m.onnx", "")]);
    with_access(&mut place, "[[tenant]]\nname = \"a\"\n");
    place.settings.auth.open.push(ired::config::Open::Metrics);
    let daemon = place.start(&World::new()).await;
    let text = metrics(&daemon).await;
    let of_callers = families(&text);
    let found = |start: &str| of_callers.keys().filter(|name| name.starts_with(start)).count();
    assert_eq!((found("ired_tenant_"), found("ired_authentication_")), (5, 2), "{of_callers:?}");
    assert_documented(&text);
    daemon.stop().await;
}
