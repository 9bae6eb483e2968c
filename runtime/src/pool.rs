//! Device memory that outlives one invocation to serve the next: allocating afresh would fault in every page again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ired_hal::{AllocateError, Buffer, Device, Memory};

/// Buffers that nobody uses now.
#[derive(Debug)]
pub(crate) struct Pool {
    limit_bytes: u64,
    free: Mutex<Vec<Arc<dyn Buffer>>>,
}

/// Buffers kept, at most; more would make finding one slow.
const MAX_BUFFERS: usize = 64;

impl Pool {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, free: Mutex::new(Vec::new()) }
    }

    /// At least `bytes` bytes of undefined content.
    pub(crate) fn take(&self, device: &dyn Device, bytes: u64) -> Result<Arc<dyn Buffer>, AllocateError> {
        // Not one so large that the next large request would miss it.
        let fits = |len: u64| len >= bytes && len <= bytes.saturating_mul(2).max(64 << 10);
        {
            let mut free = self.lock();
            let best = free.iter().enumerate().filter(|(_, buffer)| fits(buffer.len_bytes()));
            if let Some((index, _)) = best.min_by_key(|(_, buffer)| buffer.len_bytes()) {
                return Ok(free.swap_remove(index));
            }
        }
        device.allocate(bytes, Memory::Device)
    }

    /// Takes back a buffer that no work uses any more; keeps it while there is room, the latest rather than older.
    pub(crate) fn give(&self, buffer: Arc<dyn Buffer>) {
        let bytes = buffer.len_bytes();
        if bytes > self.limit_bytes {
            return;
        }
        let mut dropped = Vec::new();
        {
            let mut free = self.lock();
            free.push(buffer);
            let mut kept: u64 = free.iter().map(|buffer| buffer.len_bytes()).sum();
            while kept > self.limit_bytes || free.len() > MAX_BUFFERS {
                let oldest = free.remove(0);
                kept -= oldest.len_bytes();
                dropped.push(oldest);
            }
        }
        // Freeing memory is a system call; not under the lock.
        drop(dropped);
    }

    /// Bytes kept now.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.lock().iter().map(|buffer| buffer.len_bytes()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<dyn Buffer>>> {
        // A list of buffers is sound whatever panicked.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
