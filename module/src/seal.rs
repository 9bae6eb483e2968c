//! Seals: signatures (Ed25519) over a module's content, by those who vouch for its native code.
//!
//! A seal stands in an optional section at the end of the file, and covers kind, variant, length and hash of every other
//! section. Who checks one reads header, table and seals; that the sections are those that were sealed is in their
//! hashes, which [`check`] compares in one pass over the file, without holding more than a block of it.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::string::{String, ToString};
use std::vec::Vec;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::error::ParseError;
use crate::format::{HEADER_BYTES, ROW_BYTES, SHARED, VERSION};
use crate::reader::table::{Row, check_table_hash, table_bytes};
use crate::reader::{HASH_BYTES, Module};
use crate::writer::file::header;

/// The kind of the section; readers that do not know it skip it.
const KIND: u32 = 0x8000_0001;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
const SEAL_BYTES: usize = KEY_BYTES + SIGNATURE_BYTES;
/// Seals of one module, at most.
pub const MAX_SEALS: usize = 16;
/// Tells what is sealed from everything else that a key may ever sign.
const CONTEXT: &str = "ired module seal 1";
const BLOCK_BYTES: usize = 1 << 20;

/// Why a module could not be sealed, or its seals not be read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("the seals are {found} bytes, which are not 1 to {MAX_SEALS} seals of {SEAL_BYTES}")]
    Malformed { found: u64 },
    #[error("section {row} of the table is damaged: its BLAKE3 hash differs from the one recorded")]
    Hash { row: usize },
    #[error("section {row} of the table is outside of the file")]
    Range { row: usize },
    #[error("the module has {MAX_SEALS} seals already")]
    Full,
    #[error("not an Ed25519 key in PEM")]
    Key,
    #[error("the module cannot be read or written")]
    Io(#[from] io::Error),
}

/// The secret half of a key, which makes seals.
pub struct SealingKey(SigningKey);

impl SealingKey {
    /// The key of 32 random bytes.
    pub fn from_seed(seed: [u8; KEY_BYTES]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// # Errors
    /// [`SealError::Key`] for anything but PKCS #8 of an Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, SealError> {
        SigningKey::from_pkcs8_pem(text).map(Self).map_err(|_| SealError::Key)
    }

    /// # Errors
    /// [`SealError::Key`], which no key gives.
    pub fn to_pem(&self) -> Result<String, SealError> {
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).map(|text| text.to_string()).map_err(|_| SealError::Key)
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

/// The public half of a key, which checks seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// # Errors
    /// [`SealError::Key`] for anything but a public Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, SealError> {
        VerifyingKey::from_public_key_pem(text).map(Self).map_err(|_| SealError::Key)
    }

    /// # Errors
    /// [`SealError::Key`], which no key gives.
    pub fn to_pem(&self) -> Result<String, SealError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| SealError::Key)
    }

    /// The start of the key's hash, by which people know it.
    pub fn fingerprint(&self) -> String {
        blake3::hash(self.0.as_bytes()).to_hex()[..16].into()
    }
}

/// A seal, and the content it should be for.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    key: [u8; KEY_BYTES],
    signature: [u8; SIGNATURE_BYTES],
    content: [u8; HASH_BYTES],
}

impl Seal {
    /// Whose seal it is, where it is sound.
    pub fn signer(&self) -> Option<PublicKey> {
        let key = VerifyingKey::from_bytes(&self.key).ok()?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.content, &signature).ok().map(|()| PublicKey(key))
    }
}

/// What a seal covers: everything but the seals, and but where sections stand, which a further seal moves.
fn content(rows: &[Row]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&VERSION.to_le_bytes());
    for row in rows.iter().filter(|row| row.kind != KIND) {
        hasher.update(&row.kind.to_le_bytes());
        hasher.update(&row.variant.to_le_bytes());
        hasher.update(&row.bytes.to_le_bytes());
        hasher.update(&row.hash);
    }
    *hasher.finalize().as_bytes()
}

/// Header and table of a file, as far as they are sound without the sections.
fn read_table(file: &mut (impl Read + Seek)) -> Result<(Vec<Row>, u64), SealError> {
    let found = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut header = [0; HEADER_BYTES];
    if found < HEADER_BYTES as u64 {
        return Err(ParseError::TooShort { found }.into());
    }
    file.read_exact(&mut header)?;
    let mut table = std::vec![0; table_bytes(&header, found)?];
    file.read_exact(&mut table)?;
    check_table_hash(&header, &table)?;
    Ok((table.chunks_exact(ROW_BYTES).map(Row::read).collect(), found))
}

