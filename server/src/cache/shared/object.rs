//! How a module lies in the object store: a seal, its record, then the module itself.
//!
//! Where the replicas have a secret, the seal is made with it, and nobody else can put a module there that is taken; else
//! it only tells a record that was damaged. The record has the module's key and digest, so that it vouches for both.

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};

use crate::cache::record::Record;
use crate::config::SharedCacheSettings;
use crate::digest::Digest;

const MAGIC: [u8; 8] = *b"iredmod1";
/// Magic, length of the record, seal.
const HEAD_BYTES: usize = MAGIC.len() + 4 + blake3::OUT_LEN;
/// The longest record: one whose compilation had very much to say.
const RECORD_BYTES: usize = 4 << 20;
/// Part of every seal's key; a change of how seals are made changes it.
const SEAL_DOMAIN: &str = "ired 2026 shared cache seal";
/// The shortest secret: what is shorter could be guessed.
const SECRET_BYTES: usize = 32;

/// Why what lies in the store is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("it begins with something else than a module's head")]
    Head,
    #[error("its record is {found} bytes; at most {RECORD_BYTES} are taken")]
    LongRecord { found: usize },
    #[error("its seal is not by the key of setting `shared_cache.key`, or its record is damaged")]
    Seal,
    #[error("its record cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    #[error("it is the module of key {found}")]
    Key { found: Digest },
    #[error("it has {found} bytes, expected {expected}")]
    Length { found: u64, expected: u64 },
    #[error("it has digest {found}, expected {expected}")]
    Digest { found: Digest, expected: Digest },
    #[error("it has {found} bytes; at most {limit} are taken (setting `module_bytes`)")]
    TooLarge { found: u64, limit: u64 },
}

/// What vouches for a record.
pub(super) struct Seal(Option<[u8; blake3::KEY_LEN]>);

impl Seal {
    /// # Errors
    /// A key file that cannot be read or is too short.
    pub(super) fn open(settings: &SharedCacheSettings) -> anyhow::Result<Self> {
        let Some(path) = &settings.key else { return Ok(Self(None)) };
        let secret = std::fs::read(path)
            .with_context(|| format!("cannot read `{}` (setting `shared_cache.key`)", path.display()))?;
        let secret = secret.trim_ascii();
        if secret.len() < SECRET_BYTES {
            bail!(
                "the secret in `{}` has {} bytes, expected at least {SECRET_BYTES} (setting `shared_cache.key`)",
                path.display(),
                secret.len()
            );
        }
        Ok(Self(Some(blake3::derive_key(SEAL_DOMAIN, secret))))
    }

    /// Whether it takes a secret to make one.
    pub(super) fn has_key(&self) -> bool {
        self.0.is_some()
    }

    fn of(&self, record: &[u8]) -> blake3::Hash {
        match &self.0 {
            Some(key) => blake3::keyed_hash(key, record),
            None => blake3::hash(record),
        }
    }

    /// What goes before a module's own bytes; `None` where the record is too long to be taken again.
    pub(super) fn head(&self, record: &Record) -> Option<Bytes> {
        let record = serde_json::to_vec(record).ok().filter(|record| record.len() <= RECORD_BYTES)?;
        let length = u32::try_from(record.len()).ok()?;
        Some([&MAGIC[..], &length.to_le_bytes(), self.of(&record).as_bytes(), &record].concat().into())
    }
}

/// An object that is being read: its head, then its module's bytes into a file.
pub(super) struct Reading<'a> {
    seal: &'a Seal,
    key: Digest,
    limit_bytes: u64,
    head: BytesMut,
    record: Option<Record>,
    hasher: blake3::Hasher,
    written_bytes: u64,
}

impl<'a> Reading<'a> {
    pub(super) fn new(seal: &'a Seal, key: Digest, limit_bytes: u64) -> Self {
        Self {
            seal,
            key,
            limit_bytes,
            head: BytesMut::new(),
            record: None,
            hasher: blake3::Hasher::new(),
            written_bytes: 0,
        }
    }

    /// The bytes of the module in a chunk, once its head was found right; in their order.
    pub(super) fn take(&mut self, chunk: Bytes) -> Result<Bytes, Refused> {
        let mut module = chunk;
        if self.record.is_none() {
            self.head.extend_from_slice(&module);
            let Some(record) = self.parse_head()? else { return Ok(Bytes::new()) };
            self.record = Some(record);
            module = self.head.split().freeze();
        }
        self.hasher.update(&module);
        self.written_bytes += module.len() as u64;
        match &self.record {
            Some(record) if self.written_bytes > record.bytes => {
                Err(Refused::Length { found: self.written_bytes, expected: record.bytes })
            }
            _ => Ok(module),
        }
    }

