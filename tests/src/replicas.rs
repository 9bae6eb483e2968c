//! `cargo xtask conformance cache`: two daemons with real workers that share modules in an S3 server of somebody else (moto),
//! behind a network that fails on demand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::daemon::{Daemon, Doors, signal};
use crate::digits;
use crate::moto::{Moto, shared_cache};
use crate::network::{Network, Proxy};

/// Models that are loaded at once, by each daemon.
const CLIENTS: usize = 8;
/// Models while the network fails in one way.
const MODELS_EACH: usize = 4;
const PATIENCE: Duration = Duration::from_secs(180);

/// What to do.
#[derive(clap::Parser, Debug)]
#[command(name = "cargo xtask conformance cache")]
pub struct Replicas {
    /// Models that both daemons get at once
    #[arg(long, default_value_t = 200)]
    models: usize,
    /// Where `ired` and its workers are
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// The program `moto_server`
    #[arg(long, value_name = "FILE")]
    moto: PathBuf,
}

impl Replicas {
    /// # Errors
    /// What does not hold.
    pub fn run(&self) -> Result<()> {
        let work = tempfile::tempdir().context("cannot make a temporary folder")?;
        let store = Moto::start(&self.moto)?;
        let network = Proxy::start(store.address.clone())?;
        let start = |name: &str| replica(&self.binaries, &work.path().join(name), &network.address);
        let (one, two) = (start("one")?, start("two")?);

        let models: Vec<Model> = (0..self.models).map(Model::new).collect::<Result<_>>()?;
        both(|| load_all(&one, &models), || load_all(&two, &models))?;
        let compiled = [compiles(&one)?, compiles(&two)?];
        println!("{} models at both: {} and {} compilations", models.len(), compiled[0], compiled[1]);
        ensure!(compiled[0] + compiled[1] == models.len() as f64, "each is compiled once");

        let mut next = models.len();
        for fault in Network::FAULTS {
            network.set(fault);
            let models: Vec<Model> = (next..next + MODELS_EACH).map(Model::new).collect::<Result<_>>()?;
            next += models.len();
            both(|| load_all(&one, &models), || load_all(&two, &models))
                .with_context(|| format!("the network is {fault:?}"))?;
            network.set(Network::Sound);
            wait("the store to be used again", || Ok(value(&one, UP)? == 1.0 && value(&two, UP)? == 1.0))?;
            println!("{fault:?}: all models were loaded");
        }

        let models: Vec<Model> = (next..next + 40).map(Model::new).collect::<Result<_>>()?;
        let before = compiles(&one)?;
        std::thread::scope(|scope| -> Result<()> {
            let doomed = scope.spawn(|| load_all(&one, &models));
            let survivor = scope.spawn(|| load_all(&two, &models));
            wait("a compilation", || Ok(compiles(&one)? > before))?;
            signal("KILL", one.pid())?;
            // Its loads end with it.
            let _ = doomed.join();
            survivor.join().map_err(|_| anyhow::anyhow!("the loads panicked"))?
        })?;
        println!(
            "one killed: all models were loaded by the other, {} taken over",
            value(&two, "ired_shared_cache_takeovers_total")?
        );
        ensure!(two.stop()?.success(), "the other ended badly");
        Ok(())
    }
}

const UP: &str = "ired_shared_cache_up";

fn compiles(daemon: &Daemon) -> Result<f64> {
    value(daemon, "ired_compile_workers_started_total")
}

fn value(daemon: &Daemon, metric: &str) -> Result<f64> {
    daemon.metric(metric)?.with_context(|| format!("there is no metric `{metric}`"))
}

fn replica(binaries: &Path, work: &Path, store: &str) -> Result<Daemon> {
    let [url, options] = shared_cache(store);
    // A lease is long enough that a busy machine renews it in time.
    let settings = [url.as_str(), &options, "shared_cache.lease_s=30", "shared_cache.timeout_s=10"];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    Daemon::start_by(Command::new(binaries.join("ired")), &Doors::free()?, work, &arguments)
}

/// The digit classifier as a model of its own.
struct Model {
    name: String,
    request: String,
}

impl Model {
    fn new(number: usize) -> Result<Self> {
        let name = format!("digits{number:05}");
        let parameters = json!({"config": "{}", "file:1/model.onnx": BASE64.encode(digits::variant(&name)?)});
        Ok(Self { name, request: json!({ "parameters": parameters }).to_string() })
    }

    /// Has a daemon load it, and unload it again.
    fn load(&self, daemon: &Daemon) -> Result<()> {
        let url =
            |action: &str| format!("http://{}/v2/repository/models/{}/{action}", daemon.rest, self.name);
        ureq::post(url("load"))
            .send(&self.request)
            .with_context(|| format!("`{}` was not loaded", self.name))?;
        ureq::post(url("unload")).send("{}").with_context(|| format!("`{}` was not unloaded", self.name))?;
        Ok(())
    }
}

fn load_all(daemon: &Daemon, models: &[Model]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let load = || -> Result<()> {
        while let Some(model) = models.get(next.fetch_add(1, Ordering::Relaxed)) {
            model.load(daemon)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(load)).collect();
        clients.into_iter().try_for_each(|client| match client.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("a client panicked"),
        })
    })
}

fn both(one: impl FnOnce() -> Result<()> + Send, two: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        two()?;
        one.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })
}

fn wait(what: &str, until: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !until()? {
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
