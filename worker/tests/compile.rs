//! The parent's side of compile jobs against a scripted worker: whatever the process does, the job has one named
//! outcome and nothing else suffers.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ired_worker::{
    CompileEvent, CompileFailure, CompileJob, CompileLimits, CompileOptions, CompileReport, CompileWorkers,
    DirectoryFiles, FailureKind, ModelFiles, NoFiles, SandboxLevel, TargetRequest,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_ired-scripted-worker");

fn workers() -> CompileWorkers {
    let limits = CompileLimits {
        memory_bytes: 1 << 30,
        wall: Duration::from_secs(60),
        cpu: Duration::from_secs(60),
        output_bytes: 8 << 20,
    };
    CompileWorkers { limits, ..CompileWorkers::new(SCRIPTED) }
}

/// A worker started under a name that it plays by.
fn named(folder: &Path, name: &str) -> CompileWorkers {
    let link = folder.join(name);
    std::os::unix::fs::symlink(SCRIPTED, &link).unwrap();
    CompileWorkers { executable: link, ..workers() }
}

fn job(script: &str) -> CompileJob {
    CompileJob {
        model_name: script.to_owned(),
        file_name: "model.onnx".to_owned(),
        target: TargetRequest::default(),
        options: CompileOptions::default(),
    }
}

fn model(content: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.into()
}

struct Run {
    result: Result<CompileReport, CompileFailure>,
    events: Vec<CompileEvent>,
    output: Vec<u8>,
}

async fn run_with(workers: &CompileWorkers, script: &str, files: Arc<dyn ModelFiles>) -> Run {
    let mut output = tempfile::tempfile().unwrap();
    let theirs = output.try_clone().unwrap().into();
    let mut events = Vec::new();
    let result =
        workers.compile(job(script), model(b"a model"), files, theirs, |event| events.push(event)).await;
    let mut content = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut content).unwrap();
    Run { result, events, output: content }
}

async fn run(script: &str) -> Run {
    run_with(&workers(), script, Arc::new(NoFiles)).await
}

fn pid_of(event: &CompileEvent) -> Option<Pid> {
    match event {
        CompileEvent::Started { pid, .. } => Pid::from_raw(i32::try_from(*pid).unwrap()),
        _ => None,
    }
}

