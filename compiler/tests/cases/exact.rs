//! Where a module says that rows are exact, a row's results are the same bits whatever is computed beside it.

use std::fmt::Write as _;
use std::sync::Arc;

use ired_compiler::targets::CpuTarget;
use ired_compiler::{Options, Outcome, Unobserved, compile_graph};
use ired_driver_cpu::{CpuConfig, CpuDevice};
use ired_graph::{DType, Graph, Tensor, parse};
use ired_module::ModuleDraft;
use ired_module::signature::Rows;

use crate::harness::{self, Compiled};

const POOL: u64 = 64;
const BATCHES: [u64; 9] = [1, 2, 3, 5, 7, 8, 16, 17, POOL];

/// A model of `n` rows: parameters by name, type and shape, and a body.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [(&'static str, &'static str, &'static [u64])],
    pub(crate) body: &'static str,
}

/// Those that have to be exact.
const EXACT: &[Model] = &[
    Model {
        name: "mlp",
        params: &[
            ("w", "f32", &[64, 160]),
            ("b", "f32", &[160]),
            ("v", "f32", &[160, 33]),
            ("u", "f32", &[33, 10]),
        ],
        body: "(%0 \"x\" : f32[n, 64]) {
    %1 = param @w : f32[64, 160]
    %2 = matmul %0, %1 : f32[n, 160]
    %3 = param @b : f32[160]
    %4 = broadcast %3 : f32[n, 160]
    %5 = add %2, %4 : f32[n, 160]
    %12 = constant [0.0] : f32[]
    %13 = broadcast %12 : f32[n, 160]
    %6 = max %5, %13 : f32[n, 160]
    %7 = param @v : f32[160, 33]
    %8 = matmul %6, %7 : f32[n, 33]
    %9 = tanh %8 : f32[n, 33]
    %10 = param @u : f32[33, 10]
    %11 = matmul %9, %10 : f32[n, 10]
    %14 = softmax %11 axis=1 : f32[n, 10]
    yield %14, %8",
    },
    Model {
        name: "wide layers with gelu",
        params: &[("w", "f32", &[300, 1000]), ("v", "f32", &[1000, 24]), ("u", "f32", &[24, 3])],
        body: "(%0 \"x\" : f32[n, 300]) {
    %1 = param @w : f32[300, 1000]
    %2 = matmul %0, %1 : f32[n, 1000]
    %3 = constant [0.70710677] : f32[]
    %4 = broadcast %3 : f32[n, 1000]
    %5 = mul %2, %4 : f32[n, 1000]
    %6 = erf %5 : f32[n, 1000]
    %7 = mul %2, %6 : f32[n, 1000]
    %8 = add %7, %2 : f32[n, 1000]
    %9 = param @v : f32[1000, 24]
    %10 = matmul %8, %9 : f32[n, 24]
    %11 = sigmoid %10 : f32[n, 24]
    %12 = param @u : f32[24, 3]
    %13 = matmul %11, %12 : f32[n, 3]
    yield %13",
    },
    Model {
        name: "a sum in several passes",
        params: &[("w", "f32", &[2100, 50]), ("v", "f32", &[2100, 7])],
        body: "(%0 \"x\" : f32[n, 2100]) {
    %1 = param @w : f32[2100, 50]
    %2 = matmul %0, %1 : f32[n, 50]
    %3 = param @v : f32[2100, 7]
    %4 = matmul %0, %3 : f32[n, 7]
    yield %2, %4",
    },
    Model {
        name: "layer norm and softmax",
        params: &[("g", "f32", &[37])],
        body: "(%0 \"x\" : f32[n, 3, 37]) {
    %1 = param @g : f32[37]
    %2 = layer_norm %0, %1, %1 axis=2 epsilon=0.001 : f32[n, 3, 37]
    %3 = softmax %2 axis=2 : f32[n, 3, 37]
    %4 = softmax %2 axis=1 : f32[n, 3, 37]
    %5 = reduce_mean %0 axes=[1, 2] : f32[n]
    %6 = reduce_sum %0 axes=[1] : f32[n, 37]
    yield %3, %4, %5, %6",
    },
    Model {
        name: "convolutions",
        params: &[
            ("w", "f32", &[24, 3, 3, 3]),
            ("d", "f32", &[24, 1, 3, 3]),
            ("p", "f32", &[40, 24, 1, 1]),
            ("q", "f32", &[32, 40, 3, 3]),
        ],
        body: "(%0 \"x\" : f32[n, 3, 19, 22]) {
    %1 = param @w : f32[24, 3, 3, 3]
    %2 = conv %0, %1 extent=[3, 3] stride=[2, 1] dilation=[1, 1] pad_low=[1, 1] pad_high=[1, 1] ceil=false groups=1 channels_last=false : f32[n, 24, 10, 22]
    %3 = tanh %2 : f32[n, 24, 10, 22]
    %4 = param @d : f32[24, 1, 3, 3]
    %5 = conv %3, %4 extent=[3, 3] stride=[1, 1] dilation=[1, 1] pad_low=[1, 1] pad_high=[1, 1] ceil=false groups=24 channels_last=false : f32[n, 24, 10, 22]
    %6 = param @p : f32[40, 24, 1, 1]
    %7 = conv %5, %6 extent=[1, 1] stride=[1, 1] dilation=[1, 1] pad_low=[0, 0] pad_high=[0, 0] ceil=false groups=1 channels_last=false : f32[n, 40, 10, 22]
    %8 = tanh %7 : f32[n, 40, 10, 22]
    %9 = param @q : f32[32, 40, 3, 3]
    %10 = conv %8, %9 extent=[3, 3] stride=[1, 1] dilation=[1, 1] pad_low=[1, 1] pad_high=[1, 1] ceil=false groups=1 channels_last=false : f32[n, 32, 10, 22]
    %11 = reduce_mean %10 axes=[2, 3] : f32[n, 32]
    yield %11, %5",
    },
    Model {
        name: "attention",
        params: &[("q", "f32", &[48, 48]), ("k", "f32", &[48, 48]), ("v", "f32", &[48, 48])],
        body: "(%0 \"x\" : f32[n, s, 48]) {
    %1 = param @q : f32[48, 48]
    %31 = broadcast %1 : f32[n, 48, 48]
    %2 = matmul %0, %31 : f32[n, s, 48]
    %3 = reshape %2 : f32[n, s, 3, 16]
    %4 = transpose %3 perm=[0, 2, 1, 3] : f32[n, 3, s, 16]
    %5 = param @k : f32[48, 48]
    %35 = broadcast %5 : f32[n, 48, 48]
    %6 = matmul %0, %35 : f32[n, s, 48]
    %7 = reshape %6 : f32[n, s, 3, 16]
    %8 = transpose %7 perm=[0, 2, 3, 1] : f32[n, 3, 16, s]
    %9 = param @v : f32[48, 48]
    %39 = broadcast %9 : f32[n, 48, 48]
    %10 = matmul %0, %39 : f32[n, s, 48]
    %11 = reshape %10 : f32[n, s, 3, 16]
    %12 = transpose %11 perm=[0, 2, 1, 3] : f32[n, 3, s, 16]
    %13 = matmul %4, %8 : f32[n, 3, s, s]
    %14 = constant [0.25] : f32[]
    %15 = broadcast %14 : f32[n, 3, s, s]
    %16 = mul %13, %15 : f32[n, 3, s, s]
    %17 = softmax %16 axis=3 : f32[n, 3, s, s]
    %18 = matmul %17, %12 : f32[n, 3, s, 16]
    %19 = transpose %18 perm=[0, 2, 1, 3] : f32[n, s, 3, 16]
    %20 = reshape %19 : f32[n, s, 48]
    %21 = add %20, %0 : f32[n, s, 48]
    yield %21",
    },
    Model {
        name: "products of bytes",
        params: &[("w", "i8", &[70, 40]), ("s", "f32", &[40])],
        body: "(%0 \"x\" : f32[n, 70]) {
    %1 = abs %0 : f32[n, 70]
    %2 = constant [90.0] : f32[]
    %3 = broadcast %2 : f32[n, 70]
    %4 = mul %1, %3 : f32[n, 70]
    %5 = round %4 : f32[n, 70]
    %6 = cast %5 : u8[n, 70]
    %7 = param @w : i8[70, 40]
    %8 = matmul %6, %7 : i32[n, 40]
    %9 = cast %8 : f32[n, 40]
    %10 = param @s : f32[40]
    %11 = broadcast %10 : f32[n, 40]
    %12 = mul %9, %11 : f32[n, 40]
    yield %12",
    },
    Model {
        name: "weights that are scaled where they are multiplied",
        params: &[("w", "i8", &[64, 48]), ("s", "f32", &[48])],
        body: "(%0 \"x\" : f32[n, 64]) {
    %1 = param @w : i8[64, 48]
    %2 = cast %1 : f32[64, 48]
    %3 = param @s : f32[48]
    %4 = broadcast %3 : f32[64, 48]
    %5 = mul %2, %4 : f32[64, 48]
    %6 = matmul %0, %5 : f32[n, 48]
    yield %6",
    },
    Model {
        name: "elements in odd numbers",
        params: &[],
        body: "(%0 \"x\" : f32[n, 13], %1 \"y\" : f32[n, 13]) {
    %2 = exp %0 : f32[n, 13]
    %3 = sigmoid %1 : f32[n, 13]
    %4 = pow %2, %3 : f32[n, 13]
    %5 = tanh %4 : f32[n, 13]
    %6 = erf %1 : f32[n, 13]
    %7 = div %5, %6 : f32[n, 13]
    %8 = slice %7 start=[0, 2] size=[n, 1] stride=[1, 1] : f32[n, 1]
    %9 = log %2 : f32[n, 13]
    %10 = cumulative_sum %9 axis=1 exclusive=false reverse=true : f32[n, 13]
    yield %7, %8, %10",
    },
];

