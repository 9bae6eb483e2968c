//! Daemons that end and start again.

use anyhow::{Context, Result, ensure};

use super::super::stage::Stage;

pub(super) async fn sigterm(stage: &mut Stage) -> Result<()> {
    let mut restarts = 0;
    while stage.goes_on() || restarts == 0 {
        stage.crowd()?.answers(3).await?;
        tokio::time::sleep(stage.random.pause(0, 200)).await;
        let daemon = stage.take_daemon()?;
        let status = tokio::task::spawn_blocking(move || daemon.stop()).await??;
        ensure!(status.success(), "the daemon ended badly: {status}");
        tokio::task::block_in_place(|| stage.start())?;
        restarts += 1;
    }
    stage.notes.push(format!("{restarts} restarts"));
    Ok(())
}

pub(super) async fn power_cut(stage: &mut Stage) -> Result<()> {
    let mut cuts = 0;
    while stage.goes_on() || cuts == 0 {
        let client = stage.client().await?;
        for _ in 0..1 + stage.random.below(4) {
            let file = stage.variant()?;
            let name = format!("kept{}", stage.random.below(3));
            stage.upload(&client, &name, &file).await?;
        }
        // One more is on its way, which nobody acknowledges.
        let file = stage.variant()?;
        let unanswered = tokio::spawn(async move {
            let files = vec![ired_client::UploadFile { path: "model.onnx".into(), source: file }];
            let upload = ired_client::Upload { name: "unanswered".into(), version: None, files };
            client.upload(upload, |_| ()).await
        });
        tokio::time::sleep(stage.random.pause(0, 3)).await;
        stage.crowd()?.may_be_cut(true);
        stage.take_daemon()?.kill()?;
        // Its answer may have come just before.
        let _ = unanswered.await;
        tokio::task::block_in_place(|| stage.start())?;
        stage.crowd()?.answers(2).await?;
        stage.crowd()?.may_be_cut(false);
        stage.check_uploads().await.with_context(|| format!("after cut {}", cuts + 1))?;
        cuts += 1;
    }
    stage.notes.push(format!("{cuts} power cuts"));
    Ok(())
}
