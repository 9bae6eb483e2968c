//! From a module of the LLVM dialect to machine code.

use std::ffi::{CStr, CString, c_char};
use std::sync::Once;

use llvm_sys::core::{
    LLVMAddAttributeAtIndex, LLVMContextCreate, LLVMContextDispose, LLVMCreateEnumAttribute,
    LLVMCreateStringAttribute, LLVMDisposeMemoryBuffer, LLVMDisposeMessage, LLVMDisposeModule,
    LLVMGetBufferSize, LLVMGetBufferStart, LLVMGetEnumAttributeKindForName, LLVMGetFirstFunction,
    LLVMGetNextFunction, LLVMIsDeclaration, LLVMPrintModuleToString, LLVMSetTarget,
};
use llvm_sys::error::{LLVMDisposeErrorMessage, LLVMGetErrorMessage};
use llvm_sys::prelude::{LLVMContextRef, LLVMModuleRef};
use llvm_sys::target::{
    LLVMDisposeTargetData, LLVMInitializeAArch64AsmPrinter, LLVMInitializeAArch64Target,
    LLVMInitializeAArch64TargetInfo, LLVMInitializeAArch64TargetMC, LLVMInitializeRISCVAsmPrinter,
    LLVMInitializeRISCVTarget, LLVMInitializeRISCVTargetInfo, LLVMInitializeRISCVTargetMC,
    LLVMInitializeX86AsmPrinter, LLVMInitializeX86Target, LLVMInitializeX86TargetInfo,
    LLVMInitializeX86TargetMC, LLVMSetModuleDataLayout,
};
use llvm_sys::target_machine::{
    LLVMCodeGenFileType, LLVMCodeGenOptLevel, LLVMCodeModel, LLVMCreateTargetDataLayout,
    LLVMCreateTargetMachine, LLVMDisposeTargetMachine, LLVMGetHostCPUFeatures, LLVMGetTargetFromTriple,
    LLVMRelocMode, LLVMTargetMachineEmitToMemoryBuffer, LLVMTargetMachineRef,
};
use llvm_sys::transforms::pass_builder::{
    LLVMCreatePassBuilderOptions, LLVMDisposePassBuilderOptions, LLVMRunPasses,
};
use mlir_sys as sys;

use crate::Module;
use crate::error::Error;

/// LLVM's names of the features that this machine and its operating system have.
pub fn host_features() -> Vec<String> {
    // SAFETY: gives a string of its own, which is read and then given back.
    let text = unsafe {
        let text = LLVMGetHostCPUFeatures();
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        LLVMDisposeMessage(text);
        copy
    };
    text.split(',').filter_map(|feature| feature.strip_prefix('+')).map(str::to_owned).collect()
}

/// What to compile for, in LLVM's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetSpec {
    /// Such as `x86_64-unknown-linux-gnu`.
    pub triple: String,
    /// Such as `znver5` or `x86-64-v3`; decides scheduling and a base set of features.
    pub cpu: String,
    /// Such as `+avx512f,+avx512vl`.
    pub features: String,
    /// Bits of the widest vectors code should use.
    pub vector_bits: usize,
    /// Of registers whose length machines choose, the least: as a multiple of the smallest.
    pub least_vscale: Option<usize>,
}

/// The longest registers that LLVM knows, in the same measure.
const MOST_VSCALE: u64 = 16;

/// Why there is no machine for a target.
#[derive(Debug, thiserror::Error)]
#[error("target `{triple}`: {message}")]
pub struct MachineError {
    pub triple: String,
    pub message: String,
}

/// An LLVM target machine. Stays on the thread that made it.
pub struct Machine {
    raw: LLVMTargetMachineRef,
    spec: TargetSpec,
}

