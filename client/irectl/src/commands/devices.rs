//! `irectl devices`: what the daemon runs models on.

use std::process::ExitCode;

use anyhow::Result;
use ired_client::Client;
use serde_json::json;

use super::human_bytes;

#[derive(clap::Args)]
pub(crate) struct Devices {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let devices = client.devices().await?;
        if self.json {
            let rows: Vec<_> = devices
                .iter()
                .map(|d| {
                    json!({"id": d.id, "driver": d.driver, "name": d.name, "triple": d.triple, "units": d.units,
                           "features": d.features, "memory_bytes": d.memory_bytes, "models": d.models,
                           "groups": d.groups.iter().map(|g| json!({"name": g.name, "cores": g.cores})).collect::<Vec<_>>()})
                })
                .collect();
            println!("{}", json!({ "devices": rows }));
            return Ok(ExitCode::SUCCESS);
        }
        for d in devices {
            println!(
                "{}  {} ({}, {} units, {})",
                d.id,
                d.name,
                d.triple,
                d.units,
                human_bytes(d.memory_bytes)
            );
            println!("    features: {}", d.features.join(" "));
            let groups: Vec<String> = d.groups.iter().map(|g| format!("{} ({})", g.name, g.cores)).collect();
            if !groups.is_empty() {
                println!("    groups:   {}", groups.join(" "));
            }
            println!(
                "    models:   {}",
                if d.models.is_empty() { "none".to_owned() } else { d.models.join(" ") }
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
