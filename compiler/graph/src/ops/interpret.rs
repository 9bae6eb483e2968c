//! Computing one operation: the dispatch to the families, and what they share.

use std::collections::HashMap;

use super::{
    Context, ShapeError, contract, cumulative, elementwise, gather, infer, movement, normalize, pad, reduce,
    scatter, sort, source, suppress, window,
};
use crate::{Dim, Op, Param, SymbolId, Symbols, Tensor, TensorType};

/// Why an operation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error("`{op}` needs the size {size}, which is not known")]
    UnknownSize { op: &'static str, size: String },
    #[error("`{op}`: index {index} is out of range for a dimension of {extent}")]
    Index { op: &'static str, index: i64, extent: u64 },
    #[error("`{op}` gives {found_bytes} bytes; the limit is {limit_bytes}")]
    Memory { op: &'static str, found_bytes: u64, limit_bytes: u64 },
    #[error(transparent)]
    Host(#[from] ired_host::HostError),
    /// A weight whose data is not as long as its type says.
    #[error(transparent)]
    Data(#[from] crate::tensor::TensorSizeError),
}

/// What an operation may look at while it computes, besides its operands.
#[derive(Clone, Debug)]
pub struct Environment<'a> {
    pub symbols: &'a Symbols,
    pub params: &'a [Param],
    /// The value of each symbol, where one is known.
    pub sizes: HashMap<SymbolId, i64>,
    /// No result takes more.
    pub limit_bytes: u64,
}

impl<'a> Environment<'a> {
    /// Nothing known of any symbol.
    pub fn new(symbols: &'a Symbols, params: &'a [Param], limit_bytes: u64) -> Self {
        Self { symbols, params, sizes: HashMap::new(), limit_bytes }
    }

    /// The value of an expression; `None` while one of its symbols has none.
    pub fn size(&self, dim: &Dim) -> Option<i64> {
        dim.evaluate(&|id: SymbolId| self.sizes.get(&id).copied())
    }

    /// The operation with a number in place of every dimension.
    pub(super) fn with_sizes(&self, op: &Op) -> Result<Op, ComputeError> {
        let mut unknown = None;
        let sized = op.map_dims(&mut |dim| match self.size(dim) {
            Some(size) => Dim::constant(size),
            None => {
                unknown.get_or_insert_with(|| dim.display(self.symbols).to_string());
                dim.clone()
            }
        });
        match unknown {
            None => Ok(sized),
            Some(size) => Err(ComputeError::UnknownSize { op: op.name(), size }),
        }
    }
}

/// An operation on tensors: all sizes are numbers, and types are checked.
pub(super) struct Call<'a> {
    pub(super) op: &'static str,
    pub(super) operands: &'a [&'a Tensor],
    /// The result's type.
    pub(super) ty: &'a TensorType,
    /// The result's shape.
    pub(super) shape: &'a [u64],
}

impl<'a> Call<'a> {
    /// The first operand.
    pub(super) fn x(&self) -> &'a Tensor {
        self.operands[0]
    }

    /// The result from real numbers.
    pub(super) fn floats(&self, values: &[f64]) -> Tensor {
        Tensor::from_f64s(self.ty.dtype, self.shape, values)
    }

    /// The result from integers.
    pub(super) fn integers(&self, values: &[i128]) -> Tensor {
        Tensor::from_integers(self.ty.dtype, self.shape, values)
    }

    /// The result from elements' bits.
    pub(super) fn bits(&self, values: &[u128]) -> Tensor {
        Tensor::from_bits(self.ty.dtype, self.shape, values)
    }
}

