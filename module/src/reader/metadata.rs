//! Target, provenance and signature as borrowed views, read from word sections.
//!
//! - target: triple, count, features
//! - provenance: digest in eight words, model name, compiler, options
//! - signature: count, then per entry point: name, function, rows (`0, reason` where they are dependent, `1,
//!   reason` where they are not but may be rounded in another way, `2, 0` where they are exact), the count of costs and the
//!   costs, peak kind, peak value in two words, inputs, outputs, then the tensors: name, dtype, rank, then the dimensions:
//!   `0, 0, size in two words, 0, 0` or `1, name, min in two words, max in two words`
//!
//! Names are indices of the string table.

use super::Module;
use crate::DType;
use crate::costs::Costs;
use crate::format::{MAX_RANK, SectionKind};
use crate::words::{Cursor, Words};

const DIM_WORDS: usize = 6;

/// Strings named by a list of indices.
#[derive(Clone, Copy, Debug)]
pub struct Strings<'a> {
    module: Module<'a>,
    indices: Cursor<'a>,
    left: u32,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        self.module.string(self.indices.word()?)
    }
}

/// What the code was compiled for.
#[derive(Clone, Copy, Debug)]
pub struct TargetRef<'a> {
    pub triple: &'a str,
    /// LLVM's names of what the machine must have.
    pub features: Strings<'a>,
}

/// Where the module came from.
#[derive(Clone, Copy, Debug)]
pub struct ProvenanceRef<'a> {
    pub model_digest: &'a [u8; 32],
    pub model_name: &'a str,
    pub compiler: &'a str,
    pub options: &'a str,
}

/// Entry points, in order; see [`Module::entry_points`].
#[derive(Clone, Copy, Debug)]
pub struct EntryPoints<'a> {
    pub(crate) module: Module<'a>,
    pub(crate) cursor: Cursor<'a>,
    pub(crate) left: u32,
}

/// A function that callers may invoke.
#[derive(Clone, Copy, Debug)]
pub struct EntryPointRef<'a> {
    pub name: &'a str,
    pub function: u32,
    pub inputs: Tensors<'a>,
    pub outputs: Tensors<'a>,
    pub rows: RowsRef<'a>,
    pub peak: PeakRef,
}

/// Whether calls may be joined along the first dimension: see `Rows` of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsRef<'a> {
    Independent { exact: Result<(), &'a str>, costs: Costs<'a> },
    Dependent { reason: &'a str },
}

impl<'a> RowsRef<'a> {
    /// As `Rows::independence` of the signature.
    pub(crate) fn independence(self) -> Result<(), &'a str> {
        match self {
            Self::Independent { .. } => Ok(()),
            Self::Dependent { reason } => Err(reason),
        }
    }
}

/// Memory that one invocation takes: see `PeakBytes` of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeakRef {
    Static(u64),
    Function(u32),
}

/// Inputs or outputs of an entry point.
#[derive(Clone, Copy, Debug)]
pub struct Tensors<'a> {
    module: Module<'a>,
    pub(crate) cursor: Cursor<'a>,
    pub(crate) left: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub dims: Dims<'a>,
}

/// Dimensions of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct Dims<'a> {
    module: Module<'a>,
    cursor: Cursor<'a>,
    left: u32,
}

/// One dimension; equal names mean equal sizes within one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DimRef<'a> {
    Static(u64),
    Symbolic { name: &'a str, min: u64, max: u64 },
}

