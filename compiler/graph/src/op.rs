//! The operations of the graph: few, orthogonal, and enough to compose every framework's operators from.
//!
//! Elementwise operations take operands of one shape; what broadcasts says so with [`Op::Broadcast`], and a
//! compiled program pays nothing for it (it becomes an index map). Axes are never negative. Dimensions in
//! attributes are symbolic.

use ired_host::HostCall;

use crate::{DType, Dim, ParamId, Shape, SymbolId, Tensor, TensorType};

/// One operation. Operand order and result types are given per variant; `x` is operand 0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    // Sources.
    /// A small dense literal. Large data is a [`Op::Param`].
    Constant(Tensor),
    /// A weight of the model; its bytes stay in the file.
    Param(ParamId),
    /// An i64 tensor whose elements are symbolic dimensions: what shape arithmetic folds to.
    Dims {
        values: Vec<Dim>,
        shape: Vec<u64>,
    },
    /// `out[i] = i[axis]`, an integer or float tensor of `shape`.
    Iota {
        dtype: DType,
        shape: Shape,
        axis: usize,
    },

    /// Sizes that only the run knows. Operand: i64 `[n]`; the result is the same numbers. Symbol `i`, which nothing else
    /// gives a value, has the value of element `i` from here on: in the nodes after this one in its region, and in
    /// their regions. The host waits for the operand. A value outside of its symbol's bounds is an error of the run.
    ReadDims {
        symbols: Vec<SymbolId>,
    },

    // Elementwise, all operands of one shape.
    Unary(UnaryFn),
    /// Both operands of one dtype.
    Binary(BinaryFn),
    /// Both operands of one dtype; the result is bool.
    Compare(CompareFn),
    /// Operands: condition (bool), value where true, value where false.
    Select,
    /// Of the same type, nothing. Float to integer truncates and saturates; NaN gives 0. To bool is `x != 0`. To a float of at most eight bits
    /// rounds to nearest, ties to even, and saturates, infinities too; NaN stays (in [`DType::F4E2M1`] it is -0). To
    /// [`DType::F8E8M0`] is the magnitude rounded up to a power of two.
    Cast(DType),
    /// The same bits as elements of another type of as many bits; as bool, any bit that is set is true.
    BitCast(DType),

    // Shape and movement.
    /// Right-aligned broadcast to `shape`. Each dimension of `x` is 1, equal to the result's, or unknown to be
    /// either until run time.
    Broadcast {
        shape: Shape,
    },
    /// Same elements in the same order. Equal element counts are proven or checked at run time.
    Reshape {
        shape: Shape,
    },
    /// `out[i[perm[0]], ...]`: result axis `a` is operand axis `perm[a]`.
    Transpose {
        perm: Vec<usize>,
    },
    /// Result axis `a` reads `start[a] + i * stride[a]` for `i < size[a]`; strides may be negative, never 0.
    Slice {
        start: Vec<Dim>,
        size: Vec<Dim>,
        stride: Vec<i64>,
    },
    /// Any number of operands (at least one), equal but for `axis`.
    Concat {
        axis: usize,
    },
    /// Operands: x, and for [`PadMode::Constant`] a scalar fill value. Amounts may be negative (a crop).
    Pad {
        low: Vec<Dim>,
        high: Vec<Dim>,
        mode: PadMode,
    },
    /// Operands: data, indices (i32 or i64). Result shape: `data[..axis] ++ indices ++ data[axis+1..]`.
    /// Indices in `-d..d` for dimension `d`; others are an error in the interpreter, and in compiled code clamped to
    /// the first or last element.
    Gather {
        axis: usize,
    },
    /// Operands: data, indices of data's rank. `out[i] = data[i with axis replaced by indices[i]]`.
    /// Indices outside of the dimension are treated as by [`Op::Gather`].
    GatherElements {
        axis: usize,
    },
    /// Operands: data, indices `[batch.., n.., k]`. Result: `batch.. ++ n.. ++ data[batch + k ..]`.
    /// Indices outside of their dimension are treated as by [`Op::Gather`].
    GatherNd {
        batch_dims: usize,
    },

    /// Operands: data, indices `[n.., k]` (i32 or i64), updates `n.. ++ data[k..]`. Result: data, where each tuple of
    /// indices names the slice of its first `k` axes that its update is combined with, in row-major order of `n..`.
    /// Negative indices count from the end; a tuple of which one is outside of `-d..d` is skipped.
    ScatterNd {
        function: ScatterFn,
    },

    // Along one axis, which stays.
    /// `out[i] = x[0] ∘ ... ∘ x[i]` along `axis`; without `x[i]` if `exclusive`, from the last element on if `reverse`.
    Cumulative {
        function: CumulativeFn,
        axis: usize,
        exclusive: bool,
        reverse: bool,
    },
    /// The i64 positions along `axis` that bring its elements in order. Equal elements (0 and -0 are) keep theirs;
    /// NaN is greater than any number.
    Sort {
        axis: usize,
        descending: bool,
    },

    /// Operands: boxes (f32 `[b, n, 4]`, each by two opposite corners), order (i64 `[b, c, n]`: boxes of a class, best
    /// first), count (i64 `[b, c]`), limit (i64 scalar), threshold (f32 scalar). Result bool `[b, c, n]`: whether the box
    /// in each place of the order is kept. It is if it is among the first `count`, fewer than `limit` are kept before
    /// it, and with none of those its intersection over union is greater than `threshold`.
    ///
    /// Each decision waits for all before it: as other operations this would be a pass over all boxes for each one kept.
    SuppressOverlaps,

    // Reductions; reduced axes are dropped from the result (reshape to keep them). Axes ascend.
    Reduce {
        function: ReduceFn,
        axes: Vec<usize>,
    },
    /// i64 index of the extreme element along `axis`, which is dropped; ties go to the first, or the last. The
    /// first NaN is more extreme than any number.
    ArgReduce {
        function: ArgReduceFn,
        axis: usize,
        last_on_tie: bool,
    },
    /// Softmax along `axis`, computed after subtracting the maximum. `log` gives log-softmax.
    Softmax {
        axis: usize,
        log: bool,
    },
    /// Operands: x, and optionally scale, bias (both of shape `x[axis..]`).
    /// Normalises over axes `axis..`: `(x - mean) / sqrt(variance + epsilon) * scale + bias`.
    LayerNorm {
        axis: usize,
        epsilon: f64,
    },

    // Linear algebra.
    /// Operands: lhs `[batch.., m, k]`, rhs `[batch.., k, n]` with equal batch dimensions (possibly none).
    /// Result `[batch.., m, n]`. f16 and bf16 sum in f32; i8 and u8, which may be mixed, give i32, exactly. Zero
    /// points are taken off afterwards: see [`crate::Builder::matmul_integer`].
    MatMul,
    /// Operands: x `[n, c, spatial..]`, weights `[k, c / groups, window..]`. Result `[n, k, spatial'..]`.
    /// With `channels_last`: x `[n, spatial.., c]`, result `[n, spatial'.., k]`, weights unchanged. Element types are
    /// those of [`Op::MatMul`]; padding is 0.
    Conv {
        window: Window,
        groups: u64,
        channels_last: bool,
    },
    /// Operand: x as for [`Op::Conv`]. `include_pad` counts padding into an average's divisor.
    Pool {
        function: PoolFn,
        window: Window,
        include_pad: bool,
        channels_last: bool,
    },

    // What no device has.
    /// A function that the host runs, as [`ired_host::FUNCTIONS`] lists them. Operands and results are of the types that
    /// it takes and gives. `symbols` are dimensions of results, alone each, that take their values from the function;
    /// all others are proven or checked when it has run.
    Host {
        function: HostCall,
        results: Vec<TensorType>,
        symbols: Vec<SymbolId>,
    },

    // Control flow. Regions capture values of the enclosing regions freely.
    /// Operand: condition (bool scalar). Regions: then, else; no inputs, outputs are the node's results. Where the
    /// branches' dimensions differ, the result's is a symbol of its own.
    If,
    /// Operands: initial state. Regions: condition (state -> bool scalar), body (state -> state).
    /// Results: the state when the condition first fails. The inputs of both regions and the results have the same
    /// types. A dimension in which the state may change is a symbol of the loop's own in these types: it has a new
    /// value in every iteration, and after the loop that of the result. What is computed from it, by way of an
    /// attribute too, belongs into the loop.
    While,
    /// Runs its region `count` times. Operands: initial state. Region: body (state -> state.., slice..). Results: the
    /// state after the last iteration, then a stack for each slice: `[count] ++ slice`, in which iteration `i` writes
    /// slice `i`. State changes its shape as in [`Op::While`]; slices do not, and their sizes are known outside of
    /// the loop. In the body `index` is the number of the iteration, from 0.
    Repeat {
        count: Dim,
        index: SymbolId,
    },
}

