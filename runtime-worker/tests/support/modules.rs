//! Modules written by hand: no kernels of their own, only what the schedule can do itself.

use ired_module::code::{ArithOp, Buffer, Function, Inst, Label, OwnedInst, Scalar};
use ired_module::signature::{
    DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec,
};
use ired_module::{DType, ExecutableDraft, KernelEntry, ModuleDraft};

/// `copy` gives its input `x`, `f32[batch, 4]`, as `y`; `check` does too, and takes one row only.
pub(crate) fn copying() -> ModuleDraft {
    let messages = vec!["one row at a time".to_owned()];
    ModuleDraft {
        signature: Signature { entries: vec![entry("copy", 0), entry("check", 1)] },
        target: Target { triple: "x86_64-linux".to_owned(), features: Vec::new() },
        provenance: Provenance {
            model_digest: [3; 32],
            model_name: "copying".to_owned(),
            compiler: "hand".to_owned(),
            options: String::new(),
        },
        functions: vec![function("copy", copy()), function("check", [one_row(), copy()].concat())],
        strings: messages,
        executable: ExecutableDraft::default(),
        params: Vec::new(),
        debug: Vec::new(),
        texts: Vec::new(),
        host_calls: Vec::new(),
    }
}

/// [`copying`], with `spin`: the same, after work that takes minutes and that nothing divides.
pub(crate) fn spinning() -> ModuleDraft {
    let mut module = copying();
    let function_index = module.functions.len() as u32;
    module.functions.push(function("spin", [spin(), copy()].concat()));
    module.signature.entries.push(entry("spin", function_index));
    module
}

/// [`copying`], with `scratch`: the same, after filling 64 MiB that nothing else needs.
pub(crate) fn scratching() -> ModuleDraft {
    let mut module = copying();
    let function_index = module.functions.len() as u32;
    let (bytes, pattern, scratch) = (Scalar(0), Scalar(1), Buffer(2));
    let fill = vec![
        Inst::Constant { dst: bytes, value: 64 << 20 },
        Inst::Constant { dst: pattern, value: 7 },
        Inst::Allocate { dst: scratch, bytes },
        Inst::Fill { dst: scratch, pattern, width: 1 },
    ];
    module.functions.push(function("scratch", [fill, copy()].concat()));
    module.signature.entries.push(entry("scratch", function_index));
    module
}

/// [`copying`] with a kernel, for a processor that has `feature`. The kernel's code is none: nothing may look at it.
pub(crate) fn needing(feature: &str) -> ModuleDraft {
    let kernel = KernelEntry {
        symbol: "kernel".to_owned(),
        origin: String::new(),
        bindings: Vec::new(),
        constants: 0,
    };
    let triple = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    ModuleDraft {
        target: Target { triple, features: vec![feature.to_owned()] },
        executable: ExecutableDraft { image: vec![0; 64], entries: vec![kernel] },
        ..copying()
    }
}

fn entry(name: &str, function: u32) -> EntryPoint {
    let dims = vec![DimSpec::Symbolic { name: "batch".to_owned(), min: 0, max: 65_536 }, DimSpec::Static(4)];
    let spec = |name: &str| TensorSpec { name: name.to_owned(), dtype: DType::F32, dims: dims.clone() };
    EntryPoint {
        name: name.to_owned(),
        function,
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
        rows: Rows::Independent { exact: Ok(()), costs: Vec::new() },
        peak: PeakBytes::Static(0),
    }
}

fn function(name: &str, body: Vec<OwnedInst>) -> Function {
    Function {
        name: name.to_owned(),
        scalars: 5,
        buffers: 3,
        input_ranks: vec![2],
        output_ranks: vec![2],
        body,
    }
}

/// Registers: rows, columns, bytes.
fn copy() -> Vec<OwnedInst> {
    let (rows, columns, bytes, row_bytes) = (Scalar(0), Scalar(1), Scalar(2), Scalar(3));
    let (input, output) = (Buffer(0), Buffer(1));
    vec![
        Inst::InputDim { dst: rows, input: 0, axis: 0 },
        Inst::Constant { dst: columns, value: 4 },
        Inst::Constant { dst: row_bytes, value: 16 },
        Inst::Arith { op: ArithOp::Mul, dst: bytes, lhs: rows, rhs: row_bytes },
        Inst::Input { dst: input, input: 0 },
        Inst::Allocate { dst: output, bytes },
        Inst::Copy { src: input, dst: output },
        Inst::Output { output: 0, src: output, dims: vec![rows, columns] },
        Inst::Return,
    ]
}

/// Fills 64 MiB a hundred thousand times.
fn spin() -> Vec<OwnedInst> {
    let (bytes, left, one, pattern) = (Scalar(0), Scalar(1), Scalar(2), Scalar(3));
    let scratch = Buffer(2);
    vec![
        Inst::Constant { dst: bytes, value: 64 << 20 },
        Inst::Constant { dst: left, value: 100_000 },
        Inst::Constant { dst: one, value: 1 },
        Inst::Constant { dst: pattern, value: 7 },
        Inst::Allocate { dst: scratch, bytes },
        Inst::Fill { dst: scratch, pattern, width: 1 },
        Inst::Barrier,
        Inst::Arith { op: ArithOp::Sub, dst: left, lhs: left, rhs: one },
        Inst::JumpIf { condition: left, to: Label(5) },
    ]
}

fn one_row() -> Vec<OwnedInst> {
    let (rows, one, condition) = (Scalar(0), Scalar(1), Scalar(4));
    vec![
        Inst::InputDim { dst: rows, input: 0, axis: 0 },
        Inst::Constant { dst: one, value: 1 },
        Inst::Arith { op: ArithOp::Eq, dst: condition, lhs: rows, rhs: one },
        Inst::Check { condition, message: 0 },
    ]
}
