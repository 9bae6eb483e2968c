//! Real models through the real compiler in the real sandbox.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ired_module::{Module, Verify};
use ired_worker::{
    CompileEvent, CompileFailure, CompileJob, CompileOptions, CompileReport, CompileWorkers, DirectoryFiles,
    FailureKind, ModelFiles, NoFiles, TargetRequest,
};
use rustix::process::{Pid, Signal, kill_process};

fn workers() -> CompileWorkers {
    CompileWorkers::new(env!("CARGO_BIN_EXE_ired-compiler-worker"))
}

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/models")
}

fn model(name: &str) -> Vec<u8> {
    std::fs::read(models().join(name)).unwrap()
}

fn job(options: CompileOptions) -> CompileJob {
    CompileJob {
        model_name: "dense".to_owned(),
        file_name: "dense.onnx".to_owned(),
        target: TargetRequest::default(),
        options,
    }
}

/// The result, the output, and what was heard.
type Run = (Result<CompileReport, CompileFailure>, Vec<u8>, Vec<CompileEvent>);

async fn compile(model: &[u8], files: Arc<dyn ModelFiles>, options: CompileOptions) -> Run {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(model).unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let theirs = output.try_clone().unwrap().into();
    let mut events = Vec::new();
    let hear = |event| events.push(event);
    let result = workers().compile(job(options), file.into(), files, theirs, hear).await;
    let mut written = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut written).unwrap();
    (result, written, events)
}

#[tokio::test]
async fn a_model_becomes_a_sound_module() {
    let (result, written, events) =
        compile(&model("dense.onnx"), Arc::new(NoFiles), CompileOptions::default()).await;
    let report = result.unwrap();
    assert_eq!(report.module_bytes, written.len() as u64);
    assert!(report.peak_rss_bytes > 0);
    let module = Module::parse(&written).unwrap();
    module.verify(Verify::All).unwrap();
    let signature = module.signature();
    let entry = &signature.entries[0];
    assert_eq!((entry.inputs[0].name.as_str(), entry.outputs[0].name.as_str()), ("x", "y"));
    assert_eq!(module.provenance().model_name, "dense");
    let heard: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            CompileEvent::Progress(progress) => Some(progress.phase.as_str()),
            _ => None,
        })
        .collect();
    for (phase, _) in &report.phases {
        assert!(heard.contains(&phase.as_str()), "{phase}");
    }
    assert!(report.phases.iter().any(|(phase, _)| phase == "executables"), "{:?}", report.phases);
}

#[tokio::test]
async fn equal_jobs_give_equal_bytes() {
    let once = compile(&model("dense.onnx"), Arc::new(NoFiles), CompileOptions::default()).await.1;
    let again = compile(&model("dense.onnx"), Arc::new(NoFiles), CompileOptions::default()).await.1;
    assert!(!once.is_empty() && once == again);
}

#[tokio::test]
async fn weights_beside_the_model_come_through_the_broker() {
    let files: Arc<dyn ModelFiles> = Arc::new(DirectoryFiles::new(&models()).unwrap());
    let (result, written, _) = compile(&model("external.onnx"), files, CompileOptions::default()).await;
    result.unwrap();
    Module::parse(&written).unwrap().verify(Verify::All).unwrap();

    let alone = compile(&model("external.onnx"), Arc::new(NoFiles), CompileOptions::default()).await.0;
    let Err(CompileFailure::Failed { kind, diagnostics }) = alone else { panic!("{alone:?}") };
    assert_eq!(kind, FailureKind::MissingFile);
    assert!(diagnostics.iter().any(|d| d.to_string().contains("external.bin")), "{diagnostics:?}");
}

