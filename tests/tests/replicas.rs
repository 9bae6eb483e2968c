//! Daemons that share modules, as processes: one of them is killed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ired_client::proto::compile_event::Event;
use ired_tests::daemon::{Daemon, signal};
use ired_tests::digits;

/// Waits until a metric has this value.
async fn until(daemon: &Daemon, metric: &str, value: f64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while daemon.metric(metric)? != Some(value) {
        ensure!(Instant::now() < deadline, "{metric} is {:?}, not {value}", daemon.metric(metric)?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_while_it_compiles_is_relieved_by_another() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url = format!("shared_cache.url=file://{}", folder.path().join("shared").display());
    let settings = ["--set", &url, "--set", "shared_cache.lease_s=5"];
    let first = Daemon::start(&folder.path().join("first"), &settings)?;
    let second = Daemon::start(&folder.path().join("second"), &settings)?;

    // The first compiles, and comes to no end.
    let model = digits::upload(&first.client().await?, "digits", &digits::model()).await?;
    let mut events = first.client().await?.compile(model, &[]).await?;
    loop {
        match events.next().await? {
            Some(Event::Started(worker)) => break signal("STOP", worker.pid)?,
            Some(_) => {}
            None => anyhow::bail!("the compilation ended before its worker was stopped"),
        }
    }

    // The second waits for it, until it is killed.
    let client = second.client().await?;
    let model = digits::upload(&client, "digits", &digits::model()).await?;
    let compiling = {
        let client = client.clone();
        tokio::spawn(async move { digits::compile(&client, model, |_| ()).await })
    };
    until(&second, "ired_shared_cache_waiting", 1.0).await?;
    assert_eq!(second.metric("ired_compile_workers_started_total")?, Some(0.0));
    first.kill()?;
    let outcome = compiling.await??;
    assert!(!outcome.cached);
    assert_eq!(second.metric("ired_shared_cache_takeovers_total")?, Some(1.0));
    client.load("digits").await?;
    let (pixels, labels) = digits::samples()?;
    assert_eq!(digits::answers(&client.infer(digits::request("digits", &pixels)).await?)?, labels);

    // The first comes back without its disk, and finds what the second made.
    until(&second, "ired_shared_cache_uploads_total", 1.0).await?;
    std::fs::remove_dir_all(folder.path().join("first"))?;
    let first = Daemon::start(&folder.path().join("first"), &settings)?;
    assert!(digits::push(&first.client().await?, "digits").await?.cached);
    assert_eq!(first.metric("ired_compile_workers_started_total")?, Some(0.0));
    assert!(first.stop()?.success() && second.stop()?.success());
    Ok(())
}
