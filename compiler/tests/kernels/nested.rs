//! Reductions, products and windows in every type and layout, at small sizes.

use ired_graph::{ArgReduceFn, DType, Op, PoolFn, ReduceFn, Window};

use crate::harness::{Case, Random};

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
        DType::F32 => 2e-6,
        _ => 1e-12,
    }
}

#[test]
fn reductions() {
    let mut random = Random::new(21);
    let all = [ReduceFn::Sum, ReduceFn::Product, ReduceFn::Mean, ReduceFn::Max, ReduceFn::Min];
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8] {
        for function in all {
            for axes in [vec![0usize], vec![1], vec![2], vec![0, 2], vec![1, 2], vec![0, 1, 2]] {
                let mut case = Case::new();
                let x = case.input(random.tensor(dtype, &[3, 4, 19], 1.0, 2.0));
                let y = case.root(Op::Reduce { function, axes }, &[x]);
                case.check_on(&crate::harness::targets()[0], y, tolerance(dtype));
            }
        }
    }
    for function in [ReduceFn::All, ReduceFn::Any] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::Bool, &[40, 3], 0.0, 1.0));
        let y = case.root(Op::Reduce { function, axes: vec![1] }, &[x]);
        case.check(y, 0.0);
    }
}

#[test]
fn reductions_of_nothing_and_of_one() {
    for size in [0u64, 1, 2] {
        for function in [ReduceFn::Sum, ReduceFn::Product, ReduceFn::Max] {
            for axes in [vec![0usize], vec![1]] {
                if size == 0 && function == ReduceFn::Max {
                    continue;
                }
                let mut case = Case::new();
                let n = case.symbol("n", size);
                let x = Random::new(22).tensor(DType::F32, &[size, size], -1.0, 1.0);
                let x = case.input_of(x, vec![n.clone(), n.clone()]);
                let y = case.root(Op::Reduce { function, axes }, &[x]);
                case.check(y, 1e-6);
            }
        }
    }
}

#[test]
fn arg_reductions() {
    let mut random = Random::new(23);
    for dtype in [DType::F32, DType::I32, DType::U8, DType::I64] {
        for function in [ArgReduceFn::Max, ArgReduceFn::Min] {
            for last_on_tie in [false, true] {
                for axis in 0..2usize {
                    let mut case = Case::new();
                    // Small numbers tie often.
                    let x = case.input(random.tensor(dtype, &[18, 21], -2.0, 2.0));
                    let y = case.root(Op::ArgReduce { function, axis, last_on_tie }, &[x]);
                    case.check(y, 0.0);
                }
            }
        }
    }
}

#[test]
fn softmax_and_layer_norm() {
    let mut random = Random::new(24);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        for shape in [[2u64, 3, 17], [1, 1, 1], [4, 2, 64], [2, 5, 3]] {
            for axis in 0..3usize {
                for log in [false, true] {
                    let mut case = Case::new();
                    let x = case.input(random.tensor(dtype, &shape, -4.0, 4.0));
                    let y = case.root(Op::Softmax { axis, log }, &[x]);
                    case.check_on(&crate::harness::targets()[0], y, tolerance(dtype));
                }
                let mut case = Case::new();
                let x = case.input(random.tensor(dtype, &shape, -4.0, 4.0));
                let scale = case.input(random.tensor(dtype, &shape[axis..], -1.0, 1.0));
                let bias = case.input(random.tensor(dtype, &shape[axis..], -1.0, 1.0));
                let y = case.root(Op::LayerNorm { axis, epsilon: 1e-5 }, &[x, scale, bias]);
                case.check_on(&crate::harness::targets()[0], y, 4.0 * tolerance(dtype));
            }
        }
    }
}

#[test]
fn products_of_every_type() {
    let mut random = Random::new(25);
    for (lhs, rhs) in [
        (DType::F32, DType::F32),
        (DType::F64, DType::F64),
        (DType::F16, DType::F16),
        (DType::BF16, DType::BF16),
        (DType::I8, DType::I8),
        (DType::U8, DType::U8),
        (DType::I32, DType::I32),
        (DType::I64, DType::I64),
    ] {
        for [m, k, n] in [[3u64, 5, 7], [1, 1, 1], [4, 0, 3], [2, 33, 19], [0, 2, 2], [17, 2, 40]] {
            for constant in [false, true] {
                let mut case = Case::new();
                let x = case.input(random.tensor(lhs, &[m, k], -5.0, 5.0));
                let w = random.tensor(rhs, &[k, n], -5.0, 5.0);
                let w = if constant { case.param(w) } else { case.input(w) };
                let y = case.root(Op::MatMul, &[x, w]);
                case.check_on(&crate::harness::targets()[0], y, tolerance(lhs));
            }
        }
    }
}

pub(crate) fn window(
    extent: [u64; 2],
    stride: [u64; 2],
    dilation: [u64; 2],
    low: [u64; 2],
    high: [u64; 2],
) -> Window {
    Window {
        extent: extent.to_vec(),
        stride: stride.to_vec(),
        dilation: dilation.to_vec(),
        pad_low: low.to_vec(),
        pad_high: high.to_vec(),
        ceil: false,
    }
}

#[test]
fn pools() {
    let mut random = Random::new(26);
    let windows = [
        window([2, 2], [2, 2], [1, 1], [0, 0], [0, 0]),
        window([3, 3], [2, 1], [1, 1], [1, 1], [1, 0]),
        window([2, 3], [1, 2], [2, 1], [1, 0], [0, 2]),
        Window { ceil: true, ..window([3, 3], [2, 2], [1, 1], [1, 1], [1, 1]) },
        Window { ceil: true, ..window([2, 2], [2, 3], [1, 1], [0, 0], [0, 0]) },
    ];
    for window in windows {
        for function in [PoolFn::Max, PoolFn::Average] {
            for include_pad in [false, true] {
                for channels_last in [false, true] {
                    for dtype in [DType::F32, DType::F16] {
                        let shape = if channels_last { [2u64, 8, 9, 19] } else { [2, 3, 8, 9] };
                        let mut case = Case::new();
                        let x = case.input(random.tensor(dtype, &shape, -4.0, 4.0));
                        let op = Op::Pool { function, window: window.clone(), include_pad, channels_last };
                        let y = case.root(op, &[x]);
                        case.check_on(&crate::harness::targets()[0], y, tolerance(dtype));
                    }
                }
            }
        }
    }
}
