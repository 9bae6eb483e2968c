//! Checks a module's content: hashes, tables, names, and every instruction.
//!
//! This is the one layer that validates modules; what runs them trusts it. Time is linear in the module's bytes
//! and the stack use is fixed.

mod code;

use crate::access::words_of;
use crate::error::{Verify, VerifyError};
use crate::format::{MAX_KERNEL_OPERANDS, MAX_NAMES_BYTES, MAX_STRING_BYTES, PARAM_ALIGNMENT, SectionKind};
use crate::reader::{
    DimRef, Dims, ENTRY_WORDS, EntryPointRef, FUNCTION_WORDS, Function, Module, PARAM_WORDS, PeakRef,
    RowsRef, Tensors,
};
use crate::words::Cursor;
use crate::{costs, host_calls, texts};

impl Module<'_> {
    /// Checks that the content is what was written, and that it is sound: of all variants, whichever this is.
    ///
    /// # Errors
    /// The first thing found wrong. Whoever made the module can also have made its hashes: they show damage, the
    /// other checks hold against malice.
    pub fn verify(&self, extent: Verify) -> Result<(), VerifyError> {
        for variant in self.variants() {
            let mut own = SectionKind::ALL.into_iter().filter(|section| !section.is_shared());
            own.try_for_each(|section| variant.verify_hash(section))?;
        }
        if extent == Verify::All {
            self.verify_hash(SectionKind::Params)?;
        }
        for variant in self.variants() {
            variant.verify_contents()?;
            if !offers_the_same(self, &variant) {
                return Err(VerifyError::Variant { variant: variant.variant() as u32 });
            }
        }
        Ok(())
    }

    fn verify_hash(&self, section: SectionKind) -> Result<(), VerifyError> {
        let found = blake3::hash(self.section(section));
        if *found.as_bytes() == self.hashes[section.index()] {
            Ok(())
        } else {
            Err(VerifyError::Hash { section })
        }
    }

    /// Everything of this variant but the hashes.
    pub(crate) fn verify_contents(&self) -> Result<(), VerifyError> {
        verify_strings(self)?;
        let mut names = Names { module: self, used_bytes: 0 };
        verify_target(self, &mut names)?;
        verify_provenance(self, &mut names)?;
        verify_entries(self, &mut names)?;
        verify_params(self, &mut names)?;
        verify_texts(self)?;
        host_calls::verify(self, |name| names.check(SectionKind::HostCalls, name))?;
        verify_functions(self, &mut names)?;
        verify_signature(self, &mut names)
    }
}

fn malformed(section: SectionKind, offset: u64, problem: &'static str) -> VerifyError {
    VerifyError::Malformed { section, offset, problem }
}

/// Checks uses of strings and bounds what copies of them all would take.
struct Names<'m, 'a> {
    module: &'m Module<'a>,
    used_bytes: u64,
}

impl Names<'_, '_> {
    fn check(&mut self, section: SectionKind, found: u32) -> Result<(), VerifyError> {
        let count = self.module.strings();
        let words = self.module.words(SectionKind::Strings);
        let bounds = (found < count).then(|| {
            let end = words.get(found as usize + 2)?;
            Some(u64::from(end - words.get(found as usize + 1)?))
        });
        let bytes = bounds.flatten().ok_or(VerifyError::String { section, found, count })?;
        // Empty names count too: a view of one takes memory.
        self.used_bytes += bytes + 16;
        if self.used_bytes > MAX_NAMES_BYTES { Err(VerifyError::TooManyNames) } else { Ok(()) }
    }
}

fn verify_strings(module: &Module<'_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Strings;
    let bytes = module.section(SECTION);
    let words = module.words(SECTION);
    let count = words.get(0).ok_or(malformed(SECTION, 0, "there is no count"))? as usize;
    let text_at = count.checked_add(2).and_then(|words| words.checked_mul(4));
    let text = text_at.and_then(|at| bytes.get(at..)).ok_or(malformed(SECTION, 0, "too many strings"))?;
    let mut start = 0;
    for index in 0..=count {
        let offset = index as u64 * 4 + 4;
        let end = words.get(index + 1).ok_or(malformed(SECTION, offset, "cut short"))? as usize;
        let string =
            text.get(start..end).ok_or(malformed(SECTION, offset, "string out of bounds or order"))?;
        if string.len() > MAX_STRING_BYTES {
            return Err(malformed(SECTION, offset, "string is too long"));
        }
        if core::str::from_utf8(string).is_err() {
            return Err(malformed(SECTION, offset, "string is not UTF-8"));
        }
        if index == 0 && end != 0 {
            return Err(malformed(SECTION, offset, "the first string does not start at 0"));
        }
        start = end;
    }
    if start != text.len() {
        return Err(malformed(SECTION, bytes.len() as u64, "text after the last string"));
    }
    Ok(())
}

fn verify_target(module: &Module<'_>, names: &mut Names<'_, '_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Target;
    let mut cursor = Cursor::new(module.section(SECTION));
    let mut word = || cursor.word().ok_or(malformed(SECTION, cursor.offset(), "cut short"));
    names.check(SECTION, word()?)?;
    for _ in 0..word()? {
        names.check(SECTION, word()?)?;
    }
    end(SECTION, &cursor)
}

