//! Makes modules, devices and tensors for the tests, and runs tests on each device.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use ired_driver_cpu::{CpuConfig, CpuDevice};

use ired_driver_template::{Kernel, TemplateDevice, Workgroup};
use ired_hal::validate::Validated;
use ired_hal::{BufferRange, Device, HostMemory};
use ired_module::code::{ArithOp, Buffer, Function, Inst, OwnedInst, Scalar};
use ired_module::signature::{
    DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec,
};
use ired_module::{Access, DType, ExecutableDraft, KernelEntry, ModuleDraft, ParamDraft};
use ired_runtime::{BoundTensor, Instance, InstanceOptions, InvokeError, LoadedModule};

pub(crate) fn s(register: u16) -> Scalar {
    Scalar(register)
}

pub(crate) fn b(register: u16) -> Buffer {
    Buffer(register)
}

pub(crate) fn constant(dst: u16, value: i64) -> OwnedInst {
    Inst::Constant { dst: s(dst), value }
}

pub(crate) fn arith(op: ArithOp, dst: u16, lhs: u16, rhs: u16) -> OwnedInst {
    Inst::Arith { op, dst: s(dst), lhs: s(lhs), rhs: s(rhs) }
}

pub(crate) fn input(dst: u16, input: u16) -> OwnedInst {
    Inst::Input { dst: b(dst), input }
}

pub(crate) fn dim(dst: u16, input: u16, axis: u16) -> OwnedInst {
    Inst::InputDim { dst: s(dst), input, axis }
}

pub(crate) fn allocate(dst: u16, bytes: u16) -> OwnedInst {
    Inst::Allocate { dst: b(dst), bytes: s(bytes) }
}

pub(crate) fn output(index: u16, src: u16, dims: &[u16]) -> OwnedInst {
    Inst::Output { output: index, src: b(src), dims: dims.iter().map(|&dim| s(dim)).collect() }
}

/// Kernel `entry` over `grid` workgroups along x; register 15 is 1 in every schedule here.
pub(crate) fn dispatch(entry: u32, grid: u16, bindings: &[u16], constants: &[u16]) -> OwnedInst {
    Inst::Dispatch {
        entry,
        grid: [s(grid), s(ONE), s(ONE)],
        bindings: bindings.iter().map(|&binding| b(binding)).collect(),
        constants: constants.iter().map(|&constant| s(constant)).collect(),
    }
}

/// A register that every schedule made by [`function`] has as 1.
pub(crate) const ONE: u16 = 15;

/// `body` behind `s15 = 1`; labels in it count from its own start.
pub(crate) fn function(inputs: &[u16], outputs: &[u16], body: Vec<OwnedInst>) -> Function {
    let mut all = vec![constant(ONE, 1)];
    all.extend(body);
    for inst in &mut all {
        if let Inst::Jump { to } | Inst::JumpIf { to, .. } = inst {
            to.0 += 1;
        }
    }
    Function {
        name: "schedule".into(),
        scalars: 16,
        buffers: 16,
        input_ranks: inputs.to_vec(),
        output_ranks: outputs.to_vec(),
        body: all,
    }
}

pub(crate) fn dynamic(name: &str) -> DimSpec {
    DimSpec::Symbolic { name: name.into(), min: 0, max: 1 << 40 }
}

pub(crate) fn spec(name: &str, dtype: DType, dims: &[DimSpec]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, dims: dims.to_vec() }
}

/// The kernels of [`device`], in entry order.
pub(crate) const ADD: u32 = 0;
pub(crate) const ADD_CONSTANT: u32 = 1;
/// Touches nothing of its one binding.
pub(crate) const NOTHING: u32 = 2;
/// Its first binding with one element replaced, in its place or not.
pub(crate) const UPDATE: u32 = 3;

