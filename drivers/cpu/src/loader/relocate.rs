//! Relocation: addresses that depend on where the image stands are written into its data.

use object::LittleEndian as LE;
use object::elf;

use super::LoadError;
use super::dynamic::Dynamic;
use super::layout::{Layout, Rights};

/// What a relocation stores, in 64 bits.
#[derive(Clone, Copy)]
enum Store {
    Nothing,
    /// Base + addend.
    Base,
    /// Symbol + addend.
    Symbol,
}

/// The relocations that a linked image without undefined symbols has in its data; all others concern code, which
/// the linker has settled.
const KINDS: &[(elf::Machine, elf::RelocationType, Store)] = &[
    (elf::EM_X86_64, elf::R_X86_64_NONE, Store::Nothing),
    (elf::EM_X86_64, elf::R_X86_64_RELATIVE, Store::Base),
    (elf::EM_X86_64, elf::R_X86_64_64, Store::Symbol),
    (elf::EM_X86_64, elf::R_X86_64_GLOB_DAT, Store::Symbol),
    (elf::EM_X86_64, elf::R_X86_64_JUMP_SLOT, Store::Symbol),
    (elf::EM_AARCH64, elf::R_AARCH64_NONE, Store::Nothing),
    (elf::EM_AARCH64, elf::R_AARCH64_RELATIVE, Store::Base),
    (elf::EM_AARCH64, elf::R_AARCH64_ABS64, Store::Symbol),
    (elf::EM_AARCH64, elf::R_AARCH64_GLOB_DAT, Store::Symbol),
    (elf::EM_AARCH64, elf::R_AARCH64_JUMP_SLOT, Store::Symbol),
    (elf::EM_RISCV, elf::R_RISCV_NONE, Store::Nothing),
    (elf::EM_RISCV, elf::R_RISCV_RELATIVE, Store::Base),
    (elf::EM_RISCV, elf::R_RISCV_64, Store::Symbol),
    (elf::EM_RISCV, elf::R_RISCV_JUMP_SLOT, Store::Symbol),
];

/// Relocates `memory` for standing at `base`.
pub(super) fn apply(
    memory: &mut [u8],
    layout: &Layout,
    dynamic: &Dynamic,
    base: *const u8,
) -> Result<(), LoadError> {
    let bias = (base as u64).wrapping_sub(layout.start);
    for (index, relocation) in dynamic.relocations(memory).iter().enumerate() {
        let kind = relocation.r_type(LE, false);
        let known = KINDS.iter().find(|(machine, known, _)| *machine == layout.machine && *known == kind);
        let addend = relocation.r_addend.get(LE) as u64;
        let value = match known {
            None => return Err(LoadError::UnsupportedRelocation { index, kind: kind.0 }),
            Some((.., Store::Nothing)) => continue,
            Some((.., Store::Base)) => bias.wrapping_add(addend),
            Some((.., Store::Symbol)) => {
                let number = relocation.r_sym(LE, false);
                // Undefined symbols were refused when the functions were listed.
                let symbol = dynamic.symbols(memory).get(number as usize).filter(|_| number != 0);
                let symbol = symbol.ok_or(LoadError::NoSuchSymbol { index, symbol: number })?;
                bias.wrapping_add(symbol.st_value.get(LE)).wrapping_add(addend)
            }
        };
        let target = layout.offset(relocation.r_offset.get(LE)).and_then(|o| Some(o..o.checked_add(8)?));
        let target = target.filter(|range| {
            let rights = layout.segment_of(range).map(|s| s.rights);
            matches!(rights, Some(Rights::ReadWrite | Rights::ReadAfterRelocation))
        });
        let target = target.ok_or(LoadError::RelocationOutsideOfData { index })?;
        memory[target].copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}
