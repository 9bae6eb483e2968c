//! BLAKE3 digests as names of content.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How much of a file is read at a time: enough for every thread to get a share of the hashing.
const READ_BYTES: usize = 4 << 20;

/// The BLAKE3 of some content; printed and stored as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// Reads a whole file, hashing on several threads. Blocks.
    ///
    /// The file is read, not mapped: who shortens a mapped file ends the process that looks at it.
    pub fn of_file(path: &Path) -> std::io::Result<Self> {
        Self::of_open(&File::open(path)?)
    }

    /// The same of a file that is open, wherever others read in it. Blocks.
    pub fn of_open(file: &File) -> std::io::Result<Self> {
        let (mut offset, mut buffer) = (0, vec![0; READ_BYTES]);
        let mut hasher = blake3::Hasher::new();
        loop {
            match file.read_at(&mut buffer, offset) {
                Ok(0) => return Ok(Self(*hasher.finalize().as_bytes())),
                Ok(bytes) => {
                    hasher.update_rayon(&buffer[..bytes]);
                    offset += bytes as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Of several fields, each with its length, so that no two lists of fields give the same bytes.
    pub fn of_fields(domain: &'static str, fields: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(domain);
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = blake3::HexError;

    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        Ok(Self(*blake3::Hash::from_hex(hex)?.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_content_however_many_pieces_it_is_read_in() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in [0, 1, READ_BYTES, 2 * READ_BYTES + 7] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            std::fs::write(file.path(), &content).unwrap();
            assert_eq!(Digest::of_file(file.path()).unwrap(), Digest::of(&content));
        }
    }
}
