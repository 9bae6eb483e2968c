//! Headers: which bytes of the file stand where in memory, and with what rights.

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::pod;

use super::LoadError;

/// More program headers than any linker writes for an image without libraries.
pub(super) const MAX_SEGMENTS: u16 = 64;

/// Memory that an image may take beyond its own size, for zeroed data.
const MAX_ZEROED_BYTES: u64 = 64 << 20;

/// Where segments stand. Offsets of memory count from the first segment's page.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) machine: elf::Machine,
    pub(super) segments: Vec<Segment>,
    /// Address, in the file's terms, of offset 0.
    pub(super) start: u64,
    /// The dynamic section.
    pub(super) dynamic: Range<usize>,
    span_bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Whole pages of memory.
    pub(super) pages: Range<usize>,
    /// What the file defines of them, also the zeroed part.
    pub(super) memory: Range<usize>,
    file: Range<usize>,
    pub(super) rights: Rights,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Read,
    /// Relocated when loaded; written to by nobody later.
    ReadAfterRelocation,
    ReadWrite,
    ReadExecute,
}

/// The ELF machine of this process.
pub(super) const fn host_machine() -> elf::Machine {
    if cfg!(target_arch = "x86_64") {
        elf::EM_X86_64
    } else if cfg!(target_arch = "aarch64") {
        elf::EM_AARCH64
    } else if cfg!(target_arch = "riscv64") {
        elf::EM_RISCV
    } else {
        elf::EM_NONE
    }
}

impl Layout {
    pub(super) fn parse(image: &[u8], machine: elf::Machine) -> Result<Self, LoadError> {
        let headers = program_headers(image, machine)?;
        let page = rustix::param::page_size();
        let mut segments = Vec::new();
        let mut relro = None;
        let mut dynamic = None;
        let loads = headers.iter().filter(|h| h.p_type.get(LE) == elf::PT_LOAD);
        let start = loads.map(|h| h.p_vaddr.get(LE)).min().ok_or(LoadError::NoSegments)? & !(page as u64 - 1);
        let limit_bytes = image.len() as u64 + MAX_ZEROED_BYTES;
        for (index, header) in headers.iter().enumerate() {
            let address = header.p_vaddr.get(LE);
            let memory_bytes = header.p_memsz.get(LE);
            let memory = || span(address, memory_bytes, start, limit_bytes);
            match header.p_type.get(LE) {
                elf::PT_INTERP => return Err(LoadError::Interpreter),
                elf::PT_TLS => return Err(LoadError::ThreadLocalStorage),
                elf::PT_DYNAMIC => dynamic = Some(memory()?),
                elf::PT_GNU_RELRO => relro = Some(memory()?),
                elf::PT_LOAD if memory_bytes > 0 => {
                    segments.push(segment(image, header, index, memory()?, page)?);
                }
                _ => {}
            }
        }
        if segments.is_empty() {
            return Err(LoadError::NoSegments);
        }
        segments.sort_by_key(|s: &Segment| s.pages.start);
        for (index, pair) in segments.windows(2).enumerate() {
            if pair[1].pages.start < pair[0].pages.end {
                return Err(LoadError::Overlapping { index: index + 1 });
            }
        }
        if let Some(relro) = relro {
            for segment in &mut segments {
                // The linker pads what it protects to whole pages.
                let covered = relro.start <= segment.memory.start && segment.memory.end <= relro.end;
                if segment.rights == Rights::ReadWrite && covered {
                    segment.rights = Rights::ReadAfterRelocation;
                }
            }
        }
        let span_bytes = segments.last().map_or(0, |s| s.pages.end);
        let dynamic = dynamic.ok_or(LoadError::NoDynamicSection)?;
        Ok(Self { machine, segments, start, dynamic, span_bytes })
    }

    /// Bytes of memory from the first to the last page.
    pub(super) fn span_bytes(&self) -> usize {
        self.span_bytes
    }

    /// The image as it stands in memory, before relocation.
    pub(super) fn lay_out(&self, image: &[u8]) -> Vec<u8> {
        let mut memory = vec![0; self.span_bytes];
        for segment in &self.segments {
            let start = segment.memory.start;
            memory[start..start + segment.file.len()].copy_from_slice(&image[segment.file.clone()]);
        }
        memory
    }

