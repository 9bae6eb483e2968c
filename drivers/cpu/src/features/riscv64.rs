//! RISC-V features, by LLVM's names: one table of what the system tells.

#![allow(unsafe_code, reason = "asks the system, and reads a register")]

/// Beyond the letters of the base, their bits in what the system answers.
const EXTENSIONS: &[(&str, u32)] = &[
    ("f", 0),
    ("d", 0),
    ("c", 1),
    ("v", 2),
    ("zba", 3),
    ("zbb", 4),
    ("zbs", 5),
    ("zfh", 27),
    ("zfhmin", 28),
    ("zvfh", 30),
    ("zvfhmin", 31),
];

/// What this machine has. Older systems (before Linux 6.4) tell single letters only.
pub(super) fn detect() -> Vec<&'static str> {
    let mut names = vec!["i", "m", "a"];
    match probe() {
        Some(bits) => {
            names.extend(EXTENSIONS.iter().filter(|(_, bit)| bits >> bit & 1 == 1).map(|(name, _)| *name))
        }
        None => {
            let (letters, _) = rustix::param::linux_hwcap();
            let letter = |name: &str| name.bytes().next().filter(|_| name.len() == 1).map(|byte| byte - b'a');
            let told = |name: &str| letter(name).is_some_and(|bit| letters >> bit & 1 == 1);
            names.extend(EXTENSIONS.iter().map(|(name, _)| *name).filter(|name| told(name)));
        }
    }
    if names.contains(&"v") {
        let bits = register_bits();
        let lengths = [("zvl128b", 128), ("zvl256b", 256), ("zvl512b", 512)];
        names.extend(lengths.into_iter().filter(|(_, least)| bits >= *least).map(|(name, _)| name));
    }
    names
}

/// The extensions that all processors have, as the system tells them.
fn probe() -> Option<u64> {
    const SYS_RISCV_HWPROBE: libc::c_long = 258;
    const KEY_IMA_EXT_0: i64 = 4;
    #[repr(C)]
    struct Pair {
        key: i64,
        value: u64,
    }
    let mut pair = Pair { key: KEY_IMA_EXT_0, value: 0 };
    // SAFETY: the pair is live and of the system's form; no set of processors means all of them.
    let answer = unsafe { libc::syscall(SYS_RISCV_HWPROBE, &raw mut pair, 1_usize, 0_usize, 0_usize, 0_u32) };
    // A key that the system does not know becomes -1.
    (answer == 0 && pair.key == KEY_IMA_EXT_0).then_some(pair.value)
}

/// Of a vector register.
fn register_bits() -> usize {
    let bytes: usize;
    // SAFETY: reads a constant of machines with vectors, which this one is.
    unsafe { std::arch::asm!("csrr {}, 0xc22", out(reg) bytes, options(nomem, nostack, preserves_flags)) };
    8 * bytes
}