/// The seals of a module, without a look at what they are for.
///
/// # Errors
/// A file that is no module, seals that are none.
pub fn seals(file: &mut (impl Read + Seek)) -> Result<Vec<Seal>, SealError> {
    let (rows, bytes) = read_table(file)?;
    let content = content(&rows);
    let mut found = Vec::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.kind == KIND) {
        let whole = row.bytes > 0 && row.bytes.is_multiple_of(SEAL_BYTES as u64);
        if !whole || row.bytes > (MAX_SEALS * SEAL_BYTES) as u64 {
            return Err(SealError::Malformed { found: row.bytes });
        }
        if row.offset.checked_add(row.bytes).is_none_or(|end| end > bytes) {
            return Err(SealError::Range { row: index });
        }
        file.seek(SeekFrom::Start(row.offset))?;
        for _ in 0..row.bytes / SEAL_BYTES as u64 {
            let mut seal = Seal { key: [0; KEY_BYTES], signature: [0; SIGNATURE_BYTES], content };
            file.read_exact(&mut seal.key)?;
            file.read_exact(&mut seal.signature)?;
            found.push(seal);
        }
    }
    Ok(found)
}

/// Compares every section, the parameters too, with its hash: reads all of the file, a block at a time.
///
/// # Errors
/// The first section that is not what the table, and with it a seal, says.
pub fn check(file: &mut (impl Read + Seek)) -> Result<(), SealError> {
    let (rows, bytes) = read_table(file)?;
    let mut block = std::vec![0; BLOCK_BYTES];
    for (index, row) in rows.iter().enumerate() {
        if row.offset.checked_add(row.bytes).is_none_or(|end| end > bytes) {
            return Err(SealError::Range { row: index });
        }
        file.seek(SeekFrom::Start(row.offset))?;
        let mut hasher = blake3::Hasher::new();
        let mut left = row.bytes;
        while left > 0 {
            let part = &mut block[..left.min(BLOCK_BYTES as u64) as usize];
            file.read_exact(part)?;
            hasher.update(part);
            left -= part.len() as u64;
        }
        if hasher.finalize() != row.hash {
            return Err(SealError::Hash { row: index });
        }
    }
    Ok(())
}

/// Writes a module anew with one more seal.
///
/// # Errors
/// Bytes that are no module, one with as many seals as there may be, an output that fails.
pub fn seal(bytes: &[u8], key: &SealingKey, out: &mut impl Write) -> Result<(), SealError> {
    Module::parse(bytes)?;
    let mut input = io::Cursor::new(bytes);
    check(&mut input)?;
    let (mut rows, _) = read_table(&mut input)?;
    let content = content(&rows);
    let mut seals: Vec<u8> = Vec::new();
    if let Some(at) = rows.iter().position(|row| row.kind == KIND) {
        let row = rows.remove(at);
        seals.extend(&bytes[row.offset as usize..][..row.bytes as usize]);
    }
    // One seal of a key is enough.
    let public = key.public();
    let others = seals.chunks_exact(SEAL_BYTES).filter(|seal| seal[..KEY_BYTES] != *public.0.as_bytes());
    let mut seals: Vec<u8> = others.flatten().copied().collect();
    if seals.len() >= MAX_SEALS * SEAL_BYTES {
        return Err(SealError::Full);
    }
    seals.extend(public.0.as_bytes());
    seals.extend(key.0.sign(&content).to_bytes());

    let mut sections: Vec<&[u8]> =
        rows.iter().map(|row| &bytes[row.offset as usize..][..row.bytes as usize]).collect();
    let hash = *blake3::hash(&seals).as_bytes();
    rows.push(Row { kind: KIND, variant: SHARED, offset: 0, bytes: seals.len() as u64, hash });
    sections.push(&seals);

    let mut end = (HEADER_BYTES + rows.len() * ROW_BYTES) as u64;
    let mut table = Vec::with_capacity(rows.len() * ROW_BYTES);
    for row in &mut rows {
        row.offset = end.next_multiple_of(row.alignment());
        row.write(&mut table);
        end = row.offset + row.bytes;
    }
    out.write_all(&header(end, &table))?;
    out.write_all(&table)?;
    let mut position = (HEADER_BYTES + table.len()) as u64;
    for (row, section) in rows.iter().zip(sections) {
        out.write_all(&std::vec![0; (row.offset - position) as usize])?;
        out.write_all(section)?;
        position = row.offset + row.bytes;
    }
    Ok(())
}