impl Machine {
    /// # Errors
    /// When the triple names no target linked here, or a part holds a zero byte.
    pub fn new(spec: &TargetSpec) -> Result<Self, MachineError> {
        static TARGETS: Once = Once::new();
        // SAFETY: registration touches process-wide tables; `Once` makes it happen once.
        TARGETS.call_once(|| unsafe {
            LLVMInitializeX86TargetInfo();
            LLVMInitializeX86Target();
            LLVMInitializeX86TargetMC();
            LLVMInitializeX86AsmPrinter();
            LLVMInitializeAArch64TargetInfo();
            LLVMInitializeAArch64Target();
            LLVMInitializeAArch64TargetMC();
            LLVMInitializeAArch64AsmPrinter();
            LLVMInitializeRISCVTargetInfo();
            LLVMInitializeRISCVTarget();
            LLVMInitializeRISCVTargetMC();
            LLVMInitializeRISCVAsmPrinter();
        });
        let _guard = crate::link::while_not_linking();
        let failed = |message: String| MachineError { triple: spec.triple.clone(), message };
        let text = |text: &str| CString::new(text).map_err(|e| failed(e.to_string()));
        let (triple, cpu, features) = (text(&spec.triple)?, text(&spec.cpu)?, text(&spec.features)?);
        // SAFETY: the texts live during the calls; LLVM's message is copied and released.
        let raw = unsafe {
            let mut target = std::ptr::null_mut();
            let mut message = std::ptr::null_mut();
            if LLVMGetTargetFromTriple(triple.as_ptr(), &raw mut target, &raw mut message) != 0 {
                return Err(failed(take_message(message)));
            }
            LLVMCreateTargetMachine(
                target,
                triple.as_ptr(),
                cpu.as_ptr(),
                features.as_ptr(),
                LLVMCodeGenOptLevel::LLVMCodeGenLevelDefault,
                LLVMRelocMode::LLVMRelocPIC,
                LLVMCodeModel::LLVMCodeModelSmall,
            )
        };
        if raw.is_null() {
            return Err(failed("LLVM makes no machine for it".to_owned()));
        }
        Ok(Self { raw, spec: spec.clone() })
    }

    /// Translates a module that holds only the LLVM dialect, optimises it by LLVM's `passes` (such as
    /// `default<O2>`), and generates an ELF object.
    ///
    /// A malformed or unbuildable pass text may end the process; so may instructions the target lacks.
    ///
    /// # Errors
    /// [`Error::Translate`] for operations without a translation, [`Error::Codegen`] for what LLVM reports.
    pub fn emit_object(&self, module: &Module<'_>, passes: &str) -> Result<Vec<u8>, Error> {
        let _guard = crate::link::while_not_linking();
        let llvm = self.translate(module)?;
        llvm.optimise(self, passes)?;
        llvm.emit(self)
    }

    /// LLVM IR text after `passes`, for people.
    ///
    /// # Errors
    /// As [`Machine::emit_object`].
    pub fn llvm_text(&self, module: &Module<'_>, passes: &str) -> Result<String, Error> {
        let _guard = crate::link::while_not_linking();
        let llvm = self.translate(module)?;
        llvm.optimise(self, passes)?;
        // SAFETY: the module is live; the text is copied and released.
        Ok(unsafe { take_message(LLVMPrintModuleToString(llvm.module)) })
    }

