//! Worker processes that are killed or stopped.

use std::time::Duration;

use anyhow::Result;
use ired_client::ClientError;

use super::super::stage::Stage;
use crate::daemon::signal;
use crate::digits;
use crate::vitals::workers;

/// What Linux shows of the workers' names.
const RUNTIME: &str = "ired-runtime-wo";
const COMPILER: &str = "ired-compiler-w";

pub(super) async fn kill_runtime(stage: &mut Stage) -> Result<()> {
    let mut killed = 0;
    while stage.goes_on() {
        tokio::time::sleep(stage.random.pause(50, 400)).await;
        let found = workers(stage.daemon()?.pid(), RUNTIME);
        if let Some(&victim) = stage.random.one_of(&found) {
            // One that has ended by itself in between is as good.
            killed += usize::from(signal("KILL", victim).is_ok());
        }
    }
    stage.notes.push(format!("{killed} runtime workers were killed"));
    anyhow::ensure!(killed > 0, "no worker was killed");
    Ok(())
}

pub(super) async fn stop_runtime(stage: &mut Stage) -> Result<()> {
    let mut stopped = 0;
    while stage.goes_on() {
        tokio::time::sleep(stage.random.pause(50, 400)).await;
        let found = workers(stage.daemon()?.pid(), RUNTIME);
        let Some(&victim) = stage.random.one_of(&found) else { continue };
        if signal("STOP", victim).is_ok() {
            stopped += 1;
            tokio::time::sleep(stage.random.pause(100, 1500)).await;
            // The daemon may have given it up by now.
            let _ = signal("CONT", victim);
        }
    }
    stage.notes.push(format!("{stopped} runtime workers were stopped for a while"));
    anyhow::ensure!(stopped > 0, "no worker was stopped");
    Ok(())
}

pub(super) async fn kill_compilers(stage: &mut Stage) -> Result<()> {
    let client = stage.client().await?;
    let (mut made, mut failed, mut killed) = (0, 0, 0);
    while stage.goes_on() || made + failed == 0 {
        let file = stage.variant()?;
        let model = stage.upload(&client, "pushed", &file).await?;
        let compiling = {
            let client = client.clone();
            tokio::spawn(async move { digits::compile(&client, model, |_| ()).await })
        };
        // Kill now and then; the job may be made again and be killed again.
        while !compiling.is_finished() {
            tokio::time::sleep(stage.random.pause(1, 300)).await;
            let found = workers(stage.daemon()?.pid(), COMPILER);
            if let Some(&victim) = stage.random.one_of(&found)
                && stage.random.below(2) == 0
            {
                killed += usize::from(signal("KILL", victim).is_ok());
            }
        }
        match compiling.await? {
            Ok(_) => made += 1,
            Err(error) => match error.downcast_ref::<ClientError>() {
                Some(ClientError::Compile { kind, .. }) if kind == "crashed" => failed += 1,
                _ => return Err(error.context("a push failed that nobody killed")),
            },
        }
        if made + failed >= 20 {
            break;
        }
    }
    stage.notes.push(format!(
        "{killed} compile workers were killed: {made} pushes made, {failed} failed and said so"
    ));
    // Nothing is left that keeps others from being made.
    let file = stage.variant()?;
    let model = stage.upload(&client, "pushed", &file).await?;
    let last =
        tokio::time::timeout(Duration::from_secs(300), digits::compile(&client, model, |_| ())).await??;
    anyhow::ensure!(!last.cached, "the last push was compiled before");
    stage.delete(&client, "pushed").await
}
