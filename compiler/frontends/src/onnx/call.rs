//! One node while it is imported: what its operator's function sees, and how that function declines.

use ired_graph::ops::dims_of_value;
use ired_graph::{Builder, DType, Dim, ShapeError, TensorType, ValueId};

use super::attributes::Attributes;
use super::tensor::{self, ExternalFiles};
use crate::{ImportError, Problem};

/// Why an operator's function gives no result.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The node is valid, but nothing here can express it.
    Unsupported {
        reason: String,
        hint: &'static str,
    },
    Invalid(Problem),
    /// The whole import stops.
    Fatal(Box<ImportError>),
}

pub(crate) type Outcome<T = ValueId> = Result<T, Refusal>;

/// The node is valid but not supported; `reason` says what of it.
pub(crate) fn unsupported<T>(reason: impl Into<String>, hint: &'static str) -> Outcome<T> {
    Err(Refusal::Unsupported { reason: reason.into(), hint })
}

/// The node is against ONNX.
pub(crate) fn invalid<T>(problem: impl Into<String>) -> Outcome<T> {
    Err(Refusal::Invalid(Problem::Other(problem.into())))
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Invalid(problem)
    }
}

impl From<ShapeError> for Refusal {
    fn from(error: ShapeError) -> Self {
        match error {
            // ONNX defines many operators on types for which the graph has no such operation.
            ShapeError::OperandType { .. } => Self::Unsupported {
                reason: error.to_string(),
                hint: "cast the input to a supported element type in the model",
            },
            error => Self::Invalid(Problem::Shape(error)),
        }
    }
}

impl From<ImportError> for Refusal {
    fn from(error: ImportError) -> Self {
        Self::Fatal(Box::new(error))
    }
}

/// A node whose operator is being imported.
pub(crate) struct Call<'c> {
    /// The node's name, for what is named after it.
    pub(crate) name: &'c str,
    pub(crate) attributes: Attributes<'c>,
    /// Of the operator set that the model asks for.
    pub(crate) version: i64,
    pub(crate) inputs: &'c [Option<ValueId>],
    /// Names of the outputs; empty for those the model does not want.
    pub(crate) outputs: &'c [String],
    /// The ranks that the model states for its outputs.
    pub(crate) ranks: &'c [Option<usize>],
    pub(crate) files: &'c ExternalFiles<'c>,
}

