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

/// Whether `found` bytes are what to give to who needs `bytes`: not so many that the next large request misses them.
pub(crate) fn fits(found: u64, bytes: u64) -> bool {
    found >= bytes && found <= bytes.saturating_mul(2).max(SMALL_BYTES)
}

/// Up to here sizes do not matter.
const SMALL_BYTES: u64 = 64 << 10;

/// A size a little larger, which what grows little by little asks for again: memory kept from the round before fits.
pub(crate) fn round_up(bytes: u64) -> u64 {
    const STEPS_PER_DOUBLING: u64 = 8;
    if bytes <= SMALL_BYTES {
        return bytes;
    }
    bytes.checked_next_multiple_of((1 << bytes.ilog2()) / STEPS_PER_DOUBLING).unwrap_or(bytes)
}

impl Pool {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, free: Mutex::new(Vec::new()) }
    }

    /// At least `bytes` bytes of undefined content.
    pub(crate) fn take(&self, device: &dyn Device, bytes: u64) -> Result<Arc<dyn Buffer>, AllocateError> {
        {
            let mut free = self.lock();
            let best = free.iter().enumerate().filter(|(_, buffer)| fits(buffer.len_bytes(), bytes));
            if let Some((index, _)) = best.min_by_key(|(_, buffer)| buffer.len_bytes()) {
                return Ok(free.swap_remove(index));
            }
        }
        device.allocate(round_up(bytes), Memory::Device)
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

    /// Keeps nothing any more of what nobody uses now.
    pub(crate) fn free_kept(&self) {
        // Freed once the lock is open.
        let kept = std::mem::take(&mut *self.lock());
        drop(kept);
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