impl Op {
    /// Whether an element of the result is made of the elements at the same index of the operands.
    pub const fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Self::Unary(_)
                | Self::Binary(_)
                | Self::Compare(_)
                | Self::Select
                | Self::Cast(_)
                | Self::BitCast(_)
        )
    }

    /// Whether the operation owns regions, which say what its results are.
    pub const fn is_control(&self) -> bool {
        matches!(self, Self::If | Self::While | Self::Repeat { .. })
    }

    /// The operation with every dimension in its attributes replaced.
    pub fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Dim) -> Op {
        let mut op = self.clone();
        for dim in op.dims_mut() {
            *dim = f(dim);
        }
        op
    }

    /// Every dimension in the attributes. Those of a host function's results are no attributes.
    pub fn to_dims(&self) -> Vec<Dim> {
        self.clone().dims_mut().into_iter().map(|dim| dim.clone()).collect()
    }

    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        match self {
            Self::Dims { values, .. } => values.iter_mut().collect(),
            Self::Iota { shape, .. } | Self::Broadcast { shape } | Self::Reshape { shape } => {
                shape.iter_mut().collect()
            }
            Self::Slice { start, size, .. } => start.iter_mut().chain(size).collect(),
            Self::Pad { low, high, .. } => low.iter_mut().chain(high).collect(),
            Self::Repeat { count, .. } => vec![count],
            _ => Vec::new(),
        }
    }
}

