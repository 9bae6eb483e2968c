//! Code for machines that are not this one: what is in it. That it computes the right numbers is shown by this whole binary
//! where there is an emulator, see `IRED_TEST_TARGETS`.

use ired_compiler::targets::CpuTarget;
use ired_graph::{DType, Op, UnaryFn, ValueId};

use crate::harness::{Case, Random};

/// Where ELF says whose code it is.
const MACHINE: std::ops::Range<usize> = 18..20;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;
const RISCV: u16 = 243;

fn product(left: DType, right: DType) -> (Case, ValueId) {
    let mut random = Random::new(5);
    let mut case = Case::new();
    let x = random.tensor(left, &[8, 64], -9.0, 9.0);
    let mut x = case.input(x);
    let mut w = case.param(random.tensor(right, &[64, 32], -9.0, 9.0));
    if left == DType::BF16 {
        x = case.op(Op::Cast(DType::F32), &[x]);
        w = case.op(Op::Cast(DType::F32), &[w]);
    }
    let y = case.root(Op::MatMul, &[x, w]);
    (case, y)
}

/// Whether one of the 32-bit words is this instruction, whatever its registers are.
fn has_instruction(image: &[u8], instruction: u32, registers: u32) -> bool {
    image.chunks_exact(4).any(|word| u32::from_le_bytes(word.try_into().unwrap()) & !registers == instruction)
}

#[test]
fn every_architecture_has_its_code() {
    for (text, machine) in [
        ("x86_64-linux", X86_64),
        ("x86-64-v4", X86_64),
        ("x86-64-v4,+avx512vnni,+avx512bf16", X86_64),
        ("aarch64-linux", AARCH64),
        ("aarch64-linux,+sve512", AARCH64),
        ("riscv64-linux", RISCV),
        ("rva23u64,+zvl256b", RISCV),
    ] {
        let target = CpuTarget::parse(text).unwrap();
        for (left, right) in [
            (DType::F32, DType::F32),
            (DType::BF16, DType::BF16),
            (DType::U8, DType::I8),
            (DType::I8, DType::I8),
            (DType::I16, DType::U8),
        ] {
            let (mut case, y) = product(left, right);
            let y = case.op(Op::Cast(DType::F32), &[y]);
            let y = case.op(Op::Unary(UnaryFn::Tanh), &[y]);
            assert_eq!(case.image(&target, y)[MACHINE], machine.to_le_bytes(), "{text}: {left} by {right}");
        }
    }
}

#[test]
fn small_elements_are_multiplied_by_the_instructions_for_them() {
    // The numbers of three registers.
    const REGISTERS: u32 = 0x001f_03ff;
    for (features, left, right, instruction) in [
        ("+dotprod", DType::I8, DType::I8, 0x4e80_9400),
        ("+i8mm", DType::U8, DType::I8, 0x4e80_9c00),
        ("+bf16", DType::BF16, DType::BF16, 0x6e40_fc00),
        ("+sve256,+dotprod", DType::I8, DType::I8, 0x4480_0000),
        ("+sve256,+i8mm", DType::U8, DType::I8, 0x4480_7800),
        ("+sve256,+bf16", DType::BF16, DType::BF16, 0x6460_8000),
    ] {
        let (case, y) = product(left, right);
        let with = CpuTarget::parse(&format!("aarch64-linux,{features}")).unwrap();
        assert!(has_instruction(&case.image(&with, y), instruction, REGISTERS), "{features}");
        let without = CpuTarget::parse("aarch64-linux").unwrap();
        assert!(!has_instruction(&case.image(&without, y), instruction, REGISTERS), "{features}");
    }
}
