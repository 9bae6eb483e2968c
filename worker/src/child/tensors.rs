//! A runtime worker's tensors: inputs in the parent's memory, outputs in its own.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ired_module::DType;

use super::Sender;
use crate::channel::ChannelError;
use crate::messages::runtime::{FromRuntime, Place, TensorRef};
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
#[derive(Debug)]
pub struct Tensors {
    sender: Sender,
    pool: Pool,
    /// Our regions that the parent has been told of.
    announced: Mutex<HashSet<u32>>,
    /// Outputs that the parent has not released.
    lent: Mutex<HashMap<Place, SharedBuffer>>,
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

    /// Memory for an output. Its content is arbitrary until written.
    pub fn buffer(&self, len: usize) -> io::Result<SharedBuffer> {
        self.pool.take(len)
    }

    /// Keeps outputs until the parent has read them and says where they are, which may be sent from now on.
    pub fn lend(
        &self,
        outputs: Vec<(String, DType, Vec<u64>, SharedBuffer)>,
    ) -> Result<Vec<TensorRef>, ChannelError> {
        // Held while sending: another answer may refer to a region only after its announcement.
        let mut announced = lock(&self.announced);
        for region in self.pool.take_retired() {
            if announced.remove(&region) {
                self.sender.send(&FromRuntime::Forget { region }, &[])?;
            }
        }
        for region in outputs.iter().filter_map(|(.., buffer)| buffer.region()) {
            if !announced.contains(&region.number()) {
                let message = FromRuntime::Region { region: region.number(), len: region.len() };
                self.sender.send(&message, &[region.file()?])?;
                announced.insert(region.number());
            }
        }
        drop(announced);
        let mut lent = lock(&self.lent);
        let keep = |(name, dtype, dims, buffer): (String, DType, Vec<u64>, SharedBuffer)| {
            let place = buffer.place();
            lent.insert(place, buffer);
            TensorRef { name, dtype, dims, place }
        };
        Ok(outputs.into_iter().map(keep).collect())
    }

    /// The parent has read the output at `place`.
    pub fn release(&self, place: Place) {
        drop(lock(&self.lent).remove(&place));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