    fn translate(&self, module: &Module<'_>) -> Result<Translated, Error> {
        module.context().take_reports();
        // SAFETY: the context is fresh; `Translated` owns it and the module made in it.
        unsafe {
            let context = LLVMContextCreate();
            let raw = sys::mlirTranslateModuleToLLVMIR(module.op().raw, context.cast()).cast();
            if std::ptr::addr_eq(raw, std::ptr::null::<()>()) {
                LLVMContextDispose(context);
                return Err(Error::Translate(module.errors()));
            }
            let translated = Translated { context, module: raw };
            translated.set_target(&self.spec, self.raw);
            Ok(translated)
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: made by `new` and used by nothing else.
        unsafe { LLVMDisposeTargetMachine(self.raw) };
    }
}

/// An LLVM module in a context of its own.
struct Translated {
    context: LLVMContextRef,
    module: LLVMModuleRef,
}

impl Translated {
    /// # Safety
    /// `machine` is live.
    unsafe fn set_target(&self, spec: &TargetSpec, machine: LLVMTargetMachineRef) {
        let triple = CString::new(spec.triple.as_str()).unwrap_or_default();
        let width = spec.vector_bits.to_string();
        let attributes = [
            ("target-cpu", spec.cpu.as_str()),
            ("target-features", spec.features.as_str()),
            ("prefer-vector-width", width.as_str()),
            // Kernels have no library to call: loops stay loops, never memset or memcpy.
            ("no-builtins", ""),
            ("nounwind", ""),
        ];
        // SAFETY: module and machine are live; texts are copied.
        unsafe {
            LLVMSetTarget(self.module, triple.as_ptr());
            let layout = LLVMCreateTargetDataLayout(machine);
            LLVMSetModuleDataLayout(self.module, layout);
            LLVMDisposeTargetData(layout);
            let mut function = LLVMGetFirstFunction(self.module);
            while !function.is_null() {
                if LLVMIsDeclaration(function) == 0 {
                    for (key, value) in attributes {
                        let attribute = LLVMCreateStringAttribute(
                            self.context,
                            key.as_ptr().cast(),
                            key.len() as u32,
                            value.as_ptr().cast(),
                            value.len() as u32,
                        );
                        LLVMAddAttributeAtIndex(function, llvm_sys::LLVMAttributeFunctionIndex, attribute);
                    }
                    if let Some(least) = spec.least_vscale {
                        let name = "vscale_range";
                        let kind = LLVMGetEnumAttributeKindForName(name.as_ptr().cast(), name.len());
                        let range = (least as u64) << 32 | MOST_VSCALE;
                        let attribute = LLVMCreateEnumAttribute(self.context, kind, range);
                        LLVMAddAttributeAtIndex(function, llvm_sys::LLVMAttributeFunctionIndex, attribute);
                    }
                }
                function = LLVMGetNextFunction(function);
            }
        }
    }

    fn optimise(&self, machine: &Machine, passes: &str) -> Result<(), Error> {
        let passes = CString::new(passes).map_err(|e| Error::Codegen(e.to_string()))?;
        // SAFETY: module and machine are live; options and message are released.
        unsafe {
            let options = LLVMCreatePassBuilderOptions();
            let error = LLVMRunPasses(self.module, passes.as_ptr(), machine.raw, options);
            LLVMDisposePassBuilderOptions(options);
            if error.is_null() {
                return Ok(());
            }
            let message = LLVMGetErrorMessage(error);
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            LLVMDisposeErrorMessage(message);
            Err(Error::Codegen(text))
        }
    }

    fn emit(&self, machine: &Machine) -> Result<Vec<u8>, Error> {
        // SAFETY: module and machine are live; buffer and message are released after copying.
        unsafe {
            let mut buffer = std::ptr::null_mut();
            let mut message = std::ptr::null_mut();
            let kind = LLVMCodeGenFileType::LLVMObjectFile;
            if LLVMTargetMachineEmitToMemoryBuffer(
                machine.raw,
                self.module,
                kind,
                &raw mut message,
                &raw mut buffer,
            ) != 0
            {
                return Err(Error::Codegen(take_message(message)));
            }
            let start = LLVMGetBufferStart(buffer).cast::<u8>();
            let object = std::slice::from_raw_parts(start, LLVMGetBufferSize(buffer)).to_vec();
            LLVMDisposeMemoryBuffer(buffer);
            Ok(object)
        }
    }
}

impl Drop for Translated {
    fn drop(&mut self) {
        // SAFETY: both are owned, the module by its context.
        unsafe {
            LLVMDisposeModule(self.module);
            LLVMContextDispose(self.context);
        }
    }
}

/// # Safety
/// `message` is null or a message of LLVM's that nobody else releases.
unsafe fn take_message(message: *mut c_char) -> String {
    if message.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        LLVMDisposeMessage(message);
        text
    }
}
