//! Writes modules. Parameters stream through: only the small sections are ever held in memory.

pub(crate) mod file;

use std::borrow::Cow;
use std::boxed::Box;
use std::collections::{HashMap, HashSet};
use std::io::{self, Seek, SeekFrom, Write};
use std::string::String;
use std::vec::Vec;

use crate::access::{self, Access};
use crate::code;
use crate::error::{CodeProblem, VerifyError};
use crate::format::{HEADER_BYTES, MAX_STRING_BYTES, MAX_VARIANTS, ROW_BYTES, SHARED, SectionKind};
use crate::host_calls::{self, HostCallDraft};
use crate::reader::{ENTRY_WORDS, Module};
use crate::signature::{DimSpec, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec};
use file::{HashingWriter, SharedParams, header};

/// A module as the compiler makes it.
pub struct ModuleDraft {
    pub signature: Signature,
    pub target: Target,
    pub provenance: Provenance,
    pub functions: Vec<code::Function>,
    /// Messages of [`code::Inst::Check`].
    pub strings: Vec<String>,
    pub executable: ExecutableDraft,
    pub params: Vec<ParamDraft>,
    /// String constants, laid out as [`crate::texts`] says: handle 1 first.
    pub texts: Vec<u8>,
    /// What [`code::Inst::HostCall`] calls.
    pub host_calls: Vec<HostCallDraft>,
    /// What profiles say of dispatches, as [`crate::notes`] encodes it; the runtime ignores it.
    pub debug: Vec<u8>,
}

/// The compiled kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutableDraft {
    /// ELF64 shared object (`ET_DYN`) without undefined symbols or needed libraries; empty without kernels.
    pub image: Vec<u8>,
    /// Kernels in the order that dispatches number them.
    pub entries: Vec<KernelEntry>,
}

/// A kernel of the executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEntry {
    /// The exported symbol.
    pub symbol: String,
    /// The nodes of the model that it computes, for profiles.
    pub origin: String,
    /// What it does to each of its bindings; every dispatch of it binds as many.
    pub bindings: Vec<Access>,
    /// How many constants it takes; every dispatch of it gives as many.
    pub constants: usize,
}

/// A parameter's bytes, wherever they are: owned, mapped, shared, or made when they are asked for.
pub trait ParamSource: Send + Sync {
    fn len_bytes(&self) -> u64;

    /// The same as many bytes whenever it is called.
    fn bytes(&self) -> Cow<'_, [u8]>;
}

impl<Bytes: AsRef<[u8]> + Send + Sync> ParamSource for Bytes {
    fn len_bytes(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_ref())
    }
}

/// A parameter.
pub struct ParamDraft {
    pub name: String,
    pub bytes: Box<dyn ParamSource>,
}

