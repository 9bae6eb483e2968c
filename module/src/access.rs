//! What a kernel does to each of its bindings, four bits a binding in the file.

use crate::words::Words;

/// What a kernel does to the bytes of one binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Access {
    Read = 1,
    Write = 2,
    ReadWrite = 3,
    /// Reads, and may be the very bytes of the one binding that the kernel writes: each is read no later than it is
    /// written, or, of what a scatter updates, not at all.
    ReadInPlace = 5,
}

impl Access {
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }

    fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            3 => Some(Self::ReadWrite),
            5 => Some(Self::ReadInPlace),
            _ => None,
        }
    }

    /// The name that listings use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "w",
            Self::ReadWrite => "rw",
            Self::ReadInPlace => "ri",
        }
    }
}

/// Bindings that one word describes.
const PER_WORD: usize = 8;
const BITS: usize = 4;

/// Words that describe `bindings` bindings.
pub(crate) const fn words_of(bindings: usize) -> usize {
    bindings.div_ceil(PER_WORD)
}

/// The accesses as they stand in the file, unused bits zero.
#[cfg(feature = "std")]
pub(crate) fn pack(bindings: &[Access]) -> impl Iterator<Item = u32> {
    bindings.chunks(PER_WORD).map(|chunk| {
        chunk.iter().enumerate().fold(0, |word, (at, &access)| word | (access as u32) << (at * BITS))
    })
}

/// The accesses of a kernel's bindings, in ABI order.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessList<'a> {
    words: Words<'a>,
    count: usize,
}

impl<'a> AccessList<'a> {
    /// `words` are [`words_of`] `count`.
    pub(crate) fn new(words: Words<'a>, count: usize) -> Self {
        Self { words, count }
    }

    /// How many bindings the kernel has.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What is done to binding `index`.
    pub fn get(&self, index: usize) -> Option<Access> {
        let word = (index < self.count).then(|| self.words.get(index / PER_WORD))??;
        Access::from_bits(word >> (index % PER_WORD * BITS) & 15)
    }

    /// Each binding's access, in order.
    pub fn iter(&self) -> impl Iterator<Item = Access> + use<'a> {
        let list = *self;
        (0..self.count).map_while(move |index| list.get(index))
    }

    /// Whether every binding says what is done to it, and no other bit is set.
    pub(crate) fn is_sound(&self) -> bool {
        let used = self.count % PER_WORD;
        let last = self.words.len().checked_sub(1).and_then(|at| self.words.get(at)).unwrap_or(0);
        self.iter().count() == self.count && (used == 0 || last >> (used * BITS) == 0)
    }
}
