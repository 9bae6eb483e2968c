//! Products and convolutions of 8-bit integers that stand for real numbers `(q - zero) * scale`, and the way back.
//!
//! The integers are multiplied as they are, and what their zero points add is taken off afterwards:
//! `Σ (x - a)(w - b) = Σ x·w - a·Σ w - b·Σ x + k·a·b`. Sums of weights are constants, and terms with a zero point of 0
//! are left out. All of it is arithmetic modulo 2^32, so the result is exact where it fits i32.
//!
//! Machines multiply u8 by i8. So data of i8 becomes u8 and weights of u8 become i8, each with a zero point 128 off:
//! the bits are the same but for the highest. A result of i8 is made from u8, so that the next product finds it.

use bytes::Bytes;

use super::{Builder, Built, Graph};
use crate::ops::ShapeError;
use crate::{BinaryFn, DType, Dim, Op, PadMode, Param, ReduceFn, Shape, Tensor, UnaryFn, ValueId, Window};

/// An integer operand less its zero point, which is of any integer type.
#[derive(Clone, Copy, Debug)]
pub struct Offset {
    pub values: ValueId,
    /// Broadcasts to `values`; 0 where it is missing.
    pub zero: Option<ValueId>,
}

impl Builder<'_> {
    /// numpy's `matmul` in i32 of i8 and u8 operands, each less its zero point: a scalar, or one a row of the left
    /// (`[.., m, 1]`) and one a column of the right (`[.., 1, n]`).
    ///
    /// # Errors
    /// When the shapes do not fit, or an operand is not of 8-bit integers.
    pub fn matmul_integer(&mut self, lhs: Offset, rhs: Offset) -> Built {
        let (lhs_rank, rhs_rank) = (self.ty(lhs.values).rank(), self.ty(rhs.values).rank());
        if lhs_rank == 1 || rhs_rank == 1 {
            let left = if lhs_rank == 1 { self.unsqueeze(lhs.values, &[0])? } else { lhs.values };
            let right = if rhs_rank == 1 { self.unsqueeze(rhs.values, &[1])? } else { rhs.values };
            let product =
                self.matmul_integer(Offset { values: left, ..lhs }, Offset { values: right, ..rhs })?;
            let rank = self.ty(product).rank();
            let rows = (lhs_rank == 1).then_some(rank - 2);
            let dropped: Vec<usize> = rows.into_iter().chain((rhs_rank == 1).then_some(rank - 1)).collect();
            return self.squeeze(product, &dropped);
        }
        let (lhs, rhs) = (self.unsigned_data(lhs)?, self.signed_weights(rhs)?);
        let product = self.matmul_broadcast(lhs.values, rhs.values)?;
        let (lhs_zero, rhs_zero) = (self.zero_point(lhs)?, self.zero_point(rhs)?);
        let mut sum = product;
        if let Some(zero) = lhs_zero {
            let mut columns = self.sum_columns(rhs.values)?;
            if let Some(rhs_zero) = rhs_zero {
                let k = self.ty(lhs.values).shape.last().cloned().unwrap_or(Dim::constant(1));
                let all = self.count(k)?;
                let all = self.binary_broadcast(BinaryFn::Mul, rhs_zero, all)?;
                columns = self.binary_broadcast(BinaryFn::Sub, columns, all)?;
            }
            sum = self.less_product(sum, zero, columns)?;
        }
        if let Some(zero) = rhs_zero {
            let wide = self.cast(lhs.values, DType::I32)?;
            let rows = self.reduce(ReduceFn::Sum, wide, &[lhs_rank - 1], true)?;
            sum = self.less_product(sum, zero, rows)?;
        }
        Ok(sum)
    }

    /// A convolution in i32 of i8 and u8 operands, each less its zero point: a scalar of `x`; a scalar or one a
    /// filter (`[k]`) of the weights. Padding holds `x`'s zero point.
    ///
    /// # Errors
    /// When the shapes do not fit, or an operand is not of 8-bit integers.
    pub fn conv_integer(&mut self, x: Offset, weights: Offset, window: Window, groups: u64) -> Built {
        let (x, weights) = (self.unsigned_data(x)?, self.signed_weights(weights)?);
        let (x_zero, weights_zero) = (self.zero_point(x)?, self.zero_point(weights)?);
        let (mut window, mut input) = (window, x.values);
        let rank = self.ty(input).rank();
        let padded = window.pad_low.iter().chain(&window.pad_high).any(|p| *p != 0);
        if let (Some(zero), true) = (x_zero, padded) {
            let amounts = |pads: &[u64]| -> Vec<Dim> {
                [0, 0].iter().chain(pads).map(|p| Dim::constant(*p as i64)).collect()
            };
            let fill = self.cast(zero, self.ty(input).dtype)?;
            let fill = self.reshape(fill, Vec::new())?;
            let (low, high) = (amounts(&window.pad_low), amounts(&window.pad_high));
            input = self.pad(input, low, high, PadMode::Constant, Some(fill))?;
            window.pad_low.fill(0);
            window.pad_high.fill(0);
        }
        let product = self.conv(input, weights.values, window.clone(), groups)?;
        let along = |b: &mut Self, zero: ValueId| {
            let filters = b.ty(zero).elements();
            b.reshape(zero, [vec![filters], vec![Dim::constant(1); rank - 2]].concat())
        };
        let weights_zero = weights_zero.map(|zero| along(self, zero)).transpose()?;
        let mut sum = product;
        if let Some(zero) = x_zero {
            let taps: Shape = self.ty(weights.values).shape[1..].to_vec();
            let mut filters = self.sum_filters(weights.values)?;
            if let Some(weights_zero) = weights_zero {
                let all = self.count(crate::types::product(&taps))?;
                let all = self.binary_broadcast(BinaryFn::Mul, weights_zero, all)?;
                filters = self.binary_broadcast(BinaryFn::Sub, filters, all)?;
            }
            let zero = self.reshape(zero, Vec::new())?;
            sum = self.less_product(sum, zero, filters)?;
        }
        if let Some(zero) = weights_zero {
            let windows = self.sum_windows(input, weights.values, window, groups)?;
            sum = self.less_product(sum, zero, windows)?;
        }
        Ok(sum)
    }

    /// `round(x * multiplier) + zero` in `to`, i8 or u8 or wider, half to even and saturating; `x` in i32, the multiplier in f32.
    ///
    /// # Errors
    /// When the shapes do not broadcast.
    pub fn requantize(&mut self, x: ValueId, multiplier: ValueId, zero: Option<ValueId>, to: DType) -> Built {
        let real = self.cast(x, DType::F32)?;
        let scaled = self.binary_broadcast(BinaryFn::Mul, real, multiplier)?;
        let rounded = self.unary(UnaryFn::Round, scaled)?;
        let signed = to == DType::I8;
        let mut shift = match zero.filter(|zero| !self.is_zero(*zero)) {
            Some(zero) => Some(self.cast(zero, DType::F32)?),
            None => None,
        };
        if signed {
            shift = Some(match shift {
                Some(zero) => self.binary_scalar(BinaryFn::Add, zero, 128.0)?,
                None => self.scalar(DType::F32, 128.0)?,
            });
        }
        let shifted = match shift {
            Some(zero) => self.binary_broadcast(BinaryFn::Add, rounded, zero)?,
            None => rounded,
        };
        if !signed {
            return self.cast(shifted, to);
        }
        let bytes = self.cast(shifted, DType::U8)?;
        self.signed(bytes)
    }

    /// u8 less 128, as i8.
    ///
    /// # Errors
    /// When `bytes` are of no integers.
    pub fn signed(&mut self, bytes: ValueId) -> Built {
        let flipped = self.binary_scalar(BinaryFn::Xor, bytes, 128.0)?;
        self.cast(flipped, DType::I8)
    }

    /// Data of i8 as u8, each and its zero point more by 128.
    fn unsigned_data(&mut self, data: Offset) -> Result<Offset, ShapeError> {
        if self.ty(data.values).dtype != DType::I8 {
            return Ok(data);
        }
        let values = match self.graph.before_signed(data.values) {
            Some(bytes) => bytes,
            None => {
                let bytes = self.cast(data.values, DType::U8)?;
                self.binary_scalar(BinaryFn::Xor, bytes, 128.0)?
            }
        };
        Ok(Offset { values, zero: Some(self.zero_plus(data.zero, 128.0)?) })
    }

    fn zero_plus(&mut self, zero: Option<ValueId>, more: f64) -> Built {
        match zero {
            Some(zero) => {
                let zero = self.cast(zero, DType::I32)?;
                self.binary_scalar(BinaryFn::Add, zero, more)
            }
            None => self.scalar(DType::I32, more),
        }
    }

    /// `sum - x * y` with broadcasting.
    fn less_product(&mut self, sum: ValueId, x: ValueId, y: ValueId) -> Built {
        let product = self.binary_broadcast(BinaryFn::Mul, x, y)?;
        self.binary_broadcast(BinaryFn::Sub, sum, product)
    }

    /// A size as an i32 scalar.
    fn count(&mut self, size: Dim) -> Built {
        let size = self.dim(size)?;
        self.cast(size, DType::I32)
    }

    /// The zero point in i32, if it is not known to be 0.
    fn zero_point(&mut self, operand: Offset) -> Result<Option<ValueId>, ShapeError> {
        let zero = operand.zero.filter(|zero| !self.is_zero(*zero));
        zero.map(|zero| self.cast(zero, DType::I32)).transpose()
    }

    /// Whether every bit of a value is known to be 0.
    fn is_zero(&self, value: ValueId) -> bool {
        self.known(value).is_some_and(|known| known.data().iter().all(|byte| *byte == 0))
    }

    /// The tensor that a constant or a weight is.
    fn known(&self, value: ValueId) -> Option<Tensor> {
        match self.graph.producer_op(value)? {
            Op::Constant(tensor) => Some(tensor.clone()),
            Op::Param(id) => self.graph.param(*id).to_tensor().ok(),
            _ => None,
        }
    }

    /// The operand of a transposition of matrices, and whether `value` is one.
    fn before_transpose(&self, value: ValueId) -> (ValueId, bool) {
        let node = self.graph.producer(value).map(|id| self.graph.node(id));
        match node.map(|node| (&node.op, node.operands.as_slice())) {
            Some((Op::Transpose { perm }, &[source])) if perm[..] == [1, 0] => (source, true),
            _ => (value, false),
        }
    }

    /// Weights of u8 as i8, each and its zero point less by 128: kernels multiply u8 by i8.
    fn signed_weights(&mut self, weights: Offset) -> Result<Offset, ShapeError> {
        let (source, transposed) = self.before_transpose(weights.values);
        if self.ty(source).dtype != DType::U8 {
            return Ok(weights);
        }
        let Some(tensor) = self.known(source) else { return Ok(weights) };
        let data: Bytes = tensor.data().iter().map(|byte| byte ^ 0x80).collect::<Vec<u8>>().into();
        let shape = tensor.shape().to_vec();
        let mut values = match self.graph.producer_op(source) {
            Some(Op::Param(id)) => {
                let name = self.unused_name(&self.graph.param(*id).name);
                let id = self.graph.add_param(Param { name, dtype: DType::I8, shape, data });
                self.param(id)?
            }
            _ => {
                let signed: Vec<i128> = data.iter().map(|byte| i128::from(*byte as i8)).collect();
                self.constant(Tensor::from_integers(DType::I8, &shape, &signed))?
            }
        };
        if transposed {
            values = self.transpose(values, vec![1, 0])?;
        }
        Ok(Offset { values, zero: Some(self.zero_plus(weights.zero, -128.0)?) })
    }

    /// A name for a weight made of the weight `of`.
    fn unused_name(&self, of: &str) -> String {
        let names: std::collections::HashSet<&str> =
            self.graph.params.iter().map(|p| p.name.as_str()).collect();
        let tried = (0..).map(|n| format!("{of}.signed.{n}"));
        tried.into_iter().find(|name| !names.contains(name.as_str())).unwrap_or_default()
    }

    /// `Σ_k rhs[.., k, n]` as `[.., 1, n]`.
    fn sum_columns(&mut self, rhs: ValueId) -> Built {
        let rank = self.ty(rhs).rank();
        let (source, transposed) = self.before_transpose(rhs);
        if let Some(tensor) = self.known(source) {
            let axis = if transposed { 1 } else { rank - 2 };
            let sums = byte_sums(&tensor, axis..axis + 1);
            if let Some(sums) = sums {
                let mut shape = self.ty(rhs).shape.clone();
                shape[rank - 2] = Dim::constant(1);
                let sums = self.weight("sums", sums)?;
                return self.reshape(sums, shape);
            }
        }
        let wide = self.cast(rhs, DType::I32)?;
        self.reduce(ReduceFn::Sum, wide, &[rank - 2], true)
    }

    /// The sum of each filter, `[k, 1..]` with an axis for each spatial one.
    fn sum_filters(&mut self, weights: ValueId) -> Built {
        let shape = self.ty(weights).shape.clone();
        let sums = match self.known(weights).and_then(|tensor| byte_sums(&tensor, 1..shape.len())) {
            Some(sums) => self.weight("sums", sums)?,
            None => {
                let wide = self.cast(weights, DType::I32)?;
                let axes: Vec<usize> = (1..shape.len()).collect();
                self.reduce(ReduceFn::Sum, wide, &axes, false)?
            }
        };
        self.reshape(sums, [&shape[..1], &vec![Dim::constant(1); shape.len() - 2]].concat())
    }

    /// The sum of what each filter of `weights` meets of `x`: as a convolution's result, for filters of ones.
    fn sum_windows(&mut self, x: ValueId, weights: ValueId, window: Window, groups: u64) -> Built {
        let mut ones = self.ty(weights).shape.clone();
        let filters = ones[0].clone();
        ones[0] = Dim::constant(groups as i64);
        let ones = self.full(DType::I8, ones, 1.0)?;
        let sums = self.conv(x, ones, window, groups)?;
        if groups == 1 {
            return Ok(sums);
        }
        let shape = self.ty(sums).shape.clone();
        let apart = self.unsqueeze(sums, &[2])?;
        let mut each = self.ty(apart).shape.clone();
        each[2] = filters.floor_div(&shape[1]);
        let each = self.broadcast_to(apart, each)?;
        self.reshape(each, [&shape[..1], &[filters], &shape[2..]].concat())
    }

    /// A small tensor as a constant, a large one as a weight.
    fn weight(&mut self, name: &str, tensor: Tensor) -> Built {
        /// As much as is worth comparing and printing.
        const SMALL_BYTES: usize = 1024;
        if tensor.data().len() <= SMALL_BYTES {
            return self.constant(tensor);
        }
        let (dtype, shape, data) = (tensor.dtype(), tensor.shape().to_vec(), tensor.data().clone());
        let name = self.unused_name(name);
        let id = self.graph.add_param(Param { name, dtype, shape, data });
        self.param(id)
    }
}