/// Why a module could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("function `{function}`, instruction {instruction} cannot be encoded: {problem}")]
    Encode { function: String, instruction: u32, problem: CodeProblem },
    #[error("function `{function}`, instruction {instruction} is not valid: {problem}")]
    Code { function: String, instruction: u32, problem: CodeProblem },
    #[error("the module is not valid")]
    Invalid(#[source] VerifyError),
    #[error("{what} is larger than the format allows")]
    TooLarge { what: &'static str },
    #[error("{what} has {bytes} bytes; the format allows {MAX_STRING_BYTES}")]
    LongString { what: &'static str, bytes: usize },
    #[error("entry point `{entry}` stands after one with a higher function")]
    EntryOrder { entry: String },
    #[error("two {what} have the name `{name}`")]
    Duplicate { what: &'static str, name: String },
    #[error("{found} variants; a module has 1 to {MAX_VARIANTS}")]
    Variants { found: usize },
    #[error("parameter `{name}` has {found} bytes, and said that it has {expected}")]
    ParamBytes { name: String, found: u64, expected: u64 },
    #[error("the module cannot be written")]
    Io(#[from] io::Error),
}

/// Writes a module of several variants, the preferred one first, from the current position of `out`, and gives the
/// number of bytes written. Parameters that are equal stand in it once.
///
/// # Errors
/// When the module would not pass [`Module::verify`], which is checked before the first byte is written; when `out`
/// fails.
pub fn write_variants(variants: &[ModuleDraft], out: &mut (impl Write + Seek)) -> Result<u64, WriteError> {
    if !(1..=MAX_VARIANTS).contains(&variants.len()) {
        return Err(WriteError::Variants { found: variants.len() });
    }
    let offered = variants[0].signature.without_functions();
    let different = variants.iter().position(|variant| variant.signature.without_functions() != offered);
    if let Some(variant) = different {
        return Err(WriteError::Invalid(VerifyError::Variant { variant: variant as u32 }));
    }
    let params = SharedParams::place(variants)?;
    let sections = variants.iter().zip(&params.offsets).map(|(variant, offsets)| {
        let sections = variant.build_sections(offsets)?;
        variant.check(&sections, params.bytes)?;
        Ok(sections)
    });
    let sections = sections.collect::<Result<Vec<_>, WriteError>>()?;

    let base = out.stream_position()?;
    let shared = SectionKind::ALL.iter().filter(|kind| kind.is_shared()).count();
    let rows = variants.len() * (SectionKind::COUNT - shared) + shared;
    let table_bytes = rows * ROW_BYTES;
    let mut file = HashingWriter { out, position: 0, section: blake3::Hasher::new() };
    file.write(&[0; HEADER_BYTES])?;
    file.pad_to((HEADER_BYTES + table_bytes) as u64)?;

    let mut table = Vec::with_capacity(table_bytes);
    for (variant, sections) in (0u32..).zip(&sections) {
        for kind in SectionKind::ALL.into_iter().filter(|kind| !kind.is_shared()) {
            file.section(kind, variant, &mut table, |_, file| Ok(file.write(&sections[kind.index()])?))?;
        }
    }
    file.section(SectionKind::Params, SHARED, &mut table, |start, file| params.write(start, file))?;

    let bytes = file.position;
    out.seek(SeekFrom::Start(base))?;
    out.write_all(&header(bytes, &table))?;
    out.write_all(&table)?;
    out.seek(SeekFrom::Start(base + bytes))?;
    Ok(bytes)
}

impl ModuleDraft {
    /// Writes the module from the current position of `out`, and gives the number of bytes written.
    ///
    /// # Errors
    /// As [`write_variants`].
    pub fn write(&self, out: &mut (impl Write + Seek)) -> Result<u64, WriteError> {
        write_variants(std::slice::from_ref(self), out)
    }

    /// Checks what has been built as a reader would.
    fn check(&self, sections: &Sections, params_bytes: u64) -> Result<(), WriteError> {
        let slices: [&[u8]; SectionKind::COUNT] = core::array::from_fn(|index| sections[index].as_slice());
        let module = Module::from_sections(slices, params_bytes);
        module.verify_contents().map_err(|error| self.name_function(error))
    }

    /// The module in memory.
    ///
    /// # Errors
    /// As [`ModuleDraft::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut out = io::Cursor::new(Vec::new());
        self.write(&mut out)?;
        Ok(out.into_inner())
    }

    /// An error of the verifier, with the function's name where it concerns one instruction.
    fn name_function(&self, error: VerifyError) -> WriteError {
        match error {
            VerifyError::Code { function, instruction, problem } => {
                let function = self.functions.get(function as usize).map_or("", |function| &function.name);
                WriteError::Code { function: function.into(), instruction, problem }
            }
            other => WriteError::Invalid(other),
        }
    }

    /// Every section but the parameters, which stand at `offsets`.
    fn build_sections(&self, offsets: &[u64]) -> Result<Sections, WriteError> {
        let mut strings = StringTable::default();
        for message in &self.strings {
            strings.push("a check's message", message)?;
        }
        let mut sections = Sections::default();
        let mut put = |kind: SectionKind, words: Vec<u32>| {
            sections[kind.index()] = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        };
        put(SectionKind::Target, target_words(&self.target, &mut strings)?);
        put(SectionKind::Provenance, provenance_words(&self.provenance, &mut strings)?);
        put(SectionKind::Signature, signature_words(&self.signature, &mut strings)?);
        let (functions, code) = self.function_words(&mut strings)?;
        put(SectionKind::Functions, functions);
        put(SectionKind::Code, code);
        put(SectionKind::Entries, entry_words(&self.executable.entries, &mut strings)?);
        put(SectionKind::ParamIndex, self.param_words(offsets, &mut strings)?);
        let calls = host_calls::words(
            &self.host_calls,
            |name| strings.intern("a host function's name or origin", name),
            |value| number(value, "the table of host calls"),
        )?;
        put(SectionKind::HostCalls, calls);
        sections[SectionKind::Executable.index()].clone_from(&self.executable.image);
        sections[SectionKind::Debug.index()].clone_from(&self.debug);
        sections[SectionKind::Texts.index()].clone_from(&self.texts);
        sections[SectionKind::Strings.index()] = strings.into_bytes()?;
        Ok(sections)
    }

    fn function_words(&self, strings: &mut StringTable) -> Result<(Vec<u32>, Vec<u32>), WriteError> {
        let (mut rows, mut code) = (Vec::new(), Vec::new());
        for function in &self.functions {
            let encoded = code::encode::encode(function).map_err(|(instruction, problem)| {
                WriteError::Encode { function: function.name.clone(), instruction, problem }
            })?;
            rows.extend([
                strings.intern("a function's name", &function.name)?,
                u32::from(function.scalars),
                u32::from(function.buffers),
                number(function.input_ranks.len(), "the number of inputs")?,
                number(function.output_ranks.len(), "the number of outputs")?,
                encoded.labels,
                number(code.len(), "the code")?,
                number(encoded.words.len(), "the code")?,
            ]);
            code.extend(encoded.words);
        }
        Ok((rows, code))
    }

    fn param_words(&self, offsets: &[u64], strings: &mut StringTable) -> Result<Vec<u32>, WriteError> {
        let mut rows = Vec::new();
        for (param, offset) in self.params.iter().zip(offsets) {
            rows.extend([strings.intern("a parameter's name", &param.name)?, 0]);
            rows.extend(long(*offset));
            rows.extend(long(param.bytes.len_bytes()));
        }
        Ok(rows)
    }
}

type Sections = [Vec<u8>; SectionKind::COUNT];

/// The count, a row an entry, then the accesses of all bindings.
fn entry_words(entries: &[KernelEntry], strings: &mut StringTable) -> Result<Vec<u32>, WriteError> {
    const WHAT: &str = "the table of kernels";
    let mut words = std::vec![number(entries.len(), WHAT)?];
    let mut access_at = 1 + entries.len() * ENTRY_WORDS;
    for entry in entries {
        words.extend([
            strings.intern("a kernel's symbol", &entry.symbol)?,
            strings.intern("the origin of a kernel", &entry.origin)?,
            number(entry.constants, WHAT)?,
            number(entry.bindings.len(), WHAT)?,
            number(access_at, WHAT)?,
        ]);
        access_at += access::words_of(entry.bindings.len());
    }
    words.extend(entries.iter().flat_map(|entry| access::pack(&entry.bindings)));
    Ok(words)
}

fn target_words(target: &Target, strings: &mut StringTable) -> Result<Vec<u32>, WriteError> {
    let mut words = Vec::new();
    words.push(strings.intern("the target's triple", &target.triple)?);
    words.push(number(target.features.len(), "the number of features")?);
    for feature in &target.features {
        words.push(strings.intern("a target's feature", feature)?);
    }
    Ok(words)
}

fn provenance_words(from: &Provenance, strings: &mut StringTable) -> Result<Vec<u32>, WriteError> {
    let digest = from.model_digest.chunks_exact(4);
    let mut words: Vec<u32> = digest.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    for text in [&from.model_name, &from.compiler, &from.options] {
        words.push(strings.intern("the module's provenance", text)?);
    }
    Ok(words)
}

fn signature_words(signature: &Signature, strings: &mut StringTable) -> Result<Vec<u32>, WriteError> {
    let mut words = Vec::new();
    words.push(number(signature.entries.len(), "the number of entry points")?);
    let mut last = 0;
    unique("entry points", signature.entries.iter().map(|entry| &entry.name))?;
    for entry in &signature.entries {
        unique("inputs", entry.inputs.iter().map(|tensor| &tensor.name))?;
        unique("outputs", entry.outputs.iter().map(|tensor| &tensor.name))?;
        if entry.function < last {
            return Err(WriteError::EntryOrder { entry: entry.name.clone() });
        }
        last = entry.function;
        words.extend([strings.intern("an entry point's name", &entry.name)?, entry.function]);
        words.extend(match &entry.rows {
            Rows::Dependent { reason } => [0, strings.intern("why rows are dependent", reason)?],
            Rows::Independent { exact: Err(reason), .. } => {
                [1, strings.intern("why rows are not exact", reason)?]
            }
            Rows::Independent { exact: Ok(()), .. } => [2, 0],
        });
        let costs: &[u32] = match &entry.rows {
            Rows::Dependent { .. } => &[],
            Rows::Independent { costs, .. } => costs,
        };
        words.push(number(costs.len(), "the number of costs")?);
        words.extend(costs);
        let (kind, value) = match entry.peak {
            PeakBytes::Static(bytes) => (0, bytes),
            PeakBytes::Function(function) => (1, u64::from(function)),
        };
        words.push(kind);
        words.extend(long(value));
        words.push(number(entry.inputs.len(), "the number of inputs")?);
        words.push(number(entry.outputs.len(), "the number of outputs")?);
        for tensor in entry.inputs.iter().chain(&entry.outputs) {
            push_tensor(&mut words, tensor, strings)?;
        }
    }
    Ok(words)
}

/// Callers find these by name.
fn unique<'n>(what: &'static str, names: impl Iterator<Item = &'n String>) -> Result<(), WriteError> {
    let mut known = HashSet::new();
    for name in names {
        if !known.insert(name) {
            return Err(WriteError::Duplicate { what, name: name.clone() });
        }
    }
    Ok(())
}

fn push_tensor(
    words: &mut Vec<u32>,
    tensor: &TensorSpec,
    strings: &mut StringTable,
) -> Result<(), WriteError> {
    words.extend([strings.intern("the name of an input or output", &tensor.name)?, tensor.dtype as u32]);
    words.push(number(tensor.dims.len(), "a rank")?);
    for dim in &tensor.dims {
        let (kind, name, first, second) = match dim {
            DimSpec::Static(size) => (0, 0, *size, 0),
            DimSpec::Symbolic { name, min, max } => {
                (1, strings.intern("a dimension's name", name)?, *min, *max)
            }
        };
        words.extend([kind, name]);
        words.extend(long(first));
        words.extend(long(second));
    }
    Ok(())
}

fn long(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn number(value: usize, what: &'static str) -> Result<u32, WriteError> {
    u32::try_from(value).map_err(|_| WriteError::TooLarge { what })
}

/// Strings in order, each name once.
#[derive(Default)]
struct StringTable {
    ends: Vec<u32>,
    text: Vec<u8>,
    known: HashMap<String, u32>,
}

impl StringTable {
    /// `what` is the kind of text, for an error.
    fn push(&mut self, what: &'static str, text: &str) -> Result<u32, WriteError> {
        if text.len() > MAX_STRING_BYTES {
            return Err(WriteError::LongString { what, bytes: text.len() });
        }
        let index = number(self.ends.len(), "the string table")?;
        self.text.extend_from_slice(text.as_bytes());
        self.ends.push(number(self.text.len(), "the string table")?);
        Ok(index)
    }

    fn intern(&mut self, what: &'static str, text: &str) -> Result<u32, WriteError> {
        if let Some(&index) = self.known.get(text) {
            return Ok(index);
        }
        let index = self.push(what, text)?;
        self.known.insert(text.into(), index);
        Ok(index)
    }

    fn into_bytes(self) -> Result<Vec<u8>, WriteError> {
        let mut words = Vec::with_capacity(self.ends.len() + 2);
        words.extend([number(self.ends.len(), "the string table")?, 0]);
        words.extend(self.ends);
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(self.text);
        Ok(bytes)
    }
}
