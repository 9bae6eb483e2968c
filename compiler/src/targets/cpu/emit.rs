//! From an executable of the program to an object file.

use ired_mlir::{Context, Error, Machine, Module};

use super::CpuTarget;
use super::lower::{LIGHT, SCALAR_LOOPS, TO_LLVM, VECTORISE};

/// Compiles one executable, as text or bytecode, to an ELF object whose functions follow the kernel ABI.
///
/// `source` is a module that holds kernels directly, or `ired.executable`s that hold them. Uses a context of its
/// own: several threads may compile at once. May end the process on errors inside LLVM (see `ired_mlir`).
///
/// # Errors
/// What parsing, lowering and code generation report.
pub fn compile_executable(source: &[u8], target: &CpuTarget) -> Result<Vec<u8>, Error> {
    let context = Context::new();
    let mut module = Module::parse(&context, source)?;
    let scalar_loops = flatten(&module);
    module.run(TO_LLVM, false)?;
    let machine = Machine::new(&target.spec())?;
    machine.emit_object(&module, if scalar_loops { VECTORISE } else { LIGHT })
}

/// Moves kernels out of their executables; whether any asks for LLVM's loop vectoriser.
fn flatten(module: &Module<'_>) -> bool {
    for executable in module.body().ops().filter(|op| op.is("ired.executable")).collect::<Vec<_>>() {
        let Some(body) = executable.region(0).first_block() else { continue };
        for op in body.ops().collect::<Vec<_>>() {
            op.move_before(executable);
        }
        executable.erase();
    }
    let mut scalar_loops = false;
    for op in module.body().ops() {
        if op.attribute(SCALAR_LOOPS).is_some() {
            op.remove_attribute(SCALAR_LOOPS);
            scalar_loops = true;
        }
    }
    scalar_loops
}
