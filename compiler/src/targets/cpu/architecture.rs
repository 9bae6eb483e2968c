//! The architectures that code is generated for, as data: their features by LLVM's names, and what follows from them.

/// Whose instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    X86_64,
    Aarch64,
    Riscv64,
}

/// A feature's name, and those of the features that come along with it.
pub(super) type Feature = (&'static str, &'static [&'static str]);

/// An instruction set architecture.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Architecture {
    pub(super) isa: Isa,
    /// With the system, as modules say it.
    pub(super) triple: &'static str,
    pub(super) llvm_triple: &'static str,
    /// More that users may write for it.
    pub(super) aliases: &'static [&'static str],
    /// Always part of a target, so that no kernel needs a library for rounding, a fused multiply or f16.
    pub(super) baseline: &'static [&'static str],
    /// What there may be beyond that, with what comes along.
    pub(super) optional: &'static [Feature],
    /// Usual names for features beyond the baseline.
    pub(super) levels: &'static [Feature],
    /// Of the baseline.
    pub(super) registers: Registers,
    /// Features that make registers wider than that; the widest first.
    pub(super) wider: &'static [(&'static str, Registers)],
}

/// Vector registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Registers {
    pub(super) bits: usize,
    pub(super) count: usize,
    /// LLVM's name of a processor that has these, which decides scheduling.
    pub(super) cpu: &'static str,
}

const fn registers(bits: usize, count: usize, cpu: &'static str) -> Registers {
    Registers { bits, count, cpu }
}

/// Features that LLVM doesn't name: it is told how long SVE's registers are at least.
pub(super) const SVE_LENGTHS: &[&str] = &["sve256", "sve512"];

/// Together: 32 registers of 512 bits, masks, and every element width.
const AVX512: &[&str] = &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"];

/// x86-64-v3 and up.
static X86_64: Architecture = Architecture {
    isa: Isa::X86_64,
    triple: "x86_64-linux",
    llvm_triple: "x86_64-unknown-linux-gnu",
    aliases: &["x86_64-linux-gnu"],
    baseline: &[
        "avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse3", "sse4.1",
        "sse4.2", "ssse3",
    ],
    optional: &[
        ("amx-bf16", &[]),
        ("amx-int8", &[]),
        ("amx-tile", &[]),
        ("avx512bf16", AVX512),
        ("avx512bw", AVX512),
        ("avx512cd", AVX512),
        ("avx512dq", AVX512),
        ("avx512f", AVX512),
        ("avx512vbmi", AVX512),
        ("avx512vl", AVX512),
        ("avx512vnni", AVX512),
        ("avxvnni", &[]),
    ],
    levels: &[("x86-64-v3", &[]), ("x86-64-v4", AVX512)],
    registers: registers(256, 16, "x86-64-v3"),
    wider: &[("avx512f", registers(512, 32, "x86-64-v4"))],
};

/// Armv8-A and up.
static AARCH64: Architecture = Architecture {
    isa: Isa::Aarch64,
    triple: "aarch64-linux",
    llvm_triple: "aarch64-unknown-linux-gnu",
    aliases: &["aarch64-linux-gnu"],
    baseline: &["fp-armv8", "neon"],
    optional: &[
        ("bf16", &[]),
        ("dotprod", &[]),
        ("fullfp16", &[]),
        ("i8mm", &[]),
        ("sve", &["fullfp16"]),
        ("sve2", &["fullfp16", "sve"]),
        ("sve256", &["fullfp16", "sve"]),
        ("sve512", &["fullfp16", "sve", "sve256"]),
    ],
    levels: &[
        ("armv8-a", &[]),
        ("armv8.4-a", &["dotprod", "fullfp16"]),
        ("armv8.6-a", &["bf16", "dotprod", "fullfp16", "i8mm"]),
        ("armv9.1-a", &["bf16", "dotprod", "fullfp16", "i8mm", "sve", "sve2"]),
    ],
    registers: registers(128, 32, "generic"),
    wider: &[("sve512", registers(512, 32, "generic")), ("sve256", registers(256, 32, "generic"))],
};

/// RVA22 with its optional vectors, and up.
static RISCV64: Architecture = Architecture {
    isa: Isa::Riscv64,
    triple: "riscv64-linux",
    llvm_triple: "riscv64-unknown-linux-gnu",
    aliases: &["riscv64-linux-gnu", "riscv64gc-unknown-linux-gnu"],
    baseline: &["a", "c", "d", "f", "m", "v", "zba", "zbb", "zbs", "zfhmin"],
    optional: &[
        ("zfh", &[]),
        ("zvfh", &["zvfhmin"]),
        ("zvfhmin", &[]),
        ("zvl256b", &[]),
        ("zvl512b", &["zvl256b"]),
    ],
    levels: &[("rva22u64", &[]), ("rva23u64", &["zvfhmin"])],
    registers: registers(128, 32, "generic-rv64"),
    wider: &[
        ("zvl512b", registers(512, 32, "generic-rv64")),
        ("zvl256b", registers(256, 32, "generic-rv64")),
    ],
};

static ARCHITECTURES: [&Architecture; 3] = [&X86_64, &AARCH64, &RISCV64];

impl Architecture {
    /// By its triple, another name of that, or one of its levels; and what the name says beyond the baseline.
    pub(super) fn named(name: &str) -> Option<(&'static Self, &'static [&'static str])> {
        ARCHITECTURES.iter().find_map(|architecture| {
            let level = architecture.levels.iter().find(|(level, _)| *level == name);
            let is_triple = [architecture.triple, architecture.llvm_triple].contains(&name);
            let is_named = is_triple || architecture.aliases.contains(&name);
            level
                .map(|(_, features)| *features)
                .or(is_named.then_some(&[][..]))
                .map(|more| (*architecture, more))
        })
    }

    pub(super) fn registers(&self, has: impl Fn(&str) -> bool) -> Registers {
        self.wider
            .iter()
            .find(|(feature, _)| has(feature))
            .map_or(self.registers, |(_, registers)| *registers)
    }

    /// A feature with what comes along; none where it is not one of this architecture's.
    pub(super) fn feature(&self, name: &str) -> Option<Feature> {
        let base = self.baseline.iter().find(|known| **known == name).map(|known| (*known, &[][..]));
        base.or_else(|| self.optional.iter().find(|(known, _)| *known == name).copied())
    }

    pub(super) fn feature_names(&self) -> String {
        let optional = self.optional.iter().map(|(name, _)| *name);
        self.baseline.iter().copied().chain(optional).collect::<Vec<_>>().join(", ")
    }
}

/// Every name that a target may begin with.
pub(super) fn known_names() -> String {
    let names = ARCHITECTURES.iter().flat_map(|architecture| {
        std::iter::once(architecture.triple).chain(architecture.levels.iter().map(|(level, _)| *level))
    });
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
