//! Compilation: once per key, retried after a crash, kept across restarts, given up when nobody waits.

use std::path::Path;

use ired_client::proto::{ModelRef, Target};
use ired_client::{Client, ClientError, CompileOutcome, Upload, UploadFile};
use tonic::Code;

use crate::scripted::{Place, World, client};

pub(crate) fn model(name: &str) -> ModelRef {
    ModelRef { name: name.to_owned(), version: 0 }
}

pub(crate) async fn compile(client: &Client, name: &str) -> Result<CompileOutcome, ClientError> {
    let events = client.compile(model(name), &[]).await?;
    events.finish(|_| {}).await
}

pub(crate) async fn push(client: &Client, dir: &Path, name: &str, files: &[(&str, &str)]) -> u64 {
    let files = files.iter().map(|(path, content)| {
        let source = dir.join(path);
        std::fs::write(&source, content).unwrap();
        UploadFile { path: (*path).to_owned(), source }
    });
    let upload = Upload { name: name.to_owned(), version: None, files: files.collect() };
    client.upload(upload, |_| {}).await.unwrap().version
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_identical_requests_run_one_compile() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    push(&client, place.dir.path(), "m", &[("model.onnx", "hold")]).await;
    let requests = (0..1000).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { compile(&client, "m").await.unwrap() })
    });
    let requests: Vec<_> = requests.collect();
    world.until(|seen| seen.compiles_started == 1).await;
    world.release();
    let outcomes = futures::future::try_join_all(requests).await.unwrap();
    assert_eq!(world.seen().compiles_started, 1);
    assert!(outcomes.iter().all(|outcome| outcome.key == outcomes[0].key));
    daemon.stop().await;
}

#[tokio::test]
async fn after_a_restart_the_same_push_is_a_cache_hit() {
    let (place, world) = (Place::new(&[]), World::new());
    let files = [("model.onnx", "external:w.bin"), ("w.bin", "weights")];
    let daemon = place.start(&world).await;
    let first = client(&daemon).await;
    let version = push(&first, place.dir.path(), "m", &files).await;
    first.load("m").await.unwrap();
    let key = compile(&first, "m").await.unwrap().key;
    daemon.stop().await;

    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    assert!(client.model_ready("m", Some(version.into())).await.unwrap(), "it was loaded, so it is again");
    assert_eq!(push(&client, place.dir.path(), "m", &files).await, version);
    let outcome = compile(&client, "m").await.unwrap();
    assert!(outcome.cached);
    assert_eq!(outcome.key, key);
    assert_eq!(world.seen().compiles_started, 0);

    // Other weights under the same name are another model.
    push(&client, place.dir.path(), "m", &[files[0], ("w.bin", "others")]).await;
    assert!(!compile(&client, "m").await.unwrap().cached);
    daemon.stop().await;
}

#[tokio::test]
async fn a_module_that_rotted_on_disk_is_compiled_again() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let key = compile(&client, "m").await.unwrap().key;
    assert_eq!(world.seen().compiles_started, 1);
    let file = place.settings.data_dir.join("modules").join(&key[..2]).join(&key);
    std::fs::write(&file, "rotten").unwrap();
    let outcome = compile(&client, "m").await.unwrap();
    assert_eq!((outcome.cached, outcome.key.as_str()), (false, key.as_str()));
    assert_eq!(world.seen().compiles_started, 2);
    let mut module = Vec::new();
    let info = client.get_module(model("m"), &[], &mut module, |_, _| {});
    let info = info.await.unwrap();
    assert_eq!((info.key, info.cached), (key, true));
    assert_eq!(module, b"module of ");
    daemon.stop().await;
}

#[tokio::test]
async fn the_cache_is_bounded_and_lets_the_least_recently_used_go() {
    let mut place = Place::new(&[]);
    place.settings.cache_bytes = 3 * 1024;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    for name in ["a", "b", "c"] {
        push(&client, place.dir.path(), name, &[("model.onnx", name)]).await;
        compile(&client, name).await.unwrap();
    }
    assert!(compile(&client, "a").await.unwrap().cached);
    push(&client, place.dir.path(), "d", &[("model.onnx", "d")]).await;
    compile(&client, "d").await.unwrap();
    let hits = [compile(&client, "a").await.unwrap().cached, compile(&client, "b").await.unwrap().cached];
    assert_eq!(hits, [true, false], "`b` was used least recently");
    assert_eq!(daemon.app.cache.size().0, 3);
    daemon.stop().await;
}

#[tokio::test]
async fn a_module_that_is_loaded_stays_on_disk_however_little_room_there_is() {
    let mut place = Place::new(&[("loaded.onnx", "loaded")]);
    place.settings.cache_bytes = 1024;
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let key = compile(&client, "loaded").await.unwrap().key;
    for name in ["b", "c", "d"] {
        push(&client, place.dir.path(), name, &[("model.onnx", name)]).await;
        compile(&client, name).await.unwrap();
    }
    let file = place.settings.data_dir.join("modules").join(&key[..2]).join(&key);
    assert!(file.exists(), "it is in use");
    assert!(daemon.app.cache.size().0 <= 2, "the others made room for each other");
    daemon.stop().await;
}

