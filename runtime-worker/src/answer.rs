//! One thread that takes requests and answers them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ired_hal::Span;
use ired_worker::child::{Sender, Tensors, usage};
use ired_worker::messages::runtime::{Answer, FromRuntime, MAX_BENCH_ITERATIONS, TensorRef};
use ired_worker::{BenchRequest, RuntimeFailure, Timing, WorkPeak, WorkSpan};

use crate::engine::Engine;
use crate::idle::Idle;
use crate::inbox::{Inbox, Infer, Request};
use crate::profile;

/// Bounds on the search for a typical iteration to profile.
const PROFILED_ITERATIONS: u32 = 50;
const PROFILE_TIME: Duration = Duration::from_secs(1);

/// About what it takes to wake a thread.
const BRIEF: Duration = Duration::from_micros(30);
/// The same on a busy machine, and for the requests that wait, too.
const BRIEF_TOGETHER: Duration = Duration::from_micros(100);

/// What every runner thread shares.
pub(crate) struct Runner {
    pub(crate) engine: Engine,
    pub(crate) tensors: Arc<Tensors>,
    pub(crate) sender: Sender,
    pub(crate) inbox: Inbox,
    pub(crate) idle: Idle,
    /// Written by who wants the device for itself: a profile has what anybody runs.
    pub(crate) alone: RwLock<()>,
    /// How long requests compute, in nanoseconds.
    pub(crate) computed: AtomicU64,
}