/// Independent, but added up in another order for few rows.
pub(crate) const INEXACT: &[Model] = &[Model {
    name: "quantised weights",
    params: &[("w", "i8", &[160, 224]), ("s", "f32", &[160, 7])],
    body: "(%0 \"x\" : f32[n, 224]) {
    %1 = param @w : i8[160, 224]
    %2 = cast %1 : f32[160, 224]
    %3 = param @s : f32[160, 7]
    %4 = reshape %3 : f32[160, 7, 1]
    %5 = broadcast %4 : f32[160, 7, 32]
    %6 = reshape %5 : f32[160, 224]
    %7 = mul %2, %6 : f32[160, 224]
    %8 = transpose %7 perm=[1, 0] : f32[224, 160]
    %9 = matmul %0, %8 : f32[n, 160]
    yield %9",
}];

impl Model {
    pub(crate) fn graph(&self) -> Graph {
        let mut text = "graph g {\n  symbol n\n  symbol s\n".to_owned();
        for (salt, (name, dtype, shape)) in self.params.iter().enumerate() {
            let dtype = DType::ALL.into_iter().find(|known| known.name() == *dtype).unwrap();
            let hex =
                noise(dtype, shape, 1000 + salt as u64).data().iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                });
            let _ = writeln!(text, "  param @{name} : {}{shape:?} = hex\"{hex}\"", dtype.name());
        }
        let _ = write!(text, "  body{}\n  }}\n}}", self.body);
        parse(&text).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    pub(crate) fn compile(&self, target: &CpuTarget) -> ModuleDraft {
        compile(&self.graph(), target).unwrap_or_else(|e| panic!("{} for {target}: {e}", self.name))
    }
}

