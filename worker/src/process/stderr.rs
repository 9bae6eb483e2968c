//! What a worker writes to stderr: passed to the log, its end kept for crash messages.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const KEPT_BYTES: usize = 16 << 10;

/// The end of a worker's stderr. Dropping it stops listening.
#[derive(Debug, Default)]
pub(crate) struct StderrTail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    task: Option<JoinHandle<()>>,
}

impl StderrTail {
    pub(crate) fn follow(pid: u32, pipe: OwnedFd) -> io::Result<Self> {
        let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let shared = Arc::clone(&kept);
        let task = tokio::spawn(async move {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
                tracing::debug!(pid, text = %String::from_utf8_lossy(&chunk[..count]), "worker stderr");
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&chunk[..count]);
                let excess = kept.len().saturating_sub(KEPT_BYTES);
                kept.drain(..excess);
            }
        });
        Ok(Self { kept, task: Some(task) })
    }

    /// Waits until the pipe is at its end, then returns what is kept.
    pub(crate) async fn finish(&mut self) -> String {
        if let Some(mut task) = self.task.take() {
            // The pipe ends with the process; the limit guards against a descriptor that leaked elsewhere.
            let _ = timeout(Duration::from_secs(1), &mut task).await;
            task.abort();
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).trim().to_owned()
    }
}

impl Drop for StderrTail {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
