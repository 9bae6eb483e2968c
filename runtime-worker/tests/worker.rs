//! Modules in the real runtime worker: answers, named errors, measurements, deaths, and the sandbox from inside.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "support/modules.rs"]
mod modules;

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ired_module::{DType, ModuleDraft};
use ired_worker::{
    BenchRequest, Cores, Probe, ProbeOutcome, Role, RuntimeConfig, RuntimeFailure, RuntimeOptions,
    RuntimeWorker, Tensor, TensorData, probe, sandbox_report,
};
use rustix::process::{Pid, Signal, kill_process};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_ired-runtime-worker");

fn file(content: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.into()
}

async fn start() -> RuntimeWorker {
    load(modules::copying(), RuntimeConfig::new(EXECUTABLE)).await.unwrap()
}

async fn load(module: ModuleDraft, config: RuntimeConfig) -> Result<RuntimeWorker, RuntimeFailure> {
    load_with(module, config, None).await
}

async fn load_with(
    module: ModuleDraft,
    config: RuntimeConfig,
    memory_bytes: Option<u64>,
) -> Result<RuntimeWorker, RuntimeFailure> {
    let options = RuntimeOptions { threads: Some(2), memory_bytes, ..RuntimeOptions::default() };
    RuntimeWorker::start(config, written(module), options).await
}

/// A copying module in a process that keeps to these cores.
async fn load_on(cores: &str) -> Result<RuntimeWorker, RuntimeFailure> {
    let options = RuntimeOptions { cores: Some(cores.parse().unwrap()), ..RuntimeOptions::default() };
    RuntimeWorker::start(RuntimeConfig::new(EXECUTABLE), written(modules::copying()), options).await
}

fn written(module: ModuleDraft) -> OwnedFd {
    let mut file: File = tempfile::tempfile().unwrap();
    module.write(&mut file).unwrap();
    file.rewind().unwrap();
    file.into()
}

fn tensor(name: &str, dtype: DType, dims: &[u64], data: impl Into<TensorData>) -> Tensor {
    Tensor { name: name.to_owned(), dtype, dims: dims.to_vec(), data: data.into() }
}

/// `f32[rows, 4]`, filled with one byte.
fn rows(count: u64, fill: u8) -> Tensor {
    tensor("x", DType::F32, &[count, 4], vec![fill; usize::try_from(count).unwrap() * 16])
}

#[tokio::test]
async fn a_module_answers_for_every_size_from_shared_memory() {
    let worker = start().await;
    let module = worker.module();
    assert_eq!(module.signature, modules::copying().signature);
    assert_eq!(module.provenance.model_name, "copying");
    for count in [1, 3, 5000, 0] {
        let mut buffer = worker.input_buffer(usize::try_from(count).unwrap() * 16).unwrap();
        buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
        let input = tensor("x", DType::F32, &[count, 4], buffer);
        let result = worker.infer("copy", vec![input.clone()], None).await.unwrap();
        let [output] = &result.outputs[..] else { panic!("{:?}", result.outputs) };
        assert_eq!(
            (output.name.as_str(), output.dtype, &output.dims[..]),
            ("y", DType::F32, &[count, 4][..])
        );
        assert!(*output.data == *input.data, "{count} rows");
    }
    worker.shutdown().await;
}

#[tokio::test]
async fn requests_run_at_once_and_do_not_mix() {
    let worker = start().await;
    let calls: Vec<_> = (0..200u8)
        .map(|fill| {
            let worker = worker.clone();
            tokio::spawn(
                async move { worker.infer("copy", vec![rows(1 + u64::from(fill), fill)], None).await },
            )
        })
        .collect();
    for (fill, call) in (0..200u8).zip(calls) {
        let outputs = call.await.unwrap().unwrap().outputs;
        assert!(outputs[0].data.iter().all(|&byte| byte == fill), "{fill}");
    }
}

/// What the kernel says of where each thread of a process may run.
fn cores_of_threads(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
    let cores = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    };
    status.map(cores).collect()
}

