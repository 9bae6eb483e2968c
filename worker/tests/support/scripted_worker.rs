//! A worker that plays what a test asks for: by the name it is started under for the handshake, by the model's name or
//! the entry point's after it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ired_module::signature::{Provenance, Signature, Target};
use ired_worker::child::{self, ChannelError, Receiver, Sender, Tensors};
use ired_worker::messages::compile::{FromCompiler, ToCompiler};
use ired_worker::messages::handshake::PROTOCOL;
use ired_worker::messages::runtime::{Answer, FromRuntime, Place, TensorRef, ToRuntime};
use ired_worker::{
    CompileReport, LoadedModule, MappedFile, Progress, Role, RuntimeConfig, RuntimeFailure, RuntimeOptions,
    RuntimeWorker, Timing,
};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    match name.rsplit('/').next().unwrap_or_default() {
        "noise" => say_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "later-protocol" => {
            let mut hello = b"iredwrk\0".to_vec();
            hello.push(u8::try_from(PROTOCOL + 1).expect("a small number"));
            say_raw(&frame(&hello));
        }
        "mute" => {}
        "killed" => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .expect("a process may end itself"),
        "parent" => parent(&name),
        "runtime" => run_runtime(false),
        "runtime-that-keeps-dying" => run_runtime(true),
        _ => run_compile(),
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small payload").to_le_bytes();
    [length.as_slice(), &[0; 4], payload].concat()
}

/// Says something that no message is, then waits to be killed.
fn say_raw(bytes: &[u8]) {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a channel");
    File::from(socket).write_all(bytes).expect("a parent that listens");
    wait_to_be_killed()
}

fn wait_to_be_killed() {
    loop {
        std::thread::park();
    }
}

/// Starts a worker, says its number, and waits to be killed.
fn parent(own_path: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = RuntimeConfig::new(own_path.replace("parent", "runtime"));
        let module = memfd_create("module", MemfdFlags::CLOEXEC).expect("memory");
        let worker = RuntimeWorker::start(config, module, RuntimeOptions::default()).await.expect("a worker");
        println!("{}", worker.pid().expect("a process"));
        wait_to_be_killed();
    });
}

