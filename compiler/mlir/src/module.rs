//! A module: parsed or new, printed, verified, run through passes.

use std::ffi::c_void;

use mlir_sys as sys;

use crate::builder::Builder;
use crate::context::{Context, append, print_bytes_with, string_ref};
use crate::error::{Error, Severity};
use crate::ir::{Block, Op};

/// A top-level `builtin.module`, owned.
pub struct Module<'c> {
    raw: sys::MlirModule,
    context: &'c Context,
}

impl<'c> Module<'c> {
    /// An empty module.
    pub fn new(context: &'c Context) -> Self {
        // SAFETY: the context is live; the module is owned by the result.
        let raw = unsafe { sys::mlirModuleCreateEmpty(sys::mlirLocationUnknownGet(context.raw())) };
        Self { raw, context }
    }

    /// Parses text or bytecode, and verifies it.
    ///
    /// # Errors
    /// [`Error::Parse`] with what the parser and the verifier said.
    pub fn parse(context: &'c Context, source: &[u8]) -> Result<Self, Error> {
        context.take_reports();
        let source = AlignedSource::new(source);
        let view = sys::MlirStringRef { data: source.as_ptr().cast(), length: source.len() };
        // SAFETY: the source is aligned, ends in a zero past its length, and lives during the call.
        let raw = unsafe { sys::mlirModuleCreateParse(context.raw(), view) };
        if raw.ptr.is_null() {
            return Err(Error::Parse(context.take_reports()));
        }
        Ok(Self { raw, context })
    }

    pub fn context(&self) -> &'c Context {
        self.context
    }

    pub fn op(&self) -> Op<'_> {
        // SAFETY: the module is live.
        Op::from_raw(unsafe { sys::mlirModuleGetOperation(self.raw) })
    }

    pub fn body(&self) -> Block<'_> {
        // SAFETY: the module is live.
        Block::from_raw(unsafe { sys::mlirModuleGetBody(self.raw) })
    }

    /// A builder that appends to the module's body.
    pub fn builder(&self) -> Builder<'_> {
        Builder::at_end(self.context.raw(), self.body())
    }

    /// The operation of the body that defines `symbol`.
    pub fn lookup(&self, symbol: &str) -> Option<Op<'_>> {
        self.body().ops().find(|op| op.symbol().as_deref() == Some(symbol))
    }

    /// # Errors
    /// [`Error::Verify`] with everything the verifier said.
    pub fn verify(&self) -> Result<(), Error> {
        self.context.take_reports();
        if self.op().verifies() { Ok(()) } else { Err(Error::Verify(self.context.take_reports())) }
    }

    /// The compact form that [`Module::parse`] also reads.
    pub fn to_bytecode(&self) -> Vec<u8> {
        // SAFETY: the module is live and writing does not change it.
        print_bytes_with(|callback, data| unsafe {
            sys::mlirOperationWriteBytecode(self.op().raw, callback, data);
        })
    }

    /// Runs passes given as text, such as `builtin.module(canonicalize,func.func(cse))`, verifying after each
    /// when `verify`.
    ///
    /// # Errors
    /// [`Error::Pipeline`] for text that names no pipeline, [`Error::Pass`] for what a pass reported.
    pub fn run(&mut self, pipeline: &str, verify: bool) -> Result<(), Error> {
        self.context.take_reports();
        let mut message = Vec::<u8>::new();
        // SAFETY: the pass manager is destroyed on every path; the module is live and borrowed mutably, so no
        // handle into it is left.
        let outcome = unsafe {
            let manager = sys::mlirPassManagerCreate(self.context.raw());
            sys::mlirPassManagerEnableVerifier(manager, verify);
            let parsed = sys::mlirParsePassPipeline(
                sys::mlirPassManagerGetAsOpPassManager(manager),
                string_ref(pipeline),
                Some(append),
                (&raw mut message).cast::<c_void>(),
            );
            let outcome = (parsed.value != 0).then(|| {
                sys::mlirPassManagerRunOnOp(manager, sys::mlirModuleGetOperation(self.raw)).value != 0
            });
            sys::mlirPassManagerDestroy(manager);
            outcome
        };
        match outcome {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Pass(self.context.take_reports())),
            None => Err(Error::Pipeline {
                pipeline: pipeline.to_owned(),
                message: String::from_utf8_lossy(&message).trim().to_owned(),
            }),
        }
    }

    /// Whether an error was reported since diagnostics were last taken; for callers of raw translations.
    pub(crate) fn errors(&self) -> Vec<crate::error::Diagnostic> {
        let mut reports = self.context.take_reports();
        reports.retain(|r| r.severity == Severity::Error);
        reports
    }
}

/// The module's text.
impl std::fmt::Display for Module<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.op().fmt(f)
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        // SAFETY: the module is owned here, and handles into it borrow it.
        unsafe { sys::mlirModuleDestroy(self.raw) };
    }
}

/// Source bytes at an address that the bytecode reader accepts, followed by a zero for the text lexer.
struct AlignedSource {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedSource {
    const ALIGNMENT: usize = 64;

    fn new(source: &[u8]) -> Self {
        let mut storage = vec![0u8; source.len() + Self::ALIGNMENT + 1];
        let start = storage.as_ptr().align_offset(Self::ALIGNMENT);
        storage[start..start + source.len()].copy_from_slice(source);
        Self { storage, start, length: source.len() }
    }

    fn as_ptr(&self) -> *const u8 {
        self.storage[self.start..].as_ptr()
    }

    fn len(&self) -> usize {
        self.length
    }
}
