//! The thread pool: who may compute, who helps whom, and how threads sleep.
//!
//! At most as many threads compute at once as the pool was made for, counting the threads of callers: each holds
//! one of so many *permits*. A submission is computed by a *leader* (the submitting thread, or a worker for
//! background tasks), which starts alone; when the work turns out to be longer than waking a thread takes, the run is
//! shared and idle workers join as *helpers* while permits are left. The next run of the same work goes the way that
//! was faster. Leaders come first and in order: when one waits for a permit, helpers give theirs up at the next piece
//! of work, and other leaders at an epoch's end once their time slice is over.

mod event;
mod leader;
mod pace;
mod run;
mod threads;

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::CpuConfig;
use event::Event;
pub(crate) use leader::Leader;
pub(crate) use pace::Pace;
use run::Run;
pub(crate) use threads::pin_caller;

/// Looks of an idle worker for more work before it sleeps: some ten microseconds, to catch the next of a sequence
/// of submissions.
const IDLE_SPINS: u32 = 4000;

/// Work for a worker to lead. It is dropped unrun when the pool goes away first.
pub(crate) trait Task: Send {
    /// Runs with a permit, which `leader` stands for.
    fn run(self: Box<Self>, leader: Leader<'_>);
}

/// The pool's handle; dropping it finishes granted tasks and ends the threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

pub(crate) struct Shared {
    threads: u32,
    state: Mutex<State>,
    /// Leaders waiting for a permit; others look at it between pieces of work.
    pressure: AtomicU32,
    sleep: Box<[Sleep]>,
}

/// How one worker sleeps.
#[derive(Default)]
struct Sleep {
    event: Event,
    idle: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Permits that are out.
    active: u32,
    /// Leaders without a permit, first come first.
    waiting: VecDeque<Waiter>,
    /// Tasks that have a permit; a worker is on its way to each.
    granted: VecDeque<Box<dyn Task>>,
    /// Workers that lead a task. They may also wait for a permit again, or block in a host call.
    leading: u32,
    /// Runs that helpers may join.
    runs: Vec<Arc<Run>>,
    /// Workers that sleep or are about to.
    idle: Vec<usize>,
    closed: bool,
}

impl State {
    /// The first in the queue that can use a permit now: any caller, or a task if there is a worker for it. A task that
    /// got the permit first could wait for ever for a worker that waits for the permit.
    fn take_waiter(&mut self, workers: u32) -> Option<Waiter> {
        let worker_is_free = self.leading + (self.granted.len() as u32) < workers;
        let usable = |waiter: &Waiter| worker_is_free || matches!(waiter, Waiter::Caller(_));
        let position = self.waiting.iter().position(usable)?;
        self.waiting.remove(position)
    }

    /// The lowest of the idle workers: the same few are used while few are needed, and pinned ones keep away from
    /// the callers' processor longest.
    fn take_idle(&mut self) -> Option<usize> {
        let (position, _) = self.idle.iter().enumerate().min_by_key(|(_, worker)| **worker)?;
        Some(self.idle.swap_remove(position))
    }
}

enum Waiter {
    Caller(Arc<Ticket>),
    Task(Box<dyn Task>),
}

/// A caller in the queue for a permit.
#[derive(Default)]
struct Ticket {
    granted: AtomicBool,
    event: Event,
}

impl Pool {
    pub(crate) fn new(config: &CpuConfig) -> std::io::Result<Self> {
        let threads = threads::count(config.threads);
        let cpus = threads::allowed_cpus();
        let sleep = (0..threads).map(|_| Sleep::default()).collect();
        let shared =
            Arc::new(Shared { threads, state: Mutex::default(), pressure: AtomicU32::new(0), sleep });
        let mut pool = Self { shared, workers: Vec::new() };
        for index in 0..threads as usize {
            let shared = pool.shared.clone();
            pool.workers.push(threads::spawn(index, config.pin, &cpus, move || shared.work(index))?);
        }
        Ok(pool)
    }

    /// How many threads compute at once.
    pub(crate) fn threads(&self) -> u32 {
        self.shared.threads
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let waiting = self.shared.close();
        drop(waiting);
        for worker in self.workers.drain(..) {
            // A task may hold the last reference to the device and drop it on its own thread.
            if worker.thread().id() != std::thread::current().id() {
                let _ = worker.join();
            }
        }
    }
}

impl Shared {
    /// Waits for a permit; this thread may compute until it drops what it gets.
    pub(crate) fn lead(&self) -> Leader<'_> {
        self.enter();
        Leader::with_permit(self)
    }

    /// Queues work for a worker. Gives it back when the pool is closed.
    pub(crate) fn push(&self, task: Box<dyn Task>) -> Result<(), Box<dyn Task>> {
        let mut state = self.lock();
        if state.closed {
            return Err(task);
        }
        state.waiting.push_back(Waiter::Task(task));
        let wake = self.grant(&mut state);
        drop(state);
        wake.now(self);
        Ok(())
    }