/// A module with the kernels of [`device`] and one entry point `main`.
pub(crate) fn draft(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>, body: Vec<OwnedInst>) -> ModuleDraft {
    let ranks = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.dims.len() as u16).collect::<Vec<_>>();
    let kernel = |symbol: &str, bindings: &[Access], constants| KernelEntry {
        symbol: symbol.into(),
        origin: String::new(),
        bindings: bindings.to_vec(),
        constants,
    };
    let add = kernel("add", &[Access::Read, Access::Read, Access::Write], 0);
    let add_constant = kernel("add_constant", &[Access::Read, Access::Write], 1);
    let nothing = kernel("nothing", &[Access::ReadWrite], 0);
    let update = kernel("update", &[Access::ReadInPlace, Access::Read, Access::Write], 2);
    ModuleDraft {
        functions: vec![function(&ranks(&inputs), &ranks(&outputs), body)],
        signature: Signature {
            entries: vec![EntryPoint {
                name: "main".into(),
                function: 0,
                inputs,
                outputs,
                rows: Rows::Dependent { reason: "made by hand".into() },
                peak: PeakBytes::Static(0),
            }],
        },
        target: Target { triple: device().info().triple.clone(), features: vec![] },
        provenance: Provenance {
            model_digest: [7; 32],
            model_name: "test".into(),
            compiler: "hand".into(),
            options: String::new(),
        },
        strings: vec!["rows must be even".into()],
        executable: ExecutableDraft { image: image(), entries: vec![add, add_constant, nothing, update] },
        params: vec![],
        debug: vec![],
        texts: Vec::new(),
        host_calls: Vec::new(),
    }
}

pub(crate) fn param(values: &[i32]) -> ParamDraft {
    ParamDraft { name: "weights".into(), bytes: Box::new(bytes(values)) }
}

thread_local! {
    static DEVICE: RefCell<Option<Arc<dyn Device>>> = const { RefCell::new(None) };
}

/// Makes a test of each function, on each device: `template::name`, `cpu::name`, and `checked_cpu::name` where the
/// validation layer sees every call.
macro_rules! on_each_device {
    ($($name:ident),* $(,)?) => {
        mod template {
            $(#[test] fn $name() { crate::harness::on(crate::harness::template_device(), super::$name) })*
        }
        mod cpu {
            $(#[test] fn $name() { crate::harness::on(crate::harness::cpu_device(), super::$name) })*
        }
        mod checked_cpu {
            use crate::harness;
            $(#[test] fn $name() { harness::on(harness::checked(harness::cpu_device()), super::$name) })*
        }
    };
}
pub(crate) use on_each_device;

/// Runs `test` with `device` as [`device`].
pub(crate) fn on(device: Arc<dyn Device>, test: fn()) {
    DEVICE.set(Some(device));
    test();
    DEVICE.set(None);
}

/// The device of this test; the template where it does not say.
pub(crate) fn device() -> Arc<dyn Device> {
    DEVICE.with_borrow_mut(|device| device.get_or_insert_with(template_device).clone())
}

/// The executable that the device needs: of the template, none.
fn image() -> Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    match &*device().info().triple {
        "template" => vec![],
        _ => IMAGE.get_or_init(|| ired_driver_cpu::test_support::link(KERNELS, &[])).clone(),
    }
}

/// i32 kernels: `out[x] = a[x] + b[x]`, `out[x] = a[x] + constant`, and a scatter of one element.
const KERNELS: &str = r#"
#define KERNEL(name) __attribute__((visibility("default"))) \
    void name(unsigned *const *bindings, const long long *constants, unsigned x)
KERNEL(add) { bindings[2][x] = bindings[0][x] + bindings[1][x]; }
KERNEL(add_constant) { bindings[1][x] = bindings[0][x] + (unsigned)constants[0]; }
KERNEL(nothing) {}
KERNEL(update) {
    if (bindings[0] != bindings[2])
        for (long long i = 0; i < constants[0]; i++) bindings[2][i] = bindings[0][i];
    bindings[2][constants[1]] = bindings[1][0];
}
"#;

pub(crate) fn cpu_device() -> Arc<dyn Device> {
    let config = CpuConfig { threads: Some(3), ..CpuConfig::default() };
    Arc::new(CpuDevice::new(&config).expect("threads start"))
}

/// `device` behind the layer that checks every rule of the interface.
pub(crate) fn checked(device: Arc<dyn Device>) -> Arc<dyn Device> {
    Arc::new(Validated::new(device))
}

/// The same kernels in Rust, behind the same checks.
pub(crate) fn template_device() -> Arc<dyn Device> {
    let element = |group: &Workgroup<'_>, binding: usize| {
        group.bindings[binding].get::<4>(group.id[0] as usize).map(i32::from_le_bytes)
    };
    let add = move |group: Workgroup<'_>| {
        let sum = element(&group, 0)?.wrapping_add(element(&group, 1)?);
        group.bindings[2].set(group.id[0] as usize, sum.to_le_bytes())
    };
    let add_constant = move |group: Workgroup<'_>| {
        let sum = element(&group, 0)?.wrapping_add(group.constants[0] as i32);
        group.bindings[1].set(group.id[0] as usize, sum.to_le_bytes())
    };
    let update = move |group: Workgroup<'_>| {
        for index in 0..group.constants[0] as usize {
            let kept = group.bindings[0].get::<4>(index)?;
            group.bindings[2].set(index, kept)?;
        }
        let new = group.bindings[1].get::<4>(0)?;
        group.bindings[2].set(group.constants[1] as usize, new)
    };
    let kernels: [(String, Kernel); 4] = [
        ("add".into(), Arc::new(add)),
        ("add_constant".into(), Arc::new(add_constant)),
        ("nothing".into(), Arc::new(|_| Ok(()))),
        ("update".into(), Arc::new(update)),
    ];
    checked(Arc::new(TemplateDevice::new(kernels)))
}

