//! The wire: what a client can ask of the daemon, as generated types and service stubs.
//!
//! [`inference`] is the KServe v2 protocol with Triton's extensions, whose names and numbers are not ours to
//! change; [`ired::v1`] is what the daemon offers beyond it. This crate holds no behaviour but the bound on what a
//! message unfolds to.

pub mod codec;

/// `inference.GRPCInferenceService`: KServe v2 and Triton's extensions.
#[allow(clippy::all, clippy::allow_attributes_without_reason, missing_docs, reason = "generated code")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The daemon's own services.
pub mod ired {
    /// Version 1: models, compilation, devices, traces, activity.
    #[allow(clippy::all, clippy::allow_attributes_without_reason, missing_docs, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("ired.v1");
    }
}

/// Every service and message as an encoded `FileDescriptorSet`: what server reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ired_descriptor.bin"));