#[tokio::test]
async fn a_crash_is_retried_once_and_two_quarantine_the_model() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    push(&client, place.dir.path(), "once", &[("model.onnx", "crash-once")]).await;
    compile(&client, "once").await.unwrap();
    assert_eq!(world.seen().compiles_started, 2);

    push(&client, place.dir.path(), "always", &[("model.onnx", "crash-always")]).await;
    let failure = compile(&client, "always").await.unwrap_err();
    assert!(matches!(&failure, ClientError::Compile { kind, .. } if kind == "crashed"), "{failure}");
    assert!(failure.to_string().contains("SIGSEGV"), "{failure}");
    assert_eq!(world.seen().compiles_started, 4);
    let failure = compile(&client, "always").await.unwrap_err();
    assert!(failure.to_string().contains("crashed the compiler 2 times"), "{failure}");
    assert_eq!(world.seen().compiles_started, 4, "no worker was started for it");
    compile(&client, "once").await.unwrap();

    push(&client, place.dir.path(), "killed", &[("model.onnx", "killed")]).await;
    for _ in 0..3 {
        let failure = compile(&client, "killed").await.unwrap_err();
        assert!(failure.to_string().contains("ended from outside"), "{failure}");
    }
    assert_eq!(world.seen().compiles_started, 10, "killers put no model into quarantine");
    daemon.stop().await;
}

#[tokio::test]
async fn a_crash_for_one_target_puts_no_other_into_quarantine() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    push(&client, place.dir.path(), "m", &[("model.onnx", "crash-for:odd-linux")]).await;
    let odd = Target { triple: "odd-linux".to_owned(), features: Vec::new() };
    for reason in ["SIGSEGV", "crashed the compiler 2 times for this target and with these options"] {
        let events = client.compile(model("m"), std::slice::from_ref(&odd)).await.unwrap();
        let failure = events.finish(|_| {}).await.unwrap_err();
        assert!(failure.to_string().contains(reason), "{failure}");
    }
    compile(&client, "m").await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn every_problem_of_a_model_reaches_the_client() {
    let (place, world) = (Place::new(&[("m.onnx", "unsupported")]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    let Err(ClientError::Compile { kind, diagnostics, message }) = compile(&client, "m").await else {
        panic!("it compiled")
    };
    assert_eq!((kind.as_str(), diagnostics.len()), ("unsupported", 2));
    assert_eq!(diagnostics[1].location, "n2");
    assert!(message.contains("operator of `n1` is not implemented"), "{message}");
    assert_eq!(client.load("m").await.unwrap_err().code(), Some(Code::Unimplemented));
    daemon.stop().await;
}

#[tokio::test]
async fn equal_models_share_a_compilation_and_not_a_name() {
    let models = [("one.onnx", "hold unsupported"), ("two.onnx", "hold unsupported")];
    let (place, world) = (Place::new(&models), World::new());
    let daemon = place.start_early(&world).await;
    world.until(|seen| seen.compiles_started == 1).await;
    world.release();
    daemon.started().await.unwrap();
    let listed = client(&daemon).await.models().await.unwrap();
    assert_eq!(listed.len(), 2);
    for model in listed {
        assert!(model.reason.contains(&format!("`{}`", model.name)), "{}: {}", model.name, model.reason);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_model_reaches_no_file_but_its_own() {
    let (place, world) = (Place::new(&[]), World::new());
    place.write("in/1/model.onnx", "external:w.bin");
    place.write("in/1/w.bin", "weights");
    place.write("out/1/model.onnx", "external:../../in/1/w.bin");
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    assert!(client.model_ready("in", None).await.unwrap());
    let failure = compile(&client, "out").await.unwrap_err();
    assert!(failure.to_string().contains("leaves the model's folder"), "{failure}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_compilation_that_nobody_waits_for_ends() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    push(&client, place.dir.path(), "m", &[("model.onnx", "hold")]).await;
    let ask = || client.compile(model("m"), &[]);
    let (one, two) = (ask().await.unwrap(), ask().await.unwrap());
    world.until(|seen| seen.compiles_started == 1).await;
    drop(one);
    drop(two);
    world.until(|seen| seen.compiles_dropped == 1).await;
    world.release();
    compile(&client, "m").await.unwrap();
    assert_eq!(world.seen().compiles_started, 2);
    daemon.stop().await;
}

#[tokio::test]
async fn compilations_beyond_the_queue_are_refused() {
    let mut place = Place::new(&[]);
    (place.settings.compile_slots, place.settings.compile_queue) = (1, 1);
    let world = World::new();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    for name in ["a", "b", "c"] {
        push(&client, place.dir.path(), name, &[("model.onnx", &format!("hold {name}"))]).await;
    }
    let start = |name: &'static str| client.compile(model(name), &[]);
    let running = start("a").await.unwrap();
    world.until(|seen| seen.compiles_started == 1).await;
    let mut waiting = start("b").await.unwrap();
    let first = waiting.next().await.unwrap().unwrap();
    assert!(matches!(first, ired_client::proto::compile_event::Event::Queued(_)), "{first:?}");
    let failure = compile(&client, "c").await.unwrap_err();
    assert!(failure.to_string().contains("the compile queue is full"), "{failure}");
    world.release();
    running.finish(|_| {}).await.unwrap();
    waiting.finish(|_| {}).await.unwrap();
    daemon.stop().await;
}
