//! The parent's side of runtime workers against a scripted process: deaths, lies and long silences, and the memory
//! between the two.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ired_module::DType;
use ired_worker::{RuntimeConfig, RuntimeFailure, RuntimeOptions, RuntimeWorker, Tensor, TensorData};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const SCRIPTED: &str = env!("CARGO_BIN_EXE_ired-scripted-worker");

/// Starts a scripted worker under a name that it plays by. The folder may go once it runs, unless it is restarted.
async fn start(folder: &Path, name: &str, change: impl FnOnce(&mut RuntimeConfig)) -> RuntimeWorker {
    let link = folder.join(name);
    std::os::unix::fs::symlink(SCRIPTED, &link).unwrap();
    let mut config = RuntimeConfig::new(link);
    change(&mut config);
    RuntimeWorker::start(config, empty_module(), RuntimeOptions::default()).await.unwrap()
}

fn empty_module() -> OwnedFd {
    memfd_create("module", MemfdFlags::CLOEXEC).unwrap()
}

fn tensor(bytes: impl Into<TensorData>) -> Tensor {
    let data: TensorData = bytes.into();
    Tensor { name: "x".to_owned(), dtype: DType::U8, dims: vec![data.len() as u64], data }
}

async fn number(worker: &RuntimeWorker, entry: &str) -> u64 {
    let result = worker.infer(entry, Vec::new(), None).await.unwrap();
    u64::from_le_bytes(result.outputs[0].data[..].try_into().unwrap())
}

async fn echo(worker: &RuntimeWorker, byte: u8) -> Result<Vec<u8>, RuntimeFailure> {
    let result = worker.infer("echo", vec![tensor(vec![byte; 100])], None).await?;
    Ok(result.outputs[0].data.to_vec())
}

fn kill(worker: &RuntimeWorker) {
    let pid = i32::try_from(worker.pid().expect("a process")).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn tensors_come_back_as_they_went() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    assert!(worker.sandbox().is_active("seccomp"));
    let mut buffer = worker.input_buffer(3_000_000).unwrap();
    buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
    let large = TensorData::from(buffer);
    let inputs = vec![tensor(b"small".to_vec()), tensor(large.clone()), tensor(Vec::new())];
    let outputs = worker.infer("echo", inputs, None).await.unwrap().outputs;
    assert_eq!(&*outputs[0].data, b"small");
    assert!(*outputs[1].data == *large);
    assert_eq!(outputs[2].dims, [0]);
    // One worker's output is another call's input.
    let again = worker.infer("echo", vec![outputs[1].clone()], None).await.unwrap();
    assert!(*again.outputs[0].data == *large);
}

#[tokio::test]
async fn requests_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    let calls: Vec<_> = (0..200u8)
        .map(|byte| {
            let worker = worker.clone();
            tokio::spawn(async move { echo(&worker, byte).await })
        })
        .collect();
    for (byte, call) in (0..200u8).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), [byte; 100]);
    }
}

#[tokio::test]
async fn memory_is_announced_once_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    for byte in 0..100 {
        let output = worker.infer("echo", vec![tensor(vec![byte; 1 << 20])], None).await.unwrap();
        assert_eq!(output.outputs[0].data[0], byte);
    }
    assert_eq!(number(&worker, "regions").await, 1);
}

#[tokio::test]
async fn outputs_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    let kept = worker.infer("echo", vec![tensor(vec![7; 5000])], None).await.unwrap();
    worker.shutdown().await;
    assert!(kept.outputs[0].data.iter().all(|&byte| byte == 7));
}

#[tokio::test]
async fn a_killed_process_is_replaced_and_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    let first = worker.pid();
    let hanging = |byte| {
        let worker = worker.clone();
        let inputs = vec![tensor(vec![byte; 100])];
        async move { worker.infer("hang-in-the-first-process", inputs, None).await }
    };
    let (one, two) = (tokio::spawn(hanging(1)), tokio::spawn(hanging(2)));
    // Answered after the two are sent, as frames keep their order.
    tokio::task::yield_now().await;
    assert_eq!(echo(&worker, 0).await.unwrap(), [0; 100]);
    kill(&worker);
    assert_eq!(&*one.await.unwrap().unwrap().outputs[0].data, [1; 100]);
    assert_eq!(&*two.await.unwrap().unwrap().outputs[0].data, [2; 100]);
    assert_eq!(worker.restarts(), 1);
    assert_ne!(worker.pid(), first);
}

