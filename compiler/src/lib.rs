//! The compiler: a model in, a module out, through named phases.
//!
//! It reads models through frontends, rewrites their graph, and from dispatch formation on holds one MLIR module
//! with the host's schedule and every kernel. It knows nothing of how modules are run.

pub mod dispatch;
mod errors;
mod executables;
mod explain;
pub mod kernels;
mod module;
mod names;
pub mod passes;
mod phases;
mod program;
mod rows;
mod schedule;
pub mod targets;
pub mod tuning;
mod weights;
mod work;

/// Version and build, as modules name it: the build is a digest of the compiler's own sources.
pub const COMPILER: &str = concat!("ired ", env!("CARGO_PKG_VERSION"), "+", env!("IRED_COMPILER_SOURCES"));

pub use errors::{CompileError, Diagnostic, DiagnosticKind};
pub use executables::{MemoryCache, ObjectCache};
pub use explain::Explain;
pub use ired_frontends::{InputShape, ModelSource, SiblingName, SourceError};
pub use phases::{Observer, Options, Outcome, Phase, Unobserved, compile, compile_graph};
