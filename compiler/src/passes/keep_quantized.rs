//! Leaves quantised weights of float products as the integers they are: the module stores these, and kernels make floats
//! of them in registers.
//!
//! However a model writes `(q - zero) * scale` and moves it about, it becomes one expression that [`crate::weights`]
//! knows: integers in blocks along the sum, with a scale, and maybe a zero point, for each block and column.

mod view;

use std::collections::HashSet;

use ired_graph::{BinaryFn, DType, Dim, Graph, NodeId, Op, Tensor, ValueId};

use super::rewrite::{Rewriter, Rewritten, rewrite};
use super::{MAX_FOLDED_BYTES, PassError};
use view::{Axis, Digit, View};

/// Smaller blocks have so many scales that little is saved.
const LEAST_BLOCK: u64 = 8;
/// New weights of a model together: as much as its own and this.
const FREE_BYTES: u64 = 64 << 20;

pub(super) fn keep_quantized(graph: &mut Graph) -> Result<(), PassError> {
    let products: HashSet<ValueId> = graph
        .live_nodes()
        .into_iter()
        .map(|(_, id)| graph.node(id))
        .filter(|node| node.op == Op::MatMul)
        .filter_map(|node| node.operands.get(1).copied())
        .map(|rhs| match graph.producer(rhs).map(|id| graph.node(id)) {
            // The same for every batch.
            Some(node) if matches!(node.op, Op::Broadcast { .. }) => node.operands[0],
            _ => rhs,
        })
        .collect();
    let own = graph.params.iter().map(|param| param.data.len() as u64).sum::<u64>();
    let mut budget = own.saturating_add(FREE_BYTES);
    rewrite(graph, &mut |rw, id| match rw.node(id).results.as_slice() {
        [result] if products.contains(result) => keep(rw, id, &mut budget),
        _ => Ok(None),
    })?;
    Ok(())
}

fn keep(rw: &mut Rewriter<'_>, id: NodeId, budget: &mut u64) -> Rewritten {
    let Some(parts) = Parts::of(rw, id) else { return Ok(None) };
    let Some(layout) = Layout::of(rw, &parts) else { return Ok(None) };
    let Some(rest) = budget.checked_sub(layout.bytes()) else { return Ok(None) };
    *budget = rest;
    layout.emit(rw, &parts).map(|value| Some(vec![value]))
}

/// Integers, scales and zero points of a matrix `[k, n]`, in the places where its elements are.
struct Parts {
    integers: View,
    scale: View,
    zero: Option<View>,
}

impl Parts {
    fn of(rw: &Rewriter<'_>, id: NodeId) -> Option<Self> {
        let mut node = rw.node(id);
        if rw.ty(node.results[0]).dtype != DType::F32 || rw.ty(node.results[0]).rank() != 2 {
            return None;
        }
        let mut moves = Vec::new();
        while matches!(node.op, Op::Transpose { .. } | Op::Reshape { .. } | Op::Slice { .. }) {
            moves.push((&node.op, rw.ty(node.results[0]).static_shape()?));
            node = rw.producer(node.operands[0])?;
        }
        let (Op::Binary(BinaryFn::Mul), &[a, b]) = (&node.op, node.operands.as_slice()) else { return None };
        let (centred, scale) = match View::of(rw, b) {
            Some(scale) => (a, scale),
            None => (b, View::of(rw, a)?),
        };
        let (wide, zero) = match rw.op(centred)? {
            (Op::Binary(BinaryFn::Sub), &[wide, zero]) => (wide, Some(View::of(rw, zero)?)),
            _ => (centred, None),
        };
        let moved = |view: View| moves.iter().rev().try_fold(view, |view, (op, shape)| view.moved(op, shape));
        let integers = moved(View::of(rw, wide)?)?;
        let of_few_bits = [DType::I2, DType::U2, DType::I4, DType::U4, DType::I8, DType::U8]
            .contains(&rw.ty(integers.source).dtype);
        let zero = match zero {
            Some(zero) => Some(moved(zero)?),
            None => None,
        };
        of_few_bits.then_some(Self { integers, scale: moved(scale)?, zero })
    }
}

