//! `irectl push`: a model file to a loaded model on the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ired_client::proto::compile_event::Event;
use ired_client::proto::{ModelRef, UploadModelResponse};
use ired_client::{Client, Upload, UploadFile};
use ired_worker::{DirectoryFiles, ModelFiles};
use serde_json::json;

use super::human_bytes;
use crate::local::{open_file, stem};
use crate::progress::Progress;
use crate::tensors::onnx_model::external_files;

#[derive(clap::Args)]
pub(crate) struct Push {
    /// The model, with its external data beside it.
    model: PathBuf,
    /// Its name on the daemon; the file's name without extension by default.
    #[arg(long)]
    name: Option<String>,
    /// Its version; one more than the newest by default.
    #[arg(long)]
    version: Option<u64>,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

impl Push {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let name = self.name.clone().unwrap_or_else(|| stem(&self.model));
        let upload = Upload { name, version: self.version, files: files(&self.model)? };

        let progress = Progress::start("uploading");
        let stored = client.upload(upload, |p| progress.bytes(&p.file, p.sent_bytes, p.total_bytes)).await;
        progress.finish();
        let stored = stored?;
        if self.model.extension().is_some_and(|extension| extension == "irm") {
            client.load(&stored.name).await?;
            self.report(&stored);
            return Ok(ExitCode::SUCCESS);
        }

        let progress = Progress::start("compiling");
        let model = ModelRef { name: stored.name.clone(), version: stored.version };
        let events = client.compile(model, &[]).await?;
        let done = events.finish(|event| show(&progress, event, self.json)).await;
        progress.finish();
        let done = done?;
        client.load(&stored.name).await?;

        let cache = if done.cached { "hit" } else { "miss" };
        let compile_ms = done.wall_us as f64 / 1e3;
        if self.json {
            println!(
                "{}",
                json!({"name": stored.name, "version": stored.version, "digest": stored.digest, "cache": cache,
                       "compile_ms": compile_ms, "module_bytes": done.module_bytes})
            );
        } else {
            let size = human_bytes(done.module_bytes);
            println!("{}/{} is ready: module of {size}", stored.name, stored.version);
            println!("  compile: {compile_ms:.1} ms (cache {cache})");
            println!("  digest:  {}", stored.digest);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Tells of a module, which was compiled elsewhere.
    fn report(&self, stored: &UploadModelResponse) {
        if self.json {
            println!(
                "{}",
                json!({"name": stored.name, "version": stored.version, "digest": stored.digest,
                       "module_bytes": stored.bytes})
            );
        } else {
            println!("{}/{} is ready: module of {}", stored.name, stored.version, human_bytes(stored.bytes));
            println!("  digest:  {}", stored.digest);
        }
    }
}

/// Shows an event; where no terminal shows the bar, each phase is a line of its own.
fn show(progress: &Progress, event: &Event, quiet: bool) {
    match event {
        Event::Queued(queued) => progress.step("waiting", 0, 0, &format!("{} before this one", queued.ahead)),
        Event::Elsewhere(other) => {
            progress.step("waiting", 0, 0, &format!("for another replica, {}", other.replica));
        }
        Event::Started(started) if !quiet => {
            let active = started.sandbox.iter().filter(|layer| layer.active).count();
            println!("  compile worker {} confined by {active} layers", started.pid);
        }
        Event::Progress(p) => progress.step(&p.phase, p.done, p.total, &p.detail),
        Event::Retrying(retrying) if !quiet => println!("  trying again: {}", retrying.reason),
        Event::Done(done) if !quiet && !done.cached => {
            for phase in &done.phases {
                println!("  {:<12} {:>8.1} ms", phase.phase, phase.wall_us as f64 / 1e3);
            }
        }
        _ => {}
    }
}

/// The model's file and those it refers to, which stand beside it: nothing outside of its folder is ever sent,
/// whatever names and links the model came with.
fn files(model: &Path) -> Result<Vec<UploadFile>> {
    open_file(model)?;
    let extension = model.extension().and_then(|e| e.to_str()).unwrap_or("onnx");
    let mut files = vec![UploadFile { path: format!("model.{extension}"), source: model.to_owned() }];
    if extension == "onnx" {
        let folder = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside =
            DirectoryFiles::new(folder).with_context(|| format!("cannot open `{}`", folder.display()))?;
        for name in external_files(model).with_context(|| format!("`{}`", model.display()))? {
            beside.open(&name).with_context(|| format!("cannot read external data `{name}`"))?;
            files.push(UploadFile { source: folder.join(&name), path: name });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model with one weight, whose data is in file `location`.
    fn model(location: &str) -> Vec<u8> {
        let field =
            |number: u8, payload: &[u8]| [&[number << 3 | 2, payload.len() as u8][..], payload].concat();
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        let tensor = [field(13, &entry), vec![14 << 3, 1]].concat();
        field(7, &field(5, &tensor))
    }

    #[test]
    fn nothing_outside_of_the_models_folder_is_sent() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(folder.path().join("w.bin"), b"weights").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();

        std::fs::write(&path, model("w.bin")).unwrap();
        assert_eq!(files(&path).unwrap()[1].path, "w.bin");
        for name in ["link", "../secret", "/etc/passwd", "absent", "."] {
            std::fs::write(&path, model(name)).unwrap();
            let error = format!("{:#}", files(&path).unwrap_err());
            assert!(error.starts_with(&format!("cannot read external data `{name}`")), "{error}");
            let leaves = error.ends_with("the name leaves the model's folder");
            assert_eq!(leaves, !["absent", "."].contains(&name), "{error}");
        }
    }
}