#[tokio::test]
async fn a_process_and_the_one_after_it_keep_to_their_cores() {
    let allowed = Cores::allowed().unwrap().to_string();
    let last = allowed.rsplit(['-', ',']).next().unwrap();
    let worker = load_on(last).await.unwrap();
    // All threads are there once a request was answered.
    let everywhere = start().await;
    everywhere.infer("copy", vec![rows(1, 1)], None).await.unwrap();
    for _ in 0..2 {
        worker.infer("copy", vec![rows(5000, 1)], None).await.unwrap();
        let threads = cores_of_threads(worker.pid().unwrap());
        assert!(threads.iter().all(|cores| cores == last), "{threads:?}");
        // One core takes no second thread to run kernels, and none to lead requests.
        assert!(threads.len() < cores_of_threads(everywhere.pid().unwrap()).len(), "{threads:?}");
        let pid = worker.pid();
        kill_process(Pid::from_raw(pid.unwrap().cast_signed()).unwrap(), Signal::KILL).unwrap();
        while worker.pid().is_none() || worker.pid() == pid {
            tokio::task::yield_now().await;
        }
    }
    let (own, all) = (worker.module().private_bytes, worker.module().resident_bytes);
    assert!(0 < own && own < all, "{own} bytes of {all} are not mapped from files");

    let error = load_on("1023").await.unwrap_err().to_string();
    let told = format!("cores 1023 were asked for, and this process may use {allowed}");
    assert_eq!(error, format!("the runtime worker is unavailable: {told}"));
}

