//! x86-64 features: one table of CPUID bits, by LLVM's names.
//!
//! Source: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.

#![allow(unsafe_code, reason = "reads CPU identification registers")]

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

#[derive(Clone, Copy)]
enum Register {
    A,
    B,
    C,
    D,
}
use Register::{A, B, C, D};

/// Registers that the operating system must save for a feature to be usable.
#[derive(Clone, Copy)]
enum Saved {
    /// Those every 64-bit system saves.
    Base,
    /// ymm.
    Avx,
    /// zmm and mask registers.
    Avx512,
    /// Tiles, once the process has asked for them.
    Amx,
}
use Saved::{Amx, Avx, Avx512, Base};

/// Leaf, subleaf, register, bit.
type Bit = (u32, u32, Register, u32);

const FEATURES: &[(&str, Bit, Saved)] = &[
    ("x87", (1, 0, D, 0), Base),
    ("cx8", (1, 0, D, 8), Base),
    ("cmov", (1, 0, D, 15), Base),
    ("mmx", (1, 0, D, 23), Base),
    ("fxsr", (1, 0, D, 24), Base),
    ("sse", (1, 0, D, 25), Base),
    ("sse2", (1, 0, D, 26), Base),
    ("sse3", (1, 0, C, 0), Base),
    ("pclmul", (1, 0, C, 1), Base),
    ("ssse3", (1, 0, C, 9), Base),
    ("fma", (1, 0, C, 12), Avx),
    ("cx16", (1, 0, C, 13), Base),
    ("sse4.1", (1, 0, C, 19), Base),
    ("sse4.2", (1, 0, C, 20), Base),
    ("crc32", (1, 0, C, 20), Base),
    ("movbe", (1, 0, C, 22), Base),
    ("popcnt", (1, 0, C, 23), Base),
    ("aes", (1, 0, C, 25), Base),
    ("xsave", (1, 0, C, 27), Base),
    ("avx", (1, 0, C, 28), Avx),
    ("f16c", (1, 0, C, 29), Avx),
    ("rdrnd", (1, 0, C, 30), Base),
    ("fsgsbase", (7, 0, B, 0), Base),
    ("bmi", (7, 0, B, 3), Base),
    ("avx2", (7, 0, B, 5), Avx),
    ("bmi2", (7, 0, B, 8), Base),
    ("invpcid", (7, 0, B, 10), Base),
    ("rtm", (7, 0, B, 11), Base),
    ("avx512f", (7, 0, B, 16), Avx512),
    ("evex512", (7, 0, B, 16), Avx512),
    ("avx512dq", (7, 0, B, 17), Avx512),
    ("rdseed", (7, 0, B, 18), Base),
    ("adx", (7, 0, B, 19), Base),
    ("avx512ifma", (7, 0, B, 21), Avx512),
    ("clflushopt", (7, 0, B, 23), Base),
    ("clwb", (7, 0, B, 24), Base),
    ("avx512cd", (7, 0, B, 28), Avx512),
    ("sha", (7, 0, B, 29), Base),
    ("avx512bw", (7, 0, B, 30), Avx512),
    ("avx512vl", (7, 0, B, 31), Avx512),
    ("avx512vbmi", (7, 0, C, 1), Avx512),
    ("pku", (7, 0, C, 4), Base),
    ("waitpkg", (7, 0, C, 5), Base),
    ("avx512vbmi2", (7, 0, C, 6), Avx512),
    ("shstk", (7, 0, C, 7), Base),
    ("gfni", (7, 0, C, 8), Base),
    ("vaes", (7, 0, C, 9), Avx),
    ("vpclmulqdq", (7, 0, C, 10), Avx),
    ("avx512vnni", (7, 0, C, 11), Avx512),
    ("avx512bitalg", (7, 0, C, 12), Avx512),
    ("avx512vpopcntdq", (7, 0, C, 14), Avx512),
    ("rdpid", (7, 0, C, 22), Base),
    ("kl", (7, 0, C, 23), Base),
    ("cldemote", (7, 0, C, 25), Base),
    ("movdiri", (7, 0, C, 27), Base),
    ("movdir64b", (7, 0, C, 28), Base),
    ("enqcmd", (7, 0, C, 29), Base),
    ("uintr", (7, 0, D, 5), Base),
    ("avx512vp2intersect", (7, 0, D, 8), Avx512),
    ("serialize", (7, 0, D, 14), Base),
    ("tsxldtrk", (7, 0, D, 16), Base),
    ("pconfig", (7, 0, D, 18), Base),
    ("amx-bf16", (7, 0, D, 22), Amx),
    ("avx512fp16", (7, 0, D, 23), Avx512),
    ("amx-tile", (7, 0, D, 24), Amx),
    ("amx-int8", (7, 0, D, 25), Amx),
    ("sha512", (7, 1, A, 0), Avx),
    ("sm3", (7, 1, A, 1), Avx),
    ("sm4", (7, 1, A, 2), Avx),
    ("raoint", (7, 1, A, 3), Base),
    ("avxvnni", (7, 1, A, 4), Avx),
    ("avx512bf16", (7, 1, A, 5), Avx512),
    ("cmpccxadd", (7, 1, A, 7), Base),
    ("hreset", (7, 1, A, 22), Base),
    ("avxifma", (7, 1, A, 23), Avx),
    ("movrs", (7, 1, A, 31), Base),
    ("avxvnniint8", (7, 1, D, 4), Avx),
    ("avxneconvert", (7, 1, D, 5), Avx),
    ("avxvnniint16", (7, 1, D, 10), Avx),
    ("prefetchi", (7, 1, D, 14), Base),
    ("usermsr", (7, 1, D, 15), Base),
    ("xsaveopt", (0xd, 1, A, 0), Base),
    ("xsavec", (0xd, 1, A, 1), Base),
    ("xsaves", (0xd, 1, A, 3), Base),
    ("ptwrite", (0x14, 0, B, 4), Base),
    ("sahf", (0x8000_0001, 0, C, 0), Base),
    ("lzcnt", (0x8000_0001, 0, C, 5), Base),
    ("sse4a", (0x8000_0001, 0, C, 6), Base),
    ("prfchw", (0x8000_0001, 0, C, 8), Base),
    ("xop", (0x8000_0001, 0, C, 11), Avx),
    ("lwp", (0x8000_0001, 0, C, 15), Base),
    ("fma4", (0x8000_0001, 0, C, 16), Avx),
    ("tbm", (0x8000_0001, 0, C, 21), Base),
    ("mwaitx", (0x8000_0001, 0, C, 29), Base),
    ("64bit", (0x8000_0001, 0, D, 29), Base),
    ("clzero", (0x8000_0008, 0, B, 0), Base),
    ("rdpru", (0x8000_0008, 0, B, 4), Base),
    ("wbnoinvd", (0x8000_0008, 0, B, 9), Base),
];