impl<'a> Module<'a> {
    /// What the code was compiled for; `None` only in a module that does not verify.
    pub fn target_ref(&self) -> Option<TargetRef<'a>> {
        let mut cursor = Cursor::new(self.section(SectionKind::Target));
        let triple = self.string(cursor.word()?)?;
        let left = cursor.word()?;
        Some(TargetRef { triple, features: Strings { module: *self, indices: cursor, left } })
    }

    /// Where the module came from; `None` only in a module that does not verify.
    pub fn provenance_ref(&self) -> Option<ProvenanceRef<'a>> {
        let mut cursor = Cursor::new(self.section(SectionKind::Provenance));
        Some(ProvenanceRef {
            model_digest: cursor.bytes(8)?.try_into().ok()?,
            model_name: self.string(cursor.word()?)?,
            compiler: self.string(cursor.word()?)?,
            options: self.string(cursor.word()?)?,
        })
    }

    /// What callers may invoke; ends early in a module that does not verify.
    pub fn entry_points(&self) -> EntryPoints<'a> {
        let mut cursor = Cursor::new(self.section(SectionKind::Signature));
        let left = cursor.word().unwrap_or(0);
        EntryPoints { module: *self, cursor, left }
    }
}

impl<'a> EntryPoints<'a> {
    pub(crate) fn read(&mut self) -> Option<EntryPointRef<'a>> {
        let cursor = &mut self.cursor;
        let (name, function) = (self.module.string(cursor.word()?)?, cursor.word()?);
        let (kind, reason) = (cursor.word()?, cursor.word()?);
        let count = cursor.word()? as usize;
        let costs = Costs(Words(cursor.bytes(count)?));
        let rows = match (kind, reason, count) {
            (0, reason, 0) => RowsRef::Dependent { reason: self.module.string(reason)? },
            (1, reason, _) => RowsRef::Independent { exact: Err(self.module.string(reason)?), costs },
            (2, 0, _) => RowsRef::Independent { exact: Ok(()), costs },
            _ => return None,
        };
        let (kind, value) = (cursor.word()?, cursor.long()?);
        let peak = match kind {
            0 => PeakRef::Static(value),
            1 => PeakRef::Function(u32::try_from(value).ok()?),
            _ => return None,
        };
        let (inputs, outputs) = (cursor.word()?, cursor.word()?);
        let tensors = |cursor: &Cursor<'a>, left| Tensors { module: self.module, cursor: *cursor, left };
        let inputs_view = tensors(cursor, inputs);
        skip_tensors(cursor, inputs)?;
        let outputs_view = tensors(cursor, outputs);
        skip_tensors(cursor, outputs)?;
        Some(EntryPointRef { name, function, inputs: inputs_view, outputs: outputs_view, rows, peak })
    }
}

fn skip_tensors(cursor: &mut Cursor<'_>, count: u32) -> Option<()> {
    for _ in 0..count {
        cursor.bytes(2)?;
        let rank = cursor.word()? as usize;
        cursor.bytes(rank.checked_mul(DIM_WORDS)?)?;
    }
    Some(())
}

impl<'a> Iterator for EntryPoints<'a> {
    type Item = EntryPointRef<'a>;

    fn next(&mut self) -> Option<EntryPointRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.read();
        if entry.is_none() {
            self.left = 0;
        }
        entry
    }
}

impl<'a> Tensors<'a> {
    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.left as usize
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The string indices that the next tensor uses; `None` ends a tensor that is cut short.
    pub(crate) fn names(&self) -> impl Iterator<Item = Option<u32>> + use<'a> {
        let mut cursor = self.cursor;
        let (name, _dtype, rank) = (cursor.word(), cursor.word(), cursor.word());
        let dims = (0..rank.unwrap_or(0)).map_while(move |_| {
            let row = Words(cursor.bytes(DIM_WORDS)?);
            Some((row.get(0)?, row.get(1)?))
        });
        core::iter::once(name).chain(dims.filter(|&(kind, _)| kind == 1).map(|(_, name)| Some(name)))
    }

    fn read(&mut self) -> Option<TensorRef<'a>> {
        let name = self.module.string(self.cursor.word()?)?;
        let dtype = u8::try_from(self.cursor.word()?).ok().and_then(DType::from_number)?;
        let rank = self.cursor.word()?;
        if rank as usize > MAX_RANK {
            return None;
        }
        let dims = Dims { module: self.module, cursor: self.cursor, left: rank };
        self.cursor.bytes(rank as usize * DIM_WORDS)?;
        Some(TensorRef { name, dtype, dims })
    }
}

