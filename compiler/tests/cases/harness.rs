//! Runs graphs: through the interpreter, and compiled, loaded and on the CPU.

use std::sync::{Arc, OnceLock};

use ired_compiler::targets::CpuTarget;
use ired_compiler::{CompileError, MemoryCache, Options, Outcome, Unobserved, compile_graph};
use ired_driver_cpu::{CpuConfig, CpuDevice};
use ired_graph::{DType, Graph, SymbolId, Tensor, interpret};
use ired_hal::validate::Validated;
use ired_hal::{BufferRange, Device, HostMemory};
use ired_module::ModuleDraft;
use ired_runtime::{
    BoundTensor, Instance, InstanceOptions, InvokeError, InvokeOptions, LoadError, LoadedModule, MemoryBudget,
};

/// The CPU, behind the layer that checks every rule of the device interface, missing barriers among them.
fn device() -> Arc<dyn Device> {
    static DEVICE: OnceLock<Arc<dyn Device>> = OnceLock::new();
    let make = || Validated::new(Arc::new(CpuDevice::new(&CpuConfig::default()).expect("a device")));
    DEVICE.get_or_init(|| Arc::new(make())).clone()
}

pub(crate) fn cache() -> &'static MemoryCache {
    static CACHE: OnceLock<MemoryCache> = OnceLock::new();
    CACHE.get_or_init(MemoryCache::default)
}

pub(crate) fn options() -> Options {
    Options::new(CpuTarget::host().expect("a known CPU"))
}

pub(crate) fn compile(graph: &Graph) -> Result<ModuleDraft, CompileError> {
    match compile_graph(graph.clone(), [0; 32], &options(), cache(), &mut Unobserved)? {
        Outcome::Module(mut drafts) => Ok(drafts.remove(0)),
        Outcome::Stopped { phase, .. } => panic!("stopped after {}", phase.name()),
        Outcome::Explained(report) => panic!("a report instead of a module: {report}"),
    }
}

/// A compiled graph, loaded.
pub(crate) struct Compiled {
    instance: Instance,
}

impl Compiled {
    pub(crate) fn new(graph: &Graph) -> Self {
        Self::load(&compile(graph).unwrap_or_else(|e| panic!("{e}\n{graph}")))
    }

    pub(crate) fn load(draft: &ModuleDraft) -> Self {
        Self::load_on(device(), draft.to_bytes().expect("a sound draft")).expect("a sound module")
    }

    pub(crate) fn load_on(device: Arc<dyn Device>, bytes: Vec<u8>) -> Result<Self, LoadError> {
        let module = LoadedModule::load(device, bytes)?;
        Ok(Self { instance: module.instantiate(InstanceOptions::default()) })
    }

    pub(crate) fn module(&self) -> &LoadedModule {
        self.instance.module()
    }

    fn bind(&self, tensor: &Tensor) -> BoundTensor {
        self.import(HostMemory::read_only(tensor.data().to_vec()), tensor.dtype(), tensor.shape())
    }

    /// The same, its calls bounded to `bytes` of memory together.
    pub(crate) fn within(&self, bytes: u64) -> Self {
        let budget = Some(MemoryBudget::new(bytes));
        let options = InstanceOptions { budget, ..InstanceOptions::default() };
        Self { instance: self.instance.module().instantiate(options) }
    }

    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InvokeError> {
        let bound = inputs.iter().map(|input| self.bind(input)).collect();
        Ok(self.instance.run("main", bound, None)?.iter().map(read).collect())
    }

    /// A tensor in `memory`.
    pub(crate) fn import(&self, memory: HostMemory, dtype: DType, dims: &[u64]) -> BoundTensor {
        let buffer = self.instance.module().device().import(memory).expect("host memory");
        BoundTensor::new(stored(dtype), dims, BufferRange::whole(&buffer))
    }

    /// As [`Compiled::run`] with `first` before the other inputs, and outputs where `places` say.
    pub(crate) fn run_into(
        &self,
        first: BoundTensor,
        others: &[Tensor],
        places: Vec<Option<BufferRange>>,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let inputs = std::iter::once(first).chain(others.iter().map(|input| self.bind(input))).collect();
        let options = InvokeOptions { outputs: Some(Arc::new(places)), ..InvokeOptions::default() };
        let outputs = self.instance.invoke_with("main", inputs, &options)?.take_outputs(None)?;
        Ok(outputs.iter().map(read).collect())
    }

