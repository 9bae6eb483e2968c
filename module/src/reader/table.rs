//! Header and section table: where everything stands, checked once for all variants.

use super::{HASH_BYTES, check_zero, table_hash, u32_at, u64_at};
use crate::error::ParseError;
use crate::format::{
    FIRST_OPTIONAL_KIND, HEADER_BYTES, MAGIC, MAX_SECTIONS, MAX_VARIANTS, ROW_BYTES, SHARED, SectionKind,
    VERSION,
};

/// How long the table of a file is that has `found` bytes and this header.
pub(crate) fn table_bytes(header: &[u8], found: u64) -> Result<usize, ParseError> {
    if header[..8] != MAGIC {
        return Err(ParseError::NotAModule);
    }
    let version = u32_at(header, 8);
    if version != VERSION {
        return Err(ParseError::Version { found: version });
    }
    let expected = u64_at(header, 16);
    if expected != found {
        return Err(ParseError::Size { found, expected });
    }
    let count = u32_at(header, 12);
    let table = (count as usize).checked_mul(ROW_BYTES).filter(|_| count as usize <= MAX_SECTIONS);
    let table = table.filter(|bytes| (HEADER_BYTES + bytes) as u64 <= found);
    table.ok_or(ParseError::SectionCount { found: count })
}

/// Checks that header and table are what was written; gives their hash.
pub(crate) fn check_table_hash(header: &[u8], table: &[u8]) -> Result<[u8; HASH_BYTES], ParseError> {
    let digest = table_hash(&header[..32], table);
    if digest[..] == header[32..] { Ok(digest) } else { Err(ParseError::TableHash) }
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) kind: u32,
    pub(crate) variant: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: [u8; HASH_BYTES],
}

impl Row {
    pub(crate) fn read(row: &[u8]) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&row[32..]);
        let (kind, variant) = (u32_at(row, 0), u32_at(row, 4));
        Self { kind, variant, offset: u64_at(row, 8), bytes: u64_at(row, 16), hash }
    }

    pub(crate) fn alignment(&self) -> u64 {
        SectionKind::from_number(self.kind).map_or(64, SectionKind::alignment)
    }
}

/// Checks that rows are in order and complete, and that sections follow one another; gives the number of variants.
pub(super) fn check_table(bytes: &[u8], table: &[u8]) -> Result<u32, ParseError> {
    let mut order = Order { variant: 0, last_kind: 0, present: 0, variants: 0 };
    let mut end = HEADER_BYTES + table.len();
    for (index, row) in table.chunks_exact(ROW_BYTES).enumerate() {
        let row = Row::read(row);
        order.enter(&row)?;
        let Row { kind, offset, bytes: length, .. } = row;
        let misplaced = ParseError::SectionRange { kind, offset, bytes: length };
        if offset != (end as u64).next_multiple_of(row.alignment()) {
            return Err(misplaced);
        }
        let start = usize::try_from(offset).map_err(|_| misplaced)?;
        let length = usize::try_from(length).map_err(|_| misplaced)?;
        let stop = start.checked_add(length).filter(|stop| *stop <= bytes.len()).ok_or(misplaced)?;
        let row_at = HEADER_BYTES + index * ROW_BYTES;
        check_zero(bytes, row_at + 24, row_at + 32)?;
        check_zero(bytes, end, start)?;
        end = stop;
    }
    order.leave()?;
    if order.variant != SHARED {
        let section = SectionKind::ALL.into_iter().find(|kind| kind.is_shared());
        return Err(section.map_or(ParseError::TableHash, |section| ParseError::Missing { section }));
    }
    if bytes.len() != end {
        return Err(ParseError::Size { found: bytes.len() as u64, expected: end as u64 });
    }
    Ok(order.variants)
}

/// What has been seen of the table.
struct Order {
    /// The variant that rows are of now.
    variant: u32,
    last_kind: u32,
    /// A bit for each known kind that the variant has.
    present: u32,
    variants: u32,
}

impl Order {
    fn enter(&mut self, row: &Row) -> Result<(), ParseError> {
        let (number, variant) = (row.kind, row.variant);
        let kind = SectionKind::from_number(number);
        if variant != self.variant {
            let next = variant == SHARED || Some(variant) == self.variant.checked_add(1);
            if !next || self.variant == SHARED || (variant != SHARED && variant as usize >= MAX_VARIANTS) {
                return Err(ParseError::Variant { found: variant });
            }
            self.leave()?;
            (self.variant, self.last_kind, self.present) = (variant, 0, 0);
        }
        let unknown = kind.is_none() && number < FIRST_OPTIONAL_KIND;
        let elsewhere = kind.is_some_and(|kind| kind.is_shared() != (variant == SHARED));
        if number <= self.last_kind || unknown || elsewhere {
            return Err(ParseError::SectionKind { found: number });
        }
        self.last_kind = number;
        self.present |= kind.map_or(0, |kind| 1 << kind.index());
        Ok(())
    }

    /// Ends the rows of a variant, or of what is shared.
    fn leave(&mut self) -> Result<(), ParseError> {
        let shared = self.variant == SHARED;
        let missing =
            |kind: &SectionKind| kind.is_shared() == shared && self.present & 1 << kind.index() == 0;
        if let Some(section) = SectionKind::ALL.into_iter().find(missing) {
            return Err(ParseError::Missing { section });
        }
        self.variants += u32::from(!shared);
        Ok(())
    }
}
