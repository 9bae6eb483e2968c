//! Channels-last convolutions with constant weights: direct, flat and depthwise, with known and unknown sizes.

use ired_graph::{BinaryFn, DType, Dim, Op, UnaryFn};

use crate::harness::{Case, Random, targets};
use crate::nested::window;

/// One convolution; a size of the image that stands in `unknown` is a symbol.
struct Convolution {
    image: [u64; 4],
    kernels: u64,
    groups: u64,
    extent: [u64; 2],
    stride: [u64; 2],
    dilation: [u64; 2],
    low: [u64; 2],
    high: [u64; 2],
    unknown: [bool; 3],
}

impl Convolution {
    /// 3x3 with a border of one pixel, everything else one.
    fn of(image: [u64; 4], kernels: u64) -> Self {
        Self {
            image,
            kernels,
            groups: 1,
            extent: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            low: [1, 1],
            high: [1, 1],
            unknown: [true, false, false],
        }
    }

    fn pointwise(image: [u64; 4], kernels: u64) -> Self {
        Self { extent: [1, 1], low: [0, 0], high: [0, 0], ..Self::of(image, kernels) }
    }

    fn depthwise(image: [u64; 4]) -> Self {
        Self { groups: image[3], ..Self::of(image, image[3]) }
    }

    /// Compares on every target: bias, residual and a rectifier follow where `epilogue` says so.
    fn check(&self, dtype: DType, epilogue: bool) {
        let mut random = Random::new(self.image.iter().fold(self.kernels, |seed, d| seed * 31 + d));
        let mut case = Case::new();
        let image = random.tensor(dtype, &self.image, -2.0, 2.0);
        let mut shape: Vec<Dim> = self.image.iter().map(|d| Dim::constant(*d as i64)).collect();
        for (axis, name) in ["n", "h", "w"].iter().enumerate() {
            if self.unknown[axis] {
                shape[axis] = case.symbol(name, self.image[axis]);
            }
        }
        let image = case.input_of(image, shape);
        let channels = self.image[3] / self.groups;
        let weights = [self.kernels, channels, self.extent[0], self.extent[1]];
        let weights = case.param(random.tensor(dtype, &weights, -1.0, 1.0));
        let window = window(self.extent, self.stride, self.dilation, self.low, self.high);
        let op = Op::Conv { window, groups: self.groups, channels_last: true };
        let mut output = case.root(op, &[image, weights]);
        if epilogue {
            let ty = case.graph.ty(output).clone();
            let bias = case.param(random.tensor(dtype, &[self.kernels], -1.0, 1.0));
            let bias = case.op(Op::Broadcast { shape: ty.shape.clone() }, &[bias]);
            output = case.op(Op::Binary(BinaryFn::Add), &[output, bias]);
            output = case.op(Op::Binary(BinaryFn::Mul), &[output, output]);
            output = case.op(Op::Unary(UnaryFn::Sigmoid), &[output]);
            let sizes: Vec<u64> = (0..4)
                .map(|axis| ty.shape[axis].as_static().unwrap_or_else(|| self.out_size(axis) as i64) as u64)
                .collect();
            let residual = random.tensor(dtype, &sizes, -1.0, 1.0);
            let residual = case.input_of(residual, ty.shape);
            output = case.op(Op::Binary(BinaryFn::Sub), &[output, residual]);
        }
        let tolerance = match dtype {
            DType::F16 => 4e-3,
            DType::BF16 => 3e-2,
            DType::F32 => 3e-6,
            _ => 1e-12,
        };
        for target in targets() {
            case.check_on(&target, output, tolerance);
        }
    }

    fn out_size(&self, axis: usize) -> u64 {
        if axis == 0 {
            return self.image[0];
        }
        let a = axis - 1;
        let padded = self.image[axis] + self.low[a] + self.high[a];
        (padded - self.dilation[a] * (self.extent[a] - 1) - 1) / self.stride[a] + 1
    }
}

#[test]
fn images_and_channels_of_every_size() {
    for (image, kernels) in [
        ([1, 1, 1, 1], 1),
        ([2, 5, 7, 3], 16),
        ([1, 8, 8, 16], 33),
        ([0, 4, 4, 2], 5),
        ([3, 7, 14, 5], 64),
        ([1, 3, 31, 4], 47),
        ([1, 2, 2, 1], 130),
        ([1, 14, 14, 8], 24),
    ] {
        Convolution::of(image, kernels).check(DType::F32, false);
        Convolution::of(image, kernels).check(DType::F32, true);
    }
}

#[test]
fn windows_of_every_kind() {
    for (extent, stride, dilation, low, high) in [
        ([7, 7], [2, 2], [1, 1], [3, 3], [3, 3]),
        ([3, 3], [2, 2], [1, 1], [0, 0], [1, 1]),
        ([3, 3], [1, 1], [2, 3], [2, 3], [2, 3]),
        ([1, 5], [1, 2], [1, 1], [0, 4], [0, 1]),
        ([5, 1], [3, 1], [1, 1], [2, 0], [2, 0]),
        ([2, 2], [1, 1], [1, 1], [0, 0], [0, 0]),
        ([1, 1], [2, 2], [1, 1], [0, 0], [0, 0]),
        ([1, 1], [1, 1], [1, 1], [1, 2], [0, 1]),
    ] {
        for unknown in [[true, false, false], [false, true, true]] {
            let base = Convolution::of([2, 11, 13, 6], 20);
            Convolution { extent, stride, dilation, low, high, unknown, ..base }.check(DType::F32, true);
        }
    }
}

#[test]
fn pointwise_images_are_flat() {
    for (image, kernels) in
        [([1, 1, 1, 7], 3), ([2, 5, 5, 16], 32), ([3, 7, 7, 40], 17), ([1, 13, 11, 3], 96)]
    {
        for unknown in [[true, false, false], [true, true, true]] {
            let convolution = Convolution { unknown, ..Convolution::pointwise(image, kernels) };
            convolution.check(DType::F32, false);
            convolution.check(DType::F32, true);
        }
    }
}

#[test]
fn groups_and_depthwise() {
    for groups in [2, 4] {
        Convolution { groups, ..Convolution::of([2, 6, 9, 8], 24) }.check(DType::F32, true);
    }
    for (image, stride, dilation) in [
        ([1, 5, 9, 2], [1, 1], [1, 1]),
        ([2, 9, 17, 16], [2, 2], [1, 1]),
        ([1, 8, 24, 37], [1, 1], [1, 1]),
        ([1, 12, 12, 33], [1, 1], [2, 2]),
    ] {
        for unknown in [[true, false, false], [true, true, true]] {
            let base = Convolution::depthwise(image);
            Convolution { stride, dilation, unknown, ..base }.check(DType::F32, true);
        }
    }
}

#[test]
fn every_float_type() {
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        Convolution::of([1, 6, 9, 7], 19).check(dtype, true);
        Convolution::pointwise([1, 6, 9, 7], 19).check(dtype, true);
        Convolution::depthwise([1, 6, 9, 21]).check(dtype, true);
    }
}