/// Sliding-window geometry, one entry a spatial axis. `extent` is the window's size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    pub extent: Vec<u64>,
    pub stride: Vec<u64>,
    pub dilation: Vec<u64>,
    pub pad_low: Vec<u64>,
    pub pad_high: Vec<u64>,
    /// Rounds the result size up instead of down; a window that would start in the upper padding is left out.
    pub ceil: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnaryFn {
    Abs,
    Neg,
    Sign,
    Not,
    BitNot,
    Reciprocal,
    Sqrt,
    Rsqrt,
    Exp,
    Log,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Sigmoid,
    Floor,
    Ceil,
    /// Half to even.
    Round,
    IsNan,
    /// Either infinity.
    IsInf,
    /// The real part of a complex number.
    Real,
    /// The imaginary part of a complex number.
    Imag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BinaryFn {
    Add,
    Sub,
    Mul,
    /// Integer division truncates; by zero gives 0.
    Div,
    /// Remainder with the sign of the dividend (C `fmod`, `%`); of an integer by zero 0.
    Rem,
    /// Remainder with the sign of the divisor (Python `%`); of an integer by zero 0.
    Mod,
    /// Integers wrap; a negative exponent gives the truncated reciprocal (of 0: 0).
    Pow,
    /// NaN if either operand is.
    Max,
    /// NaN if either operand is.
    Min,
    /// Logical on bool, bitwise on integers.
    And,
    Or,
    Xor,
    /// Amounts outside `0..bits` shift everything out.
    ShiftLeft,
    /// Keeps the sign of signed integers. Amounts outside `0..bits` shift everything out.
    ShiftRight,
    /// The complex number with this real and this imaginary part.
    Complex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareFn {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReduceFn {
    Sum,
    Product,
    Mean,
    Max,
    Min,
    /// Bool only.
    All,
    /// Bool only.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArgReduceFn {
    Max,
    Min,
}

/// How [`Op::ScatterNd`] combines what is there with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScatterFn {
    /// The last update stays.
    Set,
    /// Bool: or.
    Add,
    /// Bool: and.
    Mul,
    /// NaN if one of the two is.
    Max,
    /// NaN if one of the two is.
    Min,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CumulativeFn {
    Sum,
    Product,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolFn {
    Max,
    Average,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PadMode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}
