//! The cache that replicas share: two daemons with real workers and an S3 server of somebody else (moto), behind a network
//! that fails on demand.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::proxy::{Network, Proxy};
use crate::daemon::{Daemon, build, free_address};
use crate::process::root;
use crate::python;

const PACKAGES: [&str; 1] = ["moto[server]==5.2.1"];
/// Models that are loaded at once, by each daemon.
const CLIENTS: usize = 8;
/// Long enough that a busy machine renews in time.
const LEASE: &str = "shared_cache.lease_s=30";
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(clap::Args)]
pub(crate) struct Cache {
    /// Run the debug build
    #[arg(long)]
    debug: bool,
    /// Models that both daemons get at once
    #[arg(long, default_value_t = 200)]
    models: usize,
    /// Take the programs from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

impl Cache {
    pub(super) fn run(&self) -> Result<()> {
        let binaries = match &self.binaries {
            Some(folder) => folder.clone(),
            None => build(!self.debug)?,
        };
        let work = tempfile::tempdir().context("cannot make a temporary folder")?;
        let store = Moto::start(&python::environment("cache", &PACKAGES)?)?;
        let network = Proxy::start(store.address.clone())?;
        let start = |name: &str| replica(&binaries, &work.path().join(name), &network.address);
        let (one, two) = (start("one")?, start("two")?);

        let models: Vec<Model> = (0..self.models).map(Model::new).collect::<Result<_>>()?;
        both(|| load_all(&one, &models), || load_all(&two, &models))?;
        let compiled = [compiles(&one)?, compiles(&two)?];
        println!("{} models at both: {} and {} compilations", models.len(), compiled[0], compiled[1]);
        ensure!(compiled[0] + compiled[1] == models.len() as f64, "each is compiled once");

        let mut next = models.len();
        for fault in Network::FAULTS {
            network.set(fault);
            let models: Vec<Model> = (next..next + 4).map(Model::new).collect::<Result<_>>()?;
            next += models.len();
            both(|| load_all(&one, &models), || load_all(&two, &models))
                .with_context(|| format!("the network is {fault:?}"))?;
            network.set(Network::Sound);
            wait("the store to be used again", || Ok(one.metric(UP)? == 1.0 && two.metric(UP)? == 1.0))?;
            println!("{fault:?}: all models were loaded");
        }

        let models: Vec<Model> = (next..next + 40).map(Model::new).collect::<Result<_>>()?;
        let before = compiles(&one)?;
        std::thread::scope(|scope| -> Result<()> {
            let doomed = scope.spawn(|| load_all(&one, &models));
            let survivor = scope.spawn(|| load_all(&two, &models));
            wait("a compilation", || Ok(compiles(&one)? > before))?;
            one.kill_now()?;
            // Its loads end with it.
            let _ = doomed.join();
            survivor.join().map_err(|_| anyhow::anyhow!("the loads panicked"))?
        })?;
        println!("one killed: all models were loaded by the other, {} taken over", two.metric(TAKEOVERS)?);
        two.stop()?;
        Ok(())
    }
}

const UP: &str = "ired_shared_cache_up";
const TAKEOVERS: &str = "ired_shared_cache_takeovers_total";

fn compiles(daemon: &Daemon) -> Result<f64> {
    daemon.metric("ired_compile_workers_started_total")
}

fn replica(binaries: &Path, work: &Path, store: &str) -> Result<Daemon> {
    std::fs::create_dir(work)?;
    let options = format!(
        "shared_cache.options=[\"AWS_ENDPOINT=http://{store}\", \"AWS_ACCESS_KEY_ID=test\", \
         \"AWS_SECRET_ACCESS_KEY=test\"]"
    );
    let settings = ["shared_cache.url=s3://bucket/ired", &options, LEASE, "shared_cache.timeout_s=10"];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    Daemon::start(binaries, work, &arguments)
}

/// The digit classifier as a model of its own.
struct Model {
    name: String,
    request: String,
}

impl Model {
    fn new(number: usize) -> Result<Self> {
        let (name, path) = (format!("digits{number:05}"), root().join("demo/digits/digits.onnx"));
        let mut model = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        // Field 2 of an ONNX model, its producer's name, as bytes with their length; the last one holds.
        model.extend([0x12, name.len() as u8]);
        model.extend(name.bytes());
        let parameters = json!({"config": "{}", "file:1/model.onnx": BASE64.encode(model)});
        Ok(Self { name, request: json!({ "parameters": parameters }).to_string() })
    }

    /// Has a daemon load it, and unload it again.
    fn load(&self, daemon: &Daemon) -> Result<()> {
        let url = |action: &str| daemon.url(&format!("/v2/repository/models/{}/{action}", self.name));
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

/// A running S3 server with a bucket; killed on drop.
struct Moto {
    process: Child,
    address: String,
}

impl Moto {
    fn start(programs: &Path) -> Result<Self> {
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address without a port")?;
        let process = Command::new(programs.join("moto_server"))
            .args(["-H", host, "-p", port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `moto_server`")?;
        let moto = Self { process, address };
        let bucket = format!("http://{}/bucket", moto.address);
        wait("moto", || Ok(ureq::put(&bucket).send_empty().is_ok()))?;
        Ok(moto)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Nothing is left to do when even this fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
