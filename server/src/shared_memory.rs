//! System shared memory: POSIX shared memory of clients on this machine, from which inputs are read and to which
//! outputs are written.
//!
//! Regions are never mapped: a client may shorten its memory at any time, and who touches a mapping past the end
//! of its file is killed. Bytes are copied by calls that fail instead, and a copy is what a worker reads, so that
//! a client that writes meanwhile cannot change what was checked.
//!
//! What a client knows a region by opens doors, so no error repeats a key or the name of a region.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};

use crate::error::Error;

/// Where the system keeps shared memory by its key.
const DIRECTORY: &str = "/dev/shm";
/// The longest name of a region.
const NAME_CHARACTERS: usize = 256;
/// The longest key: that of a file name.
const KEY_BYTES: usize = 255;

/// Regions by the names that clients gave them.
#[derive(Debug)]
pub struct Regions {
    limit: usize,
    known: RwLock<BTreeMap<String, Arc<Region>>>,
}

/// A part of a client's shared memory.
#[derive(Debug)]
pub struct Region {
    pub key: String,
    pub offset: u64,
    pub byte_size: u64,
    memory: File,
}

/// Where one tensor lies in a region.
#[derive(Clone, Debug)]
pub struct Place {
    region: Arc<Region>,
    /// From the region's beginning.
    pub offset: u64,
    pub byte_size: u64,
}

impl Regions {
    /// No region yet, and at most `limit`; 0 is none at all.
    pub fn new(limit: usize) -> Self {
        Self { limit, known: RwLock::default() }
    }

    /// # Errors
    /// A name or key that cannot be one, memory that is not there or is smaller than said, a name that is taken,
    /// too many regions.
    pub fn register(&self, name: &str, key: &str, offset: u64, byte_size: u64) -> Result<(), Error> {
        if self.limit == 0 {
            return Err(Error::Unsupported(
                "shared memory is switched off (setting `shared_memory_regions` is 0); send tensors in the request"
                    .to_owned(),
            ));
        }
        let found = name.chars().count();
        if !(1..=NAME_CHARACTERS).contains(&found) {
            return Err(Error::invalid(format!(
                "the region's name has {found} characters, expected 1 to {NAME_CHARACTERS}"
            )));
        }
        let region = Arc::new(open_region(key, offset, byte_size)?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(name) {
            return Err(Error::RegionExists);
        }
        if known.len() >= self.limit {
            return Err(Error::Busy { what: "shared memory regions", limit: self.limit as u64 });
        }
        known.insert(name.to_owned(), region);
        Ok(())
    }

    /// Forgets one region, or all with an empty name; requests that are inside keep what they use.
    pub fn unregister(&self, name: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match name {
            "" => known.clear(),
            name => drop(known.remove(name)),
        }
    }

    /// One region, or all with an empty name.
    ///
    /// # Errors
    /// [`Error::UnknownRegion`] for a name that is not registered.
    pub fn status(&self, name: &str) -> Result<Vec<(String, Arc<Region>)>, Error> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let entries = known.iter().filter(|(known, _)| name.is_empty() || *known == name);
        let found: Vec<_> = entries.map(|(name, region)| (name.clone(), region.clone())).collect();
        if found.is_empty() && !name.is_empty() { Err(Error::UnknownRegion) } else { Ok(found) }
    }

    /// A place in a registered region.
    ///
    /// # Errors
    /// A region that is not registered, a place that is not inside it. `tensor` is named.
    pub fn place(&self, tensor: &str, name: &str, offset: u64, byte_size: u64) -> Result<Place, Error> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let region = known
            .get(name)
            .cloned()
            .ok_or_else(|| Error::invalid(format!("{tensor}: its shared memory region is not registered")))?;
        match offset.checked_add(byte_size) {
            Some(end) if end <= region.byte_size => Ok(Place { region, offset, byte_size }),
            _ => Err(Error::invalid(format!(
                "{tensor}: {byte_size} bytes at offset {offset} are not inside its shared memory region of {} bytes",
                region.byte_size
            ))),
        }
    }
}

impl Place {
    /// Copies the bytes out. Does not wait for anything but the memory itself.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.byte_size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; length];
        self.region.memory.read_exact_at(&mut bytes, self.start())?;
        Ok(bytes)
    }

    /// Copies bytes to the beginning of the place, which must have room for them.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.byte_size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Past its end, memory that was shortened would grow again.
        let end = self.start() + bytes.len() as u64;
        if u64::try_from(fstat(&self.region.memory)?.st_size).is_ok_and(|size| size < end) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.region.memory.write_all_at(bytes, self.start())
    }

    /// Cannot overflow: the region's end was compared with the size of its memory.
    fn start(&self) -> u64 {
        self.region.offset + self.offset
    }
}