impl<'a> Iterator for Tensors<'a> {
    type Item = TensorRef<'a>;

    fn next(&mut self) -> Option<TensorRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let tensor = self.read();
        if tensor.is_none() {
            self.left = 0;
        }
        tensor
    }
}

impl<'a> Dims<'a> {
    /// The rank.
    pub fn len(&self) -> usize {
        self.left as usize
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    fn read(&mut self) -> Option<DimRef<'a>> {
        let (kind, name) = (self.cursor.word()?, self.cursor.word()?);
        let (first, second) = (self.cursor.long()?, self.cursor.long()?);
        match kind {
            0 if name == 0 && second == 0 => Some(DimRef::Static(first)),
            1 if first <= second => {
                Some(DimRef::Symbolic { name: self.module.string(name)?, min: first, max: second })
            }
            _ => None,
        }
    }
}

impl<'a> Iterator for Dims<'a> {
    type Item = DimRef<'a>;

    fn next(&mut self) -> Option<DimRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let dim = self.read();
        if dim.is_none() {
            self.left = 0;
        }
        dim
    }
}

#[cfg(feature = "std")]
mod owned {
    use std::string::ToString;

    use super::{DimRef, EntryPointRef, Module, PeakRef, RowsRef, TensorRef};
    use crate::signature::{DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec};

    impl Module<'_> {
        /// The signature, copied out.
        pub fn signature(&self) -> Signature {
            Signature { entries: self.entry_points().map(|entry| entry.to_owned()).collect() }
        }

        /// The target, copied out; empty in a module that does not verify.
        pub fn target(&self) -> Target {
            match self.target_ref() {
                None => Target { triple: "".into(), features: [].into() },
                Some(target) => Target {
                    triple: target.triple.into(),
                    features: target.features.map(ToString::to_string).collect(),
                },
            }
        }

        /// The provenance, copied out; empty in a module that does not verify.
        pub fn provenance(&self) -> Provenance {
            match self.provenance_ref() {
                None => Provenance {
                    model_digest: [0; 32],
                    model_name: "".into(),
                    compiler: "".into(),
                    options: "".into(),
                },
                Some(from) => Provenance {
                    model_digest: *from.model_digest,
                    model_name: from.model_name.into(),
                    compiler: from.compiler.into(),
                    options: from.options.into(),
                },
            }
        }
    }

    impl EntryPointRef<'_> {
        /// The entry point, copied out.
        pub fn to_owned(&self) -> EntryPoint {
            EntryPoint {
                name: self.name.into(),
                function: self.function,
                inputs: self.inputs.map(|tensor| tensor.to_owned()).collect(),
                outputs: self.outputs.map(|tensor| tensor.to_owned()).collect(),
                rows: match self.rows {
                    RowsRef::Independent { exact, costs } => {
                        Rows::Independent { exact: exact.map_err(Into::into), costs: costs.collect() }
                    }
                    RowsRef::Dependent { reason } => Rows::Dependent { reason: reason.into() },
                },
                peak: match self.peak {
                    PeakRef::Static(bytes) => PeakBytes::Static(bytes),
                    PeakRef::Function(function) => PeakBytes::Function(function),
                },
            }
        }
    }

    impl TensorRef<'_> {
        /// The tensor, copied out.
        pub fn to_owned(&self) -> TensorSpec {
            let dims = self.dims.map(|dim| match dim {
                DimRef::Static(size) => DimSpec::Static(size),
                DimRef::Symbolic { name, min, max } => DimSpec::Symbolic { name: name.into(), min, max },
            });
            TensorSpec { name: self.name.into(), dtype: self.dtype, dims: dims.collect() }
        }
    }
}
