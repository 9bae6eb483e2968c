//! A module's bytes on their way to a file, and the parameters that its variants share.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};
use std::vec::Vec;

use super::{ModuleDraft, ParamDraft, WriteError};
use crate::format::{HEADER_BYTES, MAGIC, PARAM_ALIGNMENT, ROW_BYTES, SectionKind, VERSION};
use crate::reader::table::Row;
use crate::reader::table_hash;

/// Where each variant's parameters stand, and those that stand there.
pub(super) struct SharedParams<'a> {
    /// By variant and parameter, from the start of the section.
    pub(super) offsets: Vec<Vec<u64>>,
    pub(super) bytes: u64,
    /// In the order of the file.
    stored: Vec<&'a ParamDraft>,
}

impl<'a> SharedParams<'a> {
    /// Gives equal bytes one place. They are made once to be compared and once more to be written, so that no more than
    /// one parameter is in memory at a time.
    pub(super) fn place(variants: &'a [ModuleDraft]) -> Result<Self, WriteError> {
        let mut params = Self { offsets: Vec::new(), bytes: 0, stored: Vec::new() };
        let mut known: HashMap<(u64, blake3::Hash), u64> = HashMap::new();
        for variant in variants {
            let mut offsets = Vec::with_capacity(variant.params.len());
            for param in &variant.params {
                offsets.push(match variants {
                    [_] => params.append(param),
                    _ => {
                        let key = (param.bytes.len_bytes(), blake3::hash(&checked_bytes(param)?));
                        *known.entry(key).or_insert_with(|| params.append(param))
                    }
                });
            }
            params.offsets.push(offsets);
        }
        Ok(params)
    }

    fn append(&mut self, param: &'a ParamDraft) -> u64 {
        let offset = self.bytes.next_multiple_of(PARAM_ALIGNMENT);
        self.bytes = offset + param.bytes.len_bytes();
        self.stored.push(param);
        offset
    }

    /// Writes the section, which starts at `start`.
    pub(super) fn write(
        &self,
        start: u64,
        file: &mut HashingWriter<'_, impl Write>,
    ) -> Result<(), WriteError> {
        for param in &self.stored {
            file.pad_to(start + (file.position - start).next_multiple_of(PARAM_ALIGNMENT))?;
            file.write(&checked_bytes(param)?)?;
        }
        Ok(())
    }
}

fn checked_bytes(param: &ParamDraft) -> Result<Cow<'_, [u8]>, WriteError> {
    let (bytes, expected) = (param.bytes.bytes(), param.bytes.len_bytes());
    let found = bytes.len() as u64;
    if found != expected {
        return Err(WriteError::ParamBytes { name: param.name.clone(), found, expected });
    }
    Ok(bytes)
}

/// The header of a file of so many bytes.
pub(crate) fn header(bytes: u64, table: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(((table.len() / ROW_BYTES) as u32).to_le_bytes());
    header.extend(bytes.to_le_bytes());
    header.extend([0; 8]);
    header.extend(table_hash(&header, table));
    header
}

impl Row {
    pub(crate) fn write(&self, table: &mut Vec<u8>) {
        table.extend(self.kind.to_le_bytes());
        table.extend(self.variant.to_le_bytes());
        table.extend(self.offset.to_le_bytes());
        table.extend(self.bytes.to_le_bytes());
        table.extend([0; 8]);
        table.extend(self.hash);
    }
}

/// Counts and hashes what goes to the file. Padding between sections precedes the reset of the hash.
pub(super) struct HashingWriter<'o, Out> {
    pub(super) out: &'o mut Out,
    pub(super) position: u64,
    pub(super) section: blake3::Hasher,
}

impl<Out: Write> HashingWriter<'_, Out> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.section.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes a section and its row of the table; `content` is told where the section starts.
    pub(super) fn section(
        &mut self,
        kind: SectionKind,
        variant: u32,
        table: &mut Vec<u8>,
        content: impl FnOnce(u64, &mut Self) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.pad_to(self.position.next_multiple_of(kind.alignment()))?;
        let start = self.position;
        self.section.reset();
        content(start, self)?;
        let (bytes, hash) = (self.position - start, self.section.finalize());
        Row { kind: kind as u32, variant, offset: start, bytes, hash: hash.into() }.write(table);
        Ok(())
    }

    pub(super) fn pad_to(&mut self, position: u64) -> io::Result<()> {
        let mut missing = position - self.position;
        while missing > 0 {
            let step = missing.min(4096);
            self.write(&[0; 4096][..step as usize])?;
            missing -= step;
        }
        Ok(())
    }
}
