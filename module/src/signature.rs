//! What a module offers and needs: entry points, peak memory, CPU features, where it came from. Owned types, as
//! the compiler fills them and the server shows them.

use std::string::String;
use std::vec::Vec;

use crate::DType;

/// A module's entry points, in the order of [`EntryPoint::function`] ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub entries: Vec<EntryPoint>,
}

impl Signature {
    /// What callers see of it whatever the target.
    pub(crate) fn without_functions(&self) -> Vec<Offer<'_>> {
        let entries = self.entries.iter();
        entries
            .map(|entry| (&*entry.name, entry.rows.independence(), &*entry.inputs, &*entry.outputs))
            .collect()
    }
}

/// An entry point's name, why its rows may depend on each other, its inputs and its outputs.
type Offer<'a> = (&'a str, Result<(), &'a str>, &'a [TensorSpec], &'a [TensorSpec]);

/// A function that callers may invoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    pub name: String,
    /// Index of the VM function. Its inputs and outputs are these, in this order.
    pub function: u32,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    pub rows: Rows,
    pub peak: PeakBytes,
}

/// Whether calls may be joined: their inputs put one behind the other along the first dimension, the outputs cut apart
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Calls may whose other sizes are equal, and that have rows, the same number in each input. All inputs and outputs
    /// begin with a symbolic dimension then, and each row of an output depends on the same row of the inputs only: not on
    /// other rows, not on their number and not on its place among them.
    ///
    /// Where that is exact, a row's results are the same bits, but for which NaN one is. Else they may be rounded in another
    /// way for another number of rows; the reason is for people.
    ///
    /// `costs` are those of [`crate::Costs`].
    Independent { exact: Result<(), String>, costs: Vec<u32> },
    /// That is not known, or known not to be so. The reason is for people.
    Dependent { reason: String },
}

impl Rows {
    /// Why calls may not be joined, if so. Variants have that in common; how they round, and what they cost, is a matter of the target.
    pub(crate) fn independence(&self) -> Result<(), &str> {
        match self {
            Self::Independent { .. } => Ok(()),
            Self::Dependent { reason } => Err(reason),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<DimSpec>,
}

/// One dimension as callers see it. Equal names mean equal sizes within one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimSpec {
    Static(u64),
    /// Known when called; `min..=max` is what the compiled code accepts.
    Symbolic {
        name: String,
        min: u64,
        max: u64,
    },
}

/// Memory that one invocation takes beyond its inputs, outputs and the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeakBytes {
    Static(u64),
    /// Index of a VM function with the entry's inputs and one scalar result: the bytes, from the dimensions alone.
    Function(u32),
}

/// What the code was compiled for. Two machines may share a module when both satisfy it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// `x86_64-linux`, `aarch64-linux`…
    pub triple: String,
    /// LLVM's feature names, sorted: what the code uses and the machine must have.
    pub features: Vec<String>,
}

/// Where a module came from; enough to make it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// BLAKE3 of the model's bytes, external data included.
    pub model_digest: [u8; 32],
    pub model_name: String,
    /// Version and build of the compiler.
    pub compiler: String,
    /// The options in their canonical text form.
    pub options: String,
}
