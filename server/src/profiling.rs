//! Executions of one model version whose dispatches are timed, because somebody asked.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::course::Execution;

/// Who asks, if anybody does; it costs one load where nobody does.
#[derive(Debug, Default)]
pub struct Profiling {
    /// Executions that are still wanted.
    wanted: AtomicU32,
    asker: Mutex<Option<Sender>>,
}

type Sender = tokio::sync::mpsc::Sender<Execution>;

/// Somebody who asks; nobody else can until this is dropped.
#[derive(Debug)]
pub struct Asker {
    profiling: Arc<Profiling>,
    executions: tokio::sync::mpsc::Receiver<Execution>,
}

impl Profiling {
    /// Asks for the next executions; `None` while another does.
    pub fn ask(self: &Arc<Self>, executions: u32) -> Option<Asker> {
        let mut asker = self.lock();
        if asker.is_some() {
            return None;
        }
        let (sender, received) = tokio::sync::mpsc::channel(executions.max(1) as usize);
        *asker = Some(sender);
        self.wanted.store(executions, Ordering::Relaxed);
        Some(Asker { profiling: self.clone(), executions: received })
    }

    /// Whether the execution that begins now is to be profiled.
    pub fn takes(&self) -> bool {
        let one_less = |wanted: u32| wanted.checked_sub(1);
        self.wanted.load(Ordering::Relaxed) > 0
            && self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    /// Tells who asks of an execution that has ended.
    pub fn tell(&self, execution: &Execution) {
        if execution.profile.is_some()
            && let Some(asker) = &*self.lock()
        {
            // It has room for all that it asked for; later ones belong to somebody who is gone.
            let _ = asker.try_send(execution.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sender>> {
        self.asker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asker {
    /// The next execution, once there is one.
    pub async fn next(&mut self) -> Option<Execution> {
        self.executions.recv().await
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.profiling.wanted.store(0, Ordering::Relaxed);
        *self.profiling.lock() = None;
    }
}