#[tokio::test]
async fn phases_can_be_looked_at_and_stopped_after() {
    let options = CompileOptions { dump: true, stop_after: Some("graph".to_owned()), ..Default::default() };
    let (result, written, events) = compile(&model("dense.onnx"), Arc::new(NoFiles), options).await;
    result.unwrap();
    let text = String::from_utf8(written).unwrap();
    assert!(!text.is_empty());
    let dump = events.iter().find_map(|event| match event {
        CompileEvent::Dump(dump) if dump.name.starts_with("1_graph") => Some(dump),
        _ => None,
    });
    assert_eq!(dump.unwrap().content, text.as_bytes());

    let options = CompileOptions { stop_after: Some("supper".to_owned()), ..Default::default() };
    let (result, ..) = compile(&model("dense.onnx"), Arc::new(NoFiles), options).await;
    assert!(result.unwrap_err().to_string().contains("supper"));
}

#[tokio::test]
async fn a_wrong_tuning_is_refused_with_its_line() {
    let tuning = Some("version = 1\ntarget = \"pdp11\"\n".to_owned());
    let options = CompileOptions { tuning, ..Default::default() };
    let (result, ..) = compile(&model("dense.onnx"), Arc::new(NoFiles), options).await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("line 2: it is for target `pdp11`"), "{error}");
}

#[tokio::test]
async fn shapes_that_are_stated_reach_the_frontend() {
    let stated = |dims: &[Option<u64>]| CompileOptions {
        shapes: vec![("x".to_owned(), dims.to_vec())],
        stop_after: Some("input".to_owned()),
        ..Default::default()
    };
    let run = async |options| compile(&model("dense.onnx"), Arc::new(NoFiles), options).await;
    let (result, written, _) = run(stated(&[Some(7), None])).await;
    result.unwrap();
    let text = String::from_utf8(written).unwrap();
    assert!(text.contains("\"x\" : f32[7, "), "{text}");
    let Err(CompileFailure::Failed { kind, diagnostics }) = run(stated(&[None])).await.0 else { panic!() };
    assert_eq!(kind, FailureKind::InvalidModel);
    let expected = "model input `x` is stated with rank 1; the model says 2";
    assert!(diagnostics.iter().any(|d| d.message == expected), "{diagnostics:?}");
    assert_ne!(stated(&[None]).canonical(), stated(&[Some(1)]).canonical());
}

#[tokio::test]
async fn broken_models_are_refused_by_name() {
    let whole = model("dense.onnx");
    for broken in [&b"not a model"[..], &whole[..whole.len() / 2]] {
        let result = compile(broken, Arc::new(NoFiles), CompileOptions::default()).await.0;
        let Err(CompileFailure::Failed { kind, diagnostics }) = &result else { panic!("{result:?}") };
        assert_eq!(*kind, FailureKind::InvalidModel, "{diagnostics:?}");
        assert!(!diagnostics.is_empty());
    }
}

#[tokio::test]
async fn a_killed_compiler_fails_its_job_alone() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&model("dense.onnx")).unwrap();
    let output = tempfile::tempfile().unwrap().into();
    let kill = |event| {
        if let CompileEvent::Started { pid, .. } = event {
            kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
        }
    };
    let workers = workers();
    let victim =
        workers.compile(job(CompileOptions::default()), file.into(), Arc::new(NoFiles), output, kill);
    let dense = model("dense.onnx");
    let other = compile(&dense, Arc::new(NoFiles), CompileOptions::default());
    let (victim, other) = tokio::join!(victim, other);
    assert!(matches!(victim, Err(CompileFailure::Killed { .. })), "{victim:?}");
    other.0.unwrap();
}

/// A module goes where it was asked to and is nobody's to change afterwards.
#[tokio::test]
async fn an_output_that_is_not_writable_fails_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.irm");
    std::fs::write(&path, b"").unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&model("dense.onnx")).unwrap();
    let output = File::open(&path).unwrap().into();
    let job = job(CompileOptions::default());
    let result = workers().compile(job, file.into(), Arc::new(NoFiles), output, |_| {}).await;
    assert!(matches!(result, Err(CompileFailure::Failed { kind: FailureKind::Internal, .. })), "{result:?}");
}
