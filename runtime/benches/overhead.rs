//! What one call costs beyond its kernels: a program of one dispatch that does nothing, call after call.
//!
//! `cargo bench -p ired-runtime` prints nanoseconds a call; the aim is 2 µs at most on an idle core.

use std::sync::Arc;
use std::time::Instant;

use ired_driver_cpu::{CpuConfig, CpuDevice};
use ired_driver_template::{Kernel, TemplateDevice};
use ired_hal::{BufferRange, Device, HostMemory};
use ired_module::code::{Buffer, Function, Inst, Scalar};
use ired_module::signature::{
    DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec,
};
use ired_module::{Access, DType, ExecutableDraft, KernelEntry, ModuleDraft};
use ired_runtime::{BoundTensor, InstanceOptions, LoadedModule};

fn draft() -> ModuleDraft {
    let n = DimSpec::Symbolic { name: "n".into(), min: 1, max: 1 << 20 };
    let tensor = |name: &str| TensorSpec { name: name.into(), dtype: DType::F32, dims: vec![n.clone()] };
    let (s, b) = (Scalar, Buffer);
    ModuleDraft {
        signature: Signature {
            entries: vec![EntryPoint {
                name: "main".into(),
                function: 0,
                inputs: vec![tensor("x")],
                outputs: vec![tensor("y")],
                rows: Rows::Dependent { reason: "made by hand".into() },
                peak: PeakBytes::Static(64),
            }],
        },
        target: Target { triple: "template".into(), features: vec![] },
        provenance: Provenance {
            model_digest: [0; 32],
            model_name: "one_dispatch".into(),
            compiler: "hand".into(),
            options: String::new(),
        },
        functions: vec![Function {
            name: "main".into(),
            scalars: 4,
            buffers: 3,
            input_ranks: vec![1],
            output_ranks: vec![1],
            body: vec![
                Inst::InputDim { dst: s(0), input: 0, axis: 0 },
                Inst::Constant { dst: s(1), value: 64 },
                Inst::Constant { dst: s(2), value: 1 },
                Inst::Input { dst: b(0), input: 0 },
                Inst::Allocate { dst: b(1), bytes: s(1) },
                Inst::Allocate { dst: b(2), bytes: s(1) },
                Inst::Dispatch {
                    entry: 0,
                    grid: [s(2), s(2), s(2)],
                    bindings: vec![b(0), b(1), b(2)],
                    constants: vec![s(0)],
                },
                Inst::Output { output: 0, src: b(2), dims: vec![s(0)] },
                Inst::Return,
            ],
        }],
        strings: vec![],
        executable: ExecutableDraft {
            image: vec![],
            entries: vec![KernelEntry {
                symbol: "nothing".into(),
                origin: String::new(),
                bindings: vec![Access::Read, Access::ReadWrite, Access::Write],
                constants: 1,
            }],
        },
        params: vec![],
        debug: vec![],
        texts: Vec::new(),
        host_calls: Vec::new(),
    }
}

/// Nanoseconds of the fastest of ten rounds, a call.
fn measure(device: Arc<dyn Device>, image: Vec<u8>) -> Result<f64, Box<dyn std::error::Error>> {
    const CALLS: u32 = 100_000;
    let mut draft = draft();
    draft.target.triple.clone_from(&device.info().triple);
    draft.executable.image = image;
    let module = LoadedModule::load(device.clone(), draft.to_bytes()?)?;
    let instance = module.instantiate(InstanceOptions::default());
    let buffer = device.import(HostMemory::read_only(vec![0u8; 32]))?;
    let x = BoundTensor::new(DType::F32, [8], BufferRange::whole(&buffer));
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..CALLS {
            instance.run("main", vec![x.clone()], None)?;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kernels: [(String, Kernel); 1] = [("nothing".into(), Arc::new(|_| Ok(())))];
    let template = measure(Arc::new(TemplateDevice::new(kernels)), vec![])?;
    println!("one dispatch on the template device: {template:.0} ns a call");
    let nothing = "__attribute__((visibility(\"default\"))) void nothing(void) {}";
    let image = ired_driver_cpu::test_support::link(nothing, &[]);
    let cpu = measure(Arc::new(CpuDevice::new(&CpuConfig::default())?), image)?;
    println!("one dispatch on the CPU: {cpu:.0} ns a call");
    Ok(())
}