impl Call<'_> {
    pub(crate) fn input(&self, index: usize) -> Outcome {
        self.optional(index).ok_or(Refusal::Invalid(Problem::MissingInput { index }))
    }

    pub(crate) fn optional(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Every input of an operator that takes any number, at least one.
    pub(crate) fn all_inputs(&self) -> Outcome<Vec<ValueId>> {
        (0..self.inputs.len().max(1)).map(|i| self.input(i)).collect()
    }

    pub(crate) fn input_type(&self, b: &Builder<'_>, index: usize) -> Outcome<TensorType> {
        Ok(b.ty(self.input(index)?).clone())
    }

    /// Whether the model wants output `index`.
    pub(crate) fn wants(&self, index: usize) -> bool {
        self.outputs.get(index).is_some_and(|name| !name.is_empty())
    }

    /// The rank that the model states for output `index`: what is left where nothing in the node tells it.
    pub(crate) fn stated_rank(&self, index: usize) -> Option<usize> {
        self.ranks.get(index).copied().flatten()
    }

    /// Refuses a node that wants any output after the first.
    pub(crate) fn only_first_output(&self) -> Outcome<()> {
        match (1..self.outputs.len()).find(|i| self.wants(*i)) {
            None => Ok(()),
            Some(i) => {
                unsupported(format!("output {i} (`{}`) is not computed", self.outputs[i]), "drop that output")
            }
        }
    }

    /// The elements of an input that decides shapes: a list of sizes, constant or computed from sizes.
    pub(crate) fn sizes_input(&self, b: &Builder<'_>, index: usize) -> Outcome<Vec<Dim>> {
        match sizes_of(b, self.input(index)?) {
            Some(dims) => Ok(dims),
            None => unsupported(
                format!("input {index} decides shapes but is only known at run time"),
                "compute it from the sizes of the model's inputs, or make it a constant",
            ),
        }
    }

    /// The `count` elements of an input that decides shapes, read while the model runs where nothing else is known.
    pub(crate) fn counted_sizes(&self, b: &mut Builder<'_>, index: usize, count: usize) -> Outcome<Vec<Dim>> {
        let value = self.input(index)?;
        let (found, expected) = (b.ty(value).elements(), Dim::constant(count as i64));
        if b.ty(value).rank() != 1 || b.graph.symbols.is_known_ne(&found, &expected) {
            let found = found.display(&b.graph.symbols);
            return invalid(format!("input {index} has {found} elements; expected a list of {count}"));
        }
        let list = b.reshape(value, vec![expected])?;
        Ok(b.read_dims(list, self.name)?)
    }

    /// As [`Self::sizes_input`] for an input that may be left out.
    pub(crate) fn optional_sizes(&self, b: &Builder<'_>, index: usize) -> Outcome<Option<Vec<Dim>>> {
        self.optional(index).map(|_| self.sizes_input(b, index)).transpose()
    }

    /// The elements of an integer input that must be constant.
    pub(crate) fn ints_input(&self, b: &Builder<'_>, index: usize) -> Outcome<Vec<i64>> {
        let dims = sizes_of(b, self.input(index)?);
        match dims.and_then(|dims| dims.iter().map(Dim::as_static).collect()) {
            Some(ints) => Ok(ints),
            None => unsupported(format!("input {index} is not constant"), "make it a constant of the model"),
        }
    }

    /// As [`Self::ints_input`] for an input that may be left out.
    pub(crate) fn optional_ints(&self, b: &Builder<'_>, index: usize) -> Outcome<Option<Vec<i64>>> {
        self.optional(index).map(|_| self.ints_input(b, index)).transpose()
    }

    /// The one element of an input that decides shapes.
    pub(crate) fn size_input(&self, b: &Builder<'_>, index: usize) -> Outcome<Dim> {
        let mut sizes = self.sizes_input(b, index)?;
        match (sizes.pop(), sizes.len()) {
            (Some(size), 0) => Ok(size),
            (_, more) => invalid(format!("input {index} has {more} elements too many or none; expected one")),
        }
    }

    /// The one element of a constant integer input.
    pub(crate) fn int_input(&self, b: &Builder<'_>, index: usize) -> Outcome<i64> {
        match self.ints_input(b, index)?.as_slice() {
            [value] => Ok(*value),
            other => invalid(format!("input {index} has {} elements; expected one", other.len())),
        }
    }

    /// The axes in attribute `axes`, or from version `since` on in input `index`.
    pub(crate) fn axes_list(&self, b: &Builder<'_>, since: i64, index: usize) -> Outcome<Option<Vec<i64>>> {
        match self.version >= since {
            true => self.optional_ints(b, index),
            false => Ok(self.attributes.ints("axes")?.map(<[i64]>::to_vec)),
        }
    }

    /// As [`Self::dtype_attribute`], where 0 stands for none.
    pub(crate) fn dtype_attribute_nonzero(&self, name: &str) -> Outcome<Option<DType>> {
        if self.attributes.int(name)? == Some(0) { Ok(None) } else { self.dtype_attribute(name) }
    }

    /// The element type that attribute `name` asks for.
    pub(crate) fn dtype_attribute(&self, name: &str) -> Outcome<Option<DType>> {
        let Some(code) = self.attributes.int(name)? else { return Ok(None) };
        let code = i32::try_from(code).unwrap_or(-1);
        match tensor::dtype(code) {
            Ok(dtype) => Ok(Some(dtype)),
            Err(_) => unsupported(
                format!("element type {} in attribute `{name}`", tensor::dtype_name(code)),
                "use a supported element type",
            ),
        }
    }
}

/// The elements of an integer value that is constant or computed from sizes.
pub(crate) fn sizes_of(b: &Builder<'_>, value: ValueId) -> Option<Vec<Dim>> {
    dims_of_value(b.graph, value).map(|(_, elements)| elements)
}

/// The one element of an integer tensor as a size, read while the model runs where nothing else is known of it.
pub(crate) fn read_size(b: &mut Builder<'_>, value: ValueId, name: &str) -> Outcome<Dim> {
    let one = b.reshape(value, vec![1.into()])?;
    match b.read_dims(one, name)?.pop() {
        Some(size) => Ok(size),
        None => invalid("a size is missing"),
    }
}

/// `axis` counted from the front, of `rank` axes.
pub(crate) fn axis(axis: i64, rank: usize) -> Outcome<usize> {
    let wrapped = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(wrapped).ok().filter(|a| *a < rank) {
        Some(axis) => Ok(axis),
        None => invalid(format!("axis {axis} of a tensor of rank {rank}")),
    }
}

/// `axes` counted from the front, ascending, each once.
pub(crate) fn axes(list: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    let mut axes = list.iter().map(|a| axis(*a, rank)).collect::<Outcome<Vec<usize>>>()?;
    axes.sort_unstable();
    match axes.windows(2).any(|pair| pair[0] == pair[1]) {
        true => invalid("names an axis twice"),
        false => Ok(axes),
    }
}