pub(super) fn detect() -> Vec<&'static str> {
    let saved = saved_registers();
    let tiles = saved & TILES == TILES && may_use_tiles();
    let usable = |needs: Saved| match needs {
        Base => true,
        Avx => saved & 0b110 == 0b110,
        Avx512 => saved & 0b1110_0110 == 0b1110_0110,
        Amx => tiles,
    };
    let present = FEATURES.iter().filter(|(_, bit, needs)| usable(*needs) && is_set(*bit));
    present.map(|(name, ..)| *name).collect()
}

/// Their configuration and their data, in XCR0.
const TILES: u64 = 0b11 << 17;

/// Asks the system for tiles, once: their registers are so big that Linux gives them only to processes that do.
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| {
        // SAFETY: the call takes two numbers and touches no memory of this process.
        let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) };
        result == 0
    })
}

fn is_set((leaf, subleaf, register, bit): Bit) -> bool {
    let highest = __cpuid(leaf & 0x8000_0000).eax;
    if leaf > highest || (leaf == 7 && subleaf > __cpuid_count(7, 0).eax) {
        return false;
    }
    let words = __cpuid_count(leaf, subleaf);
    let word = match register {
        A => words.eax,
        B => words.ebx,
        C => words.ecx,
        D => words.edx,
    };
    word >> bit & 1 == 1
}

/// XCR0: one bit for each set of registers that the operating system saves.
fn saved_registers() -> u64 {
    const OSXSAVE: Bit = (1, 0, C, 27);
    if !is_set(OSXSAVE) {
        return 0;
    }
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: OSXSAVE says that the instruction is there and may be used.
    unsafe { read() }
}
