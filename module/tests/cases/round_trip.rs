//! What is written comes back.

use ired_module::code::{ArithOp, Function, Inst, Label, OwnedInst};
use ired_module::format::PARAM_ALIGNMENT;
use ired_module::signature::{DimSpec, EntryPoint, Rows};
use ired_module::texts::Texts;
use ired_module::{
    DType, HostCallDraft, KernelEntry, MAX_COSTS, Module, SectionKind, Verify, VerifyError, WriteError,
    efficient_rows, write_variants,
};
use proptest::prelude::*;

use crate::sample::{arith, b, draft, fat, s, variants};

#[test]
fn everything_comes_back() {
    let draft = draft();
    let bytes = draft.to_bytes().unwrap();
    let module = Module::parse(&bytes).unwrap();
    module.verify(Verify::All).unwrap();

    assert_eq!(module.signature(), draft.signature);
    assert_eq!(module.target(), draft.target);
    assert_eq!(module.provenance(), draft.provenance);
    assert_eq!(module.debug(), draft.debug);
    assert_eq!(module.executable(), draft.executable.image);
    for (index, message) in (0..).zip(&draft.strings) {
        assert_eq!(module.string(index), Some(message.as_str()));
    }
    let kernels = module.entries().map(|kernel| KernelEntry {
        symbol: kernel.symbol.into(),
        origin: kernel.origin.into(),
        bindings: kernel.bindings.iter().collect(),
        constants: kernel.constants,
    });
    assert!(kernels.eq(draft.executable.entries.iter().cloned()));
    let calls = (0..module.host_calls()).filter_map(|index| module.host_call(index));
    let calls = calls.map(|call| HostCallDraft {
        function: call.function.into(),
        origin: call.origin.into(),
        attributes: call.attributes.to_vec(),
        operands: call.operands.iter().collect(),
        results: call.results.iter().collect(),
    });
    assert!(calls.eq(draft.host_calls.iter().cloned()));
    assert_eq!(Texts::new(module.section(SectionKind::Texts)).collect::<Vec<_>>(), [&b"a"[..], b""]);
    assert_eq!(module.param_ref(1).unwrap().name, "b");
    assert_eq!(module.param(0), Some(&[1u8; 70][..]));
    assert_eq!(module.param(1), Some(&[2, 3, 4][..]));
    assert_eq!(module.param(2), Some(&[][..]));
    assert_eq!(module.param(3), None);
    for (index, function) in (0..).zip(&draft.functions) {
        assert_eq!(&module.function(index).unwrap().to_owned().unwrap(), function);
    }
}

#[test]
fn sections_are_aligned_in_the_file() {
    let bytes = draft().to_bytes().unwrap();
    let module = Module::parse(&bytes).unwrap();
    let offset = |section: &[u8]| section.as_ptr() as usize - bytes.as_ptr() as usize;
    for kind in SectionKind::ALL {
        assert_eq!(offset(module.section(kind)) as u64 % kind.alignment(), 0, "{kind}");
    }
    assert_eq!(offset(module.param(1).unwrap()) as u64 % PARAM_ALIGNMENT, 0);
}

#[test]
fn a_module_can_be_written_behind_other_data() {
    let mut out = std::io::Cursor::new(vec![9u8; 10]);
    out.set_position(10);
    let written = draft().write(&mut out).unwrap();
    assert_eq!(out.position(), 10 + written);
    Module::parse(&out.get_ref()[10..]).unwrap().verify(Verify::All).unwrap();
}

#[test]
fn the_listing_names_everything() {
    let bytes = draft().to_bytes().unwrap();
    let listing = Module::parse(&bytes).unwrap().describe().to_string();
    for expected in [
        "module of \"digits\"",
        "target x86_64-linux avx2 fma",
        "in  \"x\": f32[batch in 1..=64, 3]",
        "rows are not known to be independent: `y` has the batch twice\\n",
        "peak by function 1",
        "kernel 0 \"k0\" (r r rw; 1 constants) from \"Conv_0, Relu_1\"",
        "dispatch kernel 0 over s0 s1 s2 with [b0, b1, b3] [s0]",
        "check s2 \"batch must be positive\"",
        "s5 = load i32 of b3 at s4",
        "b1 = param 1 \"b\"",
        "output 0 = b3 as [s0, s3, s5]",
        "host call 0 \"string_split.1\" (11 bytes of attributes) from \"/split (StringSplit)\"",
        "b4, b5 [s0, s5] = host \"string_split.1\" b3 [s0]",
        "s4 = s5",
        "b2 = b3",
    ] {
        assert!(listing.contains(expected), "no {expected:?} in\n{listing}");
    }
    let summary = Module::parse(&bytes).unwrap().summary().to_string();
    assert!(listing.starts_with(&summary) && summary.contains("param \"w\": 70 bytes at 0"), "{summary}");
    assert!(!summary.contains("dispatch"), "{summary}");
}

