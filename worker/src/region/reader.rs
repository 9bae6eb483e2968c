//! The other side's regions, mapped once and read in place.

use std::collections::HashMap;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{fcntl_get_seals, fstat};

use super::SEALS;
use crate::messages::runtime::Place;
use crate::sys::mapping::Mapping;

/// Address space for the other side's regions at most.
const MAX_MAPPED_BYTES: u64 = 1 << 40;

/// Why the other side's memory is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegionError {
    #[error("region {region} is not sealed against changes of its size")]
    NotSealed { region: u32 },
    #[error("region {region} is {found_bytes} bytes, announced were {announced_bytes}")]
    WrongSize { region: u32, found_bytes: i64, announced_bytes: u64 },
    #[error("region {region} was announced twice")]
    Twice { region: u32 },
    #[error("region {region} was not announced")]
    Unknown { region: u32 },
    #[error("{place:?} is not inside its region of {region_bytes} bytes")]
    Outside { place: Place, region_bytes: usize },
    #[error("regions of more than {MAX_MAPPED_BYTES} bytes")]
    TooMuch,
    #[error("region {region} cannot be mapped: {cause}")]
    Map { region: u32, cause: io::Error },
}

/// Regions announced by the other side.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    mapped: HashMap<u32, (Arc<Mapping>, usize)>,
    mapped_bytes: u64,
}

impl Regions {
    /// Maps announced memory after checking that its size cannot change under a reader.
    pub(crate) fn add(&mut self, region: u32, len: u64, memory: &OwnedFd) -> Result<(), RegionError> {
        if self.mapped.contains_key(&region) {
            return Err(RegionError::Twice { region });
        }
        let map_error = |cause: rustix::io::Errno| RegionError::Map { region, cause: cause.into() };
        let seals = fcntl_get_seals(memory).map_err(|_| RegionError::NotSealed { region })?;
        if !seals.contains(SEALS) {
            return Err(RegionError::NotSealed { region });
        }
        let found_bytes = fstat(memory).map_err(map_error)?.st_size;
        if u64::try_from(found_bytes) != Ok(len) {
            return Err(RegionError::WrongSize { region, found_bytes, announced_bytes: len });
        }
        let size = usize::try_from(len).map_err(|_| RegionError::TooMuch)?;
        if self.mapped_bytes.saturating_add(len) > MAX_MAPPED_BYTES {
            return Err(RegionError::TooMuch);
        }
        let mapping = Mapping::read_only(memory, size).map_err(|cause| RegionError::Map { region, cause })?;
        self.mapped_bytes += len;
        self.mapped.insert(region, (Arc::new(mapping), size));
        Ok(())
    }

    /// Drops a region; views of it stay valid.
    pub(crate) fn forget(&mut self, region: u32) {
        if let Some((_, size)) = self.mapped.remove(&region) {
            self.mapped_bytes -= size as u64;
        }
    }

    /// The bytes at `place`.
    pub(crate) fn view(&self, place: Place) -> Result<View, RegionError> {
        let region = place.region;
        let (mapping, size) = self.mapped.get(&region).ok_or(RegionError::Unknown { region })?;
        let start = usize::try_from(place.offset).ok();
        let range = start.and_then(|start| {
            let end = start.checked_add(usize::try_from(place.len).ok()?)?;
            (end <= *size).then_some(start..end)
        });
        let range = range.ok_or(RegionError::Outside { place, region_bytes: *size })?;
        Ok(View { mapping: Arc::clone(mapping), range })
    }
}

/// Bytes in the other side's memory. They are whatever that side writes, at any time.
#[derive(Clone, Debug)]
pub struct View {
    mapping: Arc<Mapping>,
    range: Range<usize>,
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.mapping.bytes(self.range.clone())
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;
    use crate::region::Pool;

    #[test]
    fn a_reader_sees_what_a_writer_wrote() {
        let pool = Pool::default();
        let mut buffer = pool.take(10).unwrap();
        buffer.copy_from_slice(b"0123456789");
        let region = buffer.region().unwrap();
        let mut regions = Regions::default();
        regions.add(region.number(), region.len(), &region.file().unwrap()).unwrap();
        let view = regions.view(buffer.place()).unwrap();
        assert_eq!(&*view, b"0123456789");
        regions.forget(buffer.place().region);
        assert_eq!(&*view, b"0123456789");
        assert!(matches!(regions.view(buffer.place()), Err(RegionError::Unknown { .. })));
    }

    #[test]
    fn memory_that_could_shrink_is_refused() {
        let memory = memfd_create("loose", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, 4096).unwrap();
        let mut regions = Regions::default();
        assert!(matches!(regions.add(0, 4096, &memory), Err(RegionError::NotSealed { region: 0 })));
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(matches!(regions.add(0, 4096, &file.into()), Err(RegionError::NotSealed { region: 0 })));
    }

    #[test]
    fn sizes_and_places_are_checked() {
        let memory = crate::region::create("test", 4096).unwrap();
        let mut regions = Regions::default();
        assert!(matches!(regions.add(0, 8192, &memory), Err(RegionError::WrongSize { .. })));
        regions.add(0, 4096, &memory).unwrap();
        assert!(matches!(regions.add(0, 4096, &memory), Err(RegionError::Twice { .. })));
        for (offset, len) in [(0, 4097), (4096, 1), (u64::MAX, 1), (1, u64::MAX)] {
            let place = Place { region: 0, offset, len };
            assert!(matches!(regions.view(place), Err(RegionError::Outside { .. })), "{place:?}");
        }
        assert_eq!(regions.view(Place { region: 0, offset: 4096, len: 0 }).unwrap().len(), 0);
    }
}
