//! CPUs: what one can do, how IR is lowered for it, how an object is made.

mod architecture;
mod emit;
mod features;
mod lower;

pub(crate) use architecture::Isa;
pub use emit::compile_executable;
pub use features::{CpuTarget, TargetError};
pub(crate) use lower::SCALAR_LOOPS;