fn run_compile() {
    let (sender, mut receiver) = child::start(Role::Compile).expect("a parent");
    let Ok((ToCompiler::Job(job), fds)) = receiver.receive() else { return };
    let [model, output] = <[OwnedFd; 2]>::try_from(fds).expect("a model and an output");
    let model = MappedFile::open(model).expect("a model that can be mapped");
    let mut output = File::from(output);
    let done = |bytes| {
        FromCompiler::Done(CompileReport {
            module_bytes: bytes,
            phases: vec![("all".to_owned(), Duration::from_millis(1))],
            peak_rss_bytes: child::usage().peak_rss_bytes,
            warnings: Vec::new(),
        })
    };
    let progress = |phase: &str| {
        FromCompiler::Progress(Progress { phase: phase.to_owned(), done: 1, total: 1, detail: String::new() })
    };
    match job.model_name.as_str() {
        "copy" => {
            sender.send(&progress("copy"), &[]).expect("a parent");
            let dump = FromCompiler::Dump { name: "1_copy.txt".to_owned() };
            let memory = memfd_create("dump", MemfdFlags::CLOEXEC).expect("memory");
            let mut file = File::from(memory.try_clone().expect("a descriptor"));
            file.write_all(b"what it looks like").expect("memory");
            sender.send(&dump, &[memory]).expect("a parent");
            output.write_all(&model).expect("an output");
            sender.send(&done(model.len() as u64), &[]).expect("a parent");
        }
        "hang" => {
            sender.send(&progress("hang"), &[]).expect("a parent");
            wait_to_be_killed();
        }
        "abort" => {
            eprintln!("about to give up");
            std::process::abort();
        }
        "exit" => std::process::exit(3),
        "exhaust" => {
            let block: Vec<u8> = vec![1; 1 << 40];
            println!("{}", block[1 << 39]);
        }
        "overrun" => {
            let block = vec![0; 1 << 20];
            while output.write_all(&block).is_ok() {}
        }
        "garbage" => say_raw(&frame(&[0xff; 100])),
        "oversized" => say_raw(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        "lie" => sender.send(&done(1_000_000), &[]).expect("a parent"),
        "escape-by-dump" => {
            let memory = memfd_create("dump", MemfdFlags::CLOEXEC).expect("memory");
            sender.send(&FromCompiler::Dump { name: "../../x".to_owned() }, &[memory]).expect("a parent");
            wait_to_be_killed();
        }
        "endless-dump" => {
            let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a channel");
            sender.send(&FromCompiler::Dump { name: "x".to_owned() }, &[socket]).expect("a parent");
            wait_to_be_killed();
        }
        file => open_file(file, &sender, &mut receiver, &mut output, done),
    }
}

/// Copies a file beside the model to the output, or the reason why there is none.
fn open_file(
    name: &str,
    sender: &Sender,
    receiver: &mut Receiver,
    output: &mut File,
    done: impl Fn(u64) -> FromCompiler,
) {
    sender.send(&FromCompiler::OpenFile { name: name.to_owned() }, &[]).expect("a parent");
    let content = match receiver.receive().expect("an answer") {
        (ToCompiler::File(Ok(())), fds) => MappedFile::open(&fds[0]).expect("a file").to_vec(),
        (ToCompiler::File(Err(reason)), _) => format!("refused: {reason}").into_bytes(),
        _ => Vec::new(),
    };
    output.write_all(&content).expect("an output");
    sender.send(&done(content.len() as u64), &[]).expect("a parent");
}

fn run_runtime(keeps_dying: bool) {
    let (sender, mut receiver) = child::start(Role::Runtime).expect("a parent");
    let Ok((ToRuntime::Load(_), fds)) = receiver.receive() else { return };
    // The module counts the processes that loaded it.
    let mut module = File::from(fds.into_iter().next().expect("a module"));
    module.write_all(b".").expect("a module to write to");
    let generation = module.metadata().expect("a size").len();
    sender.send(&FromRuntime::Loaded(Ok(loaded(generation))), &[]).expect("a parent");
    if keeps_dying && (2..=4).contains(&generation) {
        std::process::exit(1);
    }
    let play = Play { tensors: Tensors::new(sender.clone()), sender, generation };
    let mut counts = Counts::default();
    loop {
        let (message, fds) = match receiver.receive() {
            Err(ChannelError::Closed) => return,
            received => received.expect("a message"),
        };
        play.hear(message, fds, &mut counts);
    }
}

fn loaded(generation: u64) -> LoadedModule {
    LoadedModule {
        signature: Signature::default(),
        target: Target { triple: "scripted".to_owned(), features: Vec::new() },
        variant: (0, 1),
        provenance: Provenance {
            model_digest: [0; 32],
            model_name: "scripted".to_owned(),
            compiler: String::new(),
            options: String::new(),
        },
        module_bytes: generation,
        parameter_bytes: 0,
        resident_bytes: 0,
        private_bytes: 0,
        load_time: Duration::ZERO,
    }
}

struct Play {
    sender: Sender,
    tensors: Tensors,
    generation: u64,
}

#[derive(Default)]
struct Counts {
    regions: u64,
    cancels: u64,
    /// Requests that no cancellation ends.
    deaf_to: Vec<u64>,
}

impl Play {
    fn hear(&self, message: ToRuntime, fds: Vec<OwnedFd>, counts: &mut Counts) {
        match message {
            ToRuntime::Region { region, len } => {
                counts.regions += 1;
                self.tensors.add_region(region, len, &fds).expect("sealed memory");
            }
            ToRuntime::Forget { region } => self.tensors.forget_region(region),
            ToRuntime::Release(places) => places.into_iter().for_each(|place| self.tensors.release(place)),
            ToRuntime::Cancel { id } if counts.deaf_to.contains(&id) => {}
            ToRuntime::Cancel { id } => {
                counts.cancels += 1;
                self.answer(id, Err(RuntimeFailure::Cancelled));
            }
            ToRuntime::Infer { id, entry, inputs, .. } => self.infer(id, &entry, inputs, counts),
            ToRuntime::Load(_)
            | ToRuntime::Probe(_)
            | ToRuntime::Bench { .. }
            | ToRuntime::Peak { .. }
            | ToRuntime::Usage { .. } => {}
        }
    }

    fn infer(&self, id: u64, entry: &str, inputs: Vec<TensorRef>, counts: &mut Counts) {
        match entry {
            "echo" => self.echo(id, inputs),
            "never" => {}
            "runaway" => counts.deaf_to.push(id),
            "hang-in-the-first-process" if self.generation == 1 => {}
            "hang-in-the-first-process" => self.echo(id, inputs),
            "regions" => self.number(id, counts.regions),
            "cancels" => self.number(id, counts.cancels),
            "die" => std::process::abort(),
            "loose-region" => {
                let memory = memfd_create("loose", MemfdFlags::CLOEXEC).expect("memory");
                ftruncate(&memory, 4096).expect("memory");
                let region = FromRuntime::Region { region: 1000, len: 4096 };
                self.sender.send(&region, &[memory]).expect("a parent");
            }
            "outside" => {
                let place = Place { region: 0, offset: 1 << 40, len: 4 };
                let output =
                    TensorRef { name: "x".to_owned(), dtype: ired_module::DType::F32, dims: vec![1], place };
                self.answer(
                    id,
                    Ok(Answer::Infer { outputs: vec![output], timing: Timing::default(), profile: None }),
                );
            }
            "unasked" => self.answer(id + 1, Err(RuntimeFailure::Cancelled)),
            "garbage" => say_raw(&frame(&[0xff; 100])),
            _ => {
                let failure = RuntimeFailure::NoSuchEntry { entry: entry.to_owned(), entries: Vec::new() };
                self.answer(id, Err(failure));
            }
        }
    }

    fn number(&self, id: u64, number: u64) {
        let mut buffer = self.tensors.buffer(8).expect("memory");
        buffer.copy_from_slice(&number.to_le_bytes());
        let place = buffer.place();
        self.tensors.lend(place, Box::new(buffer));
        let output =
            TensorRef { name: "number".to_owned(), dtype: ired_module::DType::U64, dims: vec![], place };
        self.answer(
            id,
            Ok(Answer::Infer { outputs: vec![output], timing: Timing::default(), profile: None }),
        );
    }

    fn echo(&self, id: u64, inputs: Vec<TensorRef>) {
        let outputs = inputs.into_iter().map(|input| {
            let bytes = self.tensors.view(input.place).expect("an announced place");
            let mut buffer = self.tensors.buffer(bytes.len()).expect("memory");
            buffer.copy_from_slice(&bytes);
            let place = buffer.place();
            self.tensors.lend(place, Box::new(buffer));
            TensorRef { place, ..input }
        });
        let outputs = outputs.collect();
        self.answer(id, Ok(Answer::Infer { outputs, timing: Timing::default(), profile: None }));
    }

    fn answer(&self, id: u64, answer: Result<Answer, RuntimeFailure>) {
        self.sender.send(&FromRuntime::Answer { id, answer }, &[]).expect("a parent");
    }
}