    /// An address of the file as an offset of memory.
    pub(super) fn offset(&self, address: u64) -> Option<usize> {
        usize::try_from(address.checked_sub(self.start)?).ok()
    }

    /// The segment that holds all of `range`.
    pub(super) fn segment_of(&self, range: &Range<usize>) -> Option<&Segment> {
        self.segments.iter().find(|s| s.memory.start <= range.start && range.end <= s.memory.end)
    }
}

fn program_headers(image: &[u8], machine: elf::Machine) -> Result<&[ProgramHeader64<LE>], LoadError> {
    let truncated = |table, end_bytes| LoadError::Truncated { table, found_bytes: image.len(), end_bytes };
    let (header, _) =
        pod::from_bytes::<FileHeader64<LE>>(image).map_err(|()| truncated("file header", 64))?;
    let ident = &header.e_ident;
    if ident.magic != elf::ELFMAG || ident.class != elf::ELFCLASS64 || ident.data != elf::ELFDATA2LSB {
        return Err(LoadError::NotElf64);
    }
    if header.e_type.get(LE) != elf::ET_DYN {
        return Err(LoadError::NotSharedObject { found: header.e_type.get(LE).0 });
    }
    if header.e_machine.get(LE) != machine {
        return Err(LoadError::WrongMachine { found: header.e_machine.get(LE).0, expected: machine.0 });
    }
    let (found, entry_bytes) = (header.e_phnum.get(LE), header.e_phentsize.get(LE));
    if found == 0 || found > MAX_SEGMENTS || usize::from(entry_bytes) != size_of::<ProgramHeader64<LE>>() {
        return Err(LoadError::BadProgramHeaders { found, entry_bytes });
    }
    let offset = header.e_phoff.get(LE);
    let end = offset.saturating_add(u64::from(found) * u64::from(entry_bytes));
    let table = usize::try_from(offset).ok().and_then(|offset| image.get(offset..));
    let table = table.ok_or_else(|| truncated("program headers", end))?;
    let (headers, _) = pod::slice_from_bytes::<ProgramHeader64<LE>>(table, usize::from(found))
        .map_err(|()| truncated("program headers", end))?;
    Ok(headers)
}

fn segment(
    image: &[u8],
    header: &ProgramHeader64<LE>,
    index: usize,
    memory: Range<usize>,
    page_bytes: usize,
) -> Result<Segment, LoadError> {
    let (offset, file_bytes) = (header.p_offset.get(LE), header.p_filesz.get(LE));
    let memory_bytes = memory.len() as u64;
    if file_bytes > memory_bytes {
        return Err(LoadError::SegmentTooSmall { index, file_bytes, memory_bytes });
    }
    let end_bytes = offset.saturating_add(file_bytes);
    if end_bytes > image.len() as u64 {
        return Err(LoadError::Truncated { table: "segment", found_bytes: image.len(), end_bytes });
    }
    // Linkers keep offset and address congruent to the largest page they know of. An image that is not so
    // would load too, as it is copied, but its segments were laid out for smaller pages than these.
    if !header.p_align.get(LE).is_multiple_of(page_bytes as u64) || header.p_align.get(LE) == 0 {
        return Err(LoadError::Misaligned { index, page_bytes });
    }
    let flags = header.p_flags.get(LE);
    let rights = match (flags.contains(elf::PF_W), flags.contains(elf::PF_X)) {
        (true, true) => return Err(LoadError::WritableAndExecutable { index }),
        (true, false) => Rights::ReadWrite,
        (false, true) => Rights::ReadExecute,
        (false, false) => Rights::Read,
    };
    let pages = memory.start & !(page_bytes - 1)..memory.end.next_multiple_of(page_bytes);
    Ok(Segment { pages, memory, file: offset as usize..end_bytes as usize, rights })
}

/// A range of addresses as offsets from `start`; at most `limit_bytes` from it.
fn span(address: u64, len: u64, start: u64, limit_bytes: u64) -> Result<Range<usize>, LoadError> {
    let offset = address.checked_sub(start).ok_or(LoadError::OutsideOfMemory { table: "segment" })?;
    let end = offset.saturating_add(len);
    if end > limit_bytes {
        return Err(LoadError::TooLarge { found_bytes: end, limit_bytes });
    }
    Ok(offset as usize..end as usize)
}
