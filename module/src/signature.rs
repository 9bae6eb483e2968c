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
    /// What callers see of it.
    pub(crate) fn without_functions(&self) -> Vec<(&str, &[TensorSpec], &[TensorSpec])> {
        self.entries.iter().map(|entry| (&*entry.name, &*entry.inputs, &*entry.outputs)).collect()
    }
}

/// A function that callers may invoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    pub name: String,
    /// Index of the VM function. Its inputs and outputs are these, in this order.
    pub function: u32,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    pub peak: PeakBytes,
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