/// How the integers are to be stored.
struct Layout {
    k: u64,
    n: u64,
    block: u64,
    blocks: u64,
    dtype: DType,
    /// `[n, blocks, block]` instead of `[blocks, block, n]`.
    transposed: bool,
}

impl Layout {
    fn of(rw: &Rewriter<'_>, parts: &Parts) -> Option<Self> {
        let [rows, columns] = parts.integers.axes.as_slice() else { return None };
        let (k, n) = (rows.size, columns.size);
        let scale = run(&parts.scale.axes[0])?;
        let zero = parts.zero.as_ref().map_or(Some(Run::All), |zero| run(&zero.axes[0]))?;
        let block = match (scale, zero) {
            (Run::All, Run::All) => k,
            (Run::Each(block), Run::All) | (Run::All, Run::Each(block)) => block,
            (Run::Each(a), Run::Each(b)) => (a == b).then_some(a)?,
        };
        if block < LEAST_BLOCK {
            return None;
        }
        let blocks = k.div_ceil(block);
        // Kernels read numbers of four bits eight at a time.
        let in_words = blocks == 1 || block % 8 == 0;
        let source = rw.ty(parts.integers.source);
        let dtype = match source.dtype {
            DType::U2 | DType::U4 if in_words => DType::U4,
            DType::I2 | DType::I4 if in_words => DType::I4,
            dtype if dtype.is_signed_integer() => DType::I8,
            _ => DType::U8,
        };
        let transposed = n > 1 && matches!(rows.digits.last(), Some(Digit { stride: 1, .. }));
        let layout = Self { k, n, block, blocks, dtype, transposed };
        // A view may repeat a few numbers many times.
        let most = ired_graph::tensor::element_count(&source.static_shape()?)?.saturating_mul(2);
        let fits = layout.elements()? <= most.min(MAX_FOLDED_BYTES);
        fits.then_some(layout)
    }

    fn elements(&self) -> Option<u64> {
        self.blocks.checked_mul(self.block)?.checked_mul(self.n)
    }

    /// Of integers and scales together, at most.
    fn bytes(&self) -> u64 {
        self.elements()
            .unwrap_or(u64::MAX)
            .saturating_add(self.blocks.saturating_mul(self.n).saturating_mul(8))
    }

    fn shape(&self, block: u64) -> [u64; 3] {
        match self.transposed {
            true => [self.n, self.blocks, block],
            false => [self.blocks, block, self.n],
        }
    }

    fn emit(&self, rw: &mut Rewriter<'_>, parts: &Parts) -> Result<ValueId, PassError> {
        let full: Vec<Dim> = self.shape(self.block).iter().map(|&d| Dim::constant(d as i64)).collect();
        let integers = self.integers(rw, &parts.integers);
        let integers = rw.add_param("quantized", integers)?;
        let mut value = rw.add(Op::Cast(DType::F32), &[integers])?;
        if let Some(zero) = &parts.zero {
            let numbers = self.numbers(rw, zero);
            let zero = match numbers.first() {
                Some(first) if numbers.iter().all(|number| number == first) => {
                    (*first != 0.0).then(|| rw.add_constant(Tensor::from_f32s(&[], &[*first]))).transpose()?
                }
                _ => Some(self.add_numbers(rw, &numbers, whole_type(&numbers))?),
            };
            if let Some(zero) = zero {
                let zero = rw.broadcast(zero, full.clone())?;
                value = rw.add(Op::Binary(BinaryFn::Sub), &[value, zero])?;
            }
        }
        let scales = self.numbers(rw, &parts.scale);
        let scales = self.add_numbers(rw, &scales, DType::F32)?;
        let scales = rw.broadcast(scales, full)?;
        value = rw.add(Op::Binary(BinaryFn::Mul), &[value, scales])?;
        let size = |d: u64| Dim::constant(d as i64);
        let padded = size(self.blocks * self.block);
        let (flat, cut) = match self.transposed {
            true => (vec![size(self.n), padded], vec![size(self.n), size(self.k)]),
            false => (vec![padded, size(self.n)], vec![size(self.k), size(self.n)]),
        };
        value = rw.add(Op::Reshape { shape: flat.clone() }, &[value])?;
        if flat != cut {
            let start = vec![Dim::constant(0); 2];
            value = rw.add(Op::Slice { start, size: cut, stride: vec![1; 2] }, &[value])?;
        }
        if self.transposed { rw.transpose(value, vec![1, 0]) } else { Ok(value) }
    }

