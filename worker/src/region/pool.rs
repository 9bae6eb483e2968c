//! Memory that is mapped once and used again and again: in a steady state a tensor costs no system call.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::messages::runtime::Place;
use crate::region;
use crate::sys::mapping::Part;

/// Smaller tensors take this much.
const SMALLEST_BYTES: usize = 256;
/// Tensors up to this share regions; larger ones have one each.
const LARGEST_SHARED_BYTES: usize = 64 << 10;
const SHARED_REGION_BYTES: usize = 1 << 20;
/// No tensor is larger than this.
const LARGEST_BYTES: usize = 1 << 40;
/// Memory of large regions that waits for its next use; beyond it regions are given back to the system.
const KEPT_BYTES: usize = 256 << 20;

/// The regions that this side writes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next_region: u32,
    /// By size; every block of a class is as large as its class.
    free: BTreeMap<usize, Vec<Block>>,
    free_large_bytes: usize,
    /// Regions that are gone since someone last asked.
    retired: Vec<u32>,
}

/// One allocation: a stretch of a region.
#[derive(Debug)]
struct Block {
    part: Part,
    region: Arc<Region>,
}

/// A region's number and file.
#[derive(Debug)]
pub(crate) struct Region {
    number: u32,
    len: u64,
    file: OwnedFd,
}

impl Region {
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Another descriptor of the same memory, to be sent.
    pub(crate) fn file(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }
}

impl Pool {
    /// A buffer of `len` bytes with arbitrary content.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] when no process could have that much; otherwise what the system said.
    pub(crate) fn take(&self, len: usize) -> io::Result<SharedBuffer> {
        if len > LARGEST_BYTES {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let class = len.next_power_of_two().max(SMALLEST_BYTES);
        let mut state = self.lock();
        let reused = state.free.get_mut(&class).and_then(Vec::pop);
        let block = match reused {
            Some(block) => {
                if class > LARGEST_SHARED_BYTES {
                    state.free_large_bytes -= class;
                }
                block
            }
            None => state.create(class)?,
        };
        drop(state);
        Ok(SharedBuffer { block: Some(block), len, pool: self.clone() })
    }

    /// Gives back what is kept of large regions.
    pub(crate) fn free_kept(&self) {
        let mut state = self.lock();
        let large = state.free.split_off(&(LARGEST_SHARED_BYTES + 1));
        state.retired.extend(large.values().flatten().map(|block| block.region.number));
        state.free_large_bytes = 0;
        drop(state);
        // Unmapping takes a while; nobody should wait for it.
        drop(large);
    }

    /// The regions that are gone since the last call.
    pub(crate) fn take_retired(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().retired)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    fn give_back(&self, block: Block) {
        let class = block.part.len();
        let mut state = self.lock();
        if class > LARGEST_SHARED_BYTES {
            if state.free_large_bytes + class > KEPT_BYTES {
                state.retired.push(block.region.number);
                // Unmapping takes a while; nobody should wait for it.
                drop(state);
                drop(block);
                return;
            }
            state.free_large_bytes += class;
        }
        state.free.entry(class).or_default().push(block);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A new region, one of its blocks returned and the others free.
    fn create(&mut self, class: usize) -> io::Result<Block> {
        let count = if class <= LARGEST_SHARED_BYTES { SHARED_REGION_BYTES / class } else { 1 };
        let len = (count * class) as u64;
        let file = region::create("ired-tensors", len)?;
        let parts = Part::map_all(&file, count, class)?;
        let number = self.next_region;
        self.next_region += 1;
        let region = Arc::new(Region { number, len, file });
        let mut blocks: Vec<Block> =
            parts.into_iter().map(|part| Block { part, region: Arc::clone(&region) }).collect();
        let first = blocks.pop().ok_or(io::ErrorKind::OutOfMemory)?;
        self.free.entry(class).or_default().append(&mut blocks);
        Ok(first)
    }
}

/// Writable memory that another process can read without a copy. Back in its pool when dropped.
#[derive(Debug)]
pub struct SharedBuffer {
    /// Present until dropped.
    block: Option<Block>,
    len: usize,
    pool: Pool,
}

impl SharedBuffer {
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn region(&self) -> Option<&Region> {
        self.block.as_ref().map(|block| &*block.region)
    }

    /// Where the other side finds the bytes.
    pub fn place(&self) -> Place {
        let (region, offset) = match &self.block {
            Some(block) => (block.region.number, block.part.start() as u64),
            None => (u32::MAX, 0),
        };
        Place { region, offset, len: self.len as u64 }
    }
}

impl Deref for SharedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block.part.bytes()[..self.len])
    }
}

impl DerefMut for SharedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.block {
            Some(block) => &mut block.part.bytes_mut()[..self.len],
            None => &mut [],
        }
    }
}

impl AsMut<[u8]> for SharedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.pool.give_back(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let pool = Pool::default();
        let mut first = pool.take(100_000).unwrap();
        first[99_999] = 7;
        let place = first.place();
        drop(first);
        let second = pool.take(80_000).unwrap();
        assert_eq!((second.place().region, second.place().offset), (place.region, place.offset));
        assert!(pool.take_retired().is_empty());
    }

    #[test]
    fn small_buffers_share_a_region_and_never_overlap() {
        let pool = Pool::default();
        let mut buffers: Vec<_> = (0..100).map(|_| pool.take(300).unwrap()).collect();
        for (value, buffer) in buffers.iter_mut().enumerate() {
            buffer.fill(value as u8);
        }
        for (value, buffer) in buffers.iter().enumerate() {
            assert!(buffer.iter().all(|&byte| byte == value as u8));
        }
        assert!(buffers.iter().all(|buffer| buffer.place().region == 0));
    }

    #[test]
    fn what_is_not_kept_is_retired() {
        let pool = Pool::default();
        let large: Vec<_> = (0..3).map(|_| pool.take(128 << 20).unwrap()).collect();
        drop(large);
        assert_eq!(pool.take_retired(), vec![2]);
        assert!(pool.take(LARGEST_BYTES + 1).is_err());
    }

    #[test]
    fn what_is_kept_is_given_back_when_asked_for() {
        let pool = Pool::default();
        let (used, kept, small) =
            (pool.take(1 << 20).unwrap(), pool.take(1 << 20).unwrap(), pool.take(300).unwrap());
        let (number, small_place) = (kept.place().region, small.place());
        drop((kept, small));
        pool.free_kept();
        assert_eq!(pool.take_retired(), vec![number]);
        assert_eq!(pool.take(300).unwrap().place(), small_place);
        assert_ne!(pool.take(1 << 20).unwrap().place().region, used.place().region);
        // What was in use is kept as before.
        let place = used.place();
        drop(used);
        assert_eq!(pool.take(1 << 20).unwrap().place().region, place.region);
    }
}
