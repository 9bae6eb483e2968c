//! Strings one after the other: each its length in bytes (u32, little-endian), then its bytes.
//!
//! So KServe lays out the elements of a BYTES tensor, and so strings travel between processes and stand in modules. In
//! memory that kernels see, an element is a 64-bit handle instead, as handle 0 the empty string.

use crate::DType;

/// Walks over strings; ends at the first that is cut short.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    left: &'a [u8],
}

impl<'a> Texts<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.left.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        self.left = rest;
        Some(text)
    }
}

/// How many strings `bytes` are; `None` when they end within one.
pub fn count(bytes: &[u8]) -> Option<u64> {
    let mut texts = Texts::new(bytes);
    let count = texts.by_ref().fold(0u64, |count, _| count + 1);
    texts.left.is_empty().then_some(count)
}

/// Whether `bytes` are a tensor as it travels: packed elements, or strings one after the other.
pub fn is_tensor(dtype: DType, dims: &[u64], bytes: &[u8]) -> bool {
    match dtype {
        DType::String => elements(dims).is_some_and(|elements| count(bytes) == Some(elements)),
        _ => dtype.tensor_bytes(dims) == Some(bytes.len() as u64),
    }
}

/// How many elements a tensor of these dimensions has; `None` when that is more than `u64::MAX`.
pub fn elements(dims: &[u64]) -> Option<u64> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))
}

/// Appends a string. `false`, and nothing is appended, when it is longer than a length can say.
#[cfg(feature = "std")]
pub fn push(bytes: &mut std::vec::Vec<u8>, text: &[u8]) -> bool {
    let Ok(length) = u32::try_from(text.len()) else { return false };
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text);
    true
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn strings_come_back() {
        let mut bytes = Vec::new();
        for text in [&b"a"[..], b"", b"\xff\0"] {
            assert!(push(&mut bytes, text));
        }
        assert_eq!(Texts::new(&bytes).collect::<Vec<_>>(), [&b"a"[..], b"", b"\xff\0"]);
        assert_eq!((count(&bytes), count(&[])), (Some(3), Some(0)));
    }

    #[test]
    fn a_tensor_of_strings_has_as_many_as_its_shape_says() {
        let mut bytes = Vec::new();
        assert!(is_tensor(DType::String, &[3, 0], &bytes));
        assert!(push(&mut bytes, b"ab") && push(&mut bytes, b""));
        assert!(is_tensor(DType::String, &[1, 2], &bytes) && !is_tensor(DType::String, &[3], &bytes));
        assert!(is_tensor(DType::U8, &[10], &bytes) && !is_tensor(DType::U8, &[9], &bytes));
        assert!(!is_tensor(DType::String, &[u64::MAX, 2], &bytes));
    }

    #[test]
    fn a_string_that_is_cut_short_ends_the_walk() {
        for bytes in [&[1, 0, 0][..], &[1, 0, 0, 0], &[0, 0, 0, 0, 255, 255, 255, 255, 0]] {
            assert_eq!(count(bytes), None);
        }
    }
}