impl Graph {
    /// The u8 that [`Builder::signed`] made an i8 of.
    pub fn before_signed(&self, value: ValueId) -> Option<ValueId> {
        let node = |value: ValueId| self.producer(value).map(|id| self.node(id));
        let cast = node(value).filter(|n| n.op == Op::Cast(DType::I8))?;
        let flip = node(cast.operands[0]).filter(|n| n.op == Op::Binary(BinaryFn::Xor))?;
        let [bytes, mut bit] = flip.operands[..] else { return None };
        if let Op::Broadcast { .. } = node(bit)?.op {
            bit = node(bit)?.operands[0];
        }
        let Op::Constant(bit) = &node(bit)?.op else { return None };
        (self.ty(bytes).dtype == DType::U8 && bit.len() == 1 && bit.data()[..] == [128]).then_some(bytes)
    }
}

/// An 8-bit tensor summed over neighbouring axes, which are dropped, in i32; `None` for other types.
fn byte_sums(tensor: &Tensor, axes: std::ops::Range<usize>) -> Option<Tensor> {
    let signed = match tensor.dtype() {
        DType::I8 => true,
        DType::U8 => false,
        _ => return None,
    };
    let size = |axes: &[u64]| axes.iter().product::<u64>() as usize;
    let (outer, inner) = (&tensor.shape()[..axes.start], &tensor.shape()[axes.end..]);
    let (reduced, row) = (size(&tensor.shape()[axes.clone()]), size(inner));
    let mut sums = vec![0i32; size(outer) * row];
    for (o, block) in tensor.data().chunks(reduced.max(1) * row.max(1)).enumerate().take(size(outer)) {
        let sums = &mut sums[o * row..(o + 1) * row];
        for line in block.chunks(row.max(1)) {
            for (sum, byte) in sums.iter_mut().zip(line) {
                let value = if signed { i32::from(*byte as i8) } else { i32::from(*byte) };
                *sum = sum.wrapping_add(value);
            }
        }
    }
    let shape = [outer, inner].concat();
    let data: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    Tensor::new(DType::I32, shape, data.into()).ok()
}
