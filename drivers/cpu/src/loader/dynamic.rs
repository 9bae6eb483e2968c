//! The dynamic section: symbols, relocation tables, and everything that an image must not ask for.

use std::collections::BTreeMap;
use std::ops::Range;

use object::LittleEndian as LE;
use object::elf::{self, Dyn64, Rela64, Sym64};
use object::pod;

use super::LoadError;
use super::layout::{Layout, Rights};

/// More symbols than any executable exports, and names longer than any of them: names are copied, so both bound what
/// an image can cost.
const MAX_SYMBOLS: u64 = 1 << 16;
const MAX_NAME_BYTES: usize = 1 << 10;

/// Offsets of tables, each inside of the image's memory.
#[derive(Debug)]
pub(super) struct Dynamic {
    symbols: Range<usize>,
    strings: Range<usize>,
    relocations: [Range<usize>; 2],
}

/// Tags whose presence means work for somebody else than this loader, or code that runs before it is called.
const REFUSED: &[(elf::DynamicTag, &str, &str)] = &[
    (elf::DT_NEEDED, "DT_NEEDED", "it needs another library"),
    (elf::DT_INIT, "DT_INIT", "it runs code when loaded"),
    (elf::DT_FINI, "DT_FINI", "it runs code when unloaded"),
    (elf::DT_INIT_ARRAY, "DT_INIT_ARRAY", "it runs code when loaded"),
    (elf::DT_FINI_ARRAY, "DT_FINI_ARRAY", "it runs code when unloaded"),
    (elf::DT_PREINIT_ARRAY, "DT_PREINIT_ARRAY", "it runs code when loaded"),
    (elf::DT_TEXTREL, "DT_TEXTREL", "it relocates code"),
    (elf::DT_REL, "DT_REL", "its relocations have no addends"),
    (elf::DT_RELR, "DT_RELR", "its relocations are packed; link with `-z nopack-relative-relocs`"),
];

pub(super) fn parse(memory: &[u8], layout: &Layout) -> Result<Dynamic, LoadError> {
    let outside = |table| LoadError::OutsideOfMemory { table };
    let section = memory.get(layout.dynamic.clone()).ok_or(outside("dynamic section"))?;
    let count = section.len() / size_of::<Dyn64<LE>>();
    let (entries, _) =
        pod::slice_from_bytes::<Dyn64<LE>>(section, count).map_err(|()| outside("dynamic section"))?;
    let mut values = BTreeMap::new();
    for entry in entries {
        let tag = entry.d_tag.get(LE);
        if tag == elf::DT_NULL {
            break;
        }
        if let Some((_, tag, why)) = REFUSED.iter().find(|(refused, ..)| *refused == tag) {
            return Err(LoadError::Unsupported { tag, why });
        }
        values.insert(tag.0, entry.d_val.get(LE));
    }
    let value = |tag: elf::DynamicTag| values.get(&tag.0).copied();
    if value(elf::DT_FLAGS).is_some_and(|flags| flags & elf::DF_TEXTREL.0 != 0) {
        return Err(LoadError::Unsupported { tag: "DF_TEXTREL", why: "it relocates code" });
    }
    if value(elf::DT_PLTREL).is_some_and(|kind| kind != elf::DT_RELA.0 as u64) {
        return Err(LoadError::Unsupported { tag: "DT_PLTREL", why: "its relocations have no addends" });
    }
    let table = |address: Option<u64>, bytes: Option<u64>, table| {
        let (Some(address), Some(bytes)) = (address, bytes) else { return Ok(0..0) };
        range(memory, layout, address, bytes).ok_or(outside(table))
    };
    let strings = table(value(elf::DT_STRTAB), value(elf::DT_STRSZ), "string table")?;
    let relocations = [
        table(value(elf::DT_RELA), value(elf::DT_RELASZ), "relocations")?,
        table(value(elf::DT_JMPREL), value(elf::DT_PLTRELSZ), "jump relocations")?,
    ];
    let count = match (value(elf::DT_HASH), value(elf::DT_GNU_HASH)) {
        (Some(hash), _) => symbols_by_hash(memory, layout, hash).ok_or(outside("hash table"))?,
        (None, Some(hash)) => symbols_by_gnu_hash(memory, layout, hash).ok_or(outside("GNU hash table"))?,
        (None, None) => 0,
    };
    if count > MAX_SYMBOLS {
        return Err(LoadError::TooManySymbols { found: count, limit: MAX_SYMBOLS });
    }
    let bytes = count * size_of::<Sym64<LE>>() as u64;
    let symbols = table(value(elf::DT_SYMTAB), Some(bytes), "symbol table")?;
    Ok(Dynamic { symbols, strings, relocations })
}

