//! One node while it is imported: what its operator's function sees, and how that function declines.

use std::collections::HashMap;

use ired_graph::ops::dims_of_value;
use ired_graph::{Builder, DType, Dim, ShapeError, TensorType, ValueId};

use super::attributes::Attributes;
use super::import::Binding;
use super::proto::{TypeProto, type_proto};
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
    /// The tensors among the inputs.
    pub(crate) inputs: &'c [Option<ValueId>],
    /// All of the inputs.
    pub(crate) bindings: &'c [Binding],
    /// Names of the outputs; empty for those the model does not want.
    pub(crate) outputs: &'c [String],
    pub(crate) files: &'c ExternalFiles<'c>,
    /// What the model states of its values.
    pub(crate) stated: &'c HashMap<&'c str, &'c TypeProto>,
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

    /// The rank of output `index`, where the model states it.
    pub(crate) fn stated_rank(&self, index: usize) -> Option<usize> {
        let stated = self.stated.get(self.outputs.get(index)?.as_str())?;
        match &stated.value {
            Some(type_proto::Value::TensorType(tensor)) => Some(tensor.shape.as_ref()?.dim.len()),
            _ => None,
        }
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

    /// The elements of an input that decides shapes: sizes of 0 or more, known as far as they are, and read when the
    /// model runs otherwise.
    pub(crate) fn sizes_input(&self, b: &mut Builder<'_>, index: usize) -> Outcome<Vec<Dim>> {
        Ok(b.read_dims(self.input(index)?, "read")?)
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

    /// A vector whose length, where the model leaves it open, is `length` if that is known.
    pub(crate) fn list_input(&self, b: &mut Builder<'_>, index: usize, length: Option<usize>) -> Outcome {
        let list = self.input(index)?;
        match (b.ty(list).shape.as_slice(), length) {
            ([open], Some(length)) if open.as_static().is_none() && length <= tensor::MAX_RANK => {
                Ok(b.reshape(list, vec![Dim::constant(length as i64)])?)
            }
            _ => Ok(list),
        }
    }

    /// As [`Self::sizes_input`] for an input that may be left out.
    pub(crate) fn optional_sizes(&self, b: &mut Builder<'_>, index: usize) -> Outcome<Option<Vec<Dim>>> {
        self.optional(index).map(|_| self.sizes_input(b, index)).transpose()
    }

    /// The elements of an integer input that must be constant.
    pub(crate) fn ints_input(&self, b: &Builder<'_>, index: usize) -> Outcome<Vec<i64>> {
        match constant_ints(b, self.input(index)?) {
            Some(ints) => Ok(ints),
            None => unsupported(format!("input {index} is not constant"), "make it a constant of the model"),
        }
    }

    /// The one element of an input that decides shapes.
    pub(crate) fn size_input(&self, b: &mut Builder<'_>, index: usize) -> Outcome<Dim> {
        let mut sizes = self.sizes_input(b, index)?;
        match (sizes.pop(), sizes.len()) {
            (Some(size), 0) => Ok(size),
            (_, more) => invalid(format!("input {index} has {more} elements too many or none; expected one")),
        }
    }

    /// The axes in attribute `axes`, or from version `since` on in input `index`.
    pub(crate) fn axes_list(&self, b: &Builder<'_>, since: i64, index: usize) -> Outcome<Option<Axes>> {
        let Some(list) = self.optional(index).filter(|_| self.version >= since) else {
            let stated = if self.version >= since { None } else { self.attributes.ints("axes")? };
            return Ok(stated.map(|list| Axes::Known(list.to_vec())));
        };
        if let Some(known) = constant_ints(b, list) {
            return Ok(Some(Axes::Known(known)));
        }
        let ty = b.ty(list);
        match (ty.rank(), ty.elements().as_static().and_then(|n| usize::try_from(n).ok())) {
            (0, _) => Ok(Some(Axes::Computed { list, count: 1 })),
            (1, Some(count)) if count <= tensor::MAX_RANK => Ok(Some(Axes::Computed { list, count })),
            _ => unsupported(
                format!("input {index} names a number of axes that is only known at run time"),
                "give the input a length in the model",
            ),
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

/// Axes that a node names.
pub(crate) enum Axes {
    Known(Vec<i64>),
    /// `count` of them, in an integer tensor that only the run computes; they may count from the end.
    Computed {
        list: ValueId,
        count: usize,
    },
}

/// The elements of an integer value that is constant.
pub(crate) fn constant_ints(b: &Builder<'_>, value: ValueId) -> Option<Vec<i64>> {
    sizes_of(b, value)?.iter().map(Dim::as_static).collect()
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