#[tokio::test]
async fn wrong_inputs_are_named() {
    let worker = start().await;
    let ask = async |entry: &str, inputs: Vec<Tensor>| worker.infer(entry, inputs, None).await.unwrap_err();
    for (inputs, text) in [
        (
            vec![tensor("x", DType::F16, &[1, 4], vec![0; 8])],
            "input `x`: found f16[1, 4], expected f32[batch, 4]",
        ),
        (vec![tensor("x", DType::F32, &[4], vec![0; 16])], "input `x`: found f32[4], expected f32[batch, 4]"),
        (
            vec![tensor("x", DType::F32, &[1, 5], vec![0; 20])],
            "input `x`: found f32[1, 5], expected f32[batch, 4]",
        ),
        (vec![rows(70_000, 0)], "expected f32[batch, 4] with batch from 0 to 65536"),
        (vec![], "input `x`: found nothing, expected f32[batch, 4]"),
        (vec![tensor("z", DType::F32, &[1, 4], vec![0; 16])], "input `z`"),
        (vec![rows(1, 0), rows(1, 0)], "input `x`: found it twice"),
    ] {
        let error = ask("copy", inputs).await;
        assert!(matches!(error, RuntimeFailure::InvalidInput { .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = ask("paste", vec![rows(1, 0)]).await;
    assert_eq!(error.to_string(), "no entry point `paste`; the module has copy, check");
    let error = ask("check", vec![rows(2, 0)]).await;
    assert!(
        matches!(&error, RuntimeFailure::Execution { message } if message == "one row at a time"),
        "{error:?}"
    );
    worker.infer("check", vec![rows(1, 0)], None).await.unwrap();
}

#[tokio::test]
async fn a_request_says_what_it_takes_and_one_beyond_the_budget_is_refused_by_the_numbers() {
    let config = RuntimeConfig::new(EXECUTABLE);
    let worker = load_with(modules::copying(), config, Some(1000)).await.unwrap();
    let before = worker.pid();
    let peak = async |entry: &str, count: u64| worker.peak(entry, vec![vec![count, 4]], None).await;
    assert_eq!((peak("copy", 0).await, peak("copy", 3).await), (Ok(0), Ok(48)));
    assert_eq!(peak("copy", 65_536).await, Ok(1 << 20));
    let error = peak("check", 2).await.unwrap_err();
    assert_eq!(error.to_string(), "execution failed: one row at a time");
    let error = peak("copy", 70_000).await.unwrap_err();
    let text = "input `x`: found f32[70000, 4], expected f32[batch, 4] with batch from 0 to 65536";
    assert_eq!(error.to_string(), text);
    assert!(matches!(peak("paste", 1).await, Err(RuntimeFailure::NoSuchEntry { .. })));
    let error = worker.infer("copy", vec![rows(63, 0)], None).await.unwrap_err();
    assert_eq!(error.to_string(), "not enough memory: 1008 bytes needed, 1000 allowed");
    worker.infer("copy", vec![rows(62, 0)], None).await.unwrap();
    assert_eq!((worker.pid(), worker.restarts()), (before, 0));
}

#[tokio::test]
async fn what_an_idle_process_kept_for_requests_is_given_back() {
    const MIB: u64 = 1 << 20;
    let worker = load(modules::scratching(), RuntimeConfig::new(EXECUTABLE)).await.unwrap();
    let before = worker.usage().await.unwrap().rss_bytes;
    let input = rows(65_536, 7);
    for _ in 0..3 {
        worker.infer("scratch", vec![input.clone()], None).await.unwrap();
    }
    assert!(worker.usage().await.unwrap().peak_rss_bytes > before + 64 * MIB);
    let given_back = async {
        while worker.usage().await.unwrap().rss_bytes > before + 8 * MIB {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), given_back).await.expect("memory that nobody needs");
    // And taken again.
    worker.infer("scratch", vec![input], None).await.unwrap();
}

#[tokio::test]
async fn measurements_run_inside_the_process() {
    let worker = start().await;
    let request = BenchRequest { max_iters: 50, budget: Duration::from_secs(60), warmup: 3, profile: true };
    let result = worker.bench("copy", vec![rows(64, 7)], request).await.unwrap();
    assert_eq!(result.latencies.len(), 50);
    assert!(result.latencies.iter().all(|latency| !latency.is_zero()));
    assert!(result.rss_bytes > 0 && !result.cpu.is_zero());
    assert!(result.outputs[0].data.iter().all(|&byte| byte == 7));
    assert!(!result.spans.is_empty() && result.spans.iter().all(|span| span.workgroups > 0));
    let short = BenchRequest { max_iters: u64::MAX, budget: Duration::ZERO, warmup: 0, profile: false };
    assert_eq!(worker.bench("copy", vec![rows(64, 7)], short).await.unwrap().latencies.len(), 1);
    let usage = worker.usage().await.unwrap();
    assert!(usage.peak_rss_bytes >= usage.rss_bytes && usage.cpu >= result.cpu);
}

#[tokio::test]
async fn a_killed_process_is_replaced_and_its_requests_are_answered() {
    let worker = start().await;
    let before = worker.pid().unwrap();
    // Enough work that some of it is in flight when the process dies, wherever the kill falls.
    let calls: Vec<_> = (0..100u8)
        .map(|fill| {
            let worker = worker.clone();
            tokio::spawn(async move { worker.infer("copy", vec![rows(60_000, fill)], None).await })
        })
        .collect();
    tokio::task::yield_now().await;
    kill_process(Pid::from_raw(i32::try_from(before).unwrap()).unwrap(), Signal::KILL).unwrap();
    for (fill, call) in (0..100u8).zip(calls) {
        let outputs = call.await.unwrap().unwrap().outputs;
        assert!(outputs[0].data.iter().all(|&byte| byte == fill), "{fill}");
    }
    assert_eq!(worker.restarts(), 1);
    assert_ne!(worker.pid().unwrap(), before);
}

#[tokio::test]
async fn a_deadline_is_kept_while_the_process_is_busy() {
    let worker = start().await;
    // Two threads run them, so that what comes after waits for at least 800 ms.
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let worker = worker.clone();
            let request = BenchRequest {
                max_iters: u64::MAX,
                budget: Duration::from_millis(400),
                warmup: 0,
                profile: false,
            };
            tokio::spawn(async move { worker.bench("copy", vec![rows(1000, 1)], request).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let deadline = Instant::now() + Duration::from_millis(20);
    let late = worker.infer("copy", vec![rows(1, 0)], Some(deadline)).await;
    assert_eq!(late.unwrap_err(), RuntimeFailure::DeadlineExceeded);
    for bench in busy {
        bench.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn work_that_outlives_its_deadline_is_ended_with_its_process() {
    let grace = Duration::from_millis(100);
    let config = RuntimeConfig { cancel_grace: grace, ..RuntimeConfig::new(EXECUTABLE) };
    let worker = load(modules::spinning(), config).await.unwrap();
    let first = worker.pid();
    // As many as there are threads: nothing else runs until one of them ends.
    let deadline = Instant::now() + Duration::from_millis(300);
    let spin = || worker.infer("spin", vec![rows(1, 0)], Some(deadline));
    for late in <[_; 2]>::from(tokio::join!(spin(), spin())) {
        assert_eq!(late.unwrap_err(), RuntimeFailure::DeadlineExceeded);
    }
    let answer = worker.infer("copy", vec![rows(1, 9)], Some(Instant::now() + Duration::from_secs(30)));
    assert!(answer.await.unwrap().outputs[0].data.iter().all(|&byte| byte == 9));
    assert_eq!(worker.restarts(), 1);
    assert_ne!(worker.pid(), first);
}

#[tokio::test]
async fn a_long_request_after_brief_ones_does_not_keep_others_waiting() {
    let worker = load(modules::spinning(), RuntimeConfig::new(EXECUTABLE)).await.unwrap();
    for _ in 0..500 {
        worker.infer("copy", vec![rows(1, 3)], None).await.unwrap();
    }
    let long = tokio::spawn({
        let worker = worker.clone();
        async move { worker.infer("spin", vec![rows(1, 0)], None).await }
    });
    // So that the process does not read both at once.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = worker.infer("copy", vec![rows(1, 9)], Some(Instant::now() + Duration::from_secs(30)));
    assert!(answer.await.unwrap().outputs[0].data.iter().all(|&byte| byte == 9));
    assert!(!long.is_finished());
    assert_eq!(worker.restarts(), 0);
    worker.shutdown().await;
}

#[tokio::test]
async fn code_for_another_processor_is_refused_by_name() {
    let failure = load(modules::needing("avx9000"), RuntimeConfig::new(EXECUTABLE)).await.unwrap_err();
    let RuntimeFailure::Load { message } = &failure else { panic!("{failure:?}") };
    assert!(message.contains("needs features that this device lacks: avx9000"), "{message}");
}

#[tokio::test]
async fn files_that_are_no_sound_modules_do_not_load() {
    let mut whole = std::io::Cursor::new(Vec::new());
    modules::copying().write(&mut whole).unwrap();
    let whole = whole.into_inner();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for broken in [&b"not a module"[..], &whole[..whole.len() - 1], &flipped, &[]] {
        let config = RuntimeConfig::new(EXECUTABLE);
        let result = RuntimeWorker::start(config, file(broken), RuntimeOptions::default()).await;
        assert!(matches!(result, Err(RuntimeFailure::Load { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn nothing_gets_out() {
    let executable = || Some(PathBuf::from(EXECUTABLE));
    let report = sandbox_report(Role::Runtime, executable()).await.unwrap();
    for layer in ["no_new_privs", "capabilities", "rlimits", "landlock", "seccomp"] {
        assert!(report.is_active(layer), "{layer}: {:?}", report.layer(layer));
    }
    for &attempt in Probe::ALL {
        let outcome = probe(Role::Runtime, executable(), attempt).await.unwrap();
        match attempt {
            Probe::Nothing => assert_eq!(outcome, ProbeOutcome::Succeeded),
            // Allowed until the module is loaded, and refused to the device's threads, too.
            Probe::ReadMachine => {
                assert!(
                    matches!(&outcome, ProbeOutcome::Refused(how) if how.contains("denied")),
                    "{outcome:?}"
                );
            }
            Probe::OpenSocket | Probe::Execute | Probe::Fork => {
                assert!(matches!(outcome, ProbeOutcome::Killed(_)), "{outcome:?}");
            }
            _ => assert_ne!(outcome, ProbeOutcome::Succeeded, "it can {}", attempt.describe()),
        }
    }
}

#[tokio::test]
async fn a_profiled_request_says_what_the_device_did_and_others_are_answered_meanwhile() {
    let worker = start().await;
    let others: Vec<_> = (0..50u8)
        .map(|fill| {
            let worker = worker.clone();
            tokio::spawn(async move { worker.infer("copy", vec![rows(64, fill)], None).await })
        })
        .collect();
    let profiled = worker.profile("copy", vec![rows(1000, 7)], None).await.unwrap();
    assert!(profiled.outputs[0].data.iter().all(|byte| *byte == 7));
    let profile = profiled.profile.unwrap();
    let copied: Vec<_> = profile.spans.iter().map(|span| span.work.as_str()).collect();
    assert_eq!(copied, ["copy"], "no other request's");
    let span = &profile.spans[0];
    assert!(span.start + span.took <= profiled.timing.compute, "{span:?} in {:?}", profiled.timing);
    assert_eq!((profile.left_out, profile.notes.len()), (0, 0));
    for other in others {
        assert_eq!(other.await.unwrap().unwrap().profile, None);
    }
    let failed = worker.profile("check", vec![rows(2, 0)], None).await.unwrap_err();
    assert!(matches!(failed, RuntimeFailure::Execution { .. }), "{failed:?}");
    assert_eq!(worker.infer("copy", vec![rows(1, 1)], None).await.unwrap().profile, None);
    worker.shutdown().await;
}
