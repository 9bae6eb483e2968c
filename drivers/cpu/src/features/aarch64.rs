//! AArch64 features, by LLVM's names; and the least lengths of SVE's registers, which have names here.

#![allow(unsafe_code, reason = "asks the system how long registers are")]

use std::arch::is_aarch64_feature_detected as has;

/// What this machine has.
pub(super) fn detect() -> Vec<&'static str> {
    let table = [
        ("neon", has!("neon")),
        ("fp-armv8", has!("fp")),
        ("fullfp16", has!("fp16")),
        ("fp16fml", has!("fhm")),
        ("dotprod", has!("dotprod")),
        ("i8mm", has!("i8mm")),
        ("bf16", has!("bf16")),
        ("sve", has!("sve")),
        ("sve2", has!("sve2")),
        ("lse", has!("lse")),
        ("crc", has!("crc")),
        ("aes", has!("aes")),
        ("sha2", has!("sha2")),
        ("sha3", has!("sha3")),
        ("rdm", has!("rdm")),
        ("rcpc", has!("rcpc")),
        ("jsconv", has!("jsconv")),
        ("complxnum", has!("fcma")),
        ("fptoint", has!("frintts")),
        ("ccpp", has!("dpb")),
        ("ccdp", has!("dpb2")),
        ("flagm", has!("flagm")),
        ("ssbs", has!("ssbs")),
        ("sb", has!("sb")),
        ("bti", has!("bti")),
        ("pauth", has!("paca")),
        ("rand", has!("rand")),
        ("mte", has!("mte")),
        ("sve256", sve_bits() >= 256),
        ("sve512", sve_bits() >= 512),
    ];
    table.into_iter().filter_map(|(name, present)| present.then_some(name)).collect()
}

/// Of this thread, and of those that it starts; 0 without SVE.
fn sve_bits() -> usize {
    const PR_SVE_GET_VL: libc::c_int = 51;
    const LENGTH: libc::c_int = 0xffff;
    if !has!("sve") {
        return 0;
    }
    // SAFETY: changes nothing.
    let answer = unsafe { libc::prctl(PR_SVE_GET_VL) };
    usize::try_from(answer & LENGTH).map_or(0, |bytes| 8 * bytes)
}