fn open_region(key: &str, offset: u64, byte_size: u64) -> Result<Region, Error> {
    let name = key.strip_prefix('/').unwrap_or(key);
    let plain = !name.is_empty() && name.len() <= KEY_BYTES && !name.contains(['/', '\0']);
    if !plain || matches!(name, "." | "..") {
        return Err(Error::invalid(format!(
            "the region's key is not one of shared memory: a name of 1 to {KEY_BYTES} bytes without `/`, but for one at \
             its beginning, and neither `.` nor `..`"
        )));
    }
    // One answer for all reasons: who asks learns nothing about the memory of others.
    let unusable = |_| Error::NoSharedMemory;
    let directory = open(DIRECTORY, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let directory = directory.map_err(unusable)?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let memory = openat(&directory, name, flags, Mode::empty()).map_err(unusable)?;
    let status = fstat(&memory).map_err(unusable)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Error::NoSharedMemory);
    }
    let size = u64::try_from(status.st_size).unwrap_or(0);
    match offset.checked_add(byte_size) {
        Some(end) if byte_size > 0 && end <= size => {
            Ok(Region { key: key.to_owned(), offset, byte_size, memory: memory.into() })
        }
        _ => Err(Error::invalid(format!(
            "a region of {byte_size} bytes at offset {offset} is not inside its shared memory of {size} bytes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shared memory of a client, gone at the end of its test.
    struct Memory(tempfile::NamedTempFile);

    impl Memory {
        fn of(bytes: &[u8]) -> Self {
            let file = tempfile::Builder::new().prefix("ired-test-").tempfile_in(DIRECTORY).unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            Self(file)
        }

        fn key(&self) -> String {
            format!("/{}", self.0.path().file_name().unwrap().to_str().unwrap())
        }
    }

    fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_place_is_read_and_written_where_it_lies() {
        let memory = Memory::of(b"0123456789");
        let regions = Regions::new(2);
        regions.register("r", &memory.key(), 2, 6).unwrap();
        let place = regions.place("input `x`", "r", 1, 3).unwrap();
        assert_eq!(place.read().unwrap(), b"345");
        place.write(b"ab").unwrap();
        assert_eq!(std::fs::read(memory.0.path()).unwrap(), b"012ab56789");
        assert!(place.write(b"long").is_err());
        // Unregistering does not take it from who uses it.
        regions.unregister("r");
        assert_eq!(place.read().unwrap(), b"ab5");
        assert_eq!(
            text(regions.place("input `x`", "r", 0, 1)),
            "input `x`: its shared memory region is not registered"
        );
    }

    #[test]
    fn memory_that_shrinks_is_an_error() {
        let memory = Memory::of(&[0; 8192]);
        let regions = Regions::new(1);
        regions.register("r", &memory.key(), 0, 8192).unwrap();
        let place = regions.place("input `x`", "r", 4096, 4096).unwrap();
        memory.0.as_file().set_len(5000).unwrap();
        assert_eq!(place.read().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(place.write(&[1; 4096]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(memory.0.as_file().metadata().unwrap().len(), 5000);
    }

    #[test]
    fn sizes_are_checked_without_overflow() {
        let memory = Memory::of(&[0; 100]);
        let regions = Regions::new(1);
        for (offset, size) in [(0, 101), (100, 1), (u64::MAX, 1), (1, u64::MAX), (0, 0)] {
            let error = text(regions.register("r", &memory.key(), offset, size));
            assert!(error.contains("not inside its shared memory of 100 bytes"), "{error}");
        }
        regions.register("r", &memory.key(), 10, 50).unwrap();
        for (offset, size) in [(0, 51), (50, 1), (u64::MAX, 1), (1, u64::MAX)] {
            let error = text(regions.place("output `y`", "r", offset, size));
            assert!(error.contains("are not inside its shared memory region of 50 bytes"), "{error}");
        }
        assert!(regions.place("output `y`", "r", 50, 0).is_ok());
    }

    #[test]
    fn keys_lead_nowhere_else() {
        let memory = Memory::of(&[0; 16]);
        let link = tempfile::Builder::new().prefix("ired-test-").tempdir_in(DIRECTORY).unwrap();
        let inside = link.path().file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::write(link.path().join("file"), [0; 16]).unwrap();
        let symlink = std::path::Path::new(DIRECTORY).join(format!("{inside}-link"));
        std::os::unix::fs::symlink(memory.0.path(), &symlink).unwrap();
        let regions = Regions::new(8);
        for key in ["", "/", ".", "/..", "../etc/passwd", "/a/b", "a\0b", &format!("{inside}/file")] {
            let error = text(regions.register("r", key, 0, 1));
            assert!(error.contains("the region's key is not one of shared memory"), "{key}: {error}");
        }
        for key in ["ired-test-that-is-not-there", &inside, &format!("/{inside}-link")] {
            let error = text(regions.register("r", key, 0, 1));
            assert!(error.starts_with("there is no shared memory of the region's key"), "{key}: {error}");
            assert!(!error.contains(&inside));
        }
        std::fs::remove_file(symlink).unwrap();
    }

    #[test]
    fn names_are_few_and_each_has_one_region() {
        let memory = Memory::of(&[0; 16]);
        let regions = Regions::new(1);
        regions.register("r", &memory.key(), 0, 16).unwrap();
        assert!(matches!(regions.register("r", &memory.key(), 0, 16), Err(Error::RegionExists)));
        assert!(matches!(regions.register("s", &memory.key(), 0, 16), Err(Error::Busy { limit: 1, .. })));
        assert!(matches!(regions.status("s"), Err(Error::UnknownRegion)));
        assert_eq!(regions.status("").unwrap().len(), 1);
        regions.unregister("s");
        regions.unregister("");
        regions.register("s", &memory.key(), 0, 16).unwrap();
        let error = text(Regions::new(0).register("r", &memory.key(), 0, 16));
        assert!(error.contains("`shared_memory_regions` is 0"), "{error}");
    }
}
