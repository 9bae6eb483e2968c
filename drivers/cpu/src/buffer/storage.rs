//! Where a buffer's bytes are, and blocks kept for the next buffer.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt::{self, Debug};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ired_hal::HostMemory;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::ALIGNMENT_BYTES;

/// From here on memory comes from the system directly: whole pages, given back when freed.
const MAPPED_FROM_BYTES: usize = 256 << 10;

/// Smaller blocks are not worth keeping.
const KEPT_FROM_BYTES: usize = 4 << 10;

/// More blocks than this are not kept: they are looked through one by one.
const MAX_KEPT_BLOCKS: usize = 64;

/// From here on huge pages are asked for.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Memory of a buffer; freed, or kept for the next one, when dropped.
pub(crate) enum Storage {
    None,
    Block { block: Option<Block>, recycler: Weak<Recycler> },
    Imported { address: NonNull<u8>, writable: bool, _owner: HostMemory },
}

// SAFETY: the memory belongs to this value (or its owner, which is `Send + Sync`); who may touch it when is settled by
// the buffer that holds it.
unsafe impl Send for Storage {}
// SAFETY: as above; `&Storage` gives an address and nothing else.
unsafe impl Sync for Storage {}

impl Storage {
    /// Null without memory.
    pub(crate) fn address(&self) -> *mut u8 {
        match self {
            Self::None => ptr::null_mut(),
            Self::Block { block, .. } => block.as_ref().map_or(ptr::null_mut(), |b| b.address.as_ptr()),
            Self::Imported { address, .. } => address.as_ptr(),
        }
    }

    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Self::Block { block, recycler } = self
            && let Some(block) = block.take()
            && let Some(recycler) = recycler.upgrade()
        {
            recycler.keep(block);
        }
    }
}

/// Zeroed when new, of whatever content when reused; always initialised.
pub(crate) struct Block {
    address: NonNull<u8>,
    /// What was asked of the system.
    len: usize,
}

// SAFETY: a block is memory that nothing else refers to.
unsafe impl Send for Block {}

impl Block {
    fn new(len: usize) -> Option<Self> {
        if len >= MAPPED_FROM_BYTES { Self::map(len) } else { Self::from_heap(len) }
    }

    fn heap_layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.max(1), ALIGNMENT_BYTES).ok()
    }

    fn from_heap(len: usize) -> Option<Self> {
        // SAFETY: the layout is of at least one byte.
        let address = NonNull::new(unsafe { alloc_zeroed(Self::heap_layout(len)?) })?;
        Some(Self { address, len })
    }

    fn map(len: usize) -> Option<Self> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a range that is free.
        let address = unsafe { mmap_anonymous(ptr::null_mut(), len, rights, MapFlags::PRIVATE) }.ok()?;
        if len >= HUGE_PAGE_BYTES {
            // SAFETY: the range was just mapped. It is advice: without huge pages all is the same but slower.
            let _ = unsafe { madvise(address, len, Advice::LinuxHugepage) };
        }
        Some(Self { address: NonNull::new(address.cast())?, len })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.len >= MAPPED_FROM_BYTES {
            // SAFETY: mapped by `map` with this length; nothing refers to it any more.
            let _ = unsafe { munmap(self.address.as_ptr().cast(), self.len) };
        } else if let Some(layout) = Self::heap_layout(self.len) {
            // SAFETY: allocated by `from_heap` with this layout; nothing refers to it any more.
            unsafe { dealloc(self.address.as_ptr(), layout) };
        }
    }
}

/// Freed blocks for the next allocations: a block whose pages are in place saves a page fault for each of them.
pub(crate) struct Recycler {
    limit_bytes: usize,
    kept: Mutex<Vec<Block>>,
}

impl Recycler {
    /// Keeps at most `limit_bytes` of freed memory.
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, kept: Mutex::default() })
    }

    /// Memory for `len` bytes, or `None` when the system has none.
    pub(crate) fn allocate(self: &Arc<Self>, len: usize) -> Option<Storage> {
        let block = match self.reuse(len) {
            Some(block) => block,
            // Blocks that are kept must not be what is missing.
            None => Block::new(round_up(len)).or_else(|| {
                self.free_kept();
                Block::new(len)
            })?,
        };
        Some(Storage::Block { block: Some(block), recycler: Arc::downgrade(self) })
    }

    /// The smallest block that fits without wasting more than half of it.
    fn reuse(&self, len: usize) -> Option<Block> {
        if len < KEPT_FROM_BYTES {
            return None;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |block: &Block| block.len >= len && block.len / 2 <= len;
        let candidates = kept.iter().enumerate().filter(|(_, block)| fits(block));
        let (index, _) = candidates.min_by_key(|(_, block)| block.len)?;
        Some(kept.remove(index))
    }

    fn keep(&self, block: Block) {
        if block.len < KEPT_FROM_BYTES || block.len > self.limit_bytes {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(block);
        let mut total: usize = kept.iter().map(|block| block.len).sum();
        let mut surplus = 0;
        // The oldest go first.
        while total > self.limit_bytes || kept.len() - surplus > MAX_KEPT_BLOCKS {
            total -= kept[surplus].len;
            surplus += 1;
        }
        let dropped: Vec<Block> = kept.drain(..surplus).collect();
        drop(kept);
        drop(dropped);
    }

    /// Gives back what is kept.
    pub(crate) fn free_kept(&self) {
        // Freed once the lock is open.
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        drop(kept);
    }
}

/// A size a little larger, so that a buffer that grows from call to call finds the block of the call before large enough.
fn round_up(len: usize) -> usize {
    const STEPS_PER_DOUBLING: usize = 8;
    if len < KEPT_FROM_BYTES {
        return len;
    }
    len.checked_next_multiple_of((1 << len.ilog2()) / STEPS_PER_DOUBLING).unwrap_or(len)
}

impl Debug for Recycler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recycler({} bytes at most)", self.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_little_by_little_stays_where_it_is() {
        for start in [5_000, 100_000, 3_000_000] {
            let recycler = Recycler::new(16 << 20);
            let address = |len: usize| recycler.allocate(len).expect("memory").address();
            let first = address(start);
            assert!((1..20).all(|step| address(start + step * 4) == first), "{start}");
        }
    }
}
