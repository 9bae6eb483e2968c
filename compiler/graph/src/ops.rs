//! What each operation accepts, what type it gives, and what it computes: one file a family, all three together.

mod check;
mod contract;
pub(crate) mod control;
mod cumulative;
mod elementwise;
mod fold;
mod gather;
pub(crate) mod host;
mod interpret;
mod movement;
mod name;
mod normalize;
mod pad;
mod positions;
mod reduce;
mod scatter;
mod sort;
mod source;
mod suppress;
mod window;

pub(crate) use check::smallest_bytes;
pub use check::{MAX_RANK, MAX_TENSOR_BYTES, ShapeError};
pub use fold::{Folded, dims_of_value, evaluate, fold, fold_op};
pub use interpret::{ComputeError, Environment, compute};

use crate::{Op, Param, Symbols, TensorType};
use check::Operands;

/// The parts of a graph that types depend on besides operands.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub symbols: &'a Symbols,
    pub params: &'a [Param],
}

/// The type of the one result of `op`.
///
/// Control flow ([`Op::is_control`]) has results by its regions, and [`Op::Host`] says what it gives; see
/// [`crate::Graph::push_with_regions`].
///
/// # Errors
/// When the operands or the attributes provably do not fit. What only run-time sizes can decide is accepted here
/// and checked there.
pub fn infer(op: &Op, operands: &[&TensorType], context: Context<'_>) -> Result<TensorType, ShapeError> {
    let operands = Operands::new(op, operands, context.symbols);
    let ty = match op {
        Op::Constant(tensor) => source::infer_constant(&operands, tensor),
        Op::Param(id) => source::infer_param(&operands, *id, context.params),
        Op::Dims { values, shape } => source::infer_dims(&operands, values, shape),
        Op::Iota { dtype, shape, axis } => source::infer_iota(&operands, *dtype, shape, *axis),
        Op::Unary(function) => elementwise::infer_unary(&operands, *function),
        Op::Binary(function) => elementwise::infer_binary(&operands, *function),
        Op::Compare(function) => elementwise::infer_compare(&operands, *function),
        Op::Select => elementwise::infer_select(&operands),
        Op::Cast(to) => elementwise::infer_cast(&operands, *to),
        Op::BitCast(to) => elementwise::infer_bit_cast(&operands, *to),
        Op::Broadcast { shape } => movement::infer_broadcast(&operands, shape),
        Op::Reshape { shape } => movement::infer_reshape(&operands, shape),
        Op::Transpose { perm } => movement::infer_transpose(&operands, perm),
        Op::Slice { start, size, stride } => movement::infer_slice(&operands, start, size, stride),
        Op::Concat { axis } => movement::infer_concat(&operands, *axis),
        Op::Pad { low, high, mode } => pad::infer(&operands, low, high, *mode),
        Op::Gather { axis } => gather::infer_gather(&operands, *axis),
        Op::GatherElements { axis } => gather::infer_elements(&operands, *axis),
        Op::GatherNd { batch_dims } => gather::infer_nd(&operands, *batch_dims),
        Op::ScatterNd { function } => scatter::infer(&operands, *function),
        Op::Cumulative { axis, .. } => cumulative::infer(&operands, *axis),
        Op::Sort { axis, .. } => sort::infer(&operands, *axis),
        Op::SuppressOverlaps => suppress::infer(&operands),
        Op::Reduce { function, axes } => reduce::infer_reduce(&operands, *function, axes),
        Op::ArgReduce { axis, .. } => reduce::infer_arg_reduce(&operands, *axis),
        Op::Softmax { axis, .. } => normalize::infer_softmax(&operands, *axis),
        Op::LayerNorm { axis, epsilon } => normalize::infer_layer_norm(&operands, *axis, *epsilon),
        Op::MatMul => contract::infer(&operands),
        Op::Conv { window, groups, channels_last } => {
            window::infer_conv(&operands, window, *groups, *channels_last)
        }
        Op::Pool { window, channels_last, .. } => window::infer_pool(&operands, window, *channels_last),
        Op::ReadDims { symbols } => source::infer_read_dims(&operands, symbols),
        Op::Host { .. } => Err(operands.attribute("results", "are of types of their own")),
        Op::If | Op::While | Op::Repeat { .. } => {
            Err(operands.attribute("regions", "has results by its regions"))
        }
    }?;
    operands.bounded(ty)
}
