//! Rust client of the daemon: what `irectl` calls, and what a Rust program that offloads work calls.
//!
//! [`Client`] speaks the inference protocol for health, inference and loading, and `ired.v1` for uploads,
//! compilation, modules and devices. It knows the wire and nothing of how the daemon does its work; types of
//! the wire that need no better form are given as they are, under [`proto`].

mod compile;
mod connect;
mod credentials;
mod error;
mod infer;
mod models;
mod observe;
mod tensor;
mod upload;
mod version;

pub use compile::{CompileEvents, CompileOutcome, ModuleInfo};
pub use connect::Client;
pub use credentials::Credentials;
pub use error::ClientError;
pub use infer::{InferRequest, InferResponse, InferResponses};
pub use tensor::{DataType, Tensor, UnknownDataType};
pub use upload::{Upload, UploadFile, UploadProgress};
pub use version::Version;

/// The wire's own types, for those this crate hands through: models, devices, compile events, diagnostics, traces.
pub mod proto {
    pub use ired_proto::inference::{
        ModelMetadataResponse, ModelStatistics, ServerMetadataResponse,
        model_metadata_response::TensorMetadata,
    };
    pub use ired_proto::ired::v1::{
        CompileEvent, Device, Diagnostic, GetActivityResponse, LoadedModule, Model, ModelActivity, ModelRef,
        PhaseTime, ProfileModelRequest, ProfileModelResponse, ProfiledDispatch, SandboxLayer, Target, Trace,
        TraceAttribute, TraceSpan, TraceSummary, UploadModelResponse, WorkerProcess, compile_event,
        diagnostic, model, trace_attribute,
    };
}
