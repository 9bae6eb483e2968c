//! CPU features by their LLVM names: what this machine has, and what code needs that it lacks.
//!
//! A feature counts only when the operating system saves the registers it uses. A name that is not known here is
//! missing: better a named error than an illegal instruction.

/// LLVM names of the features this machine has, sorted.
pub fn host_features() -> Vec<String> {
    let mut names: Vec<String> = detect().into_iter().map(String::from).collect();
    names.sort();
    names
}

/// Which of `required` a machine that has `present` lacks. A leading `+` is allowed; a name that starts with `-` asks for
/// nothing.
pub fn missing_features(required: &[String], present: &[String]) -> Vec<String> {
    let name = |feature: &String| feature.strip_prefix('+').unwrap_or(feature).to_owned();
    let wanted = required.iter().filter(|feature| !feature.is_empty() && !feature.starts_with('-')).map(name);
    wanted.filter(|name| !present.contains(name)).collect()
}

/// `x86_64-linux` and so on: what executables for this machine are compiled for.
pub fn host_triple() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
use x86_64::detect;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
use aarch64::detect;

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "riscv64")]
use riscv64::detect;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
fn detect() -> Vec<&'static str> {
    vec![]
}
