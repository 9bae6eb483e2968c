//! Modules on disk under their keys, bounded in bytes: the least recently used go first, and none that is in use.
//!
//! A module that is open somewhere is found again without a look at the disk, so that one that the disk did not take is
//! there for as long as somebody uses it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use ired_worker::CompileReport;

use super::record::{Output, Record};
use super::{CompiledModule, Tier};
use crate::digest::Digest;
use crate::metrics::CompileMetrics;
use crate::store::{self, BlobStore, Pending, Stamp, StoreError};

/// Files take whole blocks, however small they are.
const BLOCK_BYTES: u64 = 1024;

pub(super) struct Disk {
    blobs: BlobStore,
    records_dir: PathBuf,
    limit_bytes: u64,
    index: Mutex<Index>,
    /// Held while files come and go, so that what goes is never what just came under the same key.
    changing: Mutex<()>,
    metrics: Arc<CompileMetrics>,
}

#[derive(Default)]
struct Index {
    entries: HashMap<Digest, Entry>,
    /// Of the modules on disk, in whole blocks.
    bytes: u64,
    uses: u64,
}

struct Entry {
    facts: Facts,
    on_disk: bool,
    /// The file, while somebody has it.
    open: Weak<File>,
    /// What the file looked like when its content was last found right in this process.
    verified: Option<Stamp>,
    /// The number of the last use: the smallest goes first.
    used: u64,
}

/// What a record says that is asked for.
#[derive(Clone)]
struct Facts {
    digest: Digest,
    bytes: u64,
    report: Arc<CompileReport>,
}

impl Disk {
    /// Opens what is below `dir`. Blocks.
    pub(super) fn open(
        dir: &Path,
        limit_bytes: u64,
        metrics: Arc<CompileMetrics>,
    ) -> Result<Self, StoreError> {
        let records_dir = dir.join("records");
        let (blobs, found) = read_all(dir, &records_dir)?;
        let disk = Self {
            blobs,
            records_dir,
            limit_bytes,
            index: Mutex::default(),
            changing: Mutex::default(),
            metrics,
        };
        for record in &found {
            disk.index().put(record, true, Weak::new(), None);
        }
        disk.make_room();
        Ok(disk)
    }

    /// A place for a module to be written to: a file, or memory when the disk takes none. Blocks.
    pub(super) fn begin(&self) -> Result<Output, StoreError> {
        self.blobs.begin().map(Output::Disk).or_else(|error| {
            tracing::warn!(%error, "the next module is kept in memory only");
            Output::in_memory()
        })
    }

    /// The module of this key, provided that it is what was written. Blocks.
    pub(super) fn find(&self, key: &Digest) -> Option<(CompiledModule, Tier)> {
        let (facts, open, verified, on_disk) = {
            let mut index = self.index();
            index.uses += 1;
            let uses = index.uses;
            let entry = index.entries.get_mut(key)?;
            entry.used = uses;
            (entry.facts.clone(), entry.open.upgrade(), entry.verified, entry.on_disk)
        };
        let unchanged = |file: &Arc<File>| verified.is_some() && Stamp::of(file).ok() == verified;
        if let Some(file) = open.filter(unchanged) {
            self.note_use(key);
            return Some((facts.module(*key, file, true), Tier::Memory));
        }
        match self.open_verified(key, facts.digest, verified) {
            Ok((file, stamp)) => {
                let file = Arc::new(file);
                if let Some(entry) = self.index().entries.get_mut(key) {
                    (entry.open, entry.verified) = (Arc::downgrade(&file), Some(stamp));
                }
                self.note_use(key);
                Some((facts.module(*key, file, true), Tier::Disk))
            }
            Err(error) => {
                // One that only was in memory goes with its last user.
                if on_disk {
                    tracing::warn!(%key, %error, "cached module is not usable; it is compiled again");
                    self.metrics.corrupt.add(1);
                }
                self.discard(key);
                None
            }
        }
    }

    /// The time of the record's change is that of the last use: eviction goes on after a restart.
    fn note_use(&self, key: &Digest) {
        if let Ok(record) = File::options().write(true).open(self.record_path(key)) {
            let _ = record.set_modified(SystemTime::now());
        }
    }

    /// Reads the whole file unless it was found right before and has not been written since.
    fn open_verified(
        &self,
        key: &Digest,
        expected: Digest,
        verified: Option<Stamp>,
    ) -> Result<(File, Stamp), StoreError> {
        let path = self.blobs.path(key);
        let file = File::open(&path).map_err(StoreError::io("open a module", &path))?;
        let stamp = Stamp::of(&file).map_err(StoreError::io("open a module", &path))?;
        if verified != Some(stamp) {
            let found = Digest::of_open(&file).map_err(StoreError::io("read a module", &path))?;
            if found != expected {
                return Err(StoreError::Corrupt { path, found, expected });
            }
        }
        Ok((file, stamp))
    }

