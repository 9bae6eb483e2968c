//! Executables: Rust closures found by name. The image is not looked at.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use ired_hal::{Executable, HostAccessError};

use crate::View;

/// Runs one workgroup.
pub type Kernel = Arc<dyn Fn(Workgroup<'_>) -> Result<(), HostAccessError> + Send + Sync>;

/// What one call of a kernel is given.
#[derive(Clone, Copy, Debug)]
pub struct Workgroup<'a> {
    pub bindings: &'a [View<'a>],
    pub constants: &'a [i64],
    /// x, y and z of this workgroup.
    pub id: [u32; 3],
}

pub(crate) struct TemplateExecutable {
    pub(crate) names: Vec<String>,
    pub(crate) kernels: Vec<Kernel>,
}

impl TemplateExecutable {
    pub(crate) fn of(executable: &dyn Executable) -> &Self {
        (executable as &dyn Any).downcast_ref().expect("validation admits only this driver's executables")
    }
}

impl Executable for TemplateExecutable {
    fn entries(&self) -> &[String] {
        &self.names
    }
}

impl Debug for TemplateExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemplateExecutable{:?}", self.names)
    }
}
