//! One loaded module on one device, in a confined process that answers inferences.
//!
//! Started by the daemon or the command line, never by a person. It knows nothing of clients, batching or names on the
//! network: tensors come and go in shared memory, requests and answers in messages.

mod answer;
mod engine;
mod failure;
mod idle;
mod inbox;
mod outputs;
mod profile;

use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::thread;

use anyhow::{Context, bail};
use ired_worker::child::{self, ChannelError, Receiver, Sender, Tensors};
use ired_worker::messages::runtime::{FromRuntime, ToRuntime};
use ired_worker::{MappedFile, Probe, ProbeOutcome, Role, RuntimeOptions, settle};

use crate::answer::Runner;
use crate::engine::Engine;
use crate::idle::Idle;
use crate::inbox::Inbox;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ired-runtime-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let (sender, mut receiver) = child::start(Role::Runtime)?;
    let (message, fds) = match receiver.receive() {
        // Asked for its sandbox only.
        Err(ChannelError::Closed) => return Ok(()),
        received => received.context("the first message")?,
    };
    match message {
        ToRuntime::Probe(probe) => {
            sender.send(&FromRuntime::Probed(probe_settled(probe)?), &[])?;
            Ok(())
        }
        ToRuntime::Load(options) => {
            let Ok([module]) = <[_; 1]>::try_from(fds) else { bail!("a load comes with a module") };
            let module = MappedFile::open(module).context("cannot map the module")?;
            serve(&options, module, sender, receiver)
        }
        _ => bail!("the first message is neither a module nor a probe"),
    }
}

fn confine_further() -> anyhow::Result<()> {
    settle().map_err(anyhow::Error::msg).context("cannot confine this process further")
}

/// Makes an attempt as it would be made while requests run: on a thread, as a device has them, that was there before.
fn probe_settled(probe: Probe) -> anyhow::Result<ProbeOutcome> {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let attempt = thread::spawn(move || wait.recv().map(|()| child::attempt(probe)));
    confine_further()?;
    go.send(())?;
    match attempt.join() {
        Ok(outcome) => Ok(outcome?),
        Err(_) => bail!("the attempt panicked"),
    }
}

/// Loads the module and answers until the parent closes the channel.
fn serve(
    options: &RuntimeOptions,
    module: MappedFile,
    sender: Sender,
    receiver: Receiver,
) -> anyhow::Result<()> {
    let engine = match Engine::load(options, module) {
        Ok(engine) => engine,
        Err(failure) => {
            sender.send(&FromRuntime::Loaded(Err(failure)), &[])?;
            return Ok(());
        }
    };
    // Compiled code is mapped and the device open; from here on nothing else ever becomes code, and no file is opened.
    confine_further()?;
    sender.send(&FromRuntime::Loaded(Ok(engine.describe())), &[])?;
    let tensors = Arc::new(Tensors::new(sender.clone()));
    let runners = engine.runners();
    let inbox = Inbox::new(receiver, sender.clone(), Arc::clone(&tensors));
    let runner = Runner {
        engine,
        tensors,
        sender,
        inbox,
        idle: Idle::default(),
        alone: RwLock::default(),
        computed: AtomicU64::new(u64::MAX),
    };
    thread::scope(|scope| {
        let watch = thread::Builder::new().name("ired-idle".to_owned());
        watch.spawn_scoped(scope, || runner.watch_idle()).context("cannot start a thread")?;
        // However this ends, the thread does too.
        let _end = EndOfWatch(&runner.idle);
        let helpers: Vec<_> = (1..runners)
            .map(|index| {
                let name = format!("ired-run-{index}");
                // They lead requests, and so run kernels, which keep up to a megabyte on their stack.
                let builder = thread::Builder::new().name(name).stack_size(4 << 20);
                builder.spawn_scoped(scope, || runner.run())
            })
            .collect::<Result<_, _>>()
            .context("cannot start a thread")?;
        let outcome = runner.run();
        helpers.into_iter().fold(outcome, |outcome, helper| match helper.join() {
            Ok(helped) => outcome.and(helped),
            Err(_) => bail!("a thread panicked"),
        })
    })
}

/// Ends the watch for idle moments.
struct EndOfWatch<'a>(&'a Idle);

impl Drop for EndOfWatch<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