fn verify_provenance(module: &Module<'_>, names: &mut Names<'_, '_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Provenance;
    let mut cursor = Cursor::new(module.section(SECTION));
    cursor.bytes(8).ok_or(malformed(SECTION, 0, "cut short"))?;
    for _ in 0..3 {
        let word = cursor.word().ok_or(malformed(SECTION, cursor.offset(), "cut short"))?;
        names.check(SECTION, word)?;
    }
    end(SECTION, &cursor)
}

fn end(section: SectionKind, cursor: &Cursor<'_>) -> Result<(), VerifyError> {
    if cursor.at_end() {
        Ok(())
    } else {
        Err(malformed(section, cursor.offset(), "there is more than should be"))
    }
}

fn verify_rows(module: &Module<'_>, section: SectionKind, words: usize) -> Result<(), VerifyError> {
    let bytes = module.section(section).len();
    let too_many = bytes / (words * 4) >= u32::MAX as usize;
    if too_many || !bytes.is_multiple_of(words * 4) {
        return Err(malformed(section, bytes as u64, "not a whole number of rows"));
    }
    Ok(())
}

fn verify_entries(module: &Module<'_>, names: &mut Names<'_, '_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Entries;
    let words = module.words(SECTION);
    let count = words.get(0).ok_or(malformed(SECTION, 0, "there is no count"))?;
    let rows = (count as usize).checked_mul(ENTRY_WORDS).and_then(|rows| rows.checked_add(1));
    let mut next = rows.filter(|&end| end <= words.len()).ok_or(malformed(SECTION, 0, "too many kernels"))?;
    for index in 0..count {
        let at = 1 + index as usize * ENTRY_WORDS;
        let bad = |problem| malformed(SECTION, at as u64 * 4, problem);
        let row = words.slice(at, ENTRY_WORDS).ok_or(bad("cut short"))?;
        names.check(SECTION, row.get(0).unwrap_or(u32::MAX))?;
        names.check(SECTION, row.get(1).unwrap_or(u32::MAX))?;
        let kernel = module.kernel(index).ok_or(bad("the accesses of bindings are cut short"))?;
        if kernel.bindings.len().max(kernel.constants) > MAX_KERNEL_OPERANDS {
            return Err(bad("more bindings or constants than a dispatch can have"));
        }
        if row.get(4) != u32::try_from(next).ok() {
            return Err(bad("accesses do not follow the previous kernel's"));
        }
        if !kernel.bindings.is_sound() {
            return Err(bad("a binding without access, or access without a binding"));
        }
        next += words_of(kernel.bindings.len());
    }
    if next * 4 != module.section(SECTION).len() {
        return Err(malformed(SECTION, next as u64 * 4, "there is more than should be"));
    }
    Ok(())
}

fn verify_params(module: &Module<'_>, names: &mut Names<'_, '_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::ParamIndex;
    verify_rows(module, SECTION, PARAM_WORDS)?;
    let mut cursor = Cursor::new(module.section(SECTION));
    for param in 0..module.params() {
        let at = cursor.offset();
        let cut_short = malformed(SECTION, at, "cut short");
        names.check(SECTION, cursor.word().ok_or(cut_short)?)?;
        if cursor.word() != Some(0) {
            return Err(malformed(SECTION, at + 4, "should be zero"));
        }
        let (offset, bytes) = (cursor.long().ok_or(cut_short)?, cursor.long().ok_or(cut_short)?);
        let section_bytes = module.params_bytes;
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= section_bytes);
        if !inside || !offset.is_multiple_of(PARAM_ALIGNMENT) {
            return Err(VerifyError::Param { param, offset, bytes, section_bytes });
        }
    }
    Ok(())
}

fn verify_texts(module: &Module<'_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Texts;
    let bytes = module.section(SECTION);
    match texts::count(bytes) {
        Some(_) => Ok(()),
        None => Err(malformed(SECTION, bytes.len() as u64, "the last string is cut short")),
    }
}

/// Functions stand one after the other and fill the code section, so that no word is checked twice.
fn verify_functions(module: &Module<'_>, names: &mut Names<'_, '_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Functions;
    verify_rows(module, SECTION, FUNCTION_WORDS)?;
    if !module.section(SectionKind::Code).len().is_multiple_of(4) {
        return Err(malformed(SectionKind::Code, 0, "not a whole number of words"));
    }
    let rows = module.words(SECTION);
    let mut next = 0u64;
    for index in 0..module.functions() {
        let at = index as usize * FUNCTION_WORDS;
        names.check(SECTION, rows.get(at).unwrap_or(u32::MAX))?;
        let function = module.function(index).ok_or(malformed(
            SECTION,
            at as u64 * 4,
            "counts or code are out of bounds",
        ))?;
        if u64::from(function.start) != next {
            return Err(malformed(SECTION, at as u64 * 4, "code does not follow the previous function's"));
        }
        next += u64::from(function.words);
        code::verify_function(module, index, &function)?;
    }
    if next != module.words(SectionKind::Code).len() as u64 {
        return Err(malformed(SectionKind::Code, next * 4, "there is more than should be"));
    }
    Ok(())
}

