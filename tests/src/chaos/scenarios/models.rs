//! Models that are replaced all the time, and models that are none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ired_client::ClientError;

use super::super::stage::{MODELS, Stage};
use crate::digits;

/// Times that a model is replaced in each of two rounds.
const RELOADS: u64 = 500;

/// The model that takes its place gives the same answers: what is replaced is the process.
pub(super) async fn reloads(stage: &mut Stage) -> Result<()> {
    let client = stage.client().await?;
    let (one, other) = (std::fs::read(digits::model())?, std::fs::read(stage.variant()?)?);
    let place = stage.models.join(format!("{}.onnx", MODELS[0]));
    let next = stage.folder.join("next.onnx");
    stage.crowd()?.calm(true);
    for reload in 0..RELOADS {
        // There is no moment without a model.
        std::fs::write(&next, if reload % 2 == 0 { &other } else { &one })?;
        std::fs::rename(&next, &place)?;
        client.load(MODELS[0]).await.with_context(|| format!("reload {}", reload + 1))?;
        if reload % 50 == 49 {
            stage.crowd()?.answers(1).await?;
        }
    }
    stage.crowd()?.calm(false);
    stage.notes.push(format!("{RELOADS} reloads"));
    let refused = stage.crowd()?.tally.refused.load(std::sync::atomic::Ordering::Relaxed);
    ensure!(refused == 0, "{refused} requests were refused: a reload has to be noticed by nobody");
    Ok(())
}

pub(super) async fn broken(stage: &mut Stage) -> Result<()> {
    let client = stage.client().await?;
    let whole = std::fs::read(digits::model())?;
    let path = stage.folder.join("broken.onnx");
    let (mut compiled, mut refused) = (0, 0);
    while stage.goes_on() || compiled + refused == 0 {
        let mut bytes = whole.clone();
        for _ in 0..1 + stage.random.below(6) {
            let at = stage.random.below(bytes.len());
            match stage.random.below(4) {
                0 => bytes[at] ^= 1 << stage.random.below(8),
                1 => bytes[at] = stage.random.number() as u8,
                2 => drop(bytes.drain(at..(at + 1 + stage.random.below(64)).min(bytes.len()))),
                // The structure stands before the weights: most of it is in the first part.
                _ => bytes.truncate(at.max(1)),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        std::fs::write(&path, &bytes)?;
        let model = digits::upload(&client, "broken", &path).await?;
        let compiling = digits::compile(&client, model, |_| ());
        match tokio::time::timeout(Duration::from_secs(300), compiling).await.context("a model hangs")? {
            Ok(_) => compiled += 1,
            Err(error) => match error.downcast_ref::<ClientError>() {
                Some(ClientError::Compile { kind, message, .. }) if kind == "crashed" => {
                    let kept = stage.folder.join(format!("crash{refused}.onnx"));
                    std::fs::copy(&path, &kept)?;
                    anyhow::bail!(
                        "a changed model crashes the compiler: {message}; it is {}",
                        kept.display()
                    );
                }
                Some(ClientError::Compile { .. }) => refused += 1,
                _ => return Err(error.context("a changed model")),
            },
        }
    }
    stage.notes.push(format!(
        "{} changed models: {refused} refused with a reason, {compiled} compiled",
        refused + compiled
    ));
    client.delete("broken", None).await?;
    Ok(())
}
