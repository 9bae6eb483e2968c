//! A module made ready on one device: verified, its kernels prepared, its parameters resident.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use ired_hal::{
    AllocateError, Buffer, BufferRange, Device, Executable, ExecutableSource, HostMemory, Memory, Operation,
    PrepareError, Submission, Timepoint,
};
use ired_host::StringTable;
use ired_module::code::{Function, Inst};
use ired_module::signature::{PeakBytes, Provenance, Signature, Target};
use ired_module::{Access, Module, SectionKind, Verify};

use crate::error::{InvokeError, LoadError, UploadError};
use crate::inputs::{Entry, name_list};
use crate::instance::{Instance, InstanceOptions};
use crate::machine::{Crash, InputShape, Machine, Params, Stop};
use crate::strings::{self, HostFunction};
use crate::tape::{Region, Space};

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Whether to read all parameters once to check their hash, which for gigabytes takes seconds.
    pub verify: Verify,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { verify: Verify::All }
    }
}

/// A verified module on a device. Cheap to share; instances of it share everything that does not change.
pub struct LoadedModule {
    device: Arc<dyn Device>,
    signature: Signature,
    target: Target,
    variant: usize,
    variants: usize,
    provenance: Provenance,
    digest: [u8; 32],
    entries: Vec<Entry>,
    functions: Vec<Function>,
    /// Per function: it never looks at results, so that what it records depends on dimensions alone.
    replayable: Vec<bool>,
    /// The messages that checks name.
    messages: HashMap<u32, String>,
    executable: Option<Arc<dyn Executable>>,
    /// By kernel, what it does to each of its bindings.
    accesses: Vec<Vec<Access>>,
    host_calls: Vec<HostFunction>,
    /// String constants, which those of a call come on top of.
    strings: Arc<StringTable>,
    params: Option<Arc<dyn Buffer>>,
    param_regions: Vec<Region>,
}

/// Alignment that kernels may rely on for parameters.
const PARAM_ALIGNMENT: usize = 64;

