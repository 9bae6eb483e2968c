//! The layout of an `.irm` file: header, section table, sections.
//!
//! ```text
//! 0    magic 8 | version u32 | section count u32 | file bytes u64 | zero 8 | BLAKE3 of bytes 0..32 and the table
//! 64   section count × { kind u32 | variant u32 | offset u64 | bytes u64 | zero 8 | BLAKE3 of the section }
//! …    sections, in ascending variant, kind and offset, each at the next multiple of its kind's alignment, zeros between
//! ```
//!
//! A variant is the module for one target, and has every section but the parameters. Those all variants share, as what
//! is packed alike for several targets stands there once; their row's variant is `SHARED`. Variants count from 0, and
//! a device takes the first that it can run.
//!
//! Readers skip kinds from 0x8000_0000 on that they do not know; 0x8000_0001 are seals, see `ired_module::seal`.
//!
//! All numbers are little-endian. Every byte of a file is under a hash or known to be zero, so no bit can change
//! unnoticed. All sections but the executable, the texts, the parameters and the debug data are arrays of u32
//! words.

/// The first bytes of a module: not text, and damaged by transfers that rewrite line ends.
pub const MAGIC: [u8; 8] = *b"\x89IRM\r\n\x1a\n";

/// The version of format, bytecode and kernel ABI that this crate writes and reads.
pub const VERSION: u32 = 6;

/// Bytes of the header, of one row of the section table, and the alignment of ordinary sections.
pub const HEADER_BYTES: usize = 64;
pub(crate) const ROW_BYTES: usize = 64;

/// Sections that a file may have, known and optional ones together.
pub(crate) const MAX_SECTIONS: usize = 64;

/// Variants of one file, at most.
pub const MAX_VARIANTS: usize = 4;

/// Stands for a variant in the rows of what all variants share, which come last.
pub(crate) const SHARED: u32 = u32::MAX;

/// Kinds from here on may be skipped by readers that do not know them.
pub(crate) const FIRST_OPTIONAL_KIND: u32 = 0x8000_0000;

/// Alignment of each parameter within the file.
pub const PARAM_ALIGNMENT: u64 = 64;

/// Dimensions of a tensor, at most.
pub const MAX_RANK: usize = 64;

/// Bytes of one string, at most.
pub const MAX_STRING_BYTES: usize = 64 << 10;

/// Bytes that all uses of strings have together, at most: a reader may copy every name it meets.
pub const MAX_NAMES_BYTES: u64 = 64 << 20;

/// Buffer registers and outputs of one function, together, at most. Bounds what verification needs of stack and time.
pub const MAX_BUFFERS: usize = 16_384;

/// Bindings of one kernel, and constants of one, at most.
pub const MAX_KERNEL_OPERANDS: usize = u16::MAX as usize;

/// What stands in a section; the numbers are part of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum SectionKind {
    Strings = 1,
    Target = 2,
    Provenance = 3,
    Signature = 4,
    Functions = 5,
    Code = 6,
    Entries = 7,
    Executable = 8,
    ParamIndex = 9,
    /// For profiles, see `ired_module::notes`; what runs does not depend on it.
    Debug = 10,
    /// String constants of the model; see [`crate::texts`].
    Texts = 11,
    /// What [`crate::code::Inst::HostCall`] calls.
    HostCalls = 12,
    /// Last, so that a reader can fetch everything else with one read of the file's start.
    Params = 13,
}

impl SectionKind {
    /// Every kind, in file order. A variant has each exactly once; many may be empty.
    pub const ALL: [Self; 13] = [
        Self::Strings,
        Self::Target,
        Self::Provenance,
        Self::Signature,
        Self::Functions,
        Self::Code,
        Self::Entries,
        Self::Executable,
        Self::ParamIndex,
        Self::Debug,
        Self::Texts,
        Self::HostCalls,
        Self::Params,
    ];

    pub(crate) const COUNT: usize = Self::ALL.len();

    pub(crate) const fn index(self) -> usize {
        self as usize - 1
    }

    /// Whether the section is one for all variants.
    pub(crate) const fn is_shared(self) -> bool {
        matches!(self, Self::Params)
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u32 == number)
    }

    /// Alignment of the section in the file, in bytes. Parameters start on a page so that they can be mapped.
    pub const fn alignment(self) -> u64 {
        match self {
            Self::Params => 4096,
            _ => 64,
        }
    }

    /// The name that errors and listings use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strings => "strings",
            Self::Target => "target",
            Self::Provenance => "provenance",
            Self::Signature => "signature",
            Self::Functions => "functions",
            Self::Code => "code",
            Self::Entries => "entries",
            Self::Executable => "executable",
            Self::ParamIndex => "param_index",
            Self::Debug => "debug",
            Self::Texts => "texts",
            Self::HostCalls => "host_calls",
            Self::Params => "params",
        }
    }
}

impl core::fmt::Display for SectionKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
