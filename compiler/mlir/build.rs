//! Generates the `ired` dialect with `mlir-tblgen`, compiles the C++ shim, and links lld's ELF driver.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `mlir-tblgen` writes: file and generator.
const GENERATED: &[(&str, &str)] = &[
    ("IredDialect.h.inc", "-gen-dialect-decls"),
    ("IredDialect.cpp.inc", "-gen-dialect-defs"),
    ("IredTypes.h.inc", "-gen-typedef-decls"),
    ("IredTypes.cpp.inc", "-gen-typedef-defs"),
    ("IredOps.h.inc", "-gen-op-decls"),
    ("IredOps.cpp.inc", "-gen-op-defs"),
];

fn main() {
    // Cargo hands settings to build scripts through the environment, and only so.
    #[allow(clippy::disallowed_methods, reason = "a build script has no config.rs")]
    let setting = |name: &str| env::var(name).ok();
    let prefix =
        PathBuf::from(setting("MLIR_SYS_220_PREFIX").unwrap_or_else(|| "/usr/lib/llvm-22".to_owned()));
    let out = PathBuf::from(setting("OUT_DIR").expect("cargo sets OUT_DIR"));
    let include = prefix.join("include");

    for (file, generator) in GENERATED {
        generate(&prefix, &include, generator, &out.join(file));
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag("-fno-rtti")
        .flag("-fno-exceptions")
        .flag("-w")
        .warnings(false)
        .cargo_warnings(false)
        .define("NDEBUG", None)
        .opt_level(1)
        .debug(false)
        .include(&include)
        .include(&out)
        .include("shim")
        .file("shim/dialect.cpp")
        .file("shim/registration.cpp")
        .file("shim/lld.cpp")
        .compile("ired-mlir-shim");

    println!("cargo:rustc-link-search=native={}", prefix.join("lib").display());
    println!("cargo:rustc-link-lib=static=lldELF");
    println!("cargo:rustc-link-lib=static=lldCommon");
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed=MLIR_SYS_220_PREFIX");
}

fn generate(prefix: &Path, include: &Path, generator: &str, output: &Path) {
    let tool = prefix.join("bin/mlir-tblgen");
    let status = Command::new(&tool)
        .args([generator, "-dialect=ired", "-I"])
        .arg(include)
        .args(["shim/Ired.td", "-o"])
        .arg(output)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} {generator} ended with {status}", tool.display()),
        Err(error) => panic!("cannot run {}: {error}; `cargo xtask setup` installs it", tool.display()),
    }
}