    /// The integers as they are to be stored: the model's own bytes, where these are.
    fn integers(&self, rw: &Rewriter<'_>, view: &View) -> Tensor {
        let source = rw.tensor(view.source).expect("a view is of a constant");
        let shape = self.shape(self.block);
        let padded = self.blocks * self.block;
        let (k_stride, n_stride) = if self.transposed { (1, padded) } else { (self.n, 1) };
        let lies = view.axes[0].is_run(padded, k_stride) && view.axes[1].is_run(self.n, n_stride);
        if lies
            && source.dtype() == self.dtype
            && let Ok(tensor) = source.with_shape(shape.to_vec())
        {
            return tensor;
        }
        let bits = self.dtype.bits() as u64;
        let mut data = vec![0u8; (padded * self.n * bits).div_ceil(8) as usize];
        for (j, k) in (0..self.n).flat_map(|j| (0..self.k).map(move |k| (j, k))) {
            let code = code(&source, view.axes[0].offset(k) + view.axes[1].offset(j));
            let to = bits * if self.transposed { j * padded + k } else { k * self.n + j };
            data[(to / 8) as usize] |= (code & (0xff >> (8 - bits))) << (to % 8);
        }
        Tensor::new(self.dtype, shape.to_vec(), data.into()).expect("made of this many elements")
    }

    /// A number a block and column, in the order of [`Layout::shape`].
    fn numbers(&self, rw: &Rewriter<'_>, view: &View) -> Vec<f32> {
        let source = rw.tensor(view.source).expect("a view is of a constant").to_f32s();
        let at = |block: u64, j: u64| {
            source[(view.axes[0].offset(block * self.block) + view.axes[1].offset(j)) as usize]
        };
        match self.transposed {
            true => (0..self.n)
                .flat_map(|j| (0..self.blocks).map(move |i| (i, j)))
                .map(|(i, j)| at(i, j))
                .collect(),
            false => (0..self.blocks)
                .flat_map(|i| (0..self.n).map(move |j| (i, j)))
                .map(|(i, j)| at(i, j))
                .collect(),
        }
    }

    fn add_numbers(
        &self,
        rw: &mut Rewriter<'_>,
        numbers: &[f32],
        dtype: DType,
    ) -> Result<ValueId, PassError> {
        let shape = self.shape(1);
        let ones = shape[..2].iter().take_while(|d| **d == 1).count();
        let numbers: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
        let param = rw.add_param("quantized", Tensor::from_f64s(dtype, &shape[ones..], &numbers))?;
        if dtype == DType::F32 { Ok(param) } else { rw.add(Op::Cast(DType::F32), &[param]) }
    }
}

/// How far a number stays the same along an axis.
#[derive(Clone, Copy)]
enum Run {
    All,
    Each(u64),
}

fn run(axis: &Axis) -> Option<Run> {
    match axis.digits.as_slice() {
        [] | [Digit { stride: 0, .. }] => Some(Run::All),
        [_, Digit { count, stride: 0 }] => Some(Run::Each(*count)),
        _ => None,
    }
}

/// The type of a byte that holds these numbers; f32 if there is none.
fn whole_type(numbers: &[f32]) -> DType {
    let fits = |dtype: DType, low: f32, high: f32| {
        numbers.iter().all(|n| n.fract() == 0.0 && (low..=high).contains(n)).then_some(dtype)
    };
    fits(DType::U8, 0.0, 255.0).or_else(|| fits(DType::I8, -128.0, 127.0)).unwrap_or(DType::F32)
}

/// The bits of an integer of at most eight, its sign extended.
fn code(tensor: &Tensor, at: u64) -> u8 {
    let bits = tensor.dtype().bits() as u64;
    let byte = tensor.data()[(at * bits / 8) as usize];
    let up = byte << (8 - bits - at * bits % 8);
    if tensor.dtype().is_signed_integer() { (up as i8 >> (8 - bits)) as u8 } else { up >> (8 - bits) }
}