impl LoadedModule {
    /// Loads `bytes`, one module file, with [`LoadOptions::default`].
    ///
    /// `bytes` must stay what they are; a mapped file that others may write to is not such a thing. Where the
    /// device can use host memory, the parameters stay in `bytes`, which then lives as long as they are used.
    ///
    /// # Errors
    /// When the bytes are not a sound module, or the device cannot run it.
    pub fn load(
        device: Arc<dyn Device>,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, LoadError> {
        Self::load_with(device, bytes, LoadOptions::default())
    }

    /// Loads `bytes` as `options` say; see [`LoadedModule::load`].
    pub fn load_with(
        device: Arc<dyn Device>,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        options: LoadOptions,
    ) -> Result<Arc<Self>, LoadError> {
        let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(bytes);
        let module = Module::parse((*owner).as_ref())?;
        module.verify(options.verify)?;
        let variants = module.variants().len();
        let (module, executable) = choose(&*device, &module)?;
        let functions = module.iter_functions().map(|function| function.to_owned());
        // A verified function decodes; the reader's error for one that does not is the verifier's.
        let functions = functions.collect::<Result<Vec<_>, _>>().map_err(|problem| {
            LoadError::Verify(ired_module::VerifyError::Code { function: 0, instruction: 0, problem })
        })?;
        let (strings, host_calls) = (strings::constants(&module)?, strings::host_calls(&module)?);
        let params = place_params(&*device, &module, &owner)?;
        let signature = module.signature();
        Ok(Arc::new(Self {
            entries: signature.entries.iter().map(Entry::new).collect(),
            replayable: functions.iter().map(is_replayable).collect(),
            messages: find_messages(&module, &functions),
            accesses: module.entries().map(|kernel| kernel.bindings.iter().collect()).collect(),
            param_regions: (0..module.params()).map(|index| param_region(&module, index)).collect(),
            target: module.target(),
            variant: module.variant(),
            variants,
            provenance: module.provenance(),
            digest: module.digest(),
            signature,
            functions,
            host_calls,
            strings,
            executable,
            params,
            device,
        }))
    }

    /// A new instance with its own memory; see [`Instance`].
    pub fn instantiate(self: &Arc<Self>, options: InstanceOptions) -> Instance {
        Instance::new(self.clone(), options)
    }

    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What the variant that runs was compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Which of the module's variants runs, from 0, and how many there are.
    pub fn variant(&self) -> (usize, usize) {
        (self.variant, self.variants)
    }

    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// What identifies the module's content.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Bytes of all parameters.
    pub fn param_bytes(&self) -> u64 {
        self.params.as_ref().map_or(0, |params| params.len_bytes())
    }

    /// Bytes that one invocation takes beyond inputs, outputs and parameters; nothing is allocated to know it.
    ///
    /// `dims` are those of the inputs, in signature order.
    ///
    /// # Errors
    /// When there is no such entry point or it does not take such inputs.
    pub fn peak_bytes(&self, entry: &str, dims: &[Vec<u64>]) -> Result<u64, InvokeError> {
        let entry = self.entry(entry)?;
        let (shapes, _) = entry.check_dims(dims.iter().map(Vec::as_slice))?;
        self.peak_of(entry, &shapes)
    }

    pub(crate) fn peak_of(&self, entry: &Entry, shapes: &[InputShape]) -> Result<u64, InvokeError> {
        const FUEL: u64 = 1 << 20;
        let function = match entry.peak {
            PeakBytes::Static(bytes) => return Ok(bytes),
            PeakBytes::Function(function) => function,
        };
        let code = &self.functions[function as usize];
        let mut machine = Machine::new(code, FUEL);
        match machine.run(code, shapes, self).map_err(|crash| self.fault(function, crash))? {
            Stop::ReturnScalar(found) => u64::try_from(found).map_err(|_| {
                let fault = crate::error::Fault::OutOfRange { what: "peak memory", found };
                self.fault(function, machine.crash_here(fault))
            }),
            Stop::Check { message } => Err(self.check_failed(message)),
            // Verification admits nothing else in a scalar function.
            Stop::Await | Stop::Load { .. } | Stop::HostCall { .. } | Stop::Return => Ok(0),
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Entry, InvokeError> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| InvokeError::NoSuchEntry {
            found: name.into(),
            expected: name_list(self.entries.iter().map(|entry| entry.name.as_str())),
        })
    }

    /// Entry points by number, in signature order.
    pub(crate) fn entry_index(&self, name: &str) -> Result<usize, InvokeError> {
        let found = self.entries.iter().position(|entry| entry.name == name);
        found.map_or_else(|| self.entry(name).map(|_| 0), Ok)
    }

    pub(crate) fn entry_at(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    pub(crate) fn function(&self, index: u32) -> &Function {
        &self.functions[index as usize]
    }

    pub(crate) fn is_replayable(&self, function: u32) -> bool {
        self.replayable[function as usize]
    }

    pub(crate) fn executable(&self) -> Option<&Arc<dyn Executable>> {
        self.executable.as_ref()
    }

    /// What kernel `entry` does to its bindings; a verified dispatch binds as many.
    pub(crate) fn accesses(&self, entry: u32) -> &[Access] {
        &self.accesses[entry as usize]
    }

    /// The module's string constants.
    pub(crate) fn strings(&self) -> &Arc<StringTable> {
        &self.strings
    }

    pub(crate) fn host_call(&self, index: u32) -> &HostFunction {
        &self.host_calls[index as usize]
    }

    pub(crate) fn params(&self) -> Option<&Arc<dyn Buffer>> {
        self.params.as_ref()
    }

    pub(crate) fn fault(&self, function: u32, crash: Crash) -> InvokeError {
        InvokeError::Fault {
            function: self.functions[function as usize].name.clone(),
            instruction: crash.instruction,
            fault: crash.fault,
        }
    }

    pub(crate) fn check_failed(&self, message: u32) -> InvokeError {
        InvokeError::Check { message: self.messages.get(&message).cloned().unwrap_or_default() }
    }
}

impl Params for LoadedModule {
    fn param(&self, index: u32) -> Region {
        self.param_regions[index as usize]
    }
}

impl Debug for LoadedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModule")
            .field("model", &self.provenance.model_name)
            .field("device", &self.device.info().name)
            .finish_non_exhaustive()
    }
}

fn is_replayable(function: &Function) -> bool {
    !function.body.iter().any(|inst| matches!(inst, Inst::Await | Inst::Load { .. } | Inst::HostCall { .. }))
}

fn find_messages(module: &Module<'_>, functions: &[Function]) -> HashMap<u32, String> {
    let named = functions.iter().flat_map(|function| &function.body).filter_map(|inst| match inst {
        Inst::Check { message, .. } => Some(*message),
        _ => None,
    });
    named.filter_map(|message| Some((message, module.string(message)?.to_owned()))).collect()
}

