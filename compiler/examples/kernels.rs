//! Measures kernels one by one on one core: `cargo run -p ired-compiler --example kernels [name...] [target]`.
//!
//! Prints the best time of many by the thread's CPU clock, the rate, that rate as part of what a loop of nothing but
//! fused multiply-adds reaches on this machine right now, and how long the kernel took to compile.

#![allow(unsafe_code, reason = "compiled kernels are called, and the thread's clock is read")]
#![allow(dead_code, unused_imports, clippy::unwrap_used, reason = "the harness is shared with the tests")]
#![allow(clippy::disallowed_methods, reason = "an example has no config.rs")]

#[path = "../tests/emulator/mod.rs"]
mod emulator;
#[path = "../tests/kernels/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use harness::{Case, Random, dims};
use ired_compiler::targets::{CpuTarget, compile_executable};
use ired_graph::{BinaryFn, CumulativeFn, DType, Op, PoolFn, ScatterFn, Tensor, UnaryFn, ValueId, Window};
use ired_mlir::{Context, Module};

fn main() {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    let target = match wanted.iter().position(|w| w.starts_with("x86_64")) {
        Some(i) => CpuTarget::parse(&wanted.remove(i)).unwrap(),
        None => CpuTarget::host().unwrap(),
    };
    println!("{target}");
    for (name, work, build) in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let mut case = Case::new();
        let output = build(&mut case);
        let start = Instant::now();
        let mut ready = case.prepare(&target, output);
        let compile = start.elapsed();
        let (mut best, mut peak) = (f64::INFINITY, 0f64);
        for _ in 0..8 {
            best = best.min(best_time(&mut || ready.run()));
            peak = peak.max(measure_peak(&target));
        }
        let rate = work / best / 1e9;
        println!(
            "{name:28} {:9.1} us {rate:8.1} G/s {:5.1} % of {peak:.0}   grid {:?}   compile {:.0} ms",
            best * 1e6,
            100.0 * rate / peak,
            ready.grid,
            compile.as_secs_f64() * 1e3
        );
    }
}

