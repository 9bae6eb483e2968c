//! The service as a black box: what users do, and what breaks under them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use ired_client::proto::WorkerProcess;
use ired_client::proto::compile_event::Event;
use ired_client::{Client, ClientError, DataType, InferRequest, Tensor};
use ired_tests::daemon::{Daemon, Doors, executable, runtime_worker, signal};
use ired_tests::vitals::{Vitals, allowed_cores};
use ired_tests::{counter, digits};
use tokio::task::JoinSet;

/// tonic's codes for RESOURCE_EXHAUSTED and UNAVAILABLE.
const RESOURCE_EXHAUSTED: i32 = 8;
const UNAVAILABLE: i32 = 14;

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_model_answers_over_every_protocol() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path(), &[])?;
    let client = daemon.client().await?;
    digits::push(&client, "digits").await?;
    let (pixels, labels) = digits::samples()?;

    // One module, two batch sizes.
    let all = client.infer(digits::request("digits", &pixels)).await?;
    assert_eq!(digits::answers(&all)?, labels);
    let one = client.infer(digits::request("digits", &pixels[..64])).await?;
    assert_eq!(digits::answers(&one)?, labels[..1]);

    let body = serde_json::json!({"inputs": [
        {"name": "image", "datatype": "FP32", "shape": [labels.len(), 1, 8, 8], "data": pixels}]});
    let url = format!("http://{}/v2/models/digits/infer", daemon.rest);
    let answer: serde_json::Value = ureq::post(url).send_json(&body)?.body_mut().read_json()?;
    let data = answer["outputs"][0]["data"].as_array().context("no data in the REST answer")?;
    let by_rest: Vec<f32> = data.iter().filter_map(|v| v.as_f64()).map(|v| v as f32).collect();
    let by_rest: Vec<usize> = by_rest.chunks(digits::CLASSES).map(digits::most_probable).collect();
    assert_eq!(by_rest, labels);

    assert!(daemon.stop()?.success(), "the daemon ends in good order");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_equal_compile_requests_run_one_compile() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path(), &[])?;
    let client = daemon.client().await?;
    let model = digits::upload(&client, "digits", &digits::model()).await?;

    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        let (client, model) = (client.clone(), model.clone());
        requests.spawn(async move { digits::compile(&client, model, |_| ()).await });
    }
    let mut keys = std::collections::BTreeSet::new();
    while let Some(outcome) = requests.join_next().await {
        keys.insert(outcome??.key);
    }
    assert_eq!(keys.len(), 1, "all got the same module");
    assert_eq!(daemon.metric("ired_compile_workers_started_total")?, Some(1.0));

    // After a restart the module is there: no worker starts.
    daemon.kill()?;
    let daemon = Daemon::start(folder.path(), &[])?;
    let outcome = digits::push(&daemon.client().await?, "again").await?;
    assert!(outcome.cached);
    assert_eq!(daemon.metric("ired_compile_workers_started_total")?.unwrap_or(0.0), 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_the_repository_survive_a_power_cut() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let repository = folder.path().join("models");
    std::fs::create_dir_all(repository.join("versioned/3"))?;
    std::fs::copy(digits::model(), repository.join("versioned/3/model.onnx"))?;
    std::fs::copy(digits::model(), repository.join("single.onnx"))?;
    let arguments = ["--model-repository", repository.to_str().context("the path is text")?];

    let daemon = Daemon::start(folder.path(), &arguments)?;
    digits::push(&daemon.client().await?, "uploaded").await?;
    daemon.kill()?;

    let daemon = Daemon::start(folder.path(), &arguments)?;
    let client = daemon.client().await?;
    let (pixels, labels) = digits::samples()?;
    for model in ["versioned", "single", "uploaded"] {
        let answer = client.infer(digits::request(model, &pixels)).await.with_context(|| model.to_owned())?;
        assert_eq!(digits::answers(&answer)?, labels, "{model}");
    }
    Ok(())
}