fn param_region(module: &Module<'_>, index: u32) -> Region {
    let (offset, bytes) = module.param_ref(index).map_or((0, 0), |param| (param.offset, param.bytes));
    Region { space: Space::Params, offset, bytes }
}

/// The first variant that the device can run.
fn choose<'m>(
    device: &dyn Device,
    module: &Module<'m>,
) -> Result<(Module<'m>, Option<Arc<dyn Executable>>), LoadError> {
    let mut refusals = Vec::new();
    for variant in module.variants() {
        match prepare(device, &variant) {
            Ok(executable) => return Ok((variant, executable)),
            Err(cause @ (PrepareError::WrongTarget { .. } | PrepareError::MissingFeatures { .. })) => {
                refusals.push(cause);
            }
            Err(cause) => return Err(LoadError::Prepare { device: device.info().name.clone(), cause }),
        }
    }
    let device = device.info().name.clone();
    match <[_; 1]>::try_from(refusals) {
        Ok([cause]) => Err(LoadError::Prepare { device, cause }),
        Err(refusals) => {
            let refusals = (1..).zip(&refusals).map(|(number, cause)| format!("variant {number}: {cause}"));
            Err(LoadError::NoVariant { device, refusals: refusals.collect::<Vec<_>>().join("; ") })
        }
    }
}

/// The device checks that the machine has what the kernels need; a module without kernels has no code to check.
fn prepare(device: &dyn Device, module: &Module<'_>) -> Result<Option<Arc<dyn Executable>>, PrepareError> {
    let target = module.target();
    let entries: Vec<String> = module.entries().map(|kernel| kernel.symbol.to_owned()).collect();
    if entries.is_empty() {
        return Ok(None);
    }
    let source = ExecutableSource {
        name: &module.provenance().model_name,
        triple: &target.triple,
        features: &target.features,
        image: module.executable(),
        entries: &entries,
    };
    device.prepare_executable(&source).map(Some)
}

/// The parameter section of a module, kept alive with the whole module.
struct ParamSection {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    end: usize,
}

impl AsRef<[u8]> for ParamSection {
    fn as_ref(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.start..self.end).unwrap_or_default()
    }
}

/// In place where the device can and the bytes are aligned as kernels expect; else a copy in device memory.
fn place_params(
    device: &dyn Device,
    module: &Module<'_>,
    owner: &Arc<dyn AsRef<[u8]> + Send + Sync>,
) -> Result<Option<Arc<dyn Buffer>>, LoadError> {
    let section = module.section(SectionKind::Params);
    if module.params() == 0 {
        return Ok(None);
    }
    let failed =
        |cause| LoadError::Params { device: device.info().name.clone(), bytes: section.len() as u64, cause };
    let aligned = section.as_ptr().addr().is_multiple_of(PARAM_ALIGNMENT);
    if aligned && device.info().unified_memory {
        // Parameters are the last section, so they end where the file does.
        let end = (**owner).as_ref().len();
        let memory = ParamSection { owner: owner.clone(), start: end - section.len(), end };
        match device.import(HostMemory::read_only(memory)) {
            Ok(buffer) => return Ok(Some(buffer)),
            Err(AllocateError::CannotImport { .. }) => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    let buffer = device.allocate(section.len() as u64, Memory::Device).map_err(failed)?;
    upload(device, section, &buffer)
        .map_err(|cause| LoadError::Upload { device: device.info().name.clone(), cause })?;
    Ok(Some(buffer))
}

fn upload(device: &dyn Device, bytes: &[u8], buffer: &Arc<dyn Buffer>) -> Result<(), UploadError> {
    const CHUNK: usize = 64 << 20;
    let semaphore = device.create_semaphore(0);
    for (index, chunk) in (0u64..).zip(bytes.chunks(CHUNK)) {
        let done = Timepoint::new(&semaphore, index + 1);
        let dst = BufferRange::new(buffer, index * CHUNK as u64, chunk.len() as u64);
        let operation = Operation::Update { src: chunk, dst: &dst };
        device.submit(Submission::new(operation).signals(std::slice::from_ref(&done)))?;
        // One chunk at a time: the device may have to keep a copy of each until it is done.
        done.wait(None)?;
    }
    Ok(())
}