    pub(crate) fn peak_bytes(&self, dims: &[Vec<u64>]) -> u64 {
        self.instance.module().peak_bytes("main", dims).expect("dimensions in range")
    }
}

fn read(tensor: &BoundTensor) -> Tensor {
    let dtype = DType::ALL.into_iter().find(|d| stored(*d) == tensor.dtype).expect("a type of the graph");
    let bytes = tensor.dtype.tensor_bytes(&tensor.dims).expect("a size");
    let mut data = vec![0; bytes as usize];
    tensor.buffer.buffer.read(tensor.buffer.offset_bytes, &mut data).expect("host memory");
    Tensor::new(dtype, tensor.dims.clone(), data.into()).expect("as many bytes as the type says")
}

fn stored(dtype: DType) -> ired_module::DType {
    let all = ired_module::DType::ALL.iter().copied();
    all.into_iter().find(|d| d.name() == dtype.name()).expect("every type is stored")
}

/// Inputs for `graph` with every symbol of size `size`, within the symbol's range.
pub(crate) fn inputs(graph: &Graph, size: i64) -> Vec<Tensor> {
    let at = |s: SymbolId| Some(graph.symbols.get(s).min.max(size));
    inputs_at(graph, &at)
}

pub(crate) fn inputs_at(graph: &Graph, size_of: &dyn Fn(SymbolId) -> Option<i64>) -> Vec<Tensor> {
    graph
        .inputs()
        .iter()
        .enumerate()
        .map(|(salt, value)| {
            let ty = graph.ty(*value);
            let size = |d: &ired_graph::Dim| u64::try_from(d.evaluate(size_of).unwrap()).unwrap();
            let shape: Vec<u64> = ty.shape.iter().map(size).collect();
            ramp(ty.dtype, &shape, salt)
        })
        .collect()
}

/// Small numbers of both signs, none of them regular; integers are 0 and 1, which are indices of anything.
pub(crate) fn ramp(dtype: DType, shape: &[u64], salt: usize) -> Tensor {
    let count: u64 = shape.iter().product();
    let values: Vec<f64> =
        (0..count).map(|i| ((i * 37 + salt as u64 * 11) % 17) as f64 / 4.0 - 2.0).collect();
    match dtype {
        DType::F32 => Tensor::from_f32s(shape, &values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
        DType::Bool => Tensor::from_bools(shape, &values.iter().map(|v| *v > 0.0).collect::<Vec<_>>()),
        DType::I64 => {
            Tensor::from_i64s(shape, &values.iter().map(|v| v.abs() as i64 % 2).collect::<Vec<_>>())
        }
        DType::I32 => {
            Tensor::from_i32s(shape, &values.iter().map(|v| v.abs() as i32 % 2).collect::<Vec<_>>())
        }
        DType::I8 | DType::U8 => {
            Tensor::from_f64s(dtype, shape, &values.iter().map(|v| v * 30.0).collect::<Vec<_>>())
        }
        DType::C64 | DType::C128 => {
            let parts = Tensor::from_f64s(
                dtype.part().expect("a complex type"),
                &[count * 2],
                &values.iter().flat_map(|v| [*v, 1.0 - v]).collect::<Vec<_>>(),
            );
            Tensor::new(dtype, shape.to_vec(), parts.data().clone()).expect("two parts an element")
        }
        other => panic!("no test data of {other}"),
    }
}

pub(crate) fn reference(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    interpret(graph, inputs).map_err(|e| format!("{e}: {:?}", std::error::Error::source(&e)))
}

/// Whether two lists of tensors are the same but for rounding: `tolerance` of the largest element's size.
pub(crate) fn compare(expected: &[Tensor], found: &[Tensor], tolerance: f64) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{} outputs became {}", expected.len(), found.len()));
    }
    for (number, (e, f)) in expected.iter().zip(found).enumerate() {
        if (e.dtype(), e.shape()) != (f.dtype(), f.shape()) {
            return Err(format!(
                "output {number}: {}{:?} became {}{:?}",
                e.dtype(),
                e.shape(),
                f.dtype(),
                f.shape()
            ));
        }
        let (e, f) = (e.to_parts().to_f64s(), f.to_parts().to_f64s());
        let scale = e.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
        for (i, (x, y)) in e.iter().zip(&f).enumerate() {
            let same = x == y || (x - y).abs() <= tolerance * scale || x.is_nan() && y.is_nan();
            if !same {
                return Err(format!("output {number}, element {i}: {x} became {y}"));
            }
        }
    }
    Ok(())
}
