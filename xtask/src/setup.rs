//! Installs what building and testing need beyond Rust: LLVM and MLIR 22, a C++ compiler and a browser, as Debian
//! packages.
//!
//! Where these end up is said once, in `.cargo/config.toml`, so that plain `cargo build` works afterwards.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What is installed, and what for.
const PACKAGES: &[(&str, &str)] = &[
    ("build-essential", "C++ compiler and linker, for the MLIR shim"),
    ("llvm-22-dev", "LLVM: code generation"),
    ("libmlir-22-dev", "MLIR: dialects and passes"),
    ("mlir-22-tools", "mlir-tblgen, which generates the program dialect"),
    ("libpolly-22-dev", "part of LLVM's static libraries"),
    ("liblld-22-dev", "the linker as a library"),
    ("libclang1-22", "libclang, which bindgen reads the C API with"),
    ("clang-22", "C kernels in the drivers' tests"),
    ("lld-22", "linker for those"),
    ("libzstd-dev", "compression in LLVM"),
    ("zlib1g-dev", "compression in LLVM"),
    ("chromium", "the browser that tests of the web console drive"),
];

pub(crate) fn run() -> Result<()> {
    install(PACKAGES)
}

/// Installs what is missing of `packages`, each with what it is for.
pub(crate) fn install(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().map(|(name, _)| *name).filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        eprintln!("setup: every package is installed");
        return Ok(());
    }
    eprintln!("setup: installing");
    for (name, why) in packages.iter().filter(|(name, _)| missing.contains(name)) {
        eprintln!("  {name:<18} {why}");
    }
    if !exists("apt-get") {
        bail!(
            "setup installs Debian packages, and there is no `apt-get` here; install these by your own means, \
             LLVM and MLIR 22 under /usr/lib/llvm-22: {}",
            missing.join(" ")
        );
    }
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install).with_context(|| {
        format!("could not install {}: LLVM 22 needs Debian 12 or newer with its updates", missing.join(" "))
    })
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Runs apt-get, through sudo unless we are root.
fn apt(arguments: &[&str]) -> Result<()> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    let mut command = match (root, exists("sudo")) {
        (true, _) => Command::new("apt-get"),
        (false, true) => {
            let mut sudo = Command::new("sudo");
            sudo.arg("apt-get");
            sudo
        }
        (false, false) => {
            bail!("installing packages needs root: run `cargo xtask setup` as root, or install `sudo`")
        }
    };
    let status =
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments).stdin(Stdio::null()).status();
    match status.context("cannot run `apt-get`")?.success() {
        true => Ok(()),
        false => bail!("`apt-get {}` failed", arguments.join(" ")),
    }
}
