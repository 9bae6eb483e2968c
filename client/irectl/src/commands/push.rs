//! `irectl push`: a model file to a loaded model on the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ired_client::proto::compile_event::Event;
use ired_client::proto::{ModelRef, Target};
use ired_client::{Client, Upload, UploadFile};
use serde_json::json;

use super::human_bytes;
use crate::local::stem;
use crate::progress::Progress;
use crate::tensors::onnx_data::external_files;

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

        let progress = Progress::start("compiling");
        let model = ModelRef { name: stored.name.clone(), version: stored.version };
        let events = client.compile(model, Target::default()).await?;
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
}

/// Shows an event; where no terminal shows the bar, each phase is a line of its own.
fn show(progress: &Progress, event: &Event, quiet: bool) {
    match event {
        Event::Queued(queued) => progress.step("waiting", 0, 0, &format!("{} before this one", queued.ahead)),
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

/// The model's file and those it refers to, which stand beside it.
fn files(model: &Path) -> Result<Vec<UploadFile>> {
    let extension = model.extension().and_then(|e| e.to_str()).unwrap_or("onnx");
    let mut files = vec![UploadFile { path: format!("model.{extension}"), source: model.to_owned() }];
    if extension == "onnx" {
        let folder = model.parent().unwrap_or(Path::new(""));
        let names = external_files(model).with_context(|| format!("`{}`", model.display()))?;
        files.extend(names.into_iter().map(|name| UploadFile { source: folder.join(&name), path: name }));
    }
    Ok(files)
}
