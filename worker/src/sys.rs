//! The system calls that need `unsafe` outside the sandbox: mapping memory, watching descriptors, closing what was
//! inherited.

mod inherited;
pub(crate) mod mapping;
mod watched;

pub(crate) use inherited::close_inherited_files;
pub use mapping::MappedFile;
pub(crate) use watched::watched;