fn verify_signature(module: &Module<'_>, names: &mut Names<'_, '_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Signature;
    verify_rows(module, SECTION, 1)?;
    let mut entries = module.entry_points();
    for index in 0..entries.left {
        let at = entries.cursor.offset();
        // Names are checked before `read` turns them into text, so that no text is looked at more than it counts.
        let word = |number: usize| {
            let found = module.words(SECTION).get((at / 4) as usize + number);
            found.ok_or(malformed(SECTION, at, "cut short"))
        };
        names.check(SECTION, word(0)?)?;
        if word(2)? < 2 {
            names.check(SECTION, word(3)?)?;
        }
        let entry = entries.read().ok_or(malformed(SECTION, at, "cut short or unknown numbers"))?;
        for tensors in [entry.inputs, entry.outputs] {
            verify_tensors(&tensors, names)?;
        }
        fits(module, &entry).map_err(|problem| VerifyError::EntryPoint {
            entry: index,
            function: entry.function,
            problem,
        })?;
    }
    end(SECTION, &entries.cursor)
}

/// Whether callers see the same of two variants, whose functions may have other numbers.
fn offers_the_same(one: &Module<'_>, other: &Module<'_>) -> bool {
    let dims = |x: Dims<'_>, y: Dims<'_>| x.len() == y.len() && x.zip(y).all(|(x, y)| x == y);
    let tensors = |x: Tensors<'_>, y: Tensors<'_>| {
        let mut pairs = x.zip(y);
        x.len() == y.len()
            && pairs.all(|(x, y)| x.name == y.name && x.dtype == y.dtype && dims(x.dims, y.dims))
    };
    let (x, y) = (one.entry_points(), other.entry_points());
    let mut pairs = x.zip(y);
    x.left == y.left
        && pairs.all(|(x, y)| {
            (x.name, x.rows.independence()) == (y.name, y.rows.independence())
                && tensors(x.inputs, y.inputs)
                && tensors(x.outputs, y.outputs)
        })
}

fn verify_tensors(tensors: &Tensors<'_>, names: &mut Names<'_, '_>) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::Signature;
    let mut tensors = *tensors;
    while tensors.left > 0 {
        let at = tensors.cursor.offset();
        let bad = malformed(SECTION, at, "tensor is cut short or has unknown numbers");
        for name in tensors.names() {
            names.check(SECTION, name.ok_or(bad)?)?;
        }
        let tensor = tensors.next().ok_or(bad)?;
        let rank = tensor.dims.len();
        if tensor.dims.count() != rank {
            return Err(bad);
        }
    }
    Ok(())
}

/// True to its word: an entry point's tensors are those of its function, and its peak can be asked for.
fn fits(module: &Module<'_>, entry: &EntryPointRef<'_>) -> Result<(), &'static str> {
    let function = module.function(entry.function).ok_or("there is no such function")?;
    if function.is_scalar() {
        return Err("the function has no outputs");
    }
    if !ranks_match(&entry.inputs, function.inputs, |input| function.input_rank(input)) {
        return Err("inputs differ in number or rank");
    }
    if !ranks_match(&entry.outputs, function.outputs, |output| function.output_rank(output)) {
        return Err("outputs differ in number or rank");
    }
    let mut tensors = entry.inputs.chain(entry.outputs);
    if entry.rows.independence().is_ok()
        && (entry.inputs.is_empty() || !tensors.all(|tensor| is_of_rows(tensor.dims)))
    {
        return Err("rows are said to be independent, and a tensor does not begin with them");
    }
    if let RowsRef::Independent { costs, .. } = entry.rows
        && !costs::are_sound(costs)
    {
        return Err("costs are not those of one row, two and so on, in thousandths of the first");
    }
    let PeakRef::Function(peak) = entry.peak else { return Ok(()) };
    let peak: Function<'_> = module.function(peak).ok_or("there is no such function for its peak memory")?;
    if !peak.is_scalar() || !ranks_match(&entry.inputs, peak.inputs, |input| peak.input_rank(input)) {
        return Err("the function for its peak memory is not scalar or has other inputs");
    }
    Ok(())
}

/// Whether the first dimension is one that callers choose, and no other is the same.
fn is_of_rows(mut dims: Dims<'_>) -> bool {
    let name = |dim| if let DimRef::Symbolic { name, .. } = dim { Some(name) } else { None };
    let Some(batch) = dims.next().and_then(name) else { return false };
    dims.all(|dim| name(dim) != Some(batch))
}

fn ranks_match(tensors: &Tensors<'_>, count: u16, rank: impl Fn(u16) -> Option<u16>) -> bool {
    tensors.len() == usize::from(count)
        && (0..count)
            .zip(*tensors)
            .all(|(index, tensor)| rank(index).map(usize::from) == Some(tensor.dims.len()))
}
