//! Code that a device can run: an image with named entries, checked and made ready once.

use std::any::Any;
use std::error::Error;
use std::fmt::Debug;

/// Code made ready for one device. Command buffers refer to its entries by index.
pub trait Executable: Any + Debug + Send + Sync {
    /// Names of the entries, in the order of [`ExecutableSource::entries`].
    fn entries(&self) -> &[String];
}

/// What the compiler made for one target.
#[derive(Clone, Copy, Debug)]
pub struct ExecutableSource<'a> {
    /// For messages and profiles.
    pub name: &'a str,
    /// What the image was compiled for: `x86_64-linux`…
    pub triple: &'a str,
    /// LLVM names of the features that the code uses and the machine must have.
    pub features: &'a [String],
    pub image: &'a [u8],
    /// Symbols of the kernels; their positions become entry indices.
    pub entries: &'a [String],
}

/// Why an image cannot run on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    #[error("executable is for `{found}`; this device runs `{expected}`")]
    WrongTarget { found: String, expected: String },
    #[error("executable needs features that this device lacks: {}", .missing.join(", "))]
    MissingFeatures { missing: Vec<String> },
    #[error("image has no kernel `{name}`")]
    MissingEntry { name: String },
    #[error("image is not a valid executable")]
    InvalidImage(#[source] Box<dyn Error + Send + Sync>),
    #[error("the system refused memory for code")]
    System(#[source] std::io::Error),
}