#[tokio::test]
async fn a_request_that_kills_twice_is_given_up_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    let result = worker.infer("die", Vec::new(), None).await;
    let Err(RuntimeFailure::Unavailable { reason }) = result else { panic!("{result:?}") };
    assert!(reason.contains("SIGABRT"), "{reason}");
    assert_eq!(until_answered(&worker).await, [9; 100]);
    assert_eq!(worker.restarts(), 2);
}

/// Asks until the worker is back, for ten seconds at most.
async fn until_answered(worker: &RuntimeWorker) -> Vec<u8> {
    let asking = async {
        loop {
            match echo(worker, 9).await {
                Ok(answer) => return answer,
                Err(RuntimeFailure::Unavailable { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.expect("the worker comes back")
}

#[tokio::test]
async fn processes_that_keep_dying_are_started_ever_more_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let pause = Duration::from_millis(40);
    let slow = |config: &mut RuntimeConfig| config.first_backoff = pause;
    let worker = start(folder.path(), "runtime-that-keeps-dying", slow).await;
    let since = Instant::now();
    kill(&worker);
    let refused = async {
        loop {
            match echo(&worker, 1).await {
                Err(RuntimeFailure::Unavailable { reason }) if reason.contains("next start in") => break,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused)
        .await
        .expect("requests are refused during a pause");
    assert_eq!(until_answered(&worker).await, [9; 100]);
    // The kill is followed by no pause; the three deaths after it by 1, 2 and 4 times the first.
    assert_eq!(worker.restarts(), 4);
    assert!(since.elapsed() >= pause * 7, "{:?}", since.elapsed());
}

#[tokio::test]
async fn lies_end_the_process_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let worker =
        start(folder.path(), "runtime", |config| config.first_backoff = Duration::from_millis(1)).await;
    for (entry, complaint) in [
        ("loose-region", "not sealed"),
        ("outside", "not inside"),
        ("unasked", "not in flight"),
        ("garbage", "does not decode"),
    ] {
        assert_eq!(until_answered(&worker).await, [9; 100]);
        let result = worker.infer(entry, vec![tensor(vec![1])], None).await;
        let Err(RuntimeFailure::Unavailable { reason }) = &result else { panic!("{entry}: {result:?}") };
        assert!(reason.contains(complaint), "{entry}: {reason}");
    }
    assert_eq!(until_answered(&worker).await, [9; 100]);
}

#[tokio::test]
async fn deadlines_and_dropped_calls_are_cancelled_in_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    let deadline = Instant::now() + Duration::from_millis(50);
    let late = worker.infer("never", Vec::new(), Some(deadline)).await;
    assert_eq!(late.unwrap_err(), RuntimeFailure::DeadlineExceeded);
    let past = worker.infer("echo", Vec::new(), Some(deadline)).await;
    assert_eq!(past.unwrap_err(), RuntimeFailure::DeadlineExceeded);
    tokio::select! {
        biased;
        result = worker.infer("never", Vec::new(), None) => panic!("{result:?}"),
        () = async {} => {}
    }
    assert_eq!(number(&worker, "cancels").await, 2);
}

#[tokio::test]
async fn a_process_that_does_not_let_go_of_a_cancelled_request_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let grace = Duration::from_millis(100);
    let worker = start(folder.path(), "runtime", |config| config.cancel_grace = grace).await;
    let first = worker.pid();
    let since = Instant::now();
    let deadline = since + Duration::from_millis(20);
    let wanted = {
        let worker = worker.clone();
        let inputs = vec![tensor(vec![5; 100])];
        tokio::spawn(async move { worker.infer("hang-in-the-first-process", inputs, None).await })
    };
    let late = worker.infer("runaway", Vec::new(), Some(deadline)).await;
    assert_eq!(late.unwrap_err(), RuntimeFailure::DeadlineExceeded);
    // The process that replaces it answers what is wanted and is not asked for the runaway.
    assert_eq!(&*wanted.await.unwrap().unwrap().outputs[0].data, [5; 100]);
    assert!(since.elapsed() >= grace, "{:?}", since.elapsed());
    assert_ne!(worker.pid(), first);
    assert_eq!((worker.restarts(), number(&worker, "cancels").await), (1, 0));
}

#[tokio::test]
async fn wanted_work_before_a_cancelled_request_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("runtime");
    std::os::unix::fs::symlink(SCRIPTED, &link).unwrap();
    let grace = Duration::from_millis(50);
    let config = RuntimeConfig { cancel_grace: grace, ..RuntimeConfig::new(link) };
    let options = RuntimeOptions { threads: Some(1), ..RuntimeOptions::default() };
    let worker = RuntimeWorker::start(config, empty_module(), options).await.unwrap();
    let first = worker.pid();
    tokio::select! {
        biased;
        result = worker.infer("never", Vec::new(), None) => panic!("{result:?}"),
        // Waits in the process behind what is wanted, as far as the parent can tell.
        () = async {
            let deadline = Instant::now() + Duration::from_millis(1);
            worker.infer("runaway", Vec::new(), Some(deadline)).await.unwrap_err();
            let long = Instant::now() + grace * 4;
            let late = worker.infer("never", Vec::new(), Some(long)).await;
            assert_eq!(late.unwrap_err(), RuntimeFailure::DeadlineExceeded);
            assert_eq!(worker.pid(), first);
        } => {}
    }
    // With the first request gone, the runaway is what keeps the process.
    let answer = worker.infer("hang-in-the-first-process", vec![tensor(vec![5])], None).await.unwrap();
    assert_eq!(&*answer.outputs[0].data, [5]);
    assert_ne!(worker.pid(), first);
}

#[tokio::test]
async fn too_many_requests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |config| config.queue_limit = 1).await;
    tokio::select! {
        biased;
        result = worker.infer("never", Vec::new(), None) => panic!("{result:?}"),
        result = echo(&worker, 1) => assert_eq!(result, Err(RuntimeFailure::Overloaded { limit: 1 })),
    }
}