impl Runner {
    /// Answers requests until the parent closes the channel.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let _end = EndWithPanic;
        let mut reading = self.inbox.read();
        while let Some(request) = reading.next()? {
            let kept = self.is_brief(&request) && reading.keep(self.brief_queue());
            // Asked for afterwards: then either the watch sees that the turn was kept, or this sees that it sleeps.
            let kept = (kept && self.idle.is_awake()).then_some(reading);
            let (id, answer) = match request {
                Request::Infer(infer) => (infer.id, self.infer(&infer)),
                Request::Bench { id, entry, inputs, request } => (id, self.bench(&entry, &inputs, &request)),
                Request::Peak { id, entry, dims } => (id, self.engine.peak(&entry, dims).map(Answer::Peak)),
                Request::Usage { id } => (id, Ok(Answer::Usage(usage()))),
            };
            let has_run = !matches!(answer, Ok(Answer::Peak(_) | Answer::Usage(_)));
            self.sender.send(&FromRuntime::Answer { id, answer }, &[])?;
            if has_run {
                self.idle.note();
            }
            reading = kept.unwrap_or_else(|| self.inbox.read());
        }
        Ok(())
    }

    /// Whether a request will, by what the last ones took, have run before another thread could be woken.
    fn is_brief(&self, request: &Request) -> bool {
        matches!(request, Request::Infer(Infer { profile: false, .. })) && self.typical() <= BRIEF
    }

    /// How many more requests may wait for a brief one: those that have run, too, before a thread is awake and at them.
    fn brief_queue(&self) -> usize {
        (BRIEF_TOGETHER.as_nanos() / self.typical().as_nanos().max(1)) as usize
    }

    /// How long requests compute.
    fn typical(&self) -> Duration {
        Duration::from_nanos(self.computed.load(Ordering::Relaxed))
    }

    fn note_compute(&self, compute: Duration) {
        let took = u64::try_from(compute.as_nanos()).unwrap_or(u64::MAX);
        let before = self.computed.load(Ordering::Relaxed);
        // The least says what it takes; the rest is other load, which passes.
        let after = took.min(before.saturating_add(took.saturating_sub(before) / 16));
        self.computed.store(after, Ordering::Relaxed);
    }

    /// Gives memory back whenever nobody has asked for anything for a while; returns when that is over.
    pub(crate) fn watch_idle(&self) {
        self.idle.watch(|| {
            // Nothing has been answered for that while: who runs a request was taken for brief and is not.
            self.inbox.pass_on();
            self.engine.free_kept();
            // A parent that cannot be told is gone, which a runner learns.
            let _ = self.tensors.free_kept();
        });
    }

    fn infer(&self, infer: &Infer) -> Result<Answer, RuntimeFailure> {
        if !infer.profile {
            let _with_others = self.alone.read().unwrap_or_else(PoisonError::into_inner);
            return self.infer_now(infer);
        }
        let _alone = self.alone.write().unwrap_or_else(PoisonError::into_inner);
        self.infer_now(infer)
    }

    fn infer_now(&self, infer: &Infer) -> Result<Answer, RuntimeFailure> {
        let Infer { entry, inputs, sent, deadline, .. } = infer;
        let queue = sent.elapsed();
        let deadline = match deadline {
            Some(deadline) => Some(deadline.to_instant().ok_or(RuntimeFailure::DeadlineExceeded)?),
            None => None,
        };
        let started = Instant::now();
        let bound = self.engine.bind(entry, inputs, &self.tensors)?;
        let input = started.elapsed();
        if infer.profile {
            self.engine.device().start_profile();
        }
        let computing = Instant::now();
        let outputs = self.engine.run(entry, &bound, deadline, &self.tensors);
        let compute = computing.elapsed();
        self.note_compute(compute);
        let profile = infer.profile.then(|| {
            profile::profile(self.engine.device().take_profile(), &self.engine.notes(entry, inputs))
        });
        let outputs = outputs.map_err(|error| self.engine.failure(entry, inputs, error))?;
        let lending = Instant::now();
        let outputs = outputs.lend(self.engine.output_names(entry), &self.tensors)?;
        let timing = Timing { queue, input, compute, output: lending.elapsed() };
        Ok(Answer::Infer { outputs, timing, profile })
    }

    fn bench(
        &self,
        entry: &str,
        inputs: &[TensorRef],
        request: &BenchRequest,
    ) -> Result<Answer, RuntimeFailure> {
        let _alone = self.alone.write().unwrap_or_else(PoisonError::into_inner);
        let bound = self.engine.bind(entry, inputs, &self.tensors)?;
        let once = || {
            let outputs = self.engine.run(entry, &bound, None, &self.tensors);
            outputs.map_err(|error| self.engine.failure(entry, inputs, error))
        };
        for _ in 0..request.warmup.min(MAX_BENCH_ITERATIONS) {
            drop(once()?);
        }
        let cpu_before = usage().cpu;
        let begin = Instant::now();
        let mut latencies: Vec<Duration> = Vec::new();
        let last = loop {
            let start = Instant::now();
            let outputs = once()?;
            latencies.push(start.elapsed());
            let made = latencies.len() as u64;
            if made >= request.max_iters.min(MAX_BENCH_ITERATIONS) || begin.elapsed() >= request.budget {
                break outputs;
            }
        };
        let after = usage();
        let spans = if request.profile { self.profile(once)? } else { Vec::new() };
        let peak = if request.profile { self.peak() } else { None };
        let outputs = last.lend(self.engine.output_names(entry), &self.tensors)?;
        let cpu = after.cpu.saturating_sub(cpu_before);
        Ok(Answer::Bench { outputs, latencies, cpu, rss_bytes: after.rss_bytes, spans, peak })
    }

    fn peak(&self) -> Option<WorkPeak> {
        let peak = self.engine.device().measure_peak()?;
        Some(WorkPeak {
            operations_per_second: peak.operations_per_second,
            bytes_per_second: peak.bytes_per_second,
        })
    }

    /// Where the time goes in the fastest of some iterations.
    fn profile<T>(
        &self,
        once: impl Fn() -> Result<T, RuntimeFailure>,
    ) -> Result<Vec<WorkSpan>, RuntimeFailure> {
        let mut fastest: Option<(Duration, Vec<Span>)> = None;
        let begin = Instant::now();
        for _ in 0..PROFILED_ITERATIONS {
            self.engine.device().start_profile();
            let start = Instant::now();
            let outcome = once();
            let (took, spans) = (start.elapsed(), self.engine.device().take_profile());
            outcome?;
            if fastest.as_ref().is_none_or(|(best, _)| took < *best) {
                fastest = Some((took, spans));
            }
            if begin.elapsed() > PROFILE_TIME {
                break;
            }
        }
        let spans = fastest.map(|(_, spans)| spans).unwrap_or_default();
        Ok(spans.into_iter().map(profile::message).collect())
    }
}

/// Ends the process when a runner panics: its request would otherwise never be answered, while the parent starts another
/// process and asks again.
struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
