//! One daemon, its crowd and its uploads: what a scenario plays on, and what has to hold when it has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ired_client::proto::ModelRef;
use ired_client::{Client, Upload, UploadFile};

use super::crowd::Crowd;
use super::known::{self, Question};
use super::random::Random;
use super::report::Row;
use super::scenarios::Scenario;
use crate::daemon::{Daemon, Doors};
use crate::digits;
use crate::moto::Moto;
use crate::network::Proxy;
use crate::vitals::Vitals;

/// The models that the crowd asks.
pub(crate) const MODELS: [&str; 2] = ["left", "right"];
/// How long a daemon may take to hold no more than before.
const SETTLING: Duration = Duration::from_secs(120);
/// How often a scenario is played at most, until memory is no more than it was the time before.
const MOST_ROUNDS: usize = 4;
/// Memory that may come and go by itself, besides a tenth.
const MEMORY_BYTES: u64 = 4 << 20;
/// Descriptors that may come and go by themselves.
const DESCRIPTORS: usize = 4;

/// What all scenarios share.
pub(crate) struct Setup {
    binaries: PathBuf,
    work: PathBuf,
    /// The program of an S3 server, where there is one.
    pub(crate) moto: Option<PathBuf>,
    /// The model repository that every scenario begins with: the crowd's models.
    models: PathBuf,
    questions: Vec<Question>,
    /// Of [`digits::brighter`].
    pub(crate) other_questions: Vec<Question>,
}

impl Setup {
    /// Learns the answers from a daemon that nothing disturbs.
    pub(crate) async fn prepare(binaries: &Path, moto: Option<PathBuf>, work: &Path) -> Result<Self> {
        let binaries =
            binaries.canonicalize().with_context(|| format!("no folder `{}`", binaries.display()))?;
        let models = work.join("models");
        std::fs::create_dir_all(&models)?;
        for model in MODELS {
            std::fs::copy(digits::model(), models.join(format!("{model}.onnx")))?;
        }
        let (questions, other_questions) = (Vec::new(), Vec::new());
        let mut setup = Self { binaries, work: work.to_owned(), moto, models, questions, other_questions };
        let daemon = setup.daemon(&Doors::free()?, &work.join("template"), &setup.models, None, &[])?;
        let client = daemon.client().await?;
        setup.questions = known::questions(&client, MODELS[0]).await?;
        let other = work.join("other.onnx");
        std::fs::write(&other, digits::brighter()?)?;
        let stored = digits::upload(&client, "other", &other).await?;
        digits::compile(&client, stored, |_| ()).await?;
        client.load("other").await?;
        setup.other_questions = known::repeatable(&client, "other").await?;
        let mut pairs = setup.questions.iter().zip(&setup.other_questions);
        ensure!(
            pairs.all(|(one, other)| one.answer != other.answer),
            "the other model gives the same answers"
        );
        ensure!(daemon.stop()?.success(), "the daemon that nothing disturbed ended badly");
        Ok(setup)
    }

    fn daemon(
        &self,
        doors: &Doors,
        data: &Path,
        models: &Path,
        wrap: Option<&[String]>,
        more: &[String],
    ) -> Result<Daemon> {
        let ired = self.binaries.join("ired");
        let command = match wrap {
            None => Command::new(&ired),
            Some(wrap) => {
                let mut command = Command::new(&wrap[0]);
                command.args(&wrap[1..]).arg(&ired);
                command
            }
        };
        let models = models.to_string_lossy();
        let mut arguments = vec!["--model-repository", &models];
        arguments.extend(more.iter().map(String::as_str));
        Daemon::start_by(command, doors, data, &arguments)
    }
}

/// How a scenario wants its daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// A command that starts it.
    pub(crate) wrap: Option<Vec<String>>,
    pub(crate) arguments: Vec<String>,
}

/// A daemon under load.
pub(crate) struct Stage {
    pub(crate) setup: Arc<Setup>,
    pub(crate) folder: PathBuf,
    /// The daemon's model repository.
    pub(crate) models: PathBuf,
    pub(crate) doors: Doors,
    pub(crate) random: Random,
    pub(crate) until: Instant,
    pub(crate) notes: Vec<String>,
    pub(crate) questions: Arc<Vec<Question>>,
    /// An S3 server and the network before it, where the daemon has one.
    pub(crate) store: Option<(Moto, Proxy)>,
    name: &'static str,
    seed: u64,
    share: Duration,
    wishes: Wishes,
    /// What was acknowledged: name and version, with the digest.
    uploads: BTreeMap<(String, u64), String>,
    not_played: Option<String>,
    variants: u64,
    daemon: Option<Daemon>,
    crowd: Option<Crowd>,
}

impl Stage {
    pub(crate) async fn open(
        setup: Arc<Setup>,
        name: &'static str,
        seed: u64,
        share: Duration,
    ) -> Result<Self> {
        let folder = setup.work.join(name);
        let (data, models) = (folder.join("data"), folder.join("models"));
        // With what was compiled before: no scenario is about that.
        copy_folder(&setup.work.join("template/data/modules"), &data.join("modules"))?;
        copy_folder(&setup.models, &models)?;
        let both = |question: &Question| MODELS.map(|model| question.to(model));
        let questions = Arc::new(setup.questions.iter().flat_map(both).collect());
        Ok(Self {
            doors: Doors::free()?,
            random: Random::new(seed),
            until: Instant::now() + share,
            notes: Vec::new(),
            store: None,
            uploads: BTreeMap::new(),
            not_played: None,
            variants: 0,
            daemon: None,
            crowd: None,
            wishes: Wishes::default(),
            setup,
            folder,
            models,
            questions,
            name,
            seed,
            share,
        })
    }

