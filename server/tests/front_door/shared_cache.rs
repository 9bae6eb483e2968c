//! Replicas that share modules in an object store: each model is compiled once, and nothing that happens to the store
//! fails what could be compiled.

use std::collections::BTreeSet;
use std::time::Duration;

use ired::{Daemon, Settings};
use ired_client::Client;
use ired_client::proto::compile_event::Event;

use crate::compile::{compile, model, push};
use crate::object_server::{Fault, ObjectServer};
use crate::scripted::{Place, World, client, http, request};

pub(crate) struct Replica {
    pub(crate) place: Place,
    pub(crate) world: World,
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
}

impl Replica {
    pub(crate) async fn start(server: &ObjectServer, change: impl FnOnce(&mut Settings)) -> Self {
        let mut place = Place::new(&[]);
        let shared = &mut place.settings.shared_cache;
        shared.url = Some("s3://bucket/a/b".to_owned());
        shared.options = server.options();
        (shared.lease_s, shared.timeout_s) = (3, 1);
        place.settings.compile_queue = 256;
        change(&mut place.settings);
        Self::start_in(place).await
    }

    pub(crate) async fn start_in(place: Place) -> Self {
        let world = World::new();
        let daemon = place.start(&world).await;
        let client = client(&daemon).await;
        Self { place, world, daemon, client }
    }

    /// Gives it a model, whose name is part of its content so that no other is equal.
    pub(crate) async fn push(&self, name: &str, script: &str) {
        push(&self.client, self.place.dir.path(), name, &[("model.onnx", &format!("{script} {name}"))]).await;
    }

    /// Gives it a model, compiles and loads it; true where nothing was compiled for that.
    pub(crate) async fn serve(&self, name: &str, script: &str) -> bool {
        self.push(name, script).await;
        let outcome = compile(&self.client, name).await.unwrap();
        self.client.load(name).await.unwrap();
        assert!(self.client.model_ready(name, None).await.unwrap());
        outcome.cached
    }

    pub(crate) fn compiles(&self) -> u64 {
        self.world.seen().compiles_started
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let reply = http(self.daemon.metrics, "GET", "/metrics", &[], b"").await;
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    pub(crate) async fn until_metric(&self, name: &str, expected: f64) {
        let wait = async {
            while self.metric(name).await != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), wait).await;
        if found.is_err() {
            panic!("{name} is {}, not {expected}", self.metric(name).await);
        }
    }

    /// Waits until so many modules were put.
    pub(crate) async fn stored(&self, modules: u64) {
        self.until_metric("ired_shared_cache_uploads_total{outcome=\"ok\"}", modules as f64).await;
    }
}

