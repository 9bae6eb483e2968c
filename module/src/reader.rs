//! The borrowed view of a module: sections, strings, functions, parameters. Allocates nothing.
//!
//! [`Module::parse`] checks the frame; what accessors return is meaningful once [`Module::verify`] has passed.
//! Before that, on any bytes, they answer `None` or empty lists, and do not panic.

mod function;
mod metadata;
pub(crate) mod table;

pub(crate) use function::label_stride;
pub use function::{Function, Instructions};
pub use metadata::{
    DimRef, Dims, EntryPointRef, EntryPoints, PeakRef, ProvenanceRef, RowsRef, Strings, TargetRef, TensorRef,
    Tensors,
};

use crate::access::{AccessList, words_of};
use crate::error::ParseError;
use crate::format::{HEADER_BYTES, ROW_BYTES, SectionKind};
use crate::words::Words;
use table::{Row, check_table, check_table_hash, table_bytes};

pub(crate) const HASH_BYTES: usize = 32;

/// A module in memory: one variant of it, at first the first. [`Module::variants`] gives the others.
#[derive(Clone, Copy)]
pub struct Module<'a> {
    file: &'a [u8],
    variant: u32,
    variants: u32,
    pub(crate) sections: [&'a [u8]; SectionKind::COUNT],
    pub(crate) hashes: [[u8; HASH_BYTES]; SectionKind::COUNT],
    /// Usually the length of the section; a writer checks a module before its parameters are there.
    pub(crate) params_bytes: u64,
    digest: [u8; HASH_BYTES],
}

/// A kernel of the executable.
#[derive(Clone, Copy, Debug)]
pub struct KernelRef<'a> {
    /// The exported symbol in the executable's image.
    pub symbol: &'a str,
    /// The nodes of the model that it computes, for profiles.
    pub origin: &'a str,
    /// What it does to each of its bindings.
    pub bindings: AccessList<'a>,
    /// How many constants it takes.
    pub constants: usize,
}

/// Where a parameter's bytes stand, and its name in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamRef<'a> {
    pub name: &'a str,
    /// Bytes from the start of the parameter section.
    pub offset: u64,
    pub bytes: u64,
}

pub(crate) const FUNCTION_WORDS: usize = 8;
/// Symbol, origin, constants, bindings, and the word of the section where the bindings' accesses start.
pub(crate) const ENTRY_WORDS: usize = 5;
pub(crate) const PARAM_WORDS: usize = 6;

