//! An object store that fails or lies: the cache that replicas share is in an S3 server of somebody else, behind a network
//! that does its worst. The crowd's two models give different answers, so that one in the place of the other is seen.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::stage::{MODELS, Stage, Wishes};
use crate::daemon::Daemon;
use crate::digits;
use crate::moto::{Moto, shared_cache};
use crate::network::{Network, Proxy};

/// Models that take each other's place. More than the disk keeps, which is those that are loaded.
const VARIANTS: usize = 3;
/// How often each of the crowd's models is replaced while the store fails in one way.
const RELOADS: usize = 2;
/// How long the store may stay unused once it answers again: at worst it is looked at every half minute.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn wishes(stage: &mut Stage) -> Result<Result<Wishes, String>> {
    let Some(program) = &stage.setup.moto else {
        return Ok(Err("there is no S3 server here (`moto_server`, of PyPI's `moto[server]`)".to_owned()));
    };
    let moto = Moto::start(program)?;
    let network = Proxy::start(moto.address.clone())?;
    let key = stage.folder.join("cache.key");
    std::fs::write(&key, "a secret of thirty-two bytes or more")?;
    std::fs::write(place(&stage.models, 1), digits::brighter()?)?;
    let other = stage.setup.other_questions.iter().map(|question| question.to(MODELS[1]));
    let first = stage.questions.iter().filter(|question| question.request.model == MODELS[0]).cloned();
    stage.questions = first.chain(other).collect::<Vec<_>>().into();
    let own = [
        format!("shared_cache.key={}", key.display()),
        "shared_cache.timeout_s=2".to_owned(),
        // What is not loaded has to be fetched.
        "cache_bytes=1".to_owned(),
    ];
    let set = shared_cache(&network.address).into_iter().chain(own);
    let arguments = set.flat_map(|set| ["--set".to_owned(), set]).collect();
    stage.store = Some((moto, network));
    Ok(Ok(Wishes { wrap: None, arguments }))
}

pub(super) async fn faults(stage: &mut Stage) -> Result<()> {
    let mut variants = Variants::new(stage)?;
    let refused = |daemon: &Daemon| value(daemon, "ired_shared_cache_refused_total");
    let failures = |daemon: &Daemon| value(daemon, "ired_shared_cache_failures_total");
    let failed_before = failures(stage.daemon()?)?;
    stage.crowd()?.calm(true);
    variants.replace(stage, VARIANTS).await.context("the store is sound")?;
    variants.replace_until_fetched(stage).await.context("before the store failed")?;
    for fault in Network::FAULTS {
        let count = |stage: &Stage| -> Result<[f64; 3]> {
            let daemon = stage.daemon()?;
            Ok([value(daemon, COMPILED)?, failures(daemon)?, refused(daemon)?])
        };
        let before = count(stage)?;
        set(stage, fault)?;
        variants.replace(stage, RELOADS).await.with_context(|| format!("the network is {fault:?}"))?;
        set(stage, Network::Sound)?;
        let after = count(stage)?;
        let [compiled, failed, refused] = [0, 1, 2].map(|at| after[at] - before[at]);
        stage.notes.push(format!(
            "{fault:?}: {compiled} of {} models were compiled instead of fetched, {failed} requests failed, {refused} modules were not taken",
            2 * RELOADS
        ));
        if fault == Network::Mixing {
            ensure!(refused > 0.0, "no module in another's place was found out");
        }
        variants.replace_until_fetched(stage).await.with_context(|| format!("after it was {fault:?}"))?;
    }
    stage.crowd()?.calm(false);
    // Else nothing was tried.
    ensure!(failures(stage.daemon()?)? > failed_before, "no request to the store failed");
    let refused = stage.crowd()?.tally.refused.load(std::sync::atomic::Ordering::Relaxed);
    ensure!(refused == 0, "{refused} requests were refused: a store that fails has to be noticed by nobody");
    Ok(())
}

const COMPILED: &str = "ired_compile_workers_started_total";

fn value(daemon: &Daemon, metric: &str) -> Result<f64> {
    daemon.metric(metric)?.with_context(|| format!("there is no metric `{metric}`"))
}

fn set(stage: &Stage, network: Network) -> Result<()> {
    stage.store.as_ref().context("there is no store")?.1.set(network);
    Ok(())
}

fn place(models: &Path, model: usize) -> std::path::PathBuf {
    models.join(format!("{}.onnx", MODELS[model]))
}

/// Models that answer as the crowd's do, for each of them.
struct Variants {
    files: [Vec<Vec<u8>>; 2],
    replaced: usize,
}

impl Variants {
    fn new(stage: &mut Stage) -> Result<Self> {
        let mut files = [Vec::new(), Vec::new()];
        for _ in 0..VARIANTS {
            let name = stage.random.number().to_string();
            files[0].push(digits::variant(&name)?);
            files[1].push(digits::variant_of(digits::brighter()?, &name)?);
        }
        Ok(Self { files, replaced: 0 })
    }

    /// Replaces both models so often, by what they were not just now.
    async fn replace(&mut self, stage: &mut Stage, times: usize) -> Result<()> {
        let client = stage.client().await?;
        for _ in 0..times {
            for (model, files) in self.files.iter().enumerate() {
                let next = stage.folder.join("next.onnx");
                std::fs::write(&next, &files[self.replaced % VARIANTS])?;
                std::fs::rename(&next, place(&stage.models, model))?;
                client
                    .load(MODELS[model])
                    .await
                    .with_context(|| format!("`{}` is replaced", MODELS[model]))?;
            }
            self.replaced += 1;
            stage.crowd()?.answers(1).await?;
        }
        Ok(())
    }

    /// Goes on until a module came from the store again.
    async fn replace_until_fetched(&mut self, stage: &mut Stage) -> Result<()> {
        let fetched = |stage: &Stage| value(stage.daemon()?, "ired_shared_cache_fetched_bytes_total");
        let before = fetched(stage)?;
        let waiting = async {
            while fetched(stage)? == before {
                self.replace(stage, 1).await?;
            }
            anyhow::Ok(())
        };
        let ended = tokio::time::timeout(PATIENCE, waiting).await;
        ended.unwrap_or_else(|_| anyhow::bail!("no module came from the store within {PATIENCE:?}"))
    }
}