pub(crate) fn load(draft: &ModuleDraft) -> Arc<LoadedModule> {
    LoadedModule::load(device(), draft.to_bytes().expect("a sound draft")).expect("a sound module")
}

pub(crate) fn instance(draft: &ModuleDraft) -> Instance {
    load(draft).instantiate(InstanceOptions::default())
}

pub(crate) fn bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// An i32 tensor in memory of the instance's device.
pub(crate) fn tensor(instance: &Instance, dims: &[u64], values: &[i32]) -> BoundTensor {
    let memory = HostMemory::read_only(bytes(values));
    let buffer = instance.module().device().import(memory).expect("the device takes host memory");
    BoundTensor::new(DType::I32, dims, BufferRange::whole(&buffer))
}

/// What an i32 tensor holds.
pub(crate) fn values(tensor: &BoundTensor) -> Vec<i32> {
    let mut bytes = vec![0; tensor.buffer.len_bytes as usize];
    tensor.buffer.buffer.read(tensor.buffer.offset_bytes, &mut bytes).expect("the host can read it");
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The first output of a call with i32 inputs.
pub(crate) fn call(
    instance: &Instance,
    inputs: &[(&[u64], &[i32])],
) -> Result<(Vec<u64>, Vec<i32>), InvokeError> {
    let inputs = inputs.iter().map(|(dims, values)| tensor(instance, dims, values)).collect();
    let outputs = instance.run("main", inputs, None)?;
    Ok((outputs[0].dims.clone(), values(&outputs[0])))
}

/// The usual module: `y = (x + 5) + x` in two steps through a transient, for any length.
pub(crate) fn two_steps() -> ModuleDraft {
    let n = [dynamic("n")];
    let mut draft = draft(
        vec![spec("x", DType::I32, &n)],
        vec![spec("y", DType::I32, &n)],
        vec![
            dim(0, 0, 0),
            constant(1, 4),
            arith(ArithOp::Mul, 2, 0, 1),
            constant(3, 5),
            input(0, 0),
            allocate(1, 2),
            allocate(2, 2),
            dispatch(ADD_CONSTANT, 0, &[0, 1], &[3]),
            Inst::Barrier,
            dispatch(ADD, 0, &[1, 0, 2], &[]),
            output(0, 2, &[0]),
            Inst::Return,
        ],
    );
    draft.signature.entries[0].peak = PeakBytes::Function(1);
    draft.functions.push(Function {
        name: "peak".into(),
        scalars: 3,
        buffers: 0,
        input_ranks: vec![1],
        output_ranks: vec![],
        body: vec![
            dim(0, 0, 0),
            constant(1, 4),
            arith(ArithOp::Mul, 2, 0, 1),
            Inst::ReturnScalar { value: s(2) },
        ],
    });
    draft
}
