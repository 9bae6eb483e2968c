//! A disk without room: the data directory is a small file system of its own, which only the daemon sees.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use ired_client::ClientError;

use super::super::stage::{Stage, Wishes};
use crate::digits;

/// What the disk has room for; a module of the crowd's model takes some hundred kilobytes.
const DISK: &str = "size=12m";
/// Models that are compiled while there is no room.
const COMPILED: usize = 4;
/// tonic's code.
const RESOURCE_EXHAUSTED: i32 = 8;

pub(super) fn wishes(stage: &mut Stage) -> Result<Result<Wishes, String>> {
    // In namespaces of its own, so that it needs no rights and goes with the daemon. What was compiled stays outside: it is
    // copied in.
    let data = stage.folder.join("data");
    let script = format!(
        "set -e; cp -r '{0}' '{0}.outside'; mount -t tmpfs -o {DISK} none '{0}'; cp -r '{0}.outside/.' '{0}'; exec \"$@\"",
        data.display()
    );
    let command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let mut probe = Command::new(command[0]);
    probe.args(&command[1..4]).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
    let allowed =
        probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !allowed {
        return Ok(Err("this machine lets nobody mount a small disk (`unshare --user --mount`)".to_owned()));
    }
    Ok(Ok(Wishes { wrap: Some(command.map(str::to_owned).to_vec()), ..Wishes::default() }))
}

pub(super) async fn full(stage: &mut Stage) -> Result<()> {
    let client = stage.client().await?;
    let mut stored = Vec::new();
    // Large ones, then small ones until there is no room for those either.
    let refusal = loop {
        let name = format!("fill{}", stored.len());
        let mut file = stage.variant()?;
        if stored.len() < 4 {
            let large = stage.folder.join("large.onnx");
            let padding = vec![0x58; 2 << 20];
            let mut bytes = std::fs::read(&file)?;
            // Once more field 2, of two megabytes.
            bytes.extend([0x12, 0x80, 0x80, 0x80, 0x01]);
            bytes.extend(padding);
            std::fs::write(&large, bytes)?;
            file = large;
        }
        match stage.upload(&client, &name, &file).await {
            Ok(model) => stored.push(model),
            Err(error) => break error,
        }
        ensure!(stored.len() < 1000, "a disk of {DISK} does not become full");
    };
    let told = |error: &anyhow::Error| match error.downcast_ref::<ClientError>() {
        Some(error) => error.code().is_some_and(|code| code as i32 == RESOURCE_EXHAUSTED),
        None => false,
    };
    ensure!(told(&refusal), "expected to be told that there is no room, found: {refusal:#}");
    // What cannot be written is no reason to end, nor to forget what was. A few are enough: each takes its time.
    for model in stored.iter().rev().take(COMPILED) {
        if let Err(error) = digits::compile(&client, model.clone(), |_| ()).await {
            match error.downcast_ref::<ClientError>() {
                Some(ClientError::Compile { kind, .. }) if kind == "internal" || kind == "resource-limit" => {
                    break;
                }
                Some(error) if error.code().is_some_and(|code| code as i32 == RESOURCE_EXHAUSTED) => break,
                _ => bail!("compiling on a full disk: {error:?}"),
            }
        }
    }
    stage.check_uploads().await?;
    stage.crowd()?.answers(5).await.context("on a full disk")?;
    // With room again all is as before.
    let kept = stored.pop().context("nothing was stored")?;
    for model in &stored {
        stage.delete(&client, &model.name).await?;
    }
    digits::compile(&client, kept.clone(), |_| ()).await.context("with room again")?;
    client.load(&kept.name).await.context("with room again")?;
    stage.check_uploads().await?;
    stage.notes.push(format!(
        "{} uploads fitted a disk of {DISK} (a tmpfs of its own); then: {refusal:#}",
        stored.len() + 1
    ));
    stage.delete(&client, &kept.name).await
}