/// Computes one operation. Control flow is the interpreter's: see [`crate::interpret()`].
///
/// # Errors
/// When a symbol is unknown, sizes do not fit, an index is out of range or the result is over the limit.
pub fn compute(op: &Op, operands: &[&Tensor], environment: &Environment<'_>) -> Result<Tensor, ComputeError> {
    let op = &environment.with_sizes(op)?;
    let types: Vec<TensorType> =
        operands.iter().map(|t| TensorType::of_sizes(t.dtype(), t.shape())).collect();
    let types: Vec<&TensorType> = types.iter().collect();
    let context = Context { symbols: environment.symbols, params: environment.params };
    let ty = &infer(op, &types, context)?;
    let shape = &sizes_of(op, ty)?;
    let found_bytes = crate::tensor::element_count(shape).and_then(|n| ty.dtype.bytes(n)).unwrap_or(u64::MAX);
    if found_bytes > environment.limit_bytes {
        return Err(ComputeError::Memory {
            op: op.name(),
            found_bytes,
            limit_bytes: environment.limit_bytes,
        });
    }
    if crate::tensor::element_count(shape) == Some(0) {
        // The sizes beside the 0 are not held to any limit: nothing may be made of them.
        return Ok(Tensor::new(ty.dtype, shape.clone(), bytes::Bytes::new())?);
    }
    dispatch(op, &Call { op: op.name(), operands, ty, shape }, environment)
}

/// The sizes of a type without symbols, none negative.
fn sizes_of(op: &Op, ty: &TensorType) -> Result<Vec<u64>, ComputeError> {
    let problem = || ShapeError::Attribute {
        op: op.name(),
        attribute: "shape",
        problem: format!("is {:?}; expected sizes of 0 or more", ty.shape),
    };
    ty.static_shape().ok_or_else(|| problem().into())
}

fn dispatch(op: &Op, call: &Call<'_>, environment: &Environment<'_>) -> Result<Tensor, ComputeError> {
    Ok(match op {
        Op::Constant(tensor) => tensor.clone(),
        Op::Param(id) => environment.params[id.index()].to_tensor()?,
        Op::Dims { values, .. } => source::compute_dims(call, values),
        Op::Iota { axis, .. } => source::compute_iota(call, *axis),
        Op::Unary(function) => elementwise::compute_unary(call, *function),
        Op::Binary(function) => elementwise::compute_binary(call, *function),
        Op::Compare(function) => elementwise::compute_compare(call, *function),
        Op::Select => elementwise::compute_select(call),
        Op::Cast(_) => elementwise::compute_cast(call),
        Op::BitCast(_) => elementwise::compute_bit_cast(call),
        Op::Broadcast { .. } | Op::Transpose { .. } | Op::Slice { .. } => call
            .bits(&movement::positions(op, call.x().shape(), call.shape).collect(&call.x().to_bits(), None)),
        Op::Reshape { .. } => call.x().with_shape(call.shape.to_vec())?,
        Op::Concat { axis } => movement::compute_concat(call, *axis),
        Op::Pad { low, mode, .. } => pad::compute(call, low, *mode)?,
        Op::Gather { axis } => gather::compute_gather(call, *axis)?,
        Op::GatherElements { axis } => gather::compute_elements(call, *axis)?,
        Op::GatherNd { batch_dims } => gather::compute_nd(call, *batch_dims)?,
        Op::ScatterNd { function } => scatter::compute(call, *function),
        Op::Cumulative { function, axis, exclusive, reverse } => {
            cumulative::compute(call, *function, *axis, *exclusive, *reverse)
        }
        Op::Sort { axis, descending } => sort::compute(call, *axis, *descending),
        Op::SuppressOverlaps => suppress::compute(call)?,
        Op::Reduce { function, axes } => reduce::compute_reduce(call, *function, axes),
        Op::ArgReduce { function, axis, last_on_tie } => {
            reduce::compute_arg_reduce(call, *function, *axis, *last_on_tie)
        }
        Op::Softmax { axis, log } => normalize::compute_softmax(call, *axis, *log),
        Op::LayerNorm { axis, epsilon } => normalize::compute_layer_norm(call, *axis, *epsilon),
        Op::MatMul => contract::compute(call),
        Op::Conv { window, groups, channels_last } => {
            window::compute_conv(call, window, *groups, *channels_last)
        }
        Op::Pool { function, window, include_pad, channels_last } => {
            window::compute_pool(call, *function, window, *include_pad, *channels_last)
        }
        // Giving the symbols their values is the interpreter's.
        Op::ReadDims { .. } => call.x().clone(),
        // `infer` refuses these before.
        Op::Host { .. } | Op::If | Op::While | Op::Repeat { .. } => {
            return Err(ComputeError::UnknownSize { op: call.op, size: "of a branch".to_owned() });
        }
    })
}