/// Any instruction of a function with 8 scalars, 8 buffers, one input of rank 2 and one output of rank 2.
fn any_inst(length: u32) -> impl Strategy<Value = OwnedInst> {
    let scalar = || (0u16..8).prop_map(s);
    let buffer = || (0u16..8).prop_map(b);
    // Register 0 holds inputs and parameters, the others memory that may be written to.
    let own = || (1u16..8).prop_map(b);
    let label = move || (0..length).prop_map(Label);
    prop_oneof![
        (scalar(), any::<i64>()).prop_map(|(dst, value)| Inst::Constant { dst, value }),
        (0usize..14, 0u16..8, 0u16..8, 0u16..8).prop_map(|(op, d, l, r)| arith(ArithOp::ALL[op], d, l, r)),
        (scalar(), scalar(), scalar(), scalar()).prop_map(|(dst, condition, then, otherwise)| Inst::Select {
            dst,
            condition,
            then,
            otherwise
        }),
        (scalar(), scalar()).prop_map(|(dst, src)| Inst::Move { dst, src }),
        (buffer(), own()).prop_map(|(dst, src)| Inst::MoveBuffer { dst, src }),
        (own(), scalar(), own(), own(), scalar(), scalar()).prop_map(|(x, dim, y, z, n, m)| Inst::HostCall {
            call: 0,
            operands: vec![x],
            operand_dims: vec![dim],
            results: vec![y, z],
            dims: vec![n, m],
        }),
        label().prop_map(|to| Inst::Jump { to }),
        (scalar(), label()).prop_map(|(condition, to)| Inst::JumpIf { condition, to }),
        (scalar(), 0u32..2).prop_map(|(condition, message)| Inst::Check { condition, message }),
        (scalar(), 0u16..2).prop_map(|(dst, axis)| Inst::InputDim { dst, input: 0, axis }),
        (0u32..3).prop_map(|param| Inst::Param { dst: b(0), param }),
        (buffer(), scalar()).prop_map(|(dst, bytes)| Inst::Allocate { dst, bytes }),
        buffer().prop_map(|buffer| Inst::Release { buffer }),
        (buffer(), own(), scalar(), scalar()).prop_map(|(dst, src, offset, bytes)| Inst::Slice {
            dst,
            src,
            offset,
            bytes
        }),
        (buffer(), proptest::collection::vec(scalar(), 2)).prop_map(|(src, dims)| Inst::Output {
            output: 0,
            src,
            dims
        }),
        (buffer(), buffer(), own(), scalar()).prop_map(|(x, y, z, constant)| Inst::Dispatch {
            entry: 0,
            grid: [s(0), s(1), s(2)],
            bindings: vec![x, y, z],
            constants: vec![constant]
        }),
        (buffer(), own()).prop_map(|(src, dst)| Inst::Copy { src, dst }),
        (own(), scalar()).prop_map(|(dst, pattern)| Inst::Fill { dst, pattern, width: 8 }),
        Just(Inst::Barrier),
        Just(Inst::Await),
        (scalar(), buffer(), scalar()).prop_map(|(dst, src, offset)| Inst::Load {
            dst,
            src,
            offset,
            dtype: DType::U8
        }),
        Just(Inst::Return),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Programs with defined registers: whatever their jumps, the writer's claims satisfy the verifier.
    #[test]
    fn any_program_with_defined_registers_comes_back(mut body in proptest::collection::vec(any_inst(12), 12..40)) {
        let mut prologue: Vec<OwnedInst> = vec![Inst::Input { dst: b(0), input: 0 }];
        prologue.extend((1..8).map(|r| Inst::Allocate { dst: b(r), bytes: s(0) }));
        prologue.push(Inst::Output { output: 0, src: b(0), dims: vec![s(0), s(1)] });
        let shift = prologue.len() as u32;
        body.retain(|inst| !matches!(inst, Inst::Release { .. }));
        body.resize(body.len().max(12), Inst::Barrier);
        for inst in &mut body {
            if let Inst::Jump { to } | Inst::JumpIf { to, .. } = inst {
                to.0 += shift;
            }
        }
        prologue.append(&mut body);
        prologue.push(Inst::Return);
        let mut draft = draft();
        draft.functions[0] = function(prologue);
        draft.signature.entries[0].outputs[0].dims.pop();
        let bytes = draft.to_bytes().unwrap();
        let module = Module::parse(&bytes).unwrap();
        module.verify(Verify::All).unwrap();
        prop_assert_eq!(&module.function(0).unwrap().to_owned().unwrap(), &draft.functions[0]);
        prop_assert!(!module.describe().to_string().is_empty());
    }

    /// Programs with undefined registers are refused or sound, never a panic.
    #[test]
    fn any_program_is_refused_or_sound(body in proptest::collection::vec(any_inst(40), 1..40)) {
        let mut draft = draft();
        draft.functions[0] = function(body);
        draft.signature.entries[0].outputs[0].dims.pop();
        if let Ok(bytes) = draft.to_bytes() {
            Module::parse(&bytes).unwrap().verify(Verify::All).unwrap();
        }
    }
}

fn function(body: Vec<OwnedInst>) -> Function {
    Function {
        name: "main".into(),
        scalars: 8,
        buffers: 8,
        input_ranks: vec![2],
        output_ranks: vec![2],
        body,
    }
}

#[test]
fn scalar_operations_round_towards_minus_infinity() {
    use ArithOp::{CeilDiv, FloorDiv, Mod};
    for (lhs, rhs, floor, ceil, modulo) in
        [(7, 2, 3, 4, 1), (-7, 2, -4, -3, 1), (7, -2, -4, -3, -1), (-7, -2, 3, 4, -1), (6, 3, 2, 2, 0)]
    {
        assert_eq!(FloorDiv.apply(lhs, rhs), Some(floor), "{lhs} {rhs}");
        assert_eq!(CeilDiv.apply(lhs, rhs), Some(ceil), "{lhs} {rhs}");
        assert_eq!(Mod.apply(lhs, rhs), Some(modulo), "{lhs} {rhs}");
    }
    for op in [FloorDiv, CeilDiv, Mod] {
        assert_eq!(op.apply(1, 0), None);
        assert_eq!(op.apply(i64::MIN, -1), None);
    }
    assert_eq!(ArithOp::Add.apply(i64::MAX, 1), None);
    assert_eq!(ArithOp::Mul.apply(i64::MAX, 2), None);
    assert_eq!(ArithOp::Sub.apply(i64::MIN, 1), None);
}

#[test]
fn rows_are_independent_where_every_tensor_begins_with_them() {
    let batch = || DimSpec::Symbolic { name: "batch".into(), min: 1, max: 64 };
    let with = |dims: [DimSpec; 3]| {
        let mut draft = draft();
        let entry = &mut draft.signature.entries[0];
        entry.rows = Rows::Independent { exact: Ok(()), costs: Vec::new() };
        entry.outputs[0].dims = dims.to_vec();
        draft
    };
    let sound = with([batch(), DimSpec::Static(3), DimSpec::Static(2)]);
    let bytes = sound.to_bytes().unwrap();
    let module = Module::parse(&bytes).unwrap();
    assert_eq!(module.signature(), sound.signature);
    let summary = module.summary().to_string();
    assert!(
        summary.contains("  rows are independent, each the same bits whatever is beside it\n"),
        "{summary}"
    );
    let mut rounding = with([batch(), DimSpec::Static(3), DimSpec::Static(2)]);
    rounding.signature.entries[0].rows =
        Rows::Independent { exact: Err("`/fc`: sums\n".into()), costs: Vec::new() };
    let bytes = rounding.to_bytes().unwrap();
    let module = Module::parse(&bytes).unwrap();
    assert_eq!(module.signature(), rounding.signature);
    let summary = module.summary().to_string();
    assert!(summary.contains("  rows are independent, but for rounding: `/fc`: sums\\n\n"), "{summary}");
    let refused = [[DimSpec::Static(3), batch(), DimSpec::Static(2)], [batch(), DimSpec::Static(3), batch()]];
    for dims in refused {
        match with(dims).to_bytes() {
            Err(WriteError::Invalid(VerifyError::EntryPoint { problem, .. })) => {
                assert!(problem.starts_with("rows are said to be independent"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn costs_are_those_of_few_rows_beside_that_of_one() {
    let batch = || DimSpec::Symbolic { name: "batch".into(), min: 1, max: 64 };
    let with = |costs: &[u32]| {
        let mut draft = draft();
        let entry = &mut draft.signature.entries[0];
        entry.rows = Rows::Independent { exact: Ok(()), costs: costs.to_vec() };
        entry.outputs[0].dims = vec![batch(), DimSpec::Static(3), DimSpec::Static(2)];
        draft
    };
    let sound = with(&[1000, 1200, 2700, 2400]);
    let bytes = sound.to_bytes().unwrap();
    let module = Module::parse(&bytes).unwrap();
    assert_eq!(module.signature(), sound.signature);
    let summary = module.summary().to_string();
    assert!(summary.contains("  a row costs less with so many: 1 2\n"), "{summary}");
    for costs in [&[999][..], &[1000, 0], &[1000, u32::MAX], &[1000; MAX_COSTS + 1]] {
        match with(costs).to_bytes() {
            Err(WriteError::Invalid(VerifyError::EntryPoint { problem, .. })) => {
                assert!(problem.starts_with("costs are not"), "{problem}");
            }
            other => panic!("{costs:?}: {other:?}"),
        }
    }
}

#[test]
fn sizes_are_worth_having_by_what_they_gain_for_a_row() {
    let rows = |costs: &[u32]| efficient_rows(costs.iter().copied()).collect::<Vec<u64>>();
    assert_eq!(rows(&[]), []);
    assert_eq!(rows(&[1000, 2000, 3000]), [1], "nothing is gained");
    assert_eq!(rows(&[1000, 1900, 2300, 2900]), [1, 3], "not by two");
    // Tiles of three rows, and a call that costs as much as one.
    let tiles: Vec<u32> = (1..=24u32).map(|rows| 500 + 500 * rows.div_ceil(3)).collect();
    assert_eq!(rows(&tiles), [1, 2, 3, 6, 12, 18]);
}

#[test]
fn variants_come_back_in_order_and_share_what_is_equal() {
    let bytes = fat();
    let first = Module::parse(&bytes).unwrap();
    first.verify(Verify::All).unwrap();
    let drafts = variants();
    assert_eq!(first.variants().len(), drafts.len());
    for (index, (module, draft)) in first.variants().zip(&drafts).enumerate() {
        assert_eq!(module.variant(), index);
        assert_eq!(module.target(), draft.target);
        assert_eq!(module.executable(), draft.executable.image);
        assert_eq!(module.digest(), first.digest());
        for (at, param) in (0..).zip(&draft.params) {
            assert_eq!(module.param_ref(at).unwrap().name, param.name);
            assert_eq!(module.param(at).unwrap(), &*param.bytes.bytes());
        }
    }
    let [wide, narrow] = [0, 1].map(|index| first.variants().nth(index).unwrap());
    assert_eq!(wide.param_ref(1).unwrap().offset, narrow.param_ref(1).unwrap().offset);
    assert_ne!(wide.param_ref(0).unwrap().offset, narrow.param_ref(0).unwrap().offset);
    // 80 bytes, 3 bytes, nothing, and 70 bytes, each at a multiple of 64.
    assert_eq!(first.section(SectionKind::Params).len(), 192 + 70);
    let listing = first.summary().to_string();
    assert!(listing.contains("variant 1 of 2") && listing.contains("variant 2 of 2"), "{listing}");
}

#[test]
fn variants_may_round_in_ways_of_their_own() {
    let mut drafts = variants();
    let batch = || DimSpec::Symbolic { name: "batch".into(), min: 1, max: 64 };
    for (draft, exact) in drafts.iter_mut().zip([Ok(()), Err("sums".to_owned())]) {
        let entry = &mut draft.signature.entries[0];
        entry.rows = Rows::Independent { exact, costs: Vec::new() };
        entry.outputs[0].dims = vec![batch(), DimSpec::Static(3), DimSpec::Static(2)];
    }
    let mut out = std::io::Cursor::new(Vec::new());
    write_variants(&drafts, &mut out).unwrap();
    let bytes = out.into_inner();
    let module = Module::parse(&bytes).unwrap();
    module.verify(Verify::All).unwrap();
    let rows = |module: &Module<'_>| module.signature().entries[0].rows.clone();
    let found: Vec<Rows> = module.variants().map(|variant| rows(&variant)).collect();
    let expected: Vec<Rows> = drafts.iter().map(|draft| draft.signature.entries[0].rows.clone()).collect();
    assert_eq!(found, expected);
}

#[test]
fn variants_that_differ_to_callers_are_not_written() {
    let changes: [fn(&mut EntryPoint); 2] = [
        |entry| entry.outputs[0].name = "other".into(),
        |entry| entry.rows = Rows::Dependent { reason: "another".into() },
    ];
    for change in changes {
        let mut drafts = variants();
        change(&mut drafts[1].signature.entries[0]);
        let mut out = std::io::Cursor::new(Vec::new());
        let refused = write_variants(&drafts, &mut out);
        assert!(matches!(refused, Err(WriteError::Invalid(VerifyError::Variant { variant: 1 }))));
        assert!(out.into_inner().is_empty());
    }
    let none = write_variants(&[], &mut std::io::Cursor::new(Vec::new()));
    assert!(matches!(none, Err(WriteError::Variants { found: 0 })));
}