    fn enter(&self) {
        let ticket = {
            let mut state = self.lock();
            if state.active < self.threads && state.waiting.is_empty() {
                state.active += 1;
                return;
            }
            let ticket = Arc::new(Ticket::default());
            state.waiting.push_back(Waiter::Caller(ticket.clone()));
            // There may be a permit all the same: tasks before this one can be waiting for a worker instead.
            let wake = self.grant(&mut state);
            drop(state);
            wake.now(self);
            ticket
        };
        loop {
            let note = ticket.event.note();
            if ticket.granted.load(Ordering::Acquire) {
                return;
            }
            ticket.event.sleep(note);
        }
    }

    fn leave(&self) {
        let mut state = self.lock();
        state.active -= 1;
        let wake = self.grant(&mut state);
        drop(state);
        wake.now(self);
    }

    /// Gives free permits to those who wait, in order.
    fn grant(&self, state: &mut State) -> Wake {
        let mut wake = Wake::default();
        while state.active < self.threads
            && let Some(waiter) = state.take_waiter(self.threads)
        {
            state.active += 1;
            match waiter {
                Waiter::Caller(ticket) => wake.callers.push(ticket),
                Waiter::Task(task) => {
                    state.granted.push_back(task);
                    // Without an idle worker one is on its way to look.
                    wake.workers.extend(state.take_idle());
                }
            }
        }
        self.pressure.store(state.waiting.len() as u32, Ordering::Relaxed);
        // A permit that no leader wants is for a helper.
        if state.runs.iter().any(|run| run.has_work()) {
            wake.workers.extend(self.helper(state));
        }
        wake
    }

    /// Lets helpers join `run`; wakes the first.
    fn share(&self, run: &Arc<Run>) {
        let mut state = self.lock();
        state.runs.push(run.clone());
        let wake = Wake { workers: self.helper(&mut state).into_iter().collect(), callers: vec![] };
        drop(state);
        wake.now(self);
    }

    fn unshare(&self, run: &Arc<Run>) {
        self.lock().runs.retain(|other| !Arc::ptr_eq(other, run));
    }

    /// An idle worker to wake as a helper, if there is a permit for it. Helpers wake the next one when they start,
    /// so that no thread has to wake all.
    fn helper(&self, state: &mut State) -> Option<usize> {
        let wanted = state.active < self.threads && state.waiting.is_empty();
        wanted.then(|| state.take_idle()).flatten()
    }

    /// What worker `index` does, until the pool is closed.
    fn work(self: Arc<Self>, index: usize) {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.granted.pop_front() {
                state.leading += 1;
                drop(state);
                task.run(Leader::with_permit(&self));
                state = self.lock();
                state.leading -= 1;
                let wake = self.grant(&mut state);
                drop(state);
                wake.now(&self);
                state = self.lock();
            } else if let Some(run) = self.next_run(&mut state) {
                state.active += 1;
                let next = self.helper(&mut state);
                drop(state);
                Wake { workers: next.into_iter().collect(), callers: vec![] }.now(&self);
                run.participate(|| self.pressure.load(Ordering::Relaxed) > 0);
                drop(run);
                self.leave();
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle.push(index);
                self.sleep[index].idle.store(true, Ordering::Relaxed);
                drop(state);
                self.sleep(index);
                state = self.lock();
            }
        }
    }

    /// The next run to help, each in turn, when there is a permit for it.
    fn next_run(&self, state: &mut State) -> Option<Arc<Run>> {
        if state.active >= self.threads || !state.waiting.is_empty() {
            return None;
        }
        let position = state.runs.iter().position(|run| run.has_work())?;
        let run = state.runs.remove(position);
        state.runs.push(run.clone());
        Some(run)
    }

    /// Until somebody took worker `index` off the idle list.
    fn sleep(&self, index: usize) {
        let sleep = &self.sleep[index];
        let note = sleep.event.note();
        let woken = || !sleep.idle.load(Ordering::Acquire);
        if woken() || (self.threads > 1 && sleep.event.spin(note, IDLE_SPINS)) {
            return;
        }
        loop {
            let note = sleep.event.note();
            if woken() {
                return;
            }
            sleep.event.sleep(note);
        }
    }

    /// Refuses tasks from now on; gives back those that wait.
    fn close(&self) -> Vec<Waiter> {
        let mut state = self.lock();
        state.closed = true;
        let (tasks, callers) = state.waiting.drain(..).partition(|w| matches!(w, Waiter::Task(_)));
        state.waiting = callers;
        let wake = Wake { workers: std::mem::take(&mut state.idle), callers: vec![] };
        drop(state);
        wake.now(self);
        tasks.into()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who to wake once the lock is released.
#[derive(Default)]
struct Wake {
    workers: Vec<usize>,
    callers: Vec<Arc<Ticket>>,
}

impl Wake {
    fn now(self, shared: &Shared) {
        for caller in self.callers {
            caller.granted.store(true, Ordering::Release);
            caller.event.wake_all();
        }
        for worker in self.workers {
            let sleep = &shared.sleep[worker];
            sleep.idle.store(false, Ordering::Release);
            sleep.event.wake_all();
        }
    }
}

impl Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.shared.threads)
    }
}
