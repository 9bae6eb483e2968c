//! Executables: an embedded ELF image, and the addresses of its kernels.

#![allow(unsafe_code, reason = "turns addresses of loaded code into functions")]

use std::any::Any;
use std::sync::Arc;

use ired_hal::{Executable, ExecutableSource, PrepareError};

use crate::features::{host_triple, missing_features};
use crate::loader::LoadedImage;

/// Runs one workgroup: addresses of the bindings, constants, and x, y, z of the workgroup.
pub(crate) type Kernel = unsafe extern "C" fn(*const *mut u8, *const i64, u32, u32, u32);

#[derive(Debug)]
pub(crate) struct CpuExecutable {
    names: Vec<String>,
    /// The names again, for programs to share.
    pub(crate) labels: Vec<Arc<str>>,
    /// Valid while `_image` is.
    pub(crate) kernels: Vec<Kernel>,
    _image: LoadedImage,
}

impl CpuExecutable {
    pub(crate) fn new(source: &ExecutableSource<'_>, features: &[String]) -> Result<Self, PrepareError> {
        let expected = host_triple();
        if source.triple != expected {
            return Err(PrepareError::WrongTarget { found: source.triple.into(), expected });
        }
        let missing = missing_features(source.features, features);
        if !missing.is_empty() {
            return Err(PrepareError::MissingFeatures { missing });
        }
        let image = LoadedImage::load(source.image).map_err(|e| PrepareError::InvalidImage(Box::new(e)))?;
        let find = |name: &String| {
            let address = image.function(name);
            let address = address.ok_or_else(|| PrepareError::MissingEntry { name: name.clone() })?;
            // SAFETY: a non-null address in executable memory. That what stands there is a function of this type is
            // the compiler's promise, and what confines a broken one is the process.
            Ok(unsafe { std::mem::transmute::<*const u8, Kernel>(address) })
        };
        let kernels = source.entries.iter().map(find).collect::<Result<_, PrepareError>>()?;
        let labels = source.entries.iter().map(|name| name.as_str().into()).collect();
        Ok(Self { names: source.entries.to_vec(), labels, kernels, _image: image })
    }

    /// The executable behind the interface. Validation has seen that it is one of ours.
    pub(crate) fn of(executable: &dyn Executable) -> &Self {
        (executable as &dyn Any).downcast_ref().expect("validation admits only this driver's executables")
    }
}

impl Executable for CpuExecutable {
    fn entries(&self) -> &[String] {
        &self.names
    }
}
