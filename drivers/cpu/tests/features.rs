//! CPU features are those that LLVM itself finds on this machine.

use std::process::Command;

use ired_driver_cpu::features::{host_features, missing_features};

#[test]
#[cfg(target_arch = "x86_64")]
fn agree_with_llvm() {
    let run = Command::new("/usr/bin/clang-22")
        .args(["-march=native", "-###", "-c", "-x", "c", "/dev/null"])
        .output();
    let run = run.expect("clang-22 is installed by `cargo xtask setup`");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let words: Vec<&str> = said.split_whitespace().map(|word| word.trim_matches('"')).collect();
    let features =
        words.windows(2).filter(|pair| pair[0] == "-target-feature").map(|pair| pair[1].to_owned());
    // Tiles are not saved until a process asks for that, and no code uses them that was not written to.
    let features: Vec<String> = features.filter(|feature| !feature.contains("amx-")).collect();
    assert!(features.len() > 20, "{said}");

    let host = host_features();
    assert_eq!(missing_features(&features, &host), [] as [&str; 0], "LLVM may use these here");
    let denied = features.iter().filter_map(|feature| feature.strip_prefix('-'));
    let wrong: Vec<&str> = denied.filter(|name| host.iter().any(|found| found == name)).collect();
    assert_eq!(wrong, [] as [&str; 0], "LLVM does not find these here");
}

#[test]
fn what_nobody_knows_is_missing() {
    let required = ["+tea", "coffee", "-milk", "", "avx2"].map(String::from);
    assert_eq!(missing_features(&required, &["avx2".to_owned()]), ["tea", "coffee"]);
}
