//! The name of every operation in the text form, in errors and in profiles.

use crate::{
    ArgReduceFn, BinaryFn, CompareFn, CumulativeFn, Op, PadMode, PoolFn, ReduceFn, ScatterFn, UnaryFn,
};

impl Op {
    /// The operation's name, unique together with its kind: `matmul`, `tanh`, `reduce_sum`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Constant(_) => "constant",
            Self::Param(_) => "param",
            Self::Dims { .. } => "dims",
            Self::Iota { .. } => "iota",
            Self::ReadDims { .. } => "read_dims",
            Self::Unary(function) => function.name(),
            Self::Binary(function) => function.name(),
            Self::Compare(function) => function.name(),
            Self::Select => "select",
            Self::Cast(_) => "cast",
            Self::BitCast(_) => "bit_cast",
            Self::Broadcast { .. } => "broadcast",
            Self::Reshape { .. } => "reshape",
            Self::Transpose { .. } => "transpose",
            Self::Slice { .. } => "slice",
            Self::Concat { .. } => "concat",
            Self::Pad { .. } => "pad",
            Self::Gather { .. } => "gather",
            Self::GatherElements { .. } => "gather_elements",
            Self::GatherNd { .. } => "gather_nd",
            Self::ScatterNd { function } => function.name(),
            Self::Cumulative { function, .. } => function.name(),
            Self::Sort { .. } => "sort",
            Self::SuppressOverlaps => "suppress_overlaps",
            Self::Reduce { function, .. } => function.name(),
            Self::ArgReduce { function, .. } => function.name(),
            Self::Softmax { log: false, .. } => "softmax",
            Self::Softmax { log: true, .. } => "log_softmax",
            Self::LayerNorm { .. } => "layer_norm",
            Self::MatMul => "matmul",
            Self::Conv { .. } => "conv",
            Self::Pool { function, .. } => function.name(),
            Self::Host { .. } => "host",
            Self::If => "if",
            Self::While => "while",
            Self::Repeat { .. } => "repeat",
        }
    }
}

/// Lists every value of a function enum once, with its name.
macro_rules! functions {
    ($($ty:ident { $($variant:ident => $name:literal,)+ })+) => { $(
        impl $ty {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    )+ };
}

functions! {
    UnaryFn {
        Abs => "abs",
        Neg => "neg",
        Sign => "sign",
        Not => "not",
        BitNot => "bit_not",
        Reciprocal => "reciprocal",
        Sqrt => "sqrt",
        Rsqrt => "rsqrt",
        Exp => "exp",
        Log => "log",
        Sin => "sin",
        Cos => "cos",
        Tan => "tan",
        Asin => "asin",
        Acos => "acos",
        Atan => "atan",
        Sinh => "sinh",
        Cosh => "cosh",
        Tanh => "tanh",
        Asinh => "asinh",
        Acosh => "acosh",
        Atanh => "atanh",
        Erf => "erf",
        Sigmoid => "sigmoid",
        Floor => "floor",
        Ceil => "ceil",
        Round => "round",
        IsNan => "is_nan",
        IsInf => "is_inf",
        Real => "real",
        Imag => "imag",
    }
    BinaryFn {
        Add => "add",
        Sub => "sub",
        Mul => "mul",
        Div => "div",
        Rem => "rem",
        Mod => "mod",
        Pow => "pow",
        Max => "max",
        Min => "min",
        And => "and",
        Or => "or",
        Xor => "xor",
        ShiftLeft => "shift_left",
        ShiftRight => "shift_right",
        Complex => "complex",
    }
    CompareFn {
        Eq => "eq",
        Ne => "ne",
        Lt => "lt",
        Le => "le",
        Gt => "gt",
        Ge => "ge",
    }
    ReduceFn {
        Sum => "reduce_sum",
        Product => "reduce_product",
        Mean => "reduce_mean",
        Max => "reduce_max",
        Min => "reduce_min",
        All => "reduce_all",
        Any => "reduce_any",
    }
    ScatterFn {
        Set => "scatter_set",
        Add => "scatter_add",
        Mul => "scatter_mul",
        Max => "scatter_max",
        Min => "scatter_min",
    }
    CumulativeFn {
        Sum => "cumulative_sum",
        Product => "cumulative_product",
    }
    ArgReduceFn {
        Max => "arg_max",
        Min => "arg_min",
    }
    PadMode {
        Constant => "constant",
        Reflect => "reflect",
        Edge => "edge",
        Wrap => "wrap",
    }
    PoolFn {
        Max => "max_pool",
        Average => "average_pool",
    }
}
