//! Changes of recorded bytes: the same for the same seed.

use ired_tests::onnx::varint;

/// Makes choices.
pub(crate) struct Mutator(u64);

/// Texts that readers of numbers and names stumble over.
const WORDS: &[&[u8]] = &[
    b"-1",
    b"0",
    b"1e999",
    b"9223372036854775807",
    b"18446744073709551616",
    b"NaN",
    b"null",
    b"{",
    b"}",
    b"[[[[[[[[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"../",
    b"/",
    b"\0",
    b"\xff\xfe",
    b"%00",
    b"%2e%2e%2f",
    b"\r\n",
    b"BYTES",
    b"FP32",
    b"INT64",
];

/// Numbers at the edges of what lengths and dimensions are written in.
const NUMBERS: &[u64] = &[0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds are to have nothing in common, and no state may be 0.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 16) % end as u64) as usize
    }

    /// Changes some bytes in one to four ways; `other` is more of their kind.
    pub(crate) fn change(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + self.below(4) {
            self.change_once(&mut bytes, other);
        }
        // Longer ones say nothing new.
        bytes.truncate(256 << 10);
        bytes
    }

    fn change_once(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 => drop(bytes.drain(at.min(end)..end)),
            3 => bytes.truncate(at),
            4 => {
                let repeated = bytes[at.min(end)..end].repeat(1 + self.below(64));
                bytes.splice(at..at, repeated);
            }
            5 => {
                let from = self.below(other.len() + 1);
                bytes.splice(at..end.max(at), other[from..].iter().copied());
            }
            6 => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..end.max(at), word.iter().copied());
            }
            7 => {
                let number = varint(NUMBERS[self.below(NUMBERS.len())]);
                bytes.splice(at..(at + 1).min(bytes.len()).max(at), number);
            }
            _ => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_string();
                bytes.splice(at..end.max(at), number.into_bytes());
            }
        }
    }
}