/// Gives a replica two hundred models at once; their keys, in order.
async fn push_two_hundred(replica: &Replica) -> Vec<String> {
    let pushed = (0..200).map(|i| async move {
        let name = format!("m{i}");
        let dir = replica.place.dir.path().join(format!("sources-{i}"));
        std::fs::create_dir(&dir).unwrap();
        let script = format!("compiles:5 {name}");
        push(&replica.client, &dir, &name, &[("model.onnx", &script)]).await;
        compile(&replica.client, &name).await.unwrap().key
    });
    futures::future::join_all(pushed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_get_two_hundred_models_at_once_compile_each_once() {
    let server = ObjectServer::start().await;
    let start = || {
        Replica::start(&server, |settings| {
            // Long enough that no machine is too slow to renew a lease, or to answer.
            (settings.shared_cache.lease_s, settings.shared_cache.timeout_s) = (120, 60);
            settings.uploads = 200;
        })
    };
    let (one, two) = tokio::join!(start(), start());
    let (keys_of_one, keys_of_two) = tokio::join!(push_two_hundred(&one), push_two_hundred(&two));
    assert_eq!(keys_of_one, keys_of_two);
    assert_eq!(keys_of_one.iter().collect::<BTreeSet<_>>().len(), 200);
    let (by_one, by_two) = (one.compiles(), two.compiles());
    assert_eq!(by_one + by_two, 200, "{by_one} and {by_two}");
    one.daemon.stop().await;
    two.daemon.stop().await;
    let puts = server.puts("a/b/modules/");
    assert_eq!(puts.len(), 200);
    assert!(puts.values().all(|count| *count == 1), "{puts:?}");
    assert_eq!(server.names("a/b/leases/"), Vec::<String>::new(), "all leases were given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_another_replica_is_told_so_and_gets_its_module() {
    let server = ObjectServer::start().await;
    let (one, two) = tokio::join!(Replica::start(&server, |_| ()), Replica::start(&server, |_| ()));
    one.push("m", "hold").await;
    two.push("m", "hold").await;
    let first = one.client.compile(model("m"), &[]).await.unwrap();
    one.world.until(|seen| seen.compiles_started == 1).await;
    let mut second = two.client.compile(model("m"), &[]).await.unwrap();
    let told = loop {
        match second.next().await.unwrap().unwrap() {
            Event::Elsewhere(elsewhere) => break elsewhere.replica,
            Event::Queued(_) => {}
            event => panic!("{event:?}"),
        }
    };
    assert!(told.contains(&std::process::id().to_string()), "{told}");
    // Longer than a term: the lease is renewed.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(two.metric("ired_shared_cache_waiting").await, 1.0);
    one.world.release();
    let made = first.finish(|_| {}).await.unwrap();
    let taken = second.finish(|_| {}).await.unwrap();
    assert_eq!((made.cached, taken.cached, &made.key), (false, true, &taken.key));
    assert_eq!((one.compiles(), two.compiles()), (1, 0));
    assert_eq!(two.metric("ired_shared_cache_takeovers_total").await, 0.0);
    assert_eq!(two.metric("ired_cache_hits_total{tier=\"shared\"}").await, 1.0);
    two.client.load("m").await.unwrap();
    one.daemon.stop().await;
    two.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_replica_that_died_is_taken_over() {
    let server = ObjectServer::start().await;
    let two = Replica::start(&server, |_| ()).await;
    // One thread, so that nothing of it runs on while it is taken away.
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (place, options) = (Place::new(&[]), two.place.settings.shared_cache.clone());
    let one = other.spawn(async move {
        let mut place = place;
        place.settings.shared_cache = options;
        let one = Replica::start_in(place).await;
        one.push("m", "hold").await;
        let compiling = one.client.compile(model("m"), &[]).await.unwrap();
        one.world.until(|seen| seen.compiles_started == 1).await;
        (one, compiling)
    });
    let one = one.await.unwrap();
    two.push("m", "hold").await;
    two.world.release();
    let compiling = two.client.compile(model("m"), &[]).await.unwrap();
    two.until_metric("ired_shared_cache_waiting", 1.0).await;
    other.shutdown_background();
    let outcome = compiling.finish(|_| {}).await.unwrap();
    assert!(!outcome.cached);
    assert_eq!(two.compiles(), 1);
    assert_eq!(two.metric("ired_shared_cache_takeovers_total").await, 1.0);
    two.daemon.stop().await;
    assert_eq!(server.names("a/b/leases/"), Vec::<String>::new());
    assert_eq!(server.names("a/b/modules/").len(), 1);
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_fetches_what_others_made() {
    let server = ObjectServer::start().await;
    let one = Replica::start(&server, |_| ()).await;
    // More than one part.
    let long = "x".repeat(18 << 20);
    assert!(!one.serve("long", &long).await);
    assert!(!one.serve("m", "").await);
    one.daemon.stop().await;
    let two = Replica::start(&server, |_| ()).await;
    assert!(two.serve("long", &long).await && two.serve("m", "").await);
    assert_eq!(two.compiles(), 0);
    assert!(two.metric("ired_shared_cache_fetched_bytes_total").await > 18e6);
    two.client.infer(crate::scripted::request("m")).await.unwrap();
    // From then on it has them itself.
    server.set_fault(Fault::Broken);
    let before = server.requests();
    assert!(compile(&two.client, "m").await.unwrap().cached);
    assert_eq!(server.requests(), before);
    two.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_a_store_too() {
    let server = ObjectServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        Replica::start(&server, |settings| {
            settings.shared_cache.url = Some(format!("file://{}", dir.path().display()));
            settings.shared_cache.options.clear();
        })
    };
    let (one, two) = tokio::join!(start(), start());
    one.push("m", "hold").await;
    two.push("m", "hold").await;
    let first = one.client.compile(model("m"), &[]).await.unwrap();
    one.world.until(|seen| seen.compiles_started == 1).await;
    let second = two.client.compile(model("m"), &[]).await.unwrap();
    two.until_metric("ired_shared_cache_waiting", 1.0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    one.world.release();
    assert!(!first.finish(|_| {}).await.unwrap().cached);
    assert!(second.finish(|_| {}).await.unwrap().cached);
    assert_eq!((two.compiles(), server.requests()), (0, 0));
    one.daemon.stop().await;
    two.daemon.stop().await;
    assert_eq!(std::fs::read_dir(dir.path().join("leases")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_memory_keeps_no_other_from_compiling() {
    let server = ObjectServer::start().await;
    let start = || {
        Replica::start(&server, |settings| {
            (settings.memory_bytes, settings.compile_memory_bytes) = (1000, 600);
        })
    };
    let (full, idle) = tokio::join!(start(), start());
    full.serve("a", "resident:500 block").await;
    let busy = tokio::spawn({
        let client = full.client.clone();
        async move { client.infer(request("a")).await }
    });
    full.world.until(|seen| seen.inside == 1).await;
    full.push("m", "resident:10").await;
    let waits = tokio::spawn({
        let client = full.client.clone();
        async move { compile(&client, "m").await }
    });
    full.until_metric("ired_compile_waiting", 1.0).await;
    idle.push("m", "resident:10").await;
    let made = tokio::time::timeout(Duration::from_secs(20), compile(&idle.client, "m")).await;
    assert!(!made.expect("it waits for who cannot begin").unwrap().cached);
    idle.stored(1).await;
    full.world.release();
    busy.await.unwrap().unwrap();
    assert!(waits.await.unwrap().unwrap().cached);
    assert_eq!((full.compiles(), idle.compiles()), (1, 1));
    full.daemon.stop().await;
    idle.daemon.stop().await;
}
