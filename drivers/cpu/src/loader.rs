//! A loader for embedded ELF images: code without a C library, a file system or `dlopen`.
//!
//! An image is an ELF64 shared object that needs nothing: no libraries, no symbols, no start-up code, no threads'
//! data. It is laid out in ordinary memory, relocated there, written to a memfd that is then sealed, and mapped
//! from it: code as read and execute, constants as read. No memory is ever writable and executable, and no
//! protection ever changes, so it works where the system forbids both.
//!
//! Reading is free of `unsafe` and checks every range: a hostile image gives a [`LoadError`]. What its code does
//! when called is another matter, and confined by processes, not here.

mod dynamic;
mod layout;
mod map;
mod relocate;

use std::collections::BTreeMap;

use layout::Layout;
use map::Mapping;

/// Code in executable memory; unmapped when dropped.
#[derive(Debug)]
pub struct LoadedImage {
    /// Offsets of exported functions from the start of the mapping.
    functions: BTreeMap<String, usize>,
    mapping: Mapping,
}

impl LoadedImage {
    /// Checks `image` and maps it.
    pub fn load(image: &[u8]) -> Result<Self, LoadError> {
        let layout = Layout::parse(image, layout::host_machine())?;
        let mut memory = layout.lay_out(image);
        let dynamic = dynamic::parse(&memory, &layout)?;
        let functions = dynamic.functions(&memory, &layout)?;
        let mapping = Mapping::reserve(layout.span_bytes())?;
        relocate::apply(&mut memory, &layout, &dynamic, mapping.address())?;
        let mapping = mapping.fill(&memory, &layout.segments)?;
        Ok(Self { functions, mapping })
    }

    /// Address of an exported function. Valid until `self` is dropped.
    pub fn function(&self, name: &str) -> Option<*const u8> {
        let offset = *self.functions.get(name)?;
        // `functions` holds only offsets inside an executable segment, so inside the mapping.
        Some((self.mapping.address() as usize + offset) as *const u8)
    }
}

/// Why an image was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("image is {found_bytes} bytes; `{table}` ends at byte {end_bytes}")]
    Truncated { table: &'static str, found_bytes: usize, end_bytes: u64 },
    #[error("image is not a little-endian ELF64 file")]
    NotElf64,
    #[error("image is not a shared object (ELF type {found}, expected 3)")]
    NotSharedObject { found: u16 },
    #[error("image is for ELF machine {found}; this one is {expected}")]
    WrongMachine { found: u16, expected: u16 },
    #[error(
        "image has {found} program headers of {entry_bytes} bytes; expected 1 to {} of 56",
        layout::MAX_SEGMENTS
    )]
    BadProgramHeaders { found: u16, entry_bytes: u16 },
    #[error("image asks for an interpreter")]
    Interpreter,
    #[error("image has thread-local storage")]
    ThreadLocalStorage,
    #[error("image has nothing to load")]
    NoSegments,
    #[error("image has no dynamic section")]
    NoDynamicSection,
    #[error("segment {index} is both writable and executable")]
    WritableAndExecutable { index: usize },
    #[error("segment {index} holds {file_bytes} bytes of the file in {memory_bytes} bytes of memory")]
    SegmentTooSmall { index: usize, file_bytes: u64, memory_bytes: u64 },
    #[error(
        "segment {index} is not aligned to pages of {page_bytes} bytes; link with a larger `max-page-size`"
    )]
    Misaligned { index: usize, page_bytes: usize },
    #[error("segment {index} overlaps another, or shares a page with it")]
    Overlapping { index: usize },
    #[error("image takes {found_bytes} bytes of memory; expected at most {limit_bytes}")]
    TooLarge { found_bytes: u64, limit_bytes: u64 },
    #[error("`{table}` is outside of the image's memory")]
    OutsideOfMemory { table: &'static str },
    #[error("dynamic section has `{tag}`: {why}")]
    Unsupported { tag: &'static str, why: &'static str },
    #[error("image has {found} symbols; expected at most {limit}")]
    TooManySymbols { found: u64, limit: u64 },
    #[error("image needs symbol `{name}`, which it does not define")]
    UndefinedSymbol { name: String },
    #[error("symbol `{name}` is of a kind that cannot be loaded (ELF symbol type {kind})")]
    UnsupportedSymbol { name: String, kind: u8 },
    #[error("relocation {index} is of type {kind}, which is not one of this machine's data relocations")]
    UnsupportedRelocation { index: usize, kind: u32 },
    #[error("relocation {index} changes bytes outside of the image's data")]
    RelocationOutsideOfData { index: usize },
    #[error("relocation {index} names symbol {symbol}, which does not exist")]
    NoSuchSymbol { index: usize, symbol: u32 },
    #[error("the system refused to {action}")]
    System {
        action: &'static str,
        #[source]
        cause: std::io::Error,
    },
}
