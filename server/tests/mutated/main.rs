//! What strangers send: recorded requests with something changed, through every door of a real server. Each is answered or
//! its connection ends, in bounded time and memory; nothing panics, and the server goes on as before.

#![allow(clippy::unwrap_used, reason = "a test that finds something else than it expects fails")]

mod corpus;
mod mutate;
#[path = "../front_door/plain.rs"]
mod plain;
#[path = "../front_door/scripted.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod scripted;
mod senders;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use scripted::{Place, SEQUENCES, World, client, request};

use crate::corpus::Recorded;
use crate::mutate::Mutator;

/// Messages of each kind.
const MESSAGES: u64 = 4_000;
/// Connections of each kind, which have several messages.
const CONNECTIONS: u64 = 1_000;
/// At the same time.
const AT_ONCE: usize = 16;
/// No answer may take longer, whatever else this machine does.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest input of the fuzzer of requests.
const FUZZED_BYTES: usize = 4 << 10;
/// More than the server may grow by.
const MEMORY_BYTES: u64 = 512 << 20;

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_changed_messages_harm_nobody() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        print(panic);
    }));
    let mut place = Place::new(&[("m.onnx", "one"), ("s.onnx", "strings"), ("seq.onnx", "sequence")]);
    place.write("seq.config.pbtxt", &format!("max_batch_size: 4 sequence_batching {{ {SEQUENCES} }}"));
    // What would only make refusals slow.
    place.settings.message_bytes = 1 << 20;
    place.settings.request_timeout_s = 5;
    place.settings.body_timeout_s = 5;
    place.settings.header_timeout_s = 5;
    let daemon = Arc::new(place.start(&World::new()).await);
    let memory = corpus::memory();
    let recorded = corpus::record(&daemon, &memory).await;
    for kind in ["grpc", "rest", "grpc connection", "rest connection"] {
        assert!(recorded.iter().any(|recorded| recorded.kind() == kind), "nothing of kind {kind}");
    }
    let before = resident_bytes();

    let kinds = [
        ("grpc", MESSAGES),
        ("rest", MESSAGES),
        ("grpc connection", CONNECTIONS),
        ("rest connection", CONNECTIONS),
    ];
    let channel = scripted::channel(daemon.grpc).await;
    for (kind, count) in kinds {
        let of_kind: Vec<&Recorded> = recorded.iter().filter(|recorded| recorded.kind() == kind).collect();
        let send = |seed: u64| {
            let (daemon, channel, of_kind) = (daemon.clone(), channel.clone(), &of_kind);
            async move {
                let mut mutator = Mutator::new(seed);
                let original = of_kind[mutator.below(of_kind.len())];
                let changed = original.changed(&mut mutator, of_kind);
                let sent = tokio::time::timeout(PATIENCE, senders::send(&daemon, channel, &changed)).await;
                let ended = sent.unwrap_or_else(|_| panic!("no end after {PATIENCE:?}: {seed} {changed:?}"));
                assert_ne!(ended, Some(500), "an error of the server's own: {seed} {changed:?}");
                ended
            }
        };
        let ends = futures::stream::iter(0..count).map(send).buffer_unordered(AT_ONCE);
        let ends: BTreeSet<Option<u16>> = ends.collect().await;
        if kind == "rest" {
            let expected = [200, 400, 404].map(Some);
            assert!(
                expected.iter().all(|status| ends.contains(status)),
                "changes are too small or too large: {ends:?}"
            );
        }
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a panic after {kind}");
    }

    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < MEMORY_BYTES, "the server grew by {grown} bytes");
    // What was refused or broke off holds nothing.
    let budget = daemon.app.inference.budget();
    let free = async {
        while budget.usage().1 > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, free)
        .await
        .unwrap_or_else(|_| panic!("{} bytes are inside", budget.usage().1));
    let client = client(&daemon).await;
    client.load("m").await.unwrap();
    client.infer(request("m")).await.unwrap();
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    drop((client, channel));
    Arc::into_inner(daemon).unwrap().stop().await;
}

/// The fuzzer of requests begins with what is recorded here: `cargo xtask fuzz` names in `SEEDS` the folder that it wants them in.
#[test]
fn recorded_requests_are_what_the_fuzzer_reads() {
    let seeds = corpus::seeds();
    for (name, seed) in &seeds {
        assert!(seed.len() <= FUZZED_BYTES, "the fuzzer cuts `{name}`, of {} bytes", seed.len());
        let head = seed.split(|byte| *byte == b'\n').next().unwrap();
        let is_rest = head.contains(&b' ');
        assert_eq!(
            is_rest,
            name.ends_with("rest"),
            "`{name}` begins with {:?}",
            String::from_utf8_lossy(head)
        );
    }
    for kind in ["grpc", "rest"] {
        assert!(
            seeds.iter().filter(|(name, _)| name.ends_with(kind)).count() >= 10,
            "nothing of kind {kind}"
        );
    }
    if let Some(folder) = std::env::var_os("SEEDS") {
        for (name, seed) in &seeds {
            std::fs::write(std::path::Path::new(&folder).join(name), seed).unwrap();
        }
    }
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
