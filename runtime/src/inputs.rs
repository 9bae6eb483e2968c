//! Entry points in the form that calls are checked against, and the checks, with errors that name the tensor.

use ired_module::DType;
use ired_module::signature::{DimSpec, EntryPoint, PeakBytes, TensorSpec};

use crate::error::InvokeError;
use crate::machine::InputShape;
use crate::tensor::BoundTensor;

/// An entry point whose symbols have numbers.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) function: u32,
    pub(crate) inputs: Vec<TensorShape>,
    pub(crate) outputs: Vec<TensorShape>,
    pub(crate) peak: PeakBytes,
    symbols: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct TensorShape {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    dims: Vec<Dim>,
}

#[derive(Clone, Copy, Debug)]
enum Dim {
    Static(u64),
    Symbol { symbol: usize, min: u64, max: u64 },
}

/// What a call's inputs say each symbol is, and which input said it first.
#[derive(Debug)]
pub(crate) struct Symbols(Vec<Option<(u64, usize)>>);

impl Entry {
    pub(crate) fn new(spec: &EntryPoint) -> Self {
        let mut symbols = Vec::new();
        let mut shapes = |specs: &[TensorSpec]| specs.iter().map(|spec| shape(spec, &mut symbols)).collect();
        let (inputs, outputs) = (shapes(&spec.inputs), shapes(&spec.outputs));
        Self { name: spec.name.clone(), function: spec.function, inputs, outputs, peak: spec.peak, symbols }
    }

    /// Checks dimensions in signature order and gives what the schedule is called with.
    pub(crate) fn check_dims<'d>(
        &self,
        dims: impl ExactSizeIterator<Item = &'d [u64]>,
    ) -> Result<(Vec<InputShape>, Symbols), InvokeError> {
        if dims.len() != self.inputs.len() {
            return Err(InvokeError::InputCount {
                found: dims.len(),
                expected: self.inputs.len(),
                names: self.input_names(),
            });
        }
        let mut symbols = Symbols(vec![None; self.symbols.len()]);
        let mut shapes = Vec::with_capacity(dims.len());
        for (index, dims) in dims.enumerate() {
            self.check_input_dims(index, dims, &mut symbols)?;
            let input = &self.inputs[index];
            let bytes = input.dtype.tensor_bytes(dims);
            let bytes = bytes.ok_or_else(|| InvokeError::TooLarge { name: input.name.clone() })?;
            shapes.push(InputShape { dims: dims.to_vec(), bytes });
        }
        Ok((shapes, symbols))
    }

    /// Checks what dimensions alone do not say. Those have been checked, now or in an earlier call.
    pub(crate) fn check_buffers(&self, tensors: &[BoundTensor]) -> Result<(), InvokeError> {
        for (input, tensor) in self.inputs.iter().zip(tensors) {
            let name = || input.name.clone();
            if tensor.dtype != input.dtype {
                let (found, expected) = (tensor.dtype, input.dtype);
                return Err(InvokeError::DType { name: name(), found, expected });
            }
            let expected_bytes = input.dtype.tensor_bytes(&tensor.dims).unwrap_or(u64::MAX);
            let range = &tensor.buffer;
            let inside = range.offset_bytes.checked_add(range.len_bytes);
            let inside = inside.is_some_and(|end| end <= range.buffer.len_bytes());
            let found_bytes = if inside { range.len_bytes } else { 0 };
            if found_bytes < expected_bytes {
                return Err(InvokeError::BufferTooShort { name: name(), found_bytes, expected_bytes });
            }
        }
        Ok(())
    }

    /// Puts named tensors into signature order.
    pub(crate) fn order(&self, named: Vec<(String, BoundTensor)>) -> Result<Vec<BoundTensor>, InvokeError> {
        let mut slots: Vec<Option<BoundTensor>> = self.inputs.iter().map(|_| None).collect();
        for (name, tensor) in named {
            let Some(index) = self.inputs.iter().position(|input| input.name == name) else {
                return Err(InvokeError::UnknownInput { name, expected: self.input_names() });
            };
            if slots[index].replace(tensor).is_some() {
                return Err(InvokeError::DuplicateInput { name });
            }
        }
        let missing = |index: usize| InvokeError::MissingInput { name: self.inputs[index].name.clone() };
        slots.into_iter().enumerate().map(|(index, slot)| slot.ok_or_else(|| missing(index))).collect()
    }

    /// Whether an output may have `dims`, given what the inputs say.
    pub(crate) fn allows_output(&self, output: usize, dims: &[u64], symbols: &Symbols) -> bool {
        let shape = &self.outputs[output];
        shape.dims.len() == dims.len()
            && shape.dims.iter().zip(dims).all(|(expected, &found)| match *expected {
                Dim::Static(size) => size == found,
                // A symbol that no input has is the model's to choose: how many boxes were found.
                Dim::Symbol { symbol, .. } => symbols.0[symbol].is_none_or(|(size, _)| size == found),
            })
    }

    /// Bytes of the outputs as far as the inputs say; a size that data decides counts as little as it can be.
    pub(crate) fn least_output_bytes(&self, symbols: &Symbols) -> u64 {
        let bytes = self.outputs.iter().map(|output| {
            let size = |dim: &Dim| match *dim {
                Dim::Static(size) => size,
                Dim::Symbol { symbol, min, .. } => symbols.0[symbol].map_or(min, |(size, _)| size),
            };
            output.dtype.tensor_bytes(&output.dims.iter().map(size).collect::<Vec<_>>()).unwrap_or(u64::MAX)
        });
        bytes.fold(0, u64::saturating_add)
    }

    fn check_input_dims(&self, index: usize, dims: &[u64], symbols: &mut Symbols) -> Result<(), InvokeError> {
        let input = &self.inputs[index];
        let name = || input.name.clone();
        if dims.len() != input.dims.len() {
            return Err(InvokeError::Rank { name: name(), found: dims.len(), expected: input.dims.len() });
        }
        for (axis, (&found, expected)) in dims.iter().zip(&input.dims).enumerate() {
            match *expected {
                Dim::Static(expected) if found != expected => {
                    return Err(InvokeError::Dim { name: name(), axis, found, expected });
                }
                Dim::Static(_) => {}
                Dim::Symbol { symbol, min, max } => {
                    let text = || self.symbols[symbol].clone();
                    if found < min || found > max {
                        return Err(InvokeError::DimRange {
                            name: name(),
                            axis,
                            symbol: text(),
                            found,
                            min,
                            max,
                        });
                    }
                    let &mut (expected, other) = symbols.0[symbol].get_or_insert((found, index));
                    if found != expected {
                        return Err(InvokeError::Symbol {
                            name: name(),
                            axis,
                            symbol: text(),
                            found,
                            expected,
                            other: self.inputs[other].name.clone(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn input_names(&self) -> String {
        name_list(self.inputs.iter().map(|input| input.name.as_str()))
    }
}

/// `` `a`, `b` `` for messages, or `none`.
pub(crate) fn name_list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn shape(spec: &TensorSpec, symbols: &mut Vec<String>) -> TensorShape {
    let dims = spec.dims.iter().map(|dim| match dim {
        DimSpec::Static(size) => Dim::Static(*size),
        DimSpec::Symbolic { name, min, max } => {
            let known = symbols.iter().position(|symbol| symbol == name);
            let symbol = known.unwrap_or_else(|| {
                symbols.push(name.clone());
                symbols.len() - 1
            });
            Dim::Symbol { symbol, min: *min, max: *max }
        }
    });
    TensorShape { name: spec.name.clone(), dtype: spec.dtype, dims: dims.collect() }
}
