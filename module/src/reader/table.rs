//! The section table: where everything stands, checked once for all variants.

use super::{check_zero, u32_at, u64_at};
use crate::error::ParseError;
use crate::format::{FIRST_OPTIONAL_KIND, HEADER_BYTES, MAX_VARIANTS, ROW_BYTES, SHARED, SectionKind};

/// Checks that rows are in order and complete, and that sections follow one another; gives the number of variants.
pub(super) fn check_table(bytes: &[u8], table: &[u8]) -> Result<u32, ParseError> {
    let mut order = Order { variant: 0, last_kind: 0, present: 0, variants: 0 };
    let mut end = HEADER_BYTES + table.len();
    for (index, row) in table.chunks_exact(ROW_BYTES).enumerate() {
        let (number, variant) = (u32_at(row, 0), u32_at(row, 4));
        let kind = SectionKind::from_number(number);
        order.enter(number, kind, variant)?;
        let (offset, length) = (u64_at(row, 8), u64_at(row, 16));
        let misplaced = ParseError::SectionRange { kind: number, offset, bytes: length };
        let alignment = kind.map_or(64, SectionKind::alignment);
        if offset != (end as u64).next_multiple_of(alignment) {
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
    fn enter(&mut self, number: u32, kind: Option<SectionKind>, variant: u32) -> Result<(), ParseError> {
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
