//! The module on its device.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ired_driver_cpu::{CpuConfig, CpuDevice};
use ired_hal::{Device, HostMemory, Inline, Memory};
use ired_module::DType;
use ired_module::notes::{DispatchNotes, KnownDispatch};
use ired_runtime::{
    BoundTensor, CallStrings, Instance, InstanceOptions, InvokeError, InvokeOptions, LoadedModule as Module,
    MemoryBudget,
};
use ired_worker::child::{Tensors, usage};
use ired_worker::messages::full_text;
use ired_worker::messages::runtime::{Place, TensorRef};
use ired_worker::{LoadedModule, MappedFile, RuntimeFailure, RuntimeOptions};

use crate::failure::describe;
use crate::outputs::{Outputs, SharedOutputs};

/// The inputs of one request, and the strings that handles in them are of.
pub(crate) struct Inputs {
    bound: Vec<BoundTensor>,
    strings: CallStrings,
}

/// Handles of the strings in `view`, little-endian.
fn handles(input: &TensorRef, view: &[u8], strings: &CallStrings) -> Result<Vec<u8>, RuntimeFailure> {
    let count = ired_module::texts::elements(&input.dims).unwrap_or(u64::MAX);
    strings.intern(view, count).map_err(|error| RuntimeFailure::InvalidInput {
        tensor: input.name.clone(),
        found: full_text(&error),
        expected: format!("strings of shape {:?}", input.dims),
    })
}

/// The file of a module, which the loaded module and its notes share.
#[derive(Clone)]
struct SharedFile(Arc<MappedFile>);

impl AsRef<[u8]> for SharedFile {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// A module that is ready to run.
pub(crate) struct Engine {
    device: Arc<dyn Device>,
    instance: Instance,
    description: LoadedModule,
    runners: usize,
    file: SharedFile,
    /// Read when somebody asks first.
    notes: OnceLock<DispatchNotes>,
}

impl Engine {
    /// Opens the device and makes the module ready on it.
    pub(crate) fn load(options: &RuntimeOptions, module: MappedFile) -> Result<Self, RuntimeFailure> {
        let since = Instant::now();
        let failed = |message: String| RuntimeFailure::Load { message };
        if let Some(cores) = &options.cores {
            // Before there are other threads, and before memory is first touched, which then is near.
            let unavailable = |error| RuntimeFailure::Unavailable { reason: full_text(&error) };
            cores.confine().map_err(unavailable)?;
        }
        let config = CpuConfig { threads: options.threads, pin: options.pin, ..CpuConfig::default() };
        let device = CpuDevice::new(&config).map_err(|error| failed(format!("cpu device: {error}")))?;
        // A pinned device counts on one caller that is pinned beside its workers; otherwise as many requests run at
        // once as there are threads to run them.
        let runners = if options.pin { 1 } else { device.info().parallelism.max(1) as usize };
        if options.pin {
            CpuDevice::pin_caller().map_err(|error| failed(format!("cannot pin a thread: {error}")))?;
        }
        let device: Arc<dyn Device> = Arc::new(device);
        let module_bytes = module.len() as u64;
        let file = SharedFile(Arc::new(module));
        let module =
            Module::load(Arc::clone(&device), file.clone()).map_err(|error| failed(full_text(&error)))?;
        let budget = options.memory_bytes.map(MemoryBudget::new);
        let instance = module.instantiate(InstanceOptions { budget, ..InstanceOptions::default() });
        let usage = usage();
        let description = LoadedModule {
            signature: module.signature().clone(),
            target: module.target().clone(),
            variant: module.variant(),
            provenance: module.provenance().clone(),
            module_bytes,
            parameter_bytes: module.param_bytes(),
            resident_bytes: usage.rss_bytes,
            private_bytes: usage.private_bytes,
            load_time: since.elapsed(),
        };
        Ok(Self { device, instance, description, runners, file, notes: OnceLock::new() })
    }

    /// What the parent learns about the module.
    pub(crate) fn describe(&self) -> LoadedModule {
        self.description.clone()
    }

    pub(crate) fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// What the module says of the dispatches of an entry, for these inputs.
    pub(crate) fn notes(&self, entry: &str, inputs: &[TensorRef]) -> Vec<KnownDispatch<'_>> {
        let entries = &self.description.signature.entries;
        let Some(entry) = entries.iter().find(|candidate| candidate.name == entry) else { return Vec::new() };
        let notes = self.notes.get_or_init(|| {
            let module = ired_module::Module::parse(self.file.as_ref()).ok();
            let (variant, _) = self.description.variant;
            let module = module.and_then(|module| module.variants().nth(variant));
            module.and_then(|module| DispatchNotes::decode(module.debug())).unwrap_or_default()
        });
        let dims_of = |name: &str| {
            let input = inputs.iter().find(|input| input.name == name);
            input.map(|input| input.dims.clone()).unwrap_or_default()
        };
        let dims: Vec<Vec<u64>> = entry.inputs.iter().map(|input| dims_of(&input.name)).collect();
        let mut dispatches = notes.at(&dims);
        dispatches.retain(|dispatch| dispatch.function == entry.function);
        dispatches
    }