    /// Plays a scenario, and looks at what has to hold afterwards.
    pub(crate) async fn play(mut self, scenario: &Scenario) -> Row {
        let mut row = Row { name: self.name, ..Row::default() };
        if let Err(error) = self.try_play(scenario).await {
            row.faults.push(format!("{error:#}"));
        }
        if let Some(crowd) = &self.crowd {
            row.count(&crowd.tally);
        }
        row.uploads = self.uploads.len();
        row.notes = std::mem::take(&mut self.notes);
        row.not_played = self.not_played.take();
        if let Some(mut daemon) = self.daemon.take() {
            match daemon.is_running() {
                Ok(true) => drop(daemon.stop()),
                _ => row.faults.push(format!("the daemon has ended\n{}", last_lines(&daemon.log_text()))),
            }
        }
        row
    }

    async fn try_play(&mut self, scenario: &Scenario) -> Result<()> {
        match (scenario.wishes)(self)? {
            Ok(wishes) => self.wishes = wishes,
            Err(why) => {
                self.not_played = Some(why);
                return Ok(());
            }
        }
        self.start()?;
        self.crowd = Some(Crowd::start(&self.doors, self.questions.clone(), self.seed));
        // What the daemon comes to hold by being used at all, it may go on holding.
        self.crowd()?.answers(30).await?;
        self.crowd()?.pause().await?;
        let before = Vitals::of(self.daemon()?)?;
        self.notes.push(format!("before: {before}"));
        // At least twice: what is kept to be used again is there after the first times, what is lost grows each time.
        let mut last = self.play_round(scenario, before).await?;
        for _ in 1..MOST_ROUNDS {
            let next = self.play_round(scenario, before).await?;
            let grows = next.resident_bytes > last.resident_bytes / 10 * 11 + MEMORY_BYTES;
            last = next;
            if !grows {
                return Ok(());
            }
        }
        bail!(
            "memory grows each time that this is played, {MOST_ROUNDS} times: {last}; before it was {before}"
        )
    }

    async fn play_round(&mut self, scenario: &Scenario, before: Vitals) -> Result<Vitals> {
        self.crowd()?.resume();
        self.until = Instant::now() + self.share / 2;
        (scenario.play)(self).await?;
        self.crowd()?.may_be_cut(false);
        self.crowd()?.answers(5).await.context("afterwards")?;
        self.check_uploads().await?;
        self.crowd()?.pause().await?;
        let after = self.settle(before).await?;
        self.notes.push(format!("after a round: {after}"));
        Ok(after)
    }

    /// Starts the daemon, where it was before if there was one.
    pub(crate) fn start(&mut self) -> Result<()> {
        let Wishes { wrap, arguments } = &self.wishes;
        let (folder, wrap) = (&self.folder, wrap.as_deref());
        self.daemon = Some(self.setup.daemon(&self.doors, folder, &self.models, wrap, arguments)?);
        Ok(())
    }

    pub(crate) fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("there is no daemon now")
    }

    pub(crate) fn take_daemon(&mut self) -> Result<Daemon> {
        self.daemon.take().context("there is no daemon now")
    }

    pub(crate) fn crowd(&mut self) -> Result<&mut Crowd> {
        self.crowd.as_mut().context("there is no crowd now")
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.doors.grpc).await?)
    }

    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// A model file that no other is equal to, and that answers as all do.
    pub(crate) fn variant(&mut self) -> Result<PathBuf> {
        self.variants += 1;
        let text = format!("{}-{}-{}", self.name, self.seed, self.variants);
        let path = self.folder.join("variant.onnx");
        std::fs::write(&path, digits::variant(&text)?)?;
        Ok(path)
    }

    /// Uploads a file and remembers it once that was acknowledged.
    pub(crate) async fn upload(&mut self, client: &Client, name: &str, file: &Path) -> Result<ModelRef> {
        let files = vec![UploadFile { path: "model.onnx".into(), source: file.to_owned() }];
        let stored = client.upload(Upload { name: name.into(), version: None, files }, |_| ()).await?;
        self.uploads.insert((stored.name.clone(), stored.version), stored.digest);
        Ok(ModelRef { name: stored.name, version: stored.version })
    }

    /// Deletes uploads: they need not be there any more.
    pub(crate) async fn delete(&mut self, client: &Client, name: &str) -> Result<()> {
        client.delete(name, None).await?;
        self.uploads.retain(|(of, _), _| of != name);
        Ok(())
    }

    /// Every upload that was acknowledged is there, with the content that was acknowledged.
    pub(crate) async fn check_uploads(&self) -> Result<()> {
        let listed = self.client().await?.models().await?;
        for ((name, version), digest) in &self.uploads {
            let found = listed.iter().find(|model| model.name == *name && model.version == *version);
            let found =
                found.with_context(|| format!("upload {name}/{version} was acknowledged and is lost"))?;
            ensure!(found.digest == *digest, "upload {name}/{version} is {}, was {digest}", found.digest);
        }
        Ok(())
    }

    /// Returns once the daemon holds no more than before, but for memory.
    async fn settle(&mut self, before: Vitals) -> Result<Vitals> {
        let deadline = Instant::now() + SETTLING;
        loop {
            let now = Vitals::of(self.daemon()?)?;
            let settled = now.descriptors <= before.descriptors + DESCRIPTORS
                && now.workers == before.workers
                // Processes that took the place of others say of themselves what they take.
                && now.ledger_bytes <= before.ledger_bytes / 10 * 11;
            if settled {
                return Ok(now);
            }
            if Instant::now() > deadline {
                bail!("the daemon holds {now}; before it was {before}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