#[tokio::test]
async fn shapes_and_bytes_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    for dims in [vec![2, 2], vec![u64::MAX, 2]] {
        let wrong = Tensor { name: "image".to_owned(), dtype: DType::F32, dims, data: vec![0; 3].into() };
        let result = worker.infer("echo", vec![wrong], None).await;
        let Err(RuntimeFailure::InvalidInput { tensor, found, .. }) = result else { panic!("{result:?}") };
        assert_eq!((tensor.as_str(), found.as_str()), ("image", "3 bytes"));
    }
}

#[tokio::test]
async fn the_process_ends_with_its_last_handle() {
    let folder = tempfile::tempdir().unwrap();
    let worker = start(folder.path(), "runtime", |_| {}).await;
    let pid = Pid::from_raw(i32::try_from(worker.pid().unwrap()).unwrap()).unwrap();
    let other = worker.clone();
    drop(worker);
    assert_eq!(echo(&other, 3).await.unwrap(), [3; 100]);
    drop(other);
    let gone = async {
        while test_kill_process(pid).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the process is gone and reaped");
}

/// Also when the parent had no time to say good-bye.
#[test]
fn the_process_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["parent", "runtime"] {
        std::os::unix::fs::symlink(SCRIPTED, folder.path().join(name)).unwrap();
    }
    let mut command = Command::new(folder.path().join("parent"));
    let mut parent = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let status = format!("/proc/{}/status", line.trim());
    assert!(std::fs::exists(&status).unwrap(), "{line}");
    parent.kill().unwrap();
    parent.wait().unwrap();
    let since = Instant::now();
    // Whoever inherits the orphan may take its time to reap it.
    while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ")) {
        assert!(since.elapsed() < Duration::from_secs(10), "the process still runs");
        std::thread::yield_now();
    }
}