/// One of those that have to be exact.
pub(crate) fn named(name: &str) -> &'static Model {
    EXACT.iter().find(|model| model.name == name).unwrap()
}

pub(crate) fn compile(graph: &Graph, target: &CpuTarget) -> Result<ModuleDraft, String> {
    let options = Options::new(target.clone());
    match compile_graph(graph.clone(), [0; 32], &options, harness::cache(), &mut Unobserved) {
        Ok(Outcome::Module(mut drafts)) => Ok(drafts.remove(0)),
        Ok(_) => panic!("no module"),
        Err(error) => Err(error.to_string()),
    }
}

/// This machine with all it has, and with the vectors of half the length and half as many registers.
fn targets() -> Vec<CpuTarget> {
    let host = CpuTarget::host().expect("a known CPU");
    let narrower = CpuTarget::parse("x86-64-v3").ok().filter(|target| target.needs_no_more_than(&host));
    std::iter::once(host).chain(narrower).collect()
}

/// Numbers whose sums are rounded.
fn noise(dtype: DType, shape: &[u64], seed: u64) -> Tensor {
    let count: u64 = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0
    };
    let values: Vec<f64> = (0..count).map(|_| next()).collect();
    match dtype {
        DType::F32 => Tensor::from_f32s(shape, &values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
        _ => Tensor::from_f64s(dtype, shape, &values.iter().map(|v| (v * 127.0).round()).collect::<Vec<_>>()),
    }
}

