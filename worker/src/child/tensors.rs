//! A runtime worker's tensors: inputs in the parent's memory, outputs in its own.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Sender;
use crate::messages::runtime::{FromRuntime, Place};
use crate::region::{Pool, RegionError, Regions, SharedBuffer, View};

/// Why the parent's memory is not used.
#[derive(Debug, thiserror::Error)]
#[error("shared memory: {0}")]
pub struct TensorError(String);

impl From<RegionError> for TensorError {
    fn from(error: RegionError) -> Self {
        Self(error.to_string())
    }
}

/// The shared memory of both sides.
pub struct Tensors {
    sender: Sender,
    pool: Pool,
    /// Our regions that the parent has been told of.
    announced: Mutex<HashSet<u32>>,
    /// Outputs that the parent has not released.
    lent: Mutex<HashMap<(u32, u64), Box<dyn Any + Send>>>,
    /// The parent's regions.
    regions: Mutex<Regions>,
}

impl Tensors {
    /// No memory yet; announcements go out through `sender`.
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            pool: Pool::default(),
            announced: Mutex::default(),
            lent: Mutex::default(),
            regions: Mutex::default(),
        }
    }

    /// Takes over memory that the parent announced.
    pub fn add_region(&self, region: u32, len: u64, fds: &[OwnedFd]) -> Result<(), TensorError> {
        let [memory] = fds else { return Err(TensorError(format!("region {region} came without memory"))) };
        Ok(lock(&self.regions).add(region, len, memory)?)
    }

    /// Lets go of memory that the parent does not use any more.
    pub fn forget_region(&self, region: u32) {
        lock(&self.regions).forget(region);
    }

    /// The bytes of an input, in place.
    pub fn view(&self, place: Place) -> Result<View, TensorError> {
        Ok(lock(&self.regions).view(place)?)
    }

    /// Memory for an output, which the parent has been told of. Its content is arbitrary until written.
    ///
    /// Keep it, or what owns it, with [`Self::lend`] when the parent is told where the output is.
    pub fn buffer(&self, len: usize) -> io::Result<SharedBuffer> {
        let buffer = self.pool.take(len)?;
        // Held while sending: another answer may refer to a region only after its announcement.
        let mut announced = lock(&self.announced);
        self.forget_retired(&mut announced)?;
        if let Some(region) = buffer.region().filter(|region| !announced.contains(&region.number())) {
            let message = FromRuntime::Region { region: region.number(), len: region.len() };
            self.sender.send(&message, &[region.file()?]).map_err(io::Error::other)?;
            announced.insert(region.number());
        }
        Ok(buffer)
    }

    /// Gives back memory that is kept for outputs to come, on both sides.
    pub fn free_kept(&self) -> io::Result<()> {
        self.pool.free_kept();
        self.forget_retired(&mut lock(&self.announced))
    }

    fn forget_retired(&self, announced: &mut HashSet<u32>) -> io::Result<()> {
        for region in self.pool.take_retired() {
            if announced.remove(&region) {
                self.sender.send(&FromRuntime::Forget { region }, &[]).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Keeps `owner`, in whose memory the output at `place` is, until the parent has read it. Call it before the parent
    /// learns of the place.
    pub fn lend(&self, place: Place, owner: Box<dyn Any + Send>) {
        lock(&self.lent).insert((place.region, place.offset), owner);
    }

    /// The parent has read the output at `place`.
    pub fn release(&self, place: Place) {
        let owner = lock(&self.lent).remove(&(place.region, place.offset));
        drop(owner);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
