//! Products with weights that are stored as integers: every type and length of a block, for few rows and many.

use ired_graph::{BinaryFn, DType, Dim, Op, Tensor, UnaryFn, ValueId};

use crate::harness::{Case, Random, dims};

/// What weights are, and how they lie.
#[derive(Clone, Copy)]
struct Weights {
    k: u64,
    n: u64,
    block: u64,
    dtype: DType,
    zero: Zero,
    transposed: bool,
}

#[derive(Clone, Copy)]
enum Zero {
    None,
    One(f32),
    Each(DType),
}

impl Weights {
    fn blocks(&self) -> u64 {
        self.k.div_ceil(self.block)
    }

    fn shape(&self, block: u64) -> Vec<u64> {
        match self.transposed {
            true => vec![self.n, self.blocks(), block],
            false => vec![self.blocks(), block, self.n],
        }
    }

    /// A number a block and column, spread over all of them; without leading ones, which say nothing.
    fn spread(&self, case: &mut Case, tensor: Tensor) -> ValueId {
        let ones = self.shape(1)[..2].iter().take_while(|d| **d == 1).count();
        let tensor = tensor.with_shape(self.shape(1)[ones..].to_vec()).unwrap();
        let dtype = tensor.dtype();
        let mut value = case.param(tensor);
        if dtype != DType::F32 {
            value = case.op(Op::Cast(DType::F32), &[value]);
        }
        case.op(Op::Broadcast { shape: dims(&self.shape(self.block)) }, &[value])
    }

    /// `[k, n]` of f32.
    fn build(&self, case: &mut Case, random: &mut Random) -> ValueId {
        let (low, high) = if self.dtype.is_signed_integer() { (-8.0, 7.0) } else { (0.0, 15.0) };
        let wide = if self.dtype.bits() == 8 { 16.0 } else { 1.0 };
        let integers = random.tensor(self.dtype, &self.shape(self.block), low * wide, high * wide);
        let integers = case.param(integers);
        let mut value = case.op(Op::Cast(DType::F32), &[integers]);
        let zero = match self.zero {
            Zero::None => None,
            Zero::One(zero) => {
                let zero = case.constant(Tensor::from_f32s(&[], &[zero]));
                Some(case.op(Op::Broadcast { shape: dims(&self.shape(self.block)) }, &[zero]))
            }
            Zero::Each(dtype) => {
                let zeros = random.tensor(dtype, &self.shape(1), 0.0, 15.0);
                Some(self.spread(case, zeros))
            }
        };
        if let Some(zero) = zero {
            value = case.op(Op::Binary(BinaryFn::Sub), &[value, zero]);
        }
        let scales = random.tensor(DType::F32, &self.shape(1), 0.01, 0.02);
        let scales = self.spread(case, scales);
        value = case.op(Op::Binary(BinaryFn::Mul), &[value, scales]);
        let (k, n, padded) = (self.k, self.n, self.blocks() * self.block);
        let (flat, cut) = if self.transposed { ([n, padded], [n, k]) } else { ([padded, n], [k, n]) };
        value = case.op(Op::Reshape { shape: dims(&flat) }, &[value]);
        if flat != cut {
            let start = vec![Dim::constant(0); 2];
            value = case.op(Op::Slice { start, size: dims(&cut), stride: vec![1; 2] }, &[value]);
        }
        match self.transposed {
            true => case.op(Op::Transpose { perm: vec![1, 0] }, &[value]),
            false => value,
        }
    }

    /// A product of `m` rows, with what may follow one.
    fn check(&self, random: &mut Random, m: u64, fixed: bool) {
        let mut case = Case::new();
        let rows = if fixed { Dim::constant(m as i64) } else { case.symbol("m", m) };
        let x = random.tensor(DType::F32, &[m, self.k], -1.0, 1.0);
        let x = case.input_of(x, vec![rows, Dim::constant(self.k as i64)]);
        let weights = self.build(&mut case, random);
        let product = case.root(Op::MatMul, &[x, weights]);
        let target = crate::harness::host();
        assert_eq!(case.packing(&target, product).is_some(), self.n > 0, "weights are not read as integers");
        let bias = case.param(random.tensor(DType::F32, &[self.n], -1.0, 1.0));
        let bias = case.op(Op::Broadcast { shape: case.graph.ty(product).shape.clone() }, &[bias]);
        let sum = case.op(Op::Binary(BinaryFn::Add), &[product, bias]);
        let size = case.op(Op::Unary(UnaryFn::Abs), &[sum]);
        case.check(size, 2e-6);
    }
}

const TYPES: [DType; 4] = [DType::I4, DType::U4, DType::I8, DType::U8];

#[test]
fn blocks_are_scaled_by_themselves() {
    let mut random = Random::new(81);
    for (i, [k, n, block]) in [
        [64u64, 48u64, 32u64],
        [65, 17, 32],
        [96, 1, 16],
        [8, 5, 8],
        [7, 3, 16],
        [130, 64, 64],
        [300, 33, 16],
        [40, 100, 8],
        [513, 31, 128],
        [520, 24, 256],
    ]
    .into_iter()
    .enumerate()
    {
        for (j, dtype) in TYPES.into_iter().enumerate() {
            let zero =
                [Zero::None, Zero::One(7.0), Zero::Each(DType::U8), Zero::Each(DType::F32)][(i + j) % 4];
            let weights = Weights { k, n, block, dtype, zero, transposed: (i + j / 2) % 2 == 0 && n > 1 };
            weights.check(&mut random, [1, 13, 2, 100, 3, 0, 4][(i + 2 * j) % 7], (i + j) % 3 != 0);
        }
    }
}

#[test]
fn a_column_has_one_scale() {
    let mut random = Random::new(82);
    for (i, [k, n]) in
        [[1u64, 7u64], [8, 16], [31, 40], [257, 65], [1025, 18], [768, 96], [5, 1]].into_iter().enumerate()
    {
        for (j, dtype) in TYPES.into_iter().enumerate() {
            let zero = [Zero::None, Zero::One(-3.0), Zero::Each(DType::I8)][(i + j) % 3];
            let weights = Weights { k, n, block: k, dtype, zero, transposed: (i + j) % 2 == 0 && n > 1 };
            weights.check(&mut random, [1, 29, 3][(i + j) % 3], (i + j) % 4 != 0);
        }
    }
}

#[test]
fn blocks_of_bytes_are_of_any_length() {
    let mut random = Random::new(83);
    for [k, n, block] in [[30u64, 20u64, 10u64], [35, 50, 9], [100, 16, 33], [290, 40, 13]] {
        for (dtype, transposed) in [(DType::I8, true), (DType::U8, false)] {
            let weights = Weights { k, n, block, dtype, zero: Zero::Each(DType::U8), transposed };
            weights.check(&mut random, 2, true);
            weights.check(&mut random, 40, false);
        }
    }
}

#[test]
fn weights_that_are_read_twice_are_still_right() {
    let mut random = Random::new(84);
    let weights =
        Weights { k: 24, n: 24, block: 8, dtype: DType::U4, zero: Zero::One(8.0), transposed: true };
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::F32, &[24, 24], -1.0, 1.0));
    let matrix = weights.build(&mut case, &mut random);
    let product = case.root(Op::MatMul, &[x, matrix]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[product, matrix]);
    case.check(sum, 2e-6);
}