    /// Takes a finished module; on disk and durable when this returns, or else in memory while it is used. Blocks.
    pub(super) fn insert(&self, record: &Record, output: Output) -> Result<CompiledModule, StoreError> {
        // The long part, before others have to wait.
        let synced = output.sync();
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match &output {
            Output::Disk(pending) => synced.and_then(|()| self.keep(record, pending)).map(Some),
            Output::Memory(_) => Ok(None),
        };
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!(model = record.model, key = %record.key, %error,
                           "the module cannot be kept on disk; it is there while it is used");
            self.remove(&record.key);
            None
        });
        let on_disk = kept.is_some();
        let file = Arc::new(kept.map_or_else(|| output.reopen(), Ok)?);
        let stamp = Stamp::of(&file).map_err(StoreError::io("look at a module", "".as_ref()))?;
        let facts = self.index().put(record, on_disk, Arc::downgrade(&file), Some(stamp));
        drop(changing);
        let module = facts.module(record.key, file, false);
        self.make_room();
        Ok(module)
    }

    fn keep(&self, record: &Record, pending: &Pending) -> Result<File, StoreError> {
        let path = self.blobs.keep(pending, &record.key)?;
        store::write_record(&self.record_path(&record.key), record)?;
        File::open(&path).map_err(StoreError::io("open a module", &path))
    }

    /// Forgets a module. Blocks.
    pub(super) fn discard(&self, key: &Digest) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.index().take(key) {
            self.remove(key);
        }
    }

    /// Modules on disk and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let index = self.index();
        let on_disk = index.entries.values().filter(|entry| entry.on_disk);
        on_disk.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.facts.bytes))
    }

    fn make_room(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.index().entries.retain(|_, entry| entry.on_disk || entry.is_in_use());
        loop {
            let victim = {
                let mut index = self.index();
                if index.bytes <= self.limit_bytes {
                    return;
                }
                let Some(victim) = index.least_recently_used() else { return };
                index.take(&victim);
                victim
            };
            self.metrics.evicted.add(1);
            self.remove(&victim);
        }
    }

    fn remove(&self, key: &Digest) {
        let removed = store::remove(&self.record_path(key)).and_then(|()| self.blobs.remove(key));
        if let Err(error) = removed {
            tracing::error!(%error, "a module cannot be removed from disk");
        }
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        record_path(&self.records_dir, key)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn put(&mut self, record: &Record, on_disk: bool, open: Weak<File>, verified: Option<Stamp>) -> Facts {
        self.take(&record.key);
        self.uses += 1;
        let (digest, bytes) = (record.digest, record.bytes);
        let facts = Facts { digest, bytes, report: Arc::new(record.report.clone()) };
        let entry = Entry { facts: facts.clone(), on_disk, open, verified, used: self.uses };
        self.bytes += entry.blocks();
        self.entries.insert(record.key, entry);
        facts
    }

    /// Whether it was there, on disk.
    fn take(&mut self, key: &Digest) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.bytes -= entry.blocks();
        entry.on_disk
    }

    fn least_recently_used(&self) -> Option<Digest> {
        let removable = self.entries.iter().filter(|(_, entry)| entry.on_disk && !entry.is_in_use());
        removable.min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key)
    }
}

impl Entry {
    fn is_in_use(&self) -> bool {
        self.open.strong_count() > 0
    }

    fn blocks(&self) -> u64 {
        if self.on_disk { self.facts.bytes.next_multiple_of(BLOCK_BYTES) } else { 0 }
    }
}

impl Facts {
    fn module(self, key: Digest, file: Arc<File>, cached: bool) -> CompiledModule {
        CompiledModule { key, digest: self.digest, bytes: self.bytes, file, cached, report: self.report }
    }
}

fn record_path(dir: &Path, key: &Digest) -> PathBuf {
    dir.join(format!("{key}.json"))
}

/// Opens the files and gives their records, least recently used first. Files without a record go. Blocks.
fn read_all(dir: &Path, records_dir: &Path) -> Result<(BlobStore, Vec<Record>), StoreError> {
    let blobs = BlobStore::open(dir)?;
    let mut dated = Vec::new();
    for (path, record) in store::read_records::<Record>(records_dir)? {
        if blobs.path(&record.key).is_file() && path == record_path(records_dir, &record.key) {
            let used = std::fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            dated.push((used, record));
        } else {
            store::remove(&path)?;
        }
    }
    dated.sort_by_key(|(used, _)| *used);
    let records: Vec<Record> = dated.into_iter().map(|(_, record)| record).collect();
    let known: HashSet<Digest> = records.iter().map(|record| record.key).collect();
    for digest in blobs.list()? {
        if !known.contains(&digest) {
            blobs.remove(&digest)?;
        }
    }
    Ok((blobs, records))
}
