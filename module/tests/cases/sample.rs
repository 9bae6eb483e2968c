//! A small module that uses every section and every instruction.

use ired_module::code::{ArithOp, Buffer, Function, Inst, Label, OwnedInst, Scalar};
use ired_module::signature::{
    DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec,
};
use ired_module::{
    Access, DType, ExecutableDraft, HostCallDraft, KernelEntry, ModuleDraft, ParamDraft, TensorKind,
    write_variants,
};

pub(crate) fn s(register: u16) -> Scalar {
    Scalar(register)
}

pub(crate) fn b(register: u16) -> Buffer {
    Buffer(register)
}

pub(crate) fn arith(op: ArithOp, dst: u16, lhs: u16, rhs: u16) -> OwnedInst {
    Inst::Arith { op, dst: s(dst), lhs: s(lhs), rhs: s(rhs) }
}

fn main_body() -> Vec<OwnedInst> {
    vec![
        Inst::InputDim { dst: s(0), input: 0, axis: 0 },
        Inst::Constant { dst: s(1), value: -7_000_000_000 },
        arith(ArithOp::Lt, 2, 1, 0),
        Inst::Check { condition: s(2), message: 0 },
        Inst::Select { dst: s(3), condition: s(2), then: s(0), otherwise: s(1) },
        Inst::Input { dst: b(0), input: 0 },
        Inst::Param { dst: b(1), param: 1 },
        Inst::Allocate { dst: b(2), bytes: s(3) },
        Inst::Slice { dst: b(3), src: b(2), offset: s(4), bytes: s(0) },
        // 9: a loop
        Inst::Dispatch {
            entry: 0,
            grid: [s(0), s(1), s(2)],
            bindings: vec![b(0), b(1), b(3)],
            constants: vec![s(0)],
        },
        Inst::Barrier,
        Inst::Copy { src: b(0), dst: b(3) },
        Inst::Fill { dst: b(3), pattern: s(1), width: 4 },
        Inst::Await,
        Inst::Load { dst: s(5), src: b(3), offset: s(4), dtype: DType::I32 },
        Inst::HostCall {
            call: 0,
            operands: vec![b(3)],
            operand_dims: vec![s(0)],
            results: vec![b(4), b(5)],
            dims: vec![s(0), s(5)],
        },
        Inst::JumpIf { condition: s(5), to: Label(9) },
        Inst::Jump { to: Label(19) },
        Inst::Release { buffer: b(2) },
        Inst::Output { output: 0, src: b(3), dims: vec![s(0), s(3), s(5)] },
        Inst::Move { dst: s(4), src: s(5) },
        Inst::MoveBuffer { dst: b(2), src: b(3) },
        Inst::Return,
    ]
}

pub(crate) fn draft() -> ModuleDraft {
    let batch = DimSpec::Symbolic { name: "batch".into(), min: 1, max: 64 };
    let main = Function {
        name: "main".into(),
        scalars: 6,
        buffers: 6,
        input_ranks: vec![2],
        output_ranks: vec![3],
        body: main_body(),
    };
    let peak = Function {
        name: "peak".into(),
        scalars: 2,
        buffers: 0,
        input_ranks: vec![2],
        output_ranks: vec![],
        body: vec![
            Inst::InputDim { dst: s(0), input: 0, axis: 1 },
            Inst::Constant { dst: s(1), value: 64 },
            arith(ArithOp::CeilDiv, 0, 0, 1),
            Inst::ReturnScalar { value: s(0) },
        ],
    };
    let tensor = |name: &str, dtype, dims| TensorSpec { name: name.into(), dtype, dims };
    ModuleDraft {
        signature: Signature {
            entries: vec![EntryPoint {
                name: "main".into(),
                function: 0,
                inputs: vec![tensor("x", DType::F32, vec![batch.clone(), DimSpec::Static(3)])],
                outputs: vec![tensor("y", DType::I32, vec![batch.clone(), DimSpec::Static(3), batch])],
                rows: Rows::Dependent { reason: "`y` has the batch twice\n".into() },
                peak: PeakBytes::Function(1),
            }],
        },
        target: Target { triple: "x86_64-linux".into(), features: vec!["avx2".into(), "fma".into()] },
        provenance: Provenance {
            model_digest: core::array::from_fn(|at| at as u8),
            model_name: "digits".into(),
            compiler: "ired 0.1.0".into(),
            options: "optimise=speed".into(),
        },
        functions: vec![main, peak],
        strings: vec!["batch must be positive".into(), "π is not 3".into()],
        executable: ExecutableDraft {
            image: vec![0x7f; 100],
            entries: vec![KernelEntry {
                symbol: "k0".into(),
                origin: "Conv_0, Relu_1".into(),
                bindings: vec![Access::Read, Access::Read, Access::ReadWrite],
                constants: 1,
            }],
        },
        params: vec![
            ParamDraft { name: "w".into(), bytes: Box::new(vec![1u8; 70]) },
            ParamDraft { name: "b".into(), bytes: Box::new([2u8, 3, 4]) },
            ParamDraft { name: "empty".into(), bytes: Box::new([]) },
        ],
        debug: b"debug".to_vec(),
        texts: b"\x01\0\0\0a\0\0\0\0".to_vec(),
        host_calls: vec![HostCallDraft {
            function: "string_split.1".into(),
            origin: "/split (StringSplit)".into(),
            attributes: b"attributes!".to_vec(),
            operands: vec![TensorKind { dtype: DType::String, rank: 1 }],
            results: vec![
                TensorKind { dtype: DType::String, rank: 2 },
                TensorKind { dtype: DType::I64, rank: 0 },
            ],
        }],
    }
}

/// The same for two targets: other code, one parameter that both have, and one that is packed otherwise.
pub(crate) fn variants() -> [ModuleDraft; 2] {
    let mut wide = draft();
    wide.target.features.insert(1, "avx512f".into());
    wide.executable.image = vec![0x7e; 90];
    wide.params[0].bytes = Box::new(vec![5u8; 80]);
    wide.params[1].name = "b.2".into();
    let narrow = draft();
    [wide, narrow]
}

/// Both in one file.
pub(crate) fn fat() -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    write_variants(&variants(), &mut out).expect("the variants are sound");
    out.into_inner()
}