impl Dynamic {
    pub(super) fn symbols<'a>(&self, memory: &'a [u8]) -> &'a [Sym64<LE>] {
        entries(&memory[self.symbols.clone()])
    }

    /// The two relocation tables, one after the other.
    pub(super) fn relocations(&self, memory: &[u8]) -> Vec<Rela64<LE>> {
        let [data, jumps] = &self.relocations;
        [entries(&memory[data.clone()]), entries(&memory[jumps.clone()])].concat()
    }

    /// A symbol's name, or its first part when it is of unreasonable length.
    pub(super) fn name(&self, memory: &[u8], symbol: &Sym64<LE>) -> String {
        let strings = &memory[self.strings.clone()];
        let rest = strings.get(symbol.st_name.get(LE) as usize..).unwrap_or_default();
        let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
        let name = rest.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Exported functions by name, as offsets of memory.
    pub(super) fn functions(
        &self,
        memory: &[u8],
        layout: &Layout,
    ) -> Result<BTreeMap<String, usize>, LoadError> {
        let mut functions = BTreeMap::new();
        for symbol in self.symbols(memory).iter().skip(1) {
            let name = || self.name(memory, symbol);
            if symbol.st_shndx.get(LE) == elf::SHN_UNDEF {
                return Err(LoadError::UndefinedSymbol { name: name() });
            }
            match symbol.st_type() {
                elf::STT_GNU_IFUNC | elf::STT_TLS => {
                    return Err(LoadError::UnsupportedSymbol { name: name(), kind: symbol.st_type().0 });
                }
                elf::STT_FUNC => {}
                _ => continue,
            }
            let offset = layout.offset(symbol.st_value.get(LE));
            let code = offset.and_then(|o| layout.segment_of(&(o..o.checked_add(1)?)).map(|s| (o, s.rights)));
            match code {
                Some((offset, Rights::ReadExecute)) => functions.insert(name(), offset),
                _ => return Err(LoadError::OutsideOfMemory { table: "function symbol" }),
            };
        }
        Ok(functions)
    }
}

/// As many whole entries as there are.
fn entries<T: pod::Pod>(bytes: &[u8]) -> &[T] {
    pod::slice_from_bytes(bytes, bytes.len() / size_of::<T>()).map_or(&[], |(entries, _)| entries)
}

fn range(memory: &[u8], layout: &Layout, address: u64, bytes: u64) -> Option<Range<usize>> {
    let start = layout.offset(address)?;
    let end = start.checked_add(usize::try_from(bytes).ok()?)?;
    (end <= memory.len()).then_some(start..end)
}

fn word(memory: &[u8], offset: usize) -> Option<u32> {
    let bytes = memory.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The second word of a System V hash table is the number of symbols.
fn symbols_by_hash(memory: &[u8], layout: &Layout, address: u64) -> Option<u64> {
    Some(u64::from(word(memory, layout.offset(address)?.checked_add(4)?)?))
}

/// A GNU hash table holds the symbols from `first` on in chains; the last symbol ends the last chain.
fn symbols_by_gnu_hash(memory: &[u8], layout: &Layout, address: u64) -> Option<u64> {
    let start = layout.offset(address)?;
    let header = |index: usize| word(memory, start.checked_add(index * 4)?);
    let (buckets, first, bloom) = (header(0)? as usize, header(1)?, header(2)? as usize);
    let buckets_at = start.checked_add(16)?.checked_add(bloom.checked_mul(8)?)?;
    let chains_at = buckets_at.checked_add(buckets.checked_mul(4)?)?;
    memory.get(buckets_at..chains_at)?;
    let heads = (0..buckets).filter_map(|bucket| word(memory, buckets_at + bucket * 4));
    let Some(mut last) = heads.max().filter(|&head| head >= first) else { return Some(u64::from(first)) };
    loop {
        let link = word(memory, chains_at.checked_add((last - first) as usize * 4)?)?;
        last = last.checked_add(1)?;
        if link & 1 == 1 {
            return Some(u64::from(last));
        }
    }
}