/// Name, floating-point operations (or bytes, for what has none), and the graph.
type Entry = (&'static str, f64, fn(&mut Case) -> ValueId);

const CASES: &[Entry] = &[
    ("matmul 512x512x512", 2.0 * 512.0 * 512.0 * 512.0, |c| matmul(c, 512, 512, 512)),
    ("matmul 128x768x768", 2.0 * 128.0 * 768.0 * 768.0, |c| matmul(c, 128, 768, 768)),
    ("matmul 128x768x3072", 2.0 * 128.0 * 768.0 * 3072.0, |c| matmul(c, 128, 768, 3072)),
    ("matmul 128x3072x768", 2.0 * 128.0 * 768.0 * 3072.0, |c| matmul(c, 128, 3072, 768)),
    ("matmul 1x768x768", 2.0 * 768.0 * 768.0, |c| matmul(c, 1, 768, 768)),
    ("matmul+gelu 128x768x3072", 2.0 * 128.0 * 768.0 * 3072.0, |c| {
        let y = matmul(c, 128, 768, 3072);
        gelu(c, y)
    }),
    ("scores 12x128x64x128", 2.0 * 12.0 * 128.0 * 64.0 * 128.0, |c| batched(c, 128, 64, 128)),
    ("context 12x128x128x64", 2.0 * 12.0 * 128.0 * 64.0 * 128.0, |c| batched(c, 128, 128, 64)),
    ("conv 3x3 64@56", 2.0 * 56.0 * 56.0 * 64.0 * 64.0 * 9.0, |c| conv(c, 56, 64, 64, 3, 1, 1)),
    ("conv 3x3 128@28", 2.0 * 28.0 * 28.0 * 128.0 * 128.0 * 9.0, |c| conv(c, 28, 128, 128, 3, 1, 1)),
    ("conv 3x3 256@14", 2.0 * 14.0 * 14.0 * 256.0 * 256.0 * 9.0, |c| conv(c, 14, 256, 256, 3, 1, 1)),
    ("conv 3x3 512@7", 2.0 * 7.0 * 7.0 * 512.0 * 512.0 * 9.0, |c| conv(c, 7, 512, 512, 3, 1, 1)),
    ("conv 1x1 256-64@56", 2.0 * 56.0 * 56.0 * 256.0 * 64.0, |c| conv(c, 56, 256, 64, 1, 1, 1)),
    ("conv 1x1 512-2048@7", 2.0 * 7.0 * 7.0 * 512.0 * 2048.0, |c| conv(c, 7, 512, 2048, 1, 1, 1)),
    ("conv 7x7/2 3-64@224", 2.0 * 112.0 * 112.0 * 3.0 * 64.0 * 49.0, |c| conv(c, 224, 3, 64, 7, 2, 1)),
    ("conv 3x3/2 3-32@224", 2.0 * 112.0 * 112.0 * 3.0 * 32.0 * 9.0, |c| conv(c, 224, 3, 32, 3, 2, 1)),
    ("depthwise 3x3 64@56", 2.0 * 56.0 * 56.0 * 64.0 * 9.0, |c| conv(c, 56, 64, 64, 3, 1, 64)),
    ("depthwise 3x3 256@56", 2.0 * 56.0 * 56.0 * 256.0 * 9.0, |c| conv(c, 56, 256, 256, 3, 1, 256)),
    ("depthwise 3x3/2 144@56", 2.0 * 28.0 * 28.0 * 144.0 * 9.0, |c| conv(c, 56, 144, 144, 3, 2, 144)),
    ("softmax 1536x128 (bytes)", 1536.0 * 128.0 * 8.0, |c| {
        let x = c.input(Random::new(1).tensor(DType::F32, &[1536, 128], -4.0, 4.0));
        c.root(Op::Softmax { axis: 1, log: false }, &[x])
    }),
    ("layer norm 128x768 (bytes)", 128.0 * 768.0 * 8.0, |c| {
        let x = c.input(Random::new(1).tensor(DType::F32, &[128, 768], -4.0, 4.0));
        let scale = c.param(Random::new(2).tensor(DType::F32, &[768], -1.0, 1.0));
        let bias = c.param(Random::new(3).tensor(DType::F32, &[768], -1.0, 1.0));
        c.root(Op::LayerNorm { axis: 1, epsilon: 1e-12 }, &[x, scale, bias])
    }),
    ("gelu 128x3072 (bytes)", 128.0 * 3072.0 * 8.0, |c| {
        let x = c.input(Random::new(1).tensor(DType::F32, &[128, 3072], -4.0, 4.0));
        gelu(c, x)
    }),
    ("transpose 128x12x64 (bytes)", 128.0 * 768.0 * 8.0, |c| {
        let x = c.input(Random::new(1).tensor(DType::F32, &[128, 12, 64], -4.0, 4.0));
        c.op(Op::Transpose { perm: vec![1, 2, 0] }, &[x])
    }),
    ("max pool 3x3/2 64@112 (bytes)", 112.0 * 112.0 * 64.0 * 4.0, |c| {
        let x = c.input(Random::new(1).tensor(DType::F32, &[1, 112, 112, 64], -4.0, 4.0));
        let window = window(3, 2);
        c.root(Op::Pool { function: PoolFn::Max, window, include_pad: false, channels_last: true }, &[x])
    }),
    ("sort 1x50257 (elements)", 50257.0, |c| sort(c, 1, 50257)),
    ("sort 1000x1000 (elements)", 1e6, |c| sort(c, 1000, 1000)),
    ("sort 10000x8 (elements)", 80000.0, |c| sort(c, 10000, 8)),
    ("cumulative sum of 1e6 (elements)", 1e6, |c| {
        let x = c.input(Random::new(1).tensor(DType::I64, &[1_000_000], 0.0, 1.0));
        c.root(
            Op::Cumulative { function: CumulativeFn::Sum, axis: 0, exclusive: false, reverse: false },
            &[x],
        )
    }),
    ("scatter 1e6 (elements)", 1e6, |c| scatter(c, &[1_000_000], 1_000_000)),
    ("scatter 12 rows of 12288x64 (bytes)", 12288.0 * 64.0 * 8.0, |c| scatter(c, &[12288, 64], 12)),
    ("suppress 80x5000 (boxes)", 400_000.0, |c| {
        let (x, n) = (Random::new(1).tensor(DType::F32, &[1, 5000, 2], 0.0, 600.0), 5000);
        let corners =
            x.to_f32s().chunks(2).flat_map(|c| [c[0], c[1], c[0] + 60.0, c[1] + 40.0]).collect::<Vec<_>>();
        let boxes = c.input(Tensor::from_f32s(&[1, n, 4], &corners));
        let order = c.input(Random::new(2).tensor(DType::I64, &[1, 80, n], 0.0, n as f64 - 1.0));
        let count = c.input(Tensor::from_i64s(&[1, 80], &[n as i64; 80]));
        let limit = c.input(Tensor::from_i64s(&[], &[n as i64]));
        let threshold = c.input(Tensor::from_f32s(&[], &[0.5]));
        c.root(Op::SuppressOverlaps, &[boxes, order, count, limit, threshold])
    }),
];

fn sort(case: &mut Case, rows: u64, length: u64) -> ValueId {
    let x = case.input(Random::new(1).tensor(DType::F32, &[rows, length], -9.0, 9.0));
    case.root(Op::Sort { axis: 1, descending: true }, &[x])
}

fn scatter(case: &mut Case, shape: &[u64], tuples: u64) -> ValueId {
    let data = case.input(Random::new(1).tensor(DType::F32, shape, -1.0, 1.0));
    let at = case.input(Random::new(2).tensor(DType::I64, &[tuples, 1], 0.0, shape[0] as f64 - 1.0));
    let updates = [&[tuples], &shape[1..]].concat();
    let updates = case.input(Random::new(3).tensor(DType::F32, &updates, -1.0, 1.0));
    case.root(Op::ScatterNd { function: ScatterFn::Add }, &[data, at, updates])
}

fn matmul(case: &mut Case, m: u64, k: u64, n: u64) -> ValueId {
    let rows = case.symbol("m", m);
    let x = Random::new(1).tensor(DType::F32, &[m, k], -1.0, 1.0);
    let x = case.input_of(x, vec![rows, (k as i64).into()]);
    let w = case.param(Random::new(2).tensor(DType::F32, &[k, n], -1.0, 1.0));
    case.root(Op::MatMul, &[x, w])
}

fn batched(case: &mut Case, m: u64, k: u64, n: u64) -> ValueId {
    let s = case.symbol("s", 128);
    let ty = |rows: u64, columns: u64| {
        let dim = |d: u64| if d == 128 { s.clone() } else { (d as i64).into() };
        vec![12.into(), dim(rows), dim(columns)]
    };
    let x = case.input_of(Random::new(1).tensor(DType::F32, &[12, m, k], -1.0, 1.0), ty(m, k));
    let y = case.input_of(Random::new(2).tensor(DType::F32, &[12, k, n], -1.0, 1.0), ty(k, n));
    case.root(Op::MatMul, &[x, y])
}

fn window(size: u64, stride: u64) -> Window {
    let pad = vec![size / 2; 2];
    Window {
        extent: vec![size; 2],
        stride: vec![stride; 2],
        dilation: vec![1; 2],
        pad_low: pad.clone(),
        pad_high: pad,
        ceil: false,
    }
}

fn conv(
    case: &mut Case,
    size: u64,
    channels: u64,
    filters: u64,
    extent: u64,
    stride: u64,
    groups: u64,
) -> ValueId {
    let n = case.symbol("n", 1);
    let x = Random::new(1).tensor(DType::F32, &[1, size, size, channels], -1.0, 1.0);
    let mut shape = dims(&[1, size, size, channels]);
    shape[0] = n;
    let x = case.input_of(x, shape);
    let w = Random::new(2).tensor(DType::F32, &[filters, channels / groups, extent, extent], -1.0, 1.0);
    let w = case.param(w);
    let y = case.root(Op::Conv { window: window(extent, stride), groups, channels_last: true }, &[x, w]);
    let to = case.graph.ty(y).shape.clone();
    let bias = case.param(Random::new(3).tensor(DType::F32, &[filters], -1.0, 1.0));
    let bias = case.op(Op::Broadcast { shape: to.clone() }, &[bias]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[y, bias]);
    let zero = full(case, sum, 0.0);
    case.op(Op::Binary(BinaryFn::Max), &[sum, zero])
}

fn full(case: &mut Case, like: ValueId, value: f32) -> ValueId {
    let shape = case.graph.ty(like).shape.clone();
    let scalar = case.constant(Tensor::from_f32s(&[], &[value]));
    case.op(Op::Broadcast { shape }, &[scalar])
}

fn gelu(case: &mut Case, x: ValueId) -> ValueId {
    let (root, one, half) = (full(case, x, 0.5f32.sqrt()), full(case, x, 1.0), full(case, x, 0.5));
    let scaled = case.op(Op::Binary(BinaryFn::Mul), &[x, root]);
    let erf = case.op(Op::Unary(UnaryFn::Erf), &[scaled]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[erf, one]);
    let halved = case.op(Op::Binary(BinaryFn::Mul), &[x, half]);
    case.op(Op::Binary(BinaryFn::Mul), &[halved, sum])
}

/// Seconds of the thread's own time.
fn thread_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on Linux and writes the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn best_time(run: &mut dyn FnMut()) -> f64 {
    run();
    let until = Instant::now() + Duration::from_millis(60);
    let mut best = f64::INFINITY;
    while Instant::now() < until {
        let start = thread_time();
        run();
        best = best.min(thread_time() - start);
    }
    best
}

/// G operations a second of a loop of fused multiply-adds on registers.
fn measure_peak(target: &CpuTarget) -> f64 {
    const TURNS: usize = 20_000;
    const CHAINS: usize = 12;
    thread_local! {
        static LOOP: std::cell::OnceCell<harness::Kernel> = const { std::cell::OnceCell::new() };
    }
    let lanes = target.vector_bits / 32;
    let time = LOOP.with(|cell| {
        let kernel = cell.get_or_init(|| {
            let context = Context::new();
            let module = Module::new(&context);
            let b = module.builder();
            let (pointer, int) = (b.pointer_type(), b.int_type(32));
            b.func("kernel", &[pointer, pointer, int, int, int], &[], |b, arguments| {
                let data = b.load_pointer(arguments[0], pointer);
                let memref = b.memref_of(data, b.f32_type());
                let x = b.vector_load(memref, b.index(0), lanes);
                let sums = vec![x; CHAINS];
                let sums = b.for_loop(b.index(0), b.index(TURNS as i64), b.index(1), &sums, |b, _, sums| {
                    sums.iter().map(|sum| b.vector_fma(*sum, x, x)).collect()
                });
                for (i, sum) in sums.iter().enumerate() {
                    b.vector_store(*sum, memref, b.index((i * lanes) as i64));
                }
                b.ret(&[]);
            });
            harness::Kernel::of(harness::image_of(&module.to_string(), target))
        });
        let mut data = vec![0f32; CHAINS * lanes];
        let pointers = [data.as_mut_ptr().cast::<u8>()];
        (0..20)
            .map(|_| {
                let start = thread_time();
                kernel.call(&pointers, &[], [0; 3]);
                thread_time() - start
            })
            .fold(f64::INFINITY, f64::min)
    });
    (2 * TURNS * CHAINS * lanes) as f64 / time / 1e9
}
