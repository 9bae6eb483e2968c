//! Little-endian u32 words over bytes of any alignment, and a cursor over them.

/// Bytes seen as u32 words; a last incomplete word does not exist.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl<'a> Words<'a> {
    pub(crate) fn len(self) -> usize {
        self.0.len() / 4
    }

    pub(crate) fn get(self, index: usize) -> Option<u32> {
        let start = index.checked_mul(4)?;
        let bytes = self.0.get(start..start.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(crate) fn slice(self, start: usize, count: usize) -> Option<Self> {
        let start = start.checked_mul(4)?;
        let end = start.checked_add(count.checked_mul(4)?)?;
        self.0.get(start..end).map(Words)
    }
}

/// Reads words one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    words: Words<'a>,
    next: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { words: Words(bytes), next: 0 }
    }

    pub(crate) fn word(&mut self) -> Option<u32> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    pub(crate) fn long(&mut self) -> Option<u64> {
        let low = self.word()?;
        Some(u64::from(low) | u64::from(self.word()?) << 32)
    }

    pub(crate) fn bytes(&mut self, words: usize) -> Option<&'a [u8]> {
        let slice = self.words.slice(self.next, words)?;
        self.next += words;
        Some(slice.0)
    }

    /// Bytes consumed so far.
    pub(crate) fn offset(&self) -> u64 {
        self.next as u64 * 4
    }

    pub(crate) fn at_end(&self) -> bool {
        self.next * 4 == self.words.0.len()
    }
}
