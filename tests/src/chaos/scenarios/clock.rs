//! A clock that jumps: libfaketime stands before the daemon's system calls and reads from a file how far off the time is. The
//! clock that measures spans goes on, as it does on a machine whose time is set.

use std::path::PathBuf;

use anyhow::Result;

use super::super::stage::{Stage, Wishes};
use crate::digits;

/// Where Debian puts it.
const FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];
const JUMPS: [&str; 7] = ["+0", "+1d", "-1d", "+3650d", "-365d", "+1", "-30"];

fn file(stage: &Stage) -> PathBuf {
    stage.folder.join("clock")
}

pub(super) fn wishes(stage: &mut Stage) -> Result<Result<Wishes, String>> {
    let library = FOLDERS.iter().map(|folder| PathBuf::from(folder).join("libfaketimeMT.so.1"));
    let Some(library) = library.into_iter().find(|path| path.is_file()) else {
        return Ok(Err(
            "the clock of this machine is not ours to set; install `libfaketime` (Debian)".to_owned()
        ));
    };
    std::fs::write(file(stage), "+0")?;
    let variables = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file(stage).display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    Ok(Ok(Wishes {
        wrap: Some(["env".to_owned()].into_iter().chain(variables).collect()),
        ..Wishes::default()
    }))
}

pub(super) async fn jumps(stage: &mut Stage) -> Result<()> {
    let client = stage.client().await?;
    let mut jumps = 0;
    while stage.goes_on() || jumps == 0 {
        let jump = JUMPS[stage.random.below(JUMPS.len())];
        // In one step: half a text is no time.
        std::fs::write(file(stage).with_extension("new"), jump)?;
        std::fs::rename(file(stage).with_extension("new"), file(stage))?;
        jumps += 1;
        stage.crowd()?.answers(1).await?;
        if jumps % 5 == 1 {
            let path = stage.variant()?;
            let model = stage.upload(&client, "timed", &path).await?;
            digits::compile(&client, model, |_| ()).await?;
            client.load("timed").await?;
        }
    }
    std::fs::write(file(stage), "+0")?;
    stage.notes.push(format!("{jumps} jumps of the clock (libfaketime)"));
    stage.delete(&client, "timed").await
}
