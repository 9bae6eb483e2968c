//! `cargo xtask conformance`: public test suites through `irectl verify`, held against lists of known failures; public
//! clients of the protocol; kernels for other machines; and an S3 server.

mod cross;
mod expectations;
mod onnx;
mod protocol;
mod table;

use anyhow::Result;

use crate::under_load::Trial;

#[derive(clap::Subcommand)]
pub(crate) enum Conformance {
    /// Two daemons that share modules in an S3 server, with what may go wrong on the way
    Cache(Trial),
    /// The ONNX backend suite, every case as it is and with all input sizes symbolic
    Onnx(onnx::Onnx),
    /// Kernels for AArch64 and RISC-V, on an emulator
    Cross(cross::Cross),
    /// Triton's Python clients, and requests that are made up from the OpenAPI document
    Protocol(protocol::Protocol),
}

pub(crate) fn run(suite: &Conformance) -> Result<()> {
    match suite {
        Conformance::Cache(trial) => trial.replicas(),
        Conformance::Onnx(onnx) => onnx.run(),
        Conformance::Cross(cross) => cross.run(),
        Conformance::Protocol(protocol) => protocol.run(),
    }
}

/// Where the ONNX suite is once it was exported.
pub(crate) fn suite_folder() -> Result<std::path::PathBuf> {
    onnx::folder()
}

/// A test case and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct CaseResult {
    pub(crate) name: String,
    /// The operator that the case tests, and the operator set it asks for.
    pub(crate) op: String,
    pub(crate) opset: i64,
    /// As `irectl verify` names it; `pass` is right.
    pub(crate) outcome: String,
    pub(crate) detail: String,
    pub(crate) seconds: f64,
}

impl CaseResult {
    pub(crate) fn passes(&self) -> bool {
        self.outcome == "pass"
    }
}
