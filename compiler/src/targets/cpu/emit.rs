//! From an executable of the program to an object file.

use ired_mlir::{Context, Error, Machine, Module};

use super::CpuTarget;
use super::lower::{ANY_TO_LLVM, LIGHT, SCALAR_LOOPS, TO_LLVM, VECTORISE, is_lean};

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
    let lean = module.op().walk().into_iter().all(|op| is_lean(&op.name()));
    module.run(if lean { TO_LLVM } else { ANY_TO_LLVM }, false)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_written_by_hand_may_use_linalg() {
        let source = r#"
        ired.executable @exe {
          func.func @f(%x: memref<8xf32>, %y: memref<8xf32>) {
            linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
              ins(%x : memref<8xf32>) outs(%y : memref<8xf32>) {
            ^bb0(%a: f32, %b: f32):
              %s = arith.addf %a, %a : f32
              linalg.yield %s : f32
            }
            return
          }
        }"#;
        let target = CpuTarget::parse("x86_64-linux").unwrap();
        let object = compile_executable(source.as_bytes(), &target).unwrap();
        assert_eq!(&object[..4], b"\x7fELF");
    }
}
