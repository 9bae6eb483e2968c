//! A real executable for tests: a few kernels in C, compiled when first asked for.
//!
//! Needs `clang-22` and `ld.lld-22`, which `cargo xtask setup` installs. Panics without them: only tests call this.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use ired_hal::conformance::Kernels;

use crate::features::host_triple;

const SOURCE: &str = include_str!("test_support/kernels.c");

/// The kernels of [`ired_hal::conformance`] as an executable for this machine.
pub fn kernels() -> Kernels {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| link(SOURCE, &[])).clone();
    Kernels { triple: host_triple(), features: vec![], image }
}

/// Compiles C source to an image, with more arguments for the compiler.
///
/// # Panics
/// When the compiler is missing or refuses.
pub fn link(source: &str, arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, output) = (folder.path().join("kernels.c"), folder.path().join("kernels.so"));
    std::fs::write(&input, source).expect("a temporary file");
    let compiler =
        ["/usr/bin/clang-22", "/usr/lib/llvm-22/bin/clang"].into_iter().find(|p| Path::new(p).exists());
    let compiler = compiler.expect("clang-22 is not installed; run `cargo xtask setup`");
    let flags = ["-O2", "-std=c17", "-ffreestanding", "-nostdlib", "-fno-builtin", "-fPIC", "-shared"];
    let run = Command::new(compiler)
        .args(flags)
        .args(["-fvisibility=hidden", "-fno-stack-protector", "-fuse-ld=lld"])
        .args(arguments)
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .output()
        .expect("the compiler starts");
    assert!(run.status.success(), "clang: {}", String::from_utf8_lossy(&run.stderr));
    std::fs::read(&output).expect("the compiler wrote its output")
}