impl<'a> Module<'a> {
    /// Reads header and section table of `bytes`, which are exactly one file.
    ///
    /// # Errors
    /// When this is no module of this version, is cut short, or header or table are damaged.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let found = bytes.len() as u64;
        let header = bytes.get(..HEADER_BYTES).ok_or(ParseError::TooShort { found })?;
        let table = &bytes[HEADER_BYTES..][..table_bytes(header, found)?];
        let digest = check_table_hash(header, table)?;
        check_zero(bytes, 24, 32)?;
        let variants = check_table(bytes, table)?;
        Ok(Self::of_variant(bytes, 0, variants, digest))
    }

    /// Variant `variant` of a file whose table has been checked.
    fn of_variant(file: &'a [u8], variant: u32, variants: u32, digest: [u8; HASH_BYTES]) -> Self {
        let mut sections = [&[] as &[u8]; SectionKind::COUNT];
        let mut hashes = [[0; HASH_BYTES]; SectionKind::COUNT];
        let rows = file.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(ROW_BYTES);
        for row in rows.take(u32_at(file, 12) as usize) {
            let row = Row::read(row);
            let Some(kind) = SectionKind::from_number(row.kind) else { continue };
            if kind.is_shared() || row.variant == variant {
                let (start, length) = (row.offset as usize, row.bytes as usize);
                sections[kind.index()] = file.get(start..start + length).unwrap_or_default();
                hashes[kind.index()] = row.hash;
            }
        }
        let params_bytes = sections[SectionKind::Params.index()].len() as u64;
        Self { file, variant, variants, sections, hashes, params_bytes, digest }
    }

    /// Every variant of the file, the one first that its maker prefers.
    pub fn variants(&self) -> impl ExactSizeIterator<Item = Self> + use<'a> {
        let this = *self;
        (0..this.variants as usize).map(move |index| match index as u32 {
            own if own == this.variant => this,
            other => Self::of_variant(this.file, other, this.variants, this.digest),
        })
    }

    /// Which of [`Module::variants`] this is.
    pub fn variant(&self) -> usize {
        self.variant as usize
    }

    /// A module whose sections are being written.
    #[cfg(feature = "std")]
    pub(crate) fn from_sections(sections: [&'a [u8]; SectionKind::COUNT], params_bytes: u64) -> Self {
        let hashes = [[0; HASH_BYTES]; SectionKind::COUNT];
        let digest = [0; HASH_BYTES];
        Self { file: &[], variant: 0, variants: 1, sections, hashes, params_bytes, digest }
    }

    /// What identifies the module: BLAKE3 over header and section table, thus over all content.
    pub fn digest(&self) -> [u8; HASH_BYTES] {
        self.digest
    }

    /// The bytes of one section.
    pub fn section(&self, kind: SectionKind) -> &'a [u8] {
        self.sections[kind.index()]
    }

    pub(crate) fn words(&self, kind: SectionKind) -> Words<'a> {
        Words(self.section(kind))
    }

    /// How many strings there are: messages of checks first, names after them.
    pub fn strings(&self) -> u32 {
        self.words(SectionKind::Strings).get(0).unwrap_or(0)
    }

    /// String `index` of the string table.
    pub fn string(&self, index: u32) -> Option<&'a str> {
        let words = self.words(SectionKind::Strings);
        if index >= self.strings() {
            return None;
        }
        let (at, count) = (index as usize, self.strings() as usize);
        let (start, end) = (words.get(1 + at)? as usize, words.get(2 + at)? as usize);
        let text = self.section(SectionKind::Strings).get(count.checked_add(2)?.checked_mul(4)?..)?;
        core::str::from_utf8(text.get(start..end)?).ok()
    }

    /// The executable's image, an ELF64 shared object without undefined symbols. Empty when there are no kernels.
    pub fn executable(&self) -> &'a [u8] {
        self.section(SectionKind::Executable)
    }

    /// Debug data, for `ired_module::notes` to decode.
    pub fn debug(&self) -> &'a [u8] {
        self.section(SectionKind::Debug)
    }

    /// How many rows of `words` words a section holds.
    pub(crate) fn rows(&self, kind: SectionKind, words: usize) -> u32 {
        (self.words(kind).len() / words) as u32
    }

    fn row(&self, kind: SectionKind, words: usize, index: u32) -> Option<Words<'a>> {
        self.words(kind).slice((index as usize).checked_mul(words)?, words)
    }

    /// The kernels, in the order that dispatches number them.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = KernelRef<'a>> + use<'a> {
        let module = *self;
        let words = self.words(SectionKind::Entries);
        // A section that does not hold as many rows as it says does not verify.
        let count = words.get(0).unwrap_or(0).min((words.len() / ENTRY_WORDS) as u32);
        (0..count).map(move |index| {
            let none = KernelRef { symbol: "", origin: "", bindings: AccessList::default(), constants: 0 };
            module.kernel(index).unwrap_or(none)
        })
    }

    /// Kernel `index`; `None` when there is none, or its row does not fit the section.
    pub fn kernel(&self, index: u32) -> Option<KernelRef<'a>> {
        let words = self.words(SectionKind::Entries);
        if index >= words.get(0)? {
            return None;
        }
        let row = words.slice((index as usize).checked_mul(ENTRY_WORDS)?.checked_add(1)?, ENTRY_WORDS)?;
        let bindings = row.get(3)? as usize;
        let access = words.slice(row.get(4)? as usize, words_of(bindings))?;
        Some(KernelRef {
            symbol: self.string(row.get(0)?)?,
            origin: self.string(row.get(1)?)?,
            bindings: AccessList::new(access, bindings),
            constants: row.get(2)? as usize,
        })
    }

    /// How many parameters there are.
    pub fn params(&self) -> u32 {
        self.rows(SectionKind::ParamIndex, PARAM_WORDS)
    }

    /// Name and place of parameter `index`.
    pub fn param_ref(&self, index: u32) -> Option<ParamRef<'a>> {
        let row = self.row(SectionKind::ParamIndex, PARAM_WORDS, index)?;
        let long = |word| Some(u64::from(row.get(word)?) | u64::from(row.get(word + 1)?) << 32);
        Some(ParamRef { name: self.string(row.get(0)?)?, offset: long(2)?, bytes: long(4)? })
    }

    /// The bytes of parameter `index`, at a multiple of [`crate::format::PARAM_ALIGNMENT`] of the file.
    pub fn param(&self, index: u32) -> Option<&'a [u8]> {
        let place = self.param_ref(index)?;
        let start = usize::try_from(place.offset).ok()?;
        let end = start.checked_add(usize::try_from(place.bytes).ok()?)?;
        self.section(SectionKind::Params).get(start..end)
    }

    /// How many functions there are.
    pub fn functions(&self) -> u32 {
        self.rows(SectionKind::Functions, FUNCTION_WORDS)
    }

    /// Function `index`.
    pub fn function(&self, index: u32) -> Option<Function<'a>> {
        let row = self.row(SectionKind::Functions, FUNCTION_WORDS, index)?;
        Function::read(self, row)
    }

    /// Every function, in order.
    pub fn iter_functions(&self) -> impl Iterator<Item = Function<'a>> + use<'a> {
        let module = *self;
        (0..self.functions()).map_while(move |index| module.function(index))
    }
}

impl core::fmt::Debug for Module<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Module")
            .field("functions", &self.functions())
            .field("params", &self.params())
            .finish_non_exhaustive()
    }
}

/// The hash in a header: over the header's first half and the section table.
pub(crate) fn table_hash(header: &[u8], table: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    hasher.update(table);
    *hasher.finalize().as_bytes()
}

/// Callers have checked that eight bytes stand there.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn check_zero(bytes: &[u8], start: usize, end: usize) -> Result<(), ParseError> {
    match bytes[start..end].iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(ParseError::NotZero { offset: (start + at) as u64 }),
    }
}