/// In a user namespace that may have none below it: as in a container that forbids them, one layer is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_strict_daemon_names_the_layer_that_is_missing() -> Result<()> {
    const FORBID: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    let without_namespaces = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", FORBID]).arg(program);
        command
    };
    if !without_namespaces(Path::new("true")).status().is_ok_and(|status| status.success()) {
        eprintln!("NOT CHECKED: nothing here can be started without namespaces");
        return Ok(());
    }
    let push = async |level: &str| {
        let folder = tempfile::tempdir()?;
        let command = without_namespaces(&executable("ired")?);
        let daemon =
            Daemon::start_by(command, &Doors::free()?, folder.path(), &["--require-sandbox", level])?;
        let pushed = digits::push(&daemon.client().await?, "digits").await;
        ensure!(daemon.stop()?.success(), "the daemon ends in good order");
        pushed
    };
    let refused = push("strict").await.err().context("it compiles without a layer")?;
    let text = format!("{refused:#}");
    ensure!(text.contains("the sandbox is not complete here: user_namespace ("), "{text}");
    push("baseline").await.context("the other layers hold")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_compile_worker_costs_its_job_at_most() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut daemon = Daemon::start(folder.path(), &[])?;
    let client = daemon.client().await?;
    digits::push(&client, "other").await?;
    let model = digits::upload(&client, "victim", &variant(folder.path(), 1)?).await?;

    // The first worker is killed: the job is made once more and succeeds.
    let mut started = 0;
    let outcome = digits::compile(&client, model.clone(), |event| {
        if let Event::Started(worker) = event {
            started += 1;
            if started == 1 {
                signal("KILL", worker.pid).expect("the worker has only started");
            }
        }
    })
    .await?;
    assert!(!outcome.cached);
    assert_eq!(started, 2);

    // Every worker is killed: that job fails and says why; nothing else notices.
    let model = digits::upload(&client, "victim", &variant(folder.path(), 2)?).await?;
    let result = digits::compile(&client, model, |event| {
        if let Event::Started(worker) = event {
            signal("KILL", worker.pid).expect("the worker has only started");
        }
    })
    .await;
    let error = result.expect_err("every worker was killed");
    let Some(ClientError::Compile { kind, .. }) = error.downcast_ref() else { panic!("{error:?}") };
    assert_eq!(kind, "crashed");

    let (pixels, labels) = digits::samples()?;
    let answer = client.infer(digits::request("other", &pixels)).await?;
    assert_eq!(digits::answers(&answer)?, labels);
    assert!(daemon.is_running()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runtime_worker_loses_no_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut daemon = Daemon::start(folder.path(), &[])?;
    let client = daemon.client().await?;
    for model in ["victim", "bystander"] {
        digits::push(&client, model).await?;
    }
    let bystander = runtime_worker(&client.models().await?, "bystander")?;

    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = JoinSet::new();
    for i in 0..8 {
        let (stop, answered, client) = (stop.clone(), answered.clone(), daemon.client().await?);
        let model = if i % 2 == 0 { "victim" } else { "bystander" };
        load.spawn(async move {
            let (pixels, labels) = digits::samples()?;
            while !stop.load(Ordering::Relaxed) {
                match client.infer(digits::request(model, &pixels)).await {
                    Ok(answer) => assert_eq!(digits::answers(&answer)?, labels),
                    Err(error) => {
                        let code = error.code().map(|code| code as i32);
                        ensure!(model == "victim" && code == Some(UNAVAILABLE), "{model}: {error}");
                    }
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let mut killed = std::collections::BTreeSet::new();
    while killed.len() < 5 {
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < before + 50 {
            ensure!(daemon.is_running()?, "the daemon ended");
            tokio::task::yield_now().await;
            if let Some(ended) = load.try_join_next() {
                ended??;
            }
        }
        let victim = runtime_worker(&client.models().await?, "victim")?;
        // No process between two lives of the worker.
        if victim != 0 && killed.insert(victim) {
            signal("KILL", victim)?;
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended??;
    }
    let (pixels, labels) = digits::samples()?;
    let models = client.models().await?;
    assert_eq!(runtime_worker(&models, "bystander")?, bystander, "the other model's process lives on");
    let answer = client.infer(digits::request("victim", &pixels)).await?;
    assert_eq!(digits::answers(&answer)?, labels);
    Ok(())
}

/// The processes that hold the loaded `model`.
async fn processes(client: &Client, model: &str) -> Result<Vec<WorkerProcess>> {
    let models = client.models().await?;
    let found = models.into_iter().find(|found| found.name == model && found.module.is_some());
    Ok(found.and_then(|found| found.module).context("the model is not loaded")?.processes)
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_keep_to_their_cores_and_one_that_is_killed_loses_no_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let repository = folder.path().join("models");
    std::fs::create_dir_all(repository.join("digits/1"))?;
    std::fs::copy(digits::model(), repository.join("digits/1/model.onnx"))?;
    let config = "instance_group [ { count: 1 host_policy: 'first' }, { count: 1 host_policy: 'last' } ]";
    std::fs::write(repository.join("digits/config.pbtxt"), config)?;
    let allowed = allowed_cores(None)?.pop().context("no thread")?;
    let cores =
        [allowed.split(['-', ',']).next(), allowed.rsplit(['-', ',']).next()].map(Option::unwrap_or_default);
    let groups = [format!("first={}", cores[0]), format!("last={}", cores[1])];
    let repository = repository.to_str().context("the path is text")?;
    let arguments =
        ["--model-repository", repository, "--device-group", &groups[0], "--device-group", &groups[1]];
    let daemon = Daemon::start(folder.path(), &arguments)?;
    let client = daemon.client().await?;
    let found = processes(&client, "digits").await?;
    let names: Vec<_> = found.iter().map(|process| process.device_group.as_str()).collect();
    assert_eq!(names, ["first", "last"]);
    for (process, cores) in found.iter().zip(cores) {
        let threads = allowed_cores(Some(process.pid))?;
        assert!(threads.iter().all(|found| found == cores), "{threads:?}, expected {cores}");
    }

    // Of two requests at once each process has one: the one that cannot go on keeps its own and no other.
    let (pixels, labels) = digits::samples()?;
    // From here on it is known what such a request takes, and neither is asked for it.
    client.infer(digits::request("digits", &pixels)).await?;
    for process in &found {
        signal("STOP", process.pid)?;
        let mut both = JoinSet::new();
        for _ in 0..2 {
            let (client, request) = (client.clone(), digits::request("digits", &pixels));
            both.spawn(async move { client.infer(request).await });
        }
        let answer = both.join_next().await.context("one is answered")???;
        assert_eq!(digits::answers(&answer)?, labels);
        for _ in 0..3 {
            client.infer(digits::request("digits", &pixels)).await?;
        }
        assert!(both.try_join_next().is_none(), "the other is where nothing goes on");
        signal("CONT", process.pid)?;
        let answer = both.join_next().await.context("the other one")???;
        assert_eq!(digits::answers(&answer)?, labels);
    }

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (stop, answered, client) = (stop.clone(), answered.clone(), daemon.client().await?);
        load.spawn(async move {
            let (pixels, labels) = digits::samples()?;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.infer(digits::request("digits", &pixels)).await?;
                assert_eq!(digits::answers(&answer)?, labels);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    for at in 0..2 {
        let before = processes(&client, "digits").await?;
        signal("KILL", before[at].pid)?;
        let answered_before = answered.load(Ordering::Relaxed);
        let mut now = before.clone();
        while now[at].restarts == 0
            || now[at].pid == 0
            || answered.load(Ordering::Relaxed) < answered_before + 50
        {
            now = processes(&client, "digits").await?;
            if let Some(ended) = load.try_join_next() {
                ended?.context("a request was lost")?;
            }
        }
        assert_eq!(now[1 - at], before[1 - at], "the other process goes on");
        let threads = allowed_cores(Some(now[at].pid))?;
        assert!(threads.iter().all(|found| found == cores[at]), "{threads:?}, expected {}", cores[at]);
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended?.context("a request was lost")?;
    }
    assert!(daemon.stop()?.success(), "the daemon ends in good order");
    Ok(())
}

/// The events of a request for the numbers from `from` to `limit`, as they come.
fn count(
    daemon: &Daemon,
    model: &str,
    from: u64,
    limit: u64,
) -> Result<impl Iterator<Item = Result<serde_json::Value>> + use<>> {
    let url = format!("http://{}/v2/models/{model}/generate_stream", daemon.rest);
    let answer = ureq::post(url).send_json(serde_json::json!({"n": from, "limit": limit}))?;
    let lines = BufReader::new(answer.into_body().into_reader()).lines();
    Ok(lines.filter_map(|line| {
        let event = line.map(|line| line.strip_prefix("data: ").map(serde_json::from_str));
        event.map_err(anyhow::Error::from).and_then(|event| Ok(event.transpose()?)).transpose()
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_run_until_the_model_says_so_whatever_happens_to_its_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let repository = folder.path().join("models");
    counter::write(&repository.join("counter"), true)?;
    counter::write(&repository.join("endless"), false)?;
    let repository = repository.to_str().context("the path is text")?;
    let daemon = Daemon::start(folder.path(), &["--model-repository", repository])?;
    let client = daemon.client().await?;

    let events = count(&daemon, "counter", 5, 8)?.collect::<Result<Vec<_>>>()?;
    let found: Vec<_> = events.iter().map(|event| (&event["next"], event["history"].to_string())).collect();
    assert_eq!(found, [(&6.into(), "6".into()), (&7.into(), "[6,7]".into()), (&8.into(), "[6,7,8]".into())]);

    // The same from Rust.
    let number = |name: &str, value: i64| Tensor {
        name: name.to_owned(),
        data_type: DataType::Int64,
        shape: vec![1],
        data: value.to_le_bytes().to_vec().into(),
    };
    let inputs = vec![number("n", 5), number("limit", 8)];
    let asked = InferRequest { model: "counter".to_owned(), inputs, ..InferRequest::default() };
    let (mut responses, mut found) = (client.infer_stream(asked).await?, Vec::new());
    while let Some(response) = responses.next().await? {
        let next = response.outputs.iter().find(|output| output.name == "next").context("no `next`")?;
        found.push(i64::from_le_bytes(next.data[..].try_into()?));
    }
    assert_eq!(found, [6, 7, 8]);

    // One that goes on while its process is killed; what it counted is the daemon's to keep.
    let (latest, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut events = count(&daemon, "endless", 0, 1 << 40)?;
    let reader = tokio::task::spawn_blocking({
        let (latest, stop) = (latest.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let event = events.next().context("it ended")??;
                let expected = latest.load(Ordering::Relaxed) + 1;
                ensure!(event["next"].as_u64() == Some(expected as u64), "{expected}: {event}");
                latest.store(expected, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    });
    let come_to = async |number: usize| {
        while latest.load(Ordering::Relaxed) < number {
            ensure!(!reader.is_finished(), "the request ended at {latest:?}");
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    come_to(10).await?;
    let worker = runtime_worker(&client.models().await?, "endless")?;
    signal("KILL", worker)?;
    while [0, worker].contains(&runtime_worker(&client.models().await?, "endless")?) {
        tokio::task::yield_now().await;
    }
    come_to(latest.load(Ordering::Relaxed) + 1000).await?;
    stop.store(true, Ordering::Relaxed);
    reader.await??;
    // Its only place is free once it has gone.
    let events = count(&daemon, "endless", 0, 2)?.collect::<Result<Vec<_>>>()?;
    assert_eq!(events.iter().map(|event| &event["next"]).collect::<Vec<_>>(), [1, 2]);
    assert!(daemon.stop()?.success(), "the daemon ends in good order");
    Ok(())
}

/// How much memory a batch takes is a function of its rows, which the module has with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_takes_more_memory_than_there_is_is_refused_with_the_numbers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = ["--set", "memory_bytes=700000000", "--set", "compile_memory_bytes=700000000"];
    let daemon = Daemon::start(folder.path(), &settings)?;
    let client = daemon.client().await?;
    digits::push(&client, "digits").await?;
    let worker = runtime_worker(&client.models().await?, "digits")?;
    let (pixels, labels) = digits::samples()?;
    let many = pixels[..64].repeat(200_000);
    let error = client.infer(digits::request("digits", &many)).await.expect_err("there is not so much");
    assert_eq!(error.code().map(|code| code as i32), Some(RESOURCE_EXHAUSTED), "{error}");
    let text = error.to_string();
    let needs = text.strip_prefix("model `digits` needs ").and_then(|text| text.split_once(' '));
    let (needs, rest) = needs.with_context(|| text.clone())?;
    ensure!(rest.starts_with("bytes for the request; the budget is 700000000, "), "{text}");
    ensure!(needs.parse::<u64>()? > 650_000_000, "{text}");

    let answer = client.infer(digits::request("digits", &pixels)).await?;
    assert_eq!(digits::answers(&answer)?, labels);
    assert_eq!(runtime_worker(&client.models().await?, "digits")?, worker, "its process lives on");
    Ok(())
}

/// The thousand reloads of `cargo xtask chaos` in small.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_drop_nothing_and_leave_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let repository = folder.path().join("models");
    std::fs::create_dir_all(&repository)?;
    let place = repository.join("digits.onnx");
    std::fs::copy(digits::model(), &place)?;
    let (one, other) = (std::fs::read(&place)?, std::fs::read(variant(folder.path(), 1)?)?);
    let daemon = Daemon::start(
        folder.path(),
        &["--model-repository", repository.to_str().context("the path is text")?],
    )?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for _ in 0..8 {
        let (stop, client) = (stop.clone(), daemon.client().await?);
        load.spawn(async move {
            let (pixels, labels) = digits::samples()?;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.infer(digits::request("digits", &pixels)).await?;
                assert_eq!(digits::answers(&answer)?, labels);
            }
            anyhow::Ok(())
        });
    }
    let client = daemon.client().await?;
    let reload = async |times: usize| {
        for at in 0..times {
            // There is no moment without a model.
            let next = folder.path().join("next");
            std::fs::write(&next, if at % 2 == 0 { &other } else { &one })?;
            std::fs::rename(&next, &place)?;
            client.load("digits").await?;
        }
        Vitals::of(&daemon)
    };
    let before = reload(6).await?;
    let after = reload(30).await?;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended?.context("a reload drops nothing")?;
    }
    assert_eq!(after.workers, 1);
    // Requests hold some for a moment; each reload would hold several for good.
    assert!(after.descriptors < before.descriptors + 20, "{before}; then {after}");
    assert!(after.ledger_bytes < before.ledger_bytes * 3 / 2, "{before}; then {after}");
    assert!(after.resident_bytes < before.resident_bytes / 2 * 3, "{before}; then {after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_models_are_refused_with_a_named_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut daemon = Daemon::start(folder.path(), &[])?;
    let client = daemon.client().await?;
    let whole = std::fs::read(digits::model())?;
    let damaged = folder.path().join("damaged.onnx");
    for length in [0, 1, 17, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&damaged, &whole[..length])?;
        let model = digits::upload(&client, "damaged", &damaged).await;
        let error = match model {
            // An empty upload may be refused at once.
            Err(error) => error,
            Ok(model) => digits::compile(&client, model, |_| ()).await.expect_err("the model is cut short"),
        };
        let message = format!("{error:#}");
        assert!(!message.is_empty() && !message.contains("crash"), "cut at {length}: {message}");
    }
    assert!(daemon.is_running()?);
    assert!(client.ready().await?);
    Ok(())
}

/// The classifier with another producer name, so that its digest is new: `n` as a model field's length.
fn variant(folder: &Path, n: usize) -> Result<std::path::PathBuf> {
    // Field 2 of an ONNX model (producer_name), wire type 2; the last one wins.
    let mut bytes = std::fs::read(digits::model())?;
    bytes.extend([0x12, n as u8]);
    bytes.extend(vec![b'x'; n]);
    let path = folder.join(format!("variant{n}.onnx"));
    std::fs::write(&path, bytes)?;
    Ok(path)
}