#[tokio::test]
async fn a_job_reports_as_it_goes_and_leaves_its_output() {
    let Run { result, events, output } = run("copy").await;
    let report = result.unwrap();
    assert_eq!(report.module_bytes, 7);
    assert!(report.peak_rss_bytes > 0);
    assert_eq!(output, b"a model");
    let [CompileEvent::Started { sandbox, .. }, CompileEvent::Progress(progress), CompileEvent::Dump(dump)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(sandbox.is_active("seccomp"));
    assert_eq!(progress.phase, "copy");
    assert_eq!((dump.name.as_str(), dump.content.as_slice()), ("1_copy.txt", &b"what it looks like"[..]));
}

#[tokio::test]
async fn a_killed_process_fails_its_job_alone() {
    let workers = workers();
    let (started, pid) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    let events = move |event: CompileEvent| {
        if let (Some(pid), Some(started)) = (pid_of(&event), started.take()) {
            started.send(pid).unwrap();
        }
    };
    let output = tempfile::tempfile().unwrap().into();
    let victim = workers.compile(job("hang"), model(b""), Arc::new(NoFiles), output, events);
    let killer = async { kill_process(pid.await.unwrap(), Signal::KILL).unwrap() };
    let (victim, (), other) = tokio::join!(victim, killer, run("copy"));
    let Err(CompileFailure::Killed { signal }) = victim else { panic!("{victim:?}") };
    assert!(signal.contains("SIGKILL"), "{signal}");
    assert!(other.result.is_ok());
}

#[tokio::test]
async fn dropping_the_future_kills_the_process() {
    let workers = workers();
    let (started, pid) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    let events = move |event: CompileEvent| {
        if let (Some(pid), Some(started)) = (pid_of(&event), started.take()) {
            started.send(pid).unwrap();
        }
    };
    let output = tempfile::tempfile().unwrap().into();
    let hanging = workers.compile(job("hang"), model(b""), Arc::new(NoFiles), output, events);
    let pid = tokio::select! {
        result = hanging => panic!("{result:?}"),
        pid = pid => pid.unwrap(),
    };
    let gone = async {
        while test_kill_process(pid).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the process is gone and reaped");
}

#[tokio::test]
async fn limits_have_names() {
    let mut hasty = workers();
    hasty.limits.wall = Duration::from_millis(300);
    let result = run_with(&hasty, "hang", Arc::new(NoFiles)).await.result;
    assert!(
        matches!(result, Err(CompileFailure::TimedOut { after }) if after == hasty.limits.wall),
        "{result:?}"
    );

    let result = run("exhaust").await.result;
    assert!(
        matches!(result, Err(CompileFailure::OutOfMemory { limit_bytes }) if limit_bytes == 1 << 30),
        "{result:?}"
    );

    let result = run("overrun").await.result;
    let Err(CompileFailure::Failed { kind, .. }) = &result else { panic!("{result:?}") };
    assert_eq!(*kind, FailureKind::ResourceLimit);
}

#[tokio::test]
async fn crashes_carry_the_last_words() {
    let result = run("abort").await.result;
    let Err(CompileFailure::Crashed { signal_or_status, stderr }) = result else { panic!("{result:?}") };
    assert!(signal_or_status.contains("SIGABRT"), "{signal_or_status}");
    assert!(stderr.contains("about to give up"), "{stderr}");

    let result = run("exit").await.result;
    let Err(CompileFailure::Crashed { signal_or_status, .. }) = result else { panic!("{result:?}") };
    assert_eq!(signal_or_status, "exit status 3");
}

#[tokio::test]
async fn nonsense_from_the_process_is_a_protocol_error() {
    for (script, complaint) in [
        ("garbage", "does not decode"),
        ("oversized", "the limit is"),
        ("lie", "announced 1000000"),
        ("escape-by-dump", "../../x"),
        ("endless-dump", "not memory"),
    ] {
        let result = run(script).await.result;
        let Err(CompileFailure::Protocol(message)) = &result else { panic!("{script}: {result:?}") };
        assert!(message.contains(complaint), "{script}: {message}");
    }
}

#[tokio::test]
async fn other_programs_and_versions_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let start = async |workers: CompileWorkers| run_with(&workers, "copy", Arc::new(NoFiles)).await.result;
    let result = start(named(folder.path(), "later-protocol")).await;
    assert!(
        matches!(&result, Err(CompileFailure::Protocol(m)) if m.contains("another version")),
        "{result:?}"
    );
    let result = start(named(folder.path(), "noise")).await;
    assert!(matches!(&result, Err(CompileFailure::Protocol(_))), "{result:?}");
    let result = start(named(folder.path(), "mute")).await;
    assert!(matches!(&result, Err(CompileFailure::Spawn(m)) if m.contains("exit status 0")), "{result:?}");
    let result = start(named(folder.path(), "killed")).await;
    assert!(
        matches!(&result, Err(CompileFailure::Killed { signal }) if signal.contains("SIGKILL")),
        "{result:?}"
    );
    let result = start(CompileWorkers::new("/nowhere/at/all")).await;
    assert!(matches!(&result, Err(CompileFailure::Spawn(m)) if m.contains("/nowhere/at/all")), "{result:?}");
}

#[tokio::test]
async fn files_come_through_the_broker_and_from_nowhere_else() {
    let outer = tempfile::tempdir().unwrap();
    let folder: PathBuf = outer.path().join("model");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::write(outer.path().join("secret"), b"not for you").unwrap();
    std::fs::write(folder.join("data/weights.bin"), b"weights").unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
    let files: Arc<dyn ModelFiles> = Arc::new(DirectoryFiles::new(&folder).unwrap());
    let ask = async |name: &str| {
        let run = run_with(&workers(), name, Arc::clone(&files)).await;
        run.result.unwrap();
        String::from_utf8(run.output).unwrap()
    };
    assert_eq!(ask("data/weights.bin").await, "weights");
    for outside in ["../secret", "link", "/etc/passwd", "data/../../secret", "data", "missing", ""] {
        let answer = ask(outside).await;
        assert!(answer.starts_with("refused: "), "{outside}: {answer}");
    }
}

#[tokio::test]
async fn strict_workers_run_only_when_every_layer_holds() {
    let strict = CompileWorkers { require_sandbox: SandboxLevel::Strict, ..workers() };
    let relaxed = run("copy").await;
    let Some(CompileEvent::Started { sandbox, .. }) = relaxed.events.first() else { panic!("not started") };
    let result = run_with(&strict, "copy", Arc::new(NoFiles)).await.result;
    match sandbox.missing().next() {
        None => assert!(result.is_ok(), "{result:?}"),
        Some((layer, _)) => {
            assert!(matches!(&result, Err(CompileFailure::Spawn(m)) if m.contains(layer)), "{result:?}");
        }
    }
}

/// The scripted worker's output file stays what it was when the worker could still write to it.
#[tokio::test]
async fn the_output_is_final_when_the_job_is_done() {
    let output = tempfile::tempfile().unwrap();
    let mut pid = None;
    let theirs = output.try_clone().unwrap().into();
    let events = |event: CompileEvent| pid = pid.or(pid_of(&event));
    workers().compile(job("copy"), model(b"x"), Arc::new(NoFiles), theirs, events).await.unwrap();
    assert!(test_kill_process(pid.unwrap()).is_err(), "the process is reaped");
    assert_eq!(File::metadata(&output).unwrap().len(), 1);
}
