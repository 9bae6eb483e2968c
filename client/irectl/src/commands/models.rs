//! `irectl models`, `load`, `unload`, `label`, `delete`: what the daemon has and holds.

use std::process::ExitCode;

use anyhow::Result;
use ired_client::Client;
use ired_client::proto::model::State;
use ired_client::proto::{LoadedModule, WorkerProcess};
use serde_json::{Value, json};

use super::human_bytes;

#[derive(clap::Args)]
pub(crate) struct Models {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Models {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let models = client.models().await?;
        if self.json {
            let rows: Vec<_> = models
                .iter()
                .map(|m| {
                    let module = m.module.as_ref();
                    json!({"name": m.name, "version": m.version, "labels": m.labels, "state": state(m.state()), "reason": m.reason,
                           "digest": m.digest, "bytes": m.bytes, "module_bytes": module.map(|l| l.module_bytes),
                           "resident_bytes": module.map(|l| l.resident_bytes),
                           "worker_pid": module.map(|l| l.worker_pid), "restarts": module.map(|l| l.restarts),
                           "processes": module.map(|l| l.processes.iter().map(process).collect::<Vec<_>>())})
                })
                .collect();
            println!("{}", json!({ "models": rows }));
            return Ok(ExitCode::SUCCESS);
        }
        println!(
            "{:<32} {:>7} {:<12} {:>10} {:<16} DETAIL",
            "NAME", "VERSION", "STATE", "RESIDENT", "LABELS"
        );
        for m in models {
            let (resident, detail) = match &m.module {
                Some(module) => (human_bytes(module.resident_bytes), module.triple.clone() + &places(module)),
                None => ("-".to_owned(), m.reason.clone()),
            };
            let (state, labels) = (state(m.state()), m.labels.join(","));
            println!("{:<32} {:>7} {state:<12} {resident:>10} {labels:<16} {detail}", m.name, m.version);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn process(process: &WorkerProcess) -> Value {
    json!({"device_group": process.device_group, "count": process.count, "pid": process.pid,
           "restarts": process.restarts})
}

/// Where its processes are, if they have device groups.
fn places(module: &LoadedModule) -> String {
    let place = |process: &WorkerProcess| match process.device_group.as_str() {
        "" => "all cores".to_owned(),
        group => group.to_owned(),
    };
    let is_anywhere = module.processes.iter().all(|process| process.device_group.is_empty());
    let places: Vec<String> = module.processes.iter().filter(|_| !is_anywhere).map(place).collect();
    if places.is_empty() { String::new() } else { format!(" on {}", places.join(", ")) }
}

fn state(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Loading => "loading",
        State::Ready => "ready",
        State::Unloading => "unloading",
        State::Unavailable => "unavailable",
    }
}

#[derive(clap::Args)]
pub(crate) struct Load {
    /// The model's name.
    model: String,
}

impl Load {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        client.load(&self.model).await?;
        println!("{} is ready", self.model);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
pub(crate) struct Unload {
    /// The model's name.
    model: String,
}

impl Unload {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        client.unload(&self.model).await?;
        println!("{} is unloaded", self.model);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
pub(crate) struct Label {
    /// The model's name.
    model: String,
    /// The label, such as `stable`.
    label: String,
    /// The version that is to have it; it has to be ready.
    #[arg(required_unless_present = "remove", conflicts_with = "remove")]
    version: Option<std::num::NonZeroU64>,
    /// Take the label away.
    #[arg(long)]
    remove: bool,
}

impl Label {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let Self { model, label, version, .. } = self;
        let Some(version) = version else {
            let previous = client.delete_label(&model, &label).await?;
            println!("{model} version {previous} is no longer {label}");
            return Ok(ExitCode::SUCCESS);
        };
        match client.set_label(&model, &label, version.into()).await? {
            Some(previous) => println!("{model} version {version} is {label}; version {previous} was"),
            None => println!("{model} version {version} is {label}"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
pub(crate) struct Delete {
    /// The model's name.
    model: String,
    /// The version to delete; without it, all.
    #[arg(long, value_name = "N")]
    version: Option<std::num::NonZeroU64>,
}

impl Delete {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        for version in client.delete(&self.model, self.version.map(u64::from)).await? {
            println!("{} version {version} is deleted", self.model);
        }
        Ok(ExitCode::SUCCESS)
    }
}