/// Rows of tensors that begin with them.
fn rows(tensors: &[Tensor], first: u64, count: u64) -> Vec<Tensor> {
    let part = |tensor: &Tensor| {
        let row = tensor.data().len() / tensor.shape()[0] as usize;
        let mut shape = tensor.shape().to_vec();
        shape[0] = count;
        let bytes = tensor.data().slice(first as usize * row..(first + count) as usize * row);
        Tensor::new(tensor.dtype(), shape, bytes).unwrap()
    };
    tensors.iter().map(part).collect()
}

/// The first element of a row of a batch that differs from what the row gives alone.
fn difference(graph: &Graph, draft: &ModuleDraft, threads: u32) -> Option<String> {
    let config = CpuConfig { threads: Some(threads), ..CpuConfig::default() };
    let device = Arc::new(CpuDevice::new(&config).expect("a device"));
    let compiled =
        Compiled::load_on(device, draft.to_bytes().expect("a sound draft")).expect("a sound module");
    let run = |inputs: &[Tensor]| compiled.run(inputs).unwrap_or_else(|e| panic!("{e:?}\n{graph}"));
    let size = |symbol| if graph.symbols.get(symbol).name == "n" { Some(POOL as i64) } else { Some(11) };
    let pool: Vec<Tensor> = (0..)
        .zip(harness::inputs_at(graph, &size))
        .map(|(salt, input)| noise(input.dtype(), input.shape(), 7 + salt))
        .collect();
    let alone: Vec<Vec<Tensor>> = (0..POOL).map(|row| run(&rows(&pool, row, 1))).collect();
    for (number, batch) in (0..).zip(BATCHES) {
        // Each size at some place of the pool, so that rows stand at different places of batches.
        let first = (number * 23) % (POOL - batch + 1);
        let together = run(&rows(&pool, first, batch));
        for row in 0..batch {
            let parts = rows(&together, row, 1);
            for (output, (found, expected)) in parts.iter().zip(&alone[(first + row) as usize]).enumerate() {
                if found.data() != expected.data() {
                    let pairs = found.to_f64s().into_iter().zip(expected.to_f64s()).enumerate();
                    let (at, (x, y)) = pairs.into_iter().find(|(_, (x, y))| x != y).unwrap_or_default();
                    return Some(format!(
                        "row {row} of {batch} on {threads} threads, output {output}, element {at}: {x:e}, alone {y:e}"
                    ));
                }
            }
        }
    }
    None
}

fn exact(draft: &ModuleDraft) -> Result<(), String> {
    match &draft.signature.entries[0].rows {
        Rows::Independent { exact, .. } => exact.clone(),
        Rows::Dependent { reason } => Err(format!("dependent: {reason}")),
    }
}

#[test]
fn rows_of_plain_models_are_the_same_bits_whatever_is_beside_them() {
    let mut failures = Vec::new();
    for target in targets() {
        for model in EXACT {
            let draft = model.compile(&target);
            let proof = exact(&draft).err().map(|why| format!("is not exact: {why}"));
            let graph = model.graph();
            let found =
                proof.or_else(|| [1, 2].iter().find_map(|threads| difference(&graph, &draft, *threads)));
            failures.extend(found.map(|found| format!("{} for {target}: {found}", model.name)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_kernel_that_is_not_exact_is_named() {
    for target in targets() {
        for model in INEXACT {
            let draft = model.compile(&target);
            let why = exact(&draft).expect_err(model.name);
            assert!(why.contains("contraction: a few rows meet quantised weights"), "{why}");
            assert!(difference(&model.graph(), &draft, 1).is_some(), "{} is exact after all", model.name);
        }
    }
}
