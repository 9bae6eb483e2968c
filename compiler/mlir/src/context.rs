//! A thread's MLIR context, with the dialects the compiler uses and a place for diagnostics.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use mlir_sys as sys;

use crate::error::{Diagnostic, Severity};

unsafe extern "C" {
    fn iredRegisterDialects(registry: sys::MlirDialectRegistry);
    fn iredRegisterPasses();
}

/// An MLIR context: uniqued types and attributes, and what was reported since it was last asked.
///
/// Stays on the thread that made it.
pub struct Context {
    raw: sys::MlirContext,
    /// Boxed: the handler registered with MLIR points at it.
    reports: Box<RefCell<Vec<Diagnostic>>>,
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A context that runs passes on the calling thread only. Dialects load when they are first used.
    pub fn new() -> Self {
        static PASSES: Once = Once::new();
        // SAFETY: registration touches process-wide tables; `Once` makes it happen once.
        PASSES.call_once(|| unsafe { iredRegisterPasses() });
        // SAFETY: the registry lives until it is destroyed below; the context copies what it needs.
        let raw = unsafe {
            let registry = sys::mlirDialectRegistryCreate();
            iredRegisterDialects(registry);
            let raw = sys::mlirContextCreateWithThreading(false);
            sys::mlirContextAppendDialectRegistry(raw, registry);
            sys::mlirDialectRegistryDestroy(registry);
            sys::mlirContextLoadAllAvailableDialects(raw);
            raw
        };
        let reports = Box::new(RefCell::new(Vec::new()));
        let user_data = std::ptr::from_ref(reports.as_ref()).cast_mut().cast::<c_void>();
        // SAFETY: `reports` is boxed and outlives the context, which `Drop` destroys first.
        unsafe { sys::mlirContextAttachDiagnosticHandler(raw, Some(collect), user_data, None) };
        Self { raw, reports }
    }

    /// Diagnostics since the last call, oldest first.
    pub(crate) fn take_reports(&self) -> Vec<Diagnostic> {
        self.reports.take()
    }

    pub(crate) fn raw(&self) -> sys::MlirContext {
        self.raw
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: everything made in the context borrows it, so nothing is left that could use it.
        unsafe { sys::mlirContextDestroy(self.raw) };
    }
}

unsafe extern "C" fn collect(
    diagnostic: sys::MlirDiagnostic,
    user_data: *mut c_void,
) -> sys::MlirLogicalResult {
    // A panic must not reach MLIR's frames; the diagnostic is lost instead.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `Context::new` passes the address of its boxed cell.
        let reports = unsafe { &*user_data.cast::<RefCell<Vec<Diagnostic>>>() };
        if let Ok(mut reports) = reports.try_borrow_mut() {
            read(diagnostic, &mut reports);
        }
    }));
    sys::MlirLogicalResult { value: 1 }
}

fn read(diagnostic: sys::MlirDiagnostic, reports: &mut Vec<Diagnostic>) {
    // SAFETY: MLIR keeps the diagnostic alive during the handler's call.
    unsafe {
        let severity = match sys::mlirDiagnosticGetSeverity(diagnostic) {
            sys::MlirDiagnosticSeverity_MlirDiagnosticError => Severity::Error,
            sys::MlirDiagnosticSeverity_MlirDiagnosticWarning => Severity::Warning,
            sys::MlirDiagnosticSeverity_MlirDiagnosticNote => Severity::Note,
            _ => Severity::Remark,
        };
        let location = sys::mlirDiagnosticGetLocation(diagnostic);
        reports.push(Diagnostic {
            severity,
            location: print_with(|callback, data| sys::mlirLocationPrint(location, callback, data)),
            message: print_with(|callback, data| sys::mlirDiagnosticPrint(diagnostic, callback, data)),
        });
        for note in 0..sys::mlirDiagnosticGetNumNotes(diagnostic) {
            read(sys::mlirDiagnosticGetNote(diagnostic, note), reports);
        }
    }
}

/// Runs one of MLIR's printing functions and returns what it printed.
pub(crate) fn print_with(print: impl FnOnce(sys::MlirStringCallback, *mut c_void)) -> String {
    let bytes = print_bytes_with(print);
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn print_bytes_with(print: impl FnOnce(sys::MlirStringCallback, *mut c_void)) -> Vec<u8> {
    let mut bytes = Vec::<u8>::new();
    print(Some(append), (&raw mut bytes).cast::<c_void>());
    bytes
}

/// Appends to the `Vec<u8>` behind `user_data`. Allocation failure aborts; nothing in it unwinds.
pub(crate) unsafe extern "C" fn append(text: sys::MlirStringRef, user_data: *mut c_void) {
    // SAFETY: callers pass a `Vec<u8>` that they do not touch during the call; MLIR passes a valid range.
    unsafe {
        let bytes = &mut *user_data.cast::<Vec<u8>>();
        if text.length > 0 {
            bytes.extend_from_slice(std::slice::from_raw_parts(text.data.cast::<u8>(), text.length));
        }
    }
}

/// A view of `text` for a call into MLIR; valid while `text` is.
pub(crate) fn string_ref(text: &str) -> sys::MlirStringRef {
    sys::MlirStringRef { data: text.as_ptr().cast(), length: text.len() }
}