    /// Gives back memory that is kept for the next request.
    pub(crate) fn free_kept(&self) {
        self.instance.free_pooled();
    }

    /// How many requests may run at once.
    pub(crate) fn runners(&self) -> usize {
        self.runners
    }

    /// Bytes that a request with inputs of these dimensions takes, its outputs among them.
    pub(crate) fn peak(&self, entry: &str, dims: Vec<Vec<u64>>) -> Result<u64, RuntimeFailure> {
        self.instance.call_bytes(entry, &dims).map_err(|error| {
            // As the request would be told, which is yet to come.
            let specs = self.description.signature.entries.iter().find(|found| found.name == entry);
            let inputs = specs.into_iter().flat_map(|entry| &entry.inputs).zip(dims);
            let inputs: Vec<TensorRef> = inputs
                .map(|(spec, dims)| TensorRef {
                    name: spec.name.clone(),
                    dtype: spec.dtype,
                    dims,
                    place: Place { region: 0, offset: 0, len: 0 },
                })
                .collect();
            self.failure(entry, &inputs, error)
        })
    }

    /// Puts the inputs of one request where the device reads them: in the parent's memory.
    pub(crate) fn bind(
        &self,
        entry: &str,
        inputs: &[TensorRef],
        tensors: &Tensors,
    ) -> Result<Inputs, RuntimeFailure> {
        let strings = self.instance.call_strings();
        let named: Result<Vec<_>, RuntimeFailure> = inputs
            .iter()
            .map(|input| Ok((input.name.clone(), self.import(input, tensors, &strings)?)))
            .collect();
        let bound = self.instance.order_inputs(entry, named?);
        Ok(Inputs { bound: bound.map_err(|error| self.failure(entry, inputs, error))?, strings })
    }

    fn import(
        &self,
        input: &TensorRef,
        tensors: &Tensors,
        strings: &CallStrings,
    ) -> Result<BoundTensor, RuntimeFailure> {
        let view = tensors
            .view(input.place)
            .map_err(|error| RuntimeFailure::Protocol { message: error.to_string() })?;
        let failed = |error: &dyn std::error::Error| RuntimeFailure::Execution { message: full_text(error) };
        let buffer = match input.dtype {
            DType::String => {
                let handles = handles(input, &view, strings)?;
                // Device memory, which is aligned as kernels expect.
                let buffer =
                    self.device.allocate(handles.len() as u64, Memory::Host).map_err(|e| failed(&e))?;
                buffer.write(0, &handles).map_err(|e| failed(&e))?;
                buffer
            }
            _ => self.device.import(HostMemory::read_only(view)).map_err(|e| failed(&e))?,
        };
        Ok(BoundTensor::new(input.dtype, input.dims.clone(), ired_hal::BufferRange::whole(&buffer)))
    }

    /// Runs `entry` to its end on this thread and the device's; outputs are in shared memory.
    pub(crate) fn run(
        &self,
        entry: &str,
        inputs: &Inputs,
        deadline: Option<Instant>,
        tensors: &Arc<Tensors>,
    ) -> Result<Outputs, InvokeError> {
        let spelled = self.string_outputs(entry);
        let memory = SharedOutputs::new(Arc::clone(&self.device), Arc::clone(tensors), spelled);
        let options = InvokeOptions {
            inline: Inline::Allowed,
            deadline,
            outputs: Some(memory.clone()),
            strings: Some(inputs.strings.clone()),
            ..InvokeOptions::default()
        };
        let invocation = self.instance.invoke_with(entry, inputs.bound.clone(), &options)?;
        // To the end, also past the deadline: until then the device reads the inputs, which are the parent's again once
        // it has the answer.
        Ok(memory.finish(invocation.take_outputs(None)?, inputs.strings.clone()))
    }

    /// The positions of an entry's outputs that are strings.
    fn string_outputs(&self, entry: &str) -> Vec<usize> {
        let entries = &self.description.signature.entries;
        let entry = entries.iter().find(|candidate| candidate.name == entry);
        let outputs = entry.into_iter().flat_map(|entry| entry.outputs.iter().enumerate());
        outputs.filter(|(_, output)| output.dtype == DType::String).map(|(index, _)| index).collect()
    }

    /// What the parent is told about a call that did not work.
    pub(crate) fn failure(&self, entry: &str, inputs: &[TensorRef], error: InvokeError) -> RuntimeFailure {
        describe(&self.description.signature, entry, inputs, error)
    }

    /// The names of an entry's outputs, in order.
    pub(crate) fn output_names(&self, entry: &str) -> impl Iterator<Item = &str> {
        let entries = &self.description.signature.entries;
        let entry = entries.iter().find(move |candidate| candidate.name == entry);
        entry.into_iter().flat_map(|entry| &entry.outputs).map(|output| output.name.as_str())
    }
}
