//! A model before it is code: a typed SSA graph whose tensor dimensions are symbolic expressions.
//!
//! Frontends build a [`Graph`]; the compiler's graph passes rewrite it; [`interpret()`] gives every graph its
//! meaning, slowly and plainly, and is the oracle for compiled code. This crate knows no file format, no MLIR
//! and no device.

pub mod dim;
pub mod dtype;
pub mod graph;
pub mod interpret;
pub mod op;
pub mod ops;
pub mod parse;
mod print;
pub mod rows;
pub mod tensor;
pub mod types;
pub mod verify;

pub use dim::{Dim, SymbolId, Symbols};
pub use dtype::DType;
pub use graph::{
    Builder, Definition, Graph, Node, NodeId, Offset, Origin, Param, ParamId, Region, RegionId, Value,
    ValueId,
};
pub use interpret::{InterpretError, Limits, interpret, interpret_strings, interpret_within};
pub use op::{
    ArgReduceFn, BinaryFn, CompareFn, CumulativeFn, Op, PadMode, PoolFn, ReduceFn, ScatterFn, UnaryFn, Window,
};
pub use ops::ShapeError;
pub use parse::{ParseError, parse, parse_dim, parse_with_params};
pub use tensor::Tensor;
pub use types::{Shape, TensorType, product};
pub use verify::{VerifyError, verify};