    /// `None` until all of it is there; takes it off the rest.
    fn parse_head(&mut self) -> Result<Option<Record>, Refused> {
        let known = self.head.len().min(MAGIC.len());
        if self.head[..known] != MAGIC[..known] {
            return Err(Refused::Head);
        }
        if self.head.len() < HEAD_BYTES {
            return Ok(None);
        }
        let mut fields = &self.head[MAGIC.len()..HEAD_BYTES];
        let length = fields.get_u32_le() as usize;
        if length > RECORD_BYTES {
            return Err(Refused::LongRecord { found: length });
        }
        if self.head.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let seal = blake3::Hash::from_slice(fields).map_err(|_| Refused::Head)?;
        let text = &self.head[HEAD_BYTES..HEAD_BYTES + length];
        // Compares in the same time wherever they differ.
        if self.seal.of(text) != seal {
            return Err(Refused::Seal);
        }
        let record: Record = serde_json::from_slice(text)?;
        if record.key != self.key {
            return Err(Refused::Key { found: record.key });
        }
        if record.bytes > self.limit_bytes {
            return Err(Refused::TooLarge { found: record.bytes, limit: self.limit_bytes });
        }
        self.head.advance(HEAD_BYTES + length);
        Ok(Some(record))
    }

    /// The record, where all of the module came and is what the record says.
    pub(super) fn finish(self) -> Result<Record, Refused> {
        let record = self.record.ok_or(Refused::Head)?;
        if self.written_bytes != record.bytes {
            return Err(Refused::Length { found: self.written_bytes, expected: record.bytes });
        }
        let found = Digest(*self.hasher.finalize().as_bytes());
        if found != record.digest {
            return Err(Refused::Digest { found, expected: record.digest });
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(module: &[u8]) -> Record {
        Record {
            key: Digest::of(b"key"),
            digest: Digest::of(module),
            bytes: module.len() as u64,
            model: "m".to_owned(),
            target: String::new(),
            options: String::new(),
            compiler: "c".to_owned(),
            report: serde_json::from_value(serde_json::json!({
                "module_bytes": 0, "phases": [], "peak_rss_bytes": 0, "warnings": []
            }))
            .unwrap(),
        }
    }

    fn read(seal: &Seal, object: &[u8], piece: usize) -> Result<Vec<u8>, Refused> {
        let mut reading = Reading::new(seal, Digest::of(b"key"), 1 << 20);
        let mut module = Vec::new();
        for chunk in object.chunks(piece) {
            module.extend_from_slice(&reading.take(Bytes::copy_from_slice(chunk))?);
        }
        reading.finish().map(|_| module)
    }

    fn object(seal: &Seal, module: &[u8]) -> Vec<u8> {
        [&seal.head(&record(module)).unwrap()[..], module].concat()
    }

    #[test]
    fn what_was_put_is_taken_in_pieces_of_any_size() {
        let (seal, module) = (Seal(Some([7; 32])), vec![9; 1000]);
        let object = object(&seal, &module);
        for piece in [1, 7, 44, 45, object.len() - 1, object.len()] {
            assert_eq!(read(&seal, &object, piece).unwrap(), module, "{piece}");
        }
    }

    #[test]
    fn no_byte_can_be_changed_lost_or_added() {
        for seal in [Seal(None), Seal(Some([7; 32]))] {
            let object = object(&seal, b"the module");
            for at in 0..object.len() {
                let mut changed = object.clone();
                changed[at] ^= 1;
                assert!(read(&seal, &changed, 13).is_err(), "byte {at}");
                assert!(read(&seal, &object[..at], 13).is_err(), "cut at {at}");
            }
            assert!(read(&seal, &[&object[..], b"x"].concat(), 13).is_err());
        }
    }

    #[test]
    fn nobody_without_the_secret_makes_a_seal_that_is_taken() {
        let ours = Seal(Some([7; 32]));
        for other in [Seal(None), Seal(Some([8; 32]))] {
            let found = read(&ours, &object(&other, b"evil"), 100);
            assert!(matches!(found, Err(Refused::Seal)), "{found:?}");
        }
    }

    #[test]
    fn a_module_under_another_key_is_not_taken() {
        let seal = Seal(None);
        let mut other = record(b"module");
        other.key = Digest::of(b"other");
        let object = [&seal.head(&other).unwrap()[..], b"module"].concat();
        assert!(matches!(read(&seal, &object, 100), Err(Refused::Key { .. })));
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings =
            SharedCacheSettings { key: Some(file.path().to_owned()), ..SharedCacheSettings::default() };
        std::fs::write(file.path(), "  short \n").unwrap();
        let error = Seal::open(&settings).err().unwrap().to_string();
        assert!(error.contains("has 5 bytes, expected at least 32"), "{error}");
        std::fs::write(file.path(), "0123456789abcdef0123456789abcdef\n").unwrap();
        assert!(Seal::open(&settings).unwrap().has_key());
    }
}
