//! The description of a CPU: instruction sets, vector registers, caches.

use std::collections::BTreeSet;
use std::fmt;

use ired_mlir::TargetSpec;

/// What kernels are compiled for.
///
/// The smallest x86-64 is x86-64-v3 (AVX2, FMA, F16C): its features are always part of the set, so that no
/// kernel needs a library call for rounding or a fused multiply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CpuTarget {
    /// Architecture and system, `x86_64-linux`.
    pub triple: String,
    /// LLVM's names of all instruction sets that compiled code may use, sorted: required at load.
    pub features: Vec<String>,
    /// Bits of a vector register.
    pub vector_bits: usize,
    pub vector_registers: usize,
    /// Data cache of one core, in bytes; sizes blocks, promises nothing.
    pub l1_bytes: u64,
    pub l2_bytes: u64,
}

/// Why a target text describes no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("target `{found}` is not known; known are `x86_64-linux`, `x86-64-v3` and `x86-64-v4`")]
    UnknownTriple { found: String },
    #[error("feature `{found}` is not known for x86_64; known are {}", known_features())]
    UnknownFeature { found: String },
    #[error("feature `{found}` has no `+` in front")]
    MissingSign { found: String },
    #[error("this machine lacks {}, which every x86-64 target needs", missing.join(", "))]
    TooOld { missing: Vec<String> },
}

const X86_64_LINUX: &str = "x86_64-linux";

/// x86-64-v3 beyond x86-64 itself.
const BASELINE: &[&str] = &[
    "avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse3", "sse4.1",
    "sse4.2", "ssse3",
];

/// Together: 32 registers of 512 bits, masks, and every element width.
const AVX512: &[&str] = &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"];

/// Levels of x86-64 by their usual names, with what they have beyond the baseline.
const LEVELS: &[(&str, &[&str])] = &[("x86-64-v3", &[]), ("x86-64-v4", AVX512)];

const OPTIONAL: &[&str] =
    &["amx-bf16", "amx-int8", "amx-tile", "avx512bf16", "avx512vbmi", "avx512vnni", "avxvnni"];

fn known_features() -> String {
    [BASELINE, AVX512, OPTIONAL].concat().join(", ")
}

impl CpuTarget {
    /// The machine this runs on.
    ///
    /// # Errors
    /// [`TargetError::TooOld`] below x86-64-v3, [`TargetError::UnknownTriple`] on another architecture.
    pub fn host() -> Result<Self, TargetError> {
        let present = host_features()?;
        let missing: Vec<_> =
            BASELINE.iter().filter(|f| !present.contains(**f)).map(|f| (*f).to_owned()).collect();
        if !missing.is_empty() {
            return Err(TargetError::TooOld { missing });
        }
        Ok(Self::with_features(present))
    }

    /// Reads `x86_64-linux,+avx512f,...`, `x86-64-v4,...`, or `host`. Features named imply x86-64-v3's, and `avx512f` all
    /// of x86-64-v4's.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let mut parts = text.split(',').map(str::trim);
        let triple = parts.next().unwrap_or_default();
        if triple == "host" {
            return Self::host();
        }
        let level = LEVELS.iter().find(|(name, _)| *name == triple);
        let triple = level.map_or(triple, |_| X86_64_LINUX);
        if !matches!(triple, X86_64_LINUX | "x86_64-unknown-linux-gnu" | "x86_64-linux-gnu") {
            return Err(TargetError::UnknownTriple { found: triple.to_owned() });
        }
        let mut features: BTreeSet<&str> = BASELINE.iter().copied().collect();
        features.extend(level.into_iter().flat_map(|(_, features)| *features));
        for part in parts.filter(|p| !p.is_empty()) {
            let Some(name) = part.strip_prefix('+') else {
                return Err(TargetError::MissingSign { found: part.to_owned() });
            };
            match [BASELINE, AVX512, OPTIONAL].concat().into_iter().find(|known| *known == name) {
                Some(known) => features.insert(known),
                None => return Err(TargetError::UnknownFeature { found: name.to_owned() }),
            };
            if name.starts_with("avx512") {
                features.extend(AVX512);
            }
        }
        Ok(Self::with_features(features))
    }

    fn with_features(features: BTreeSet<&str>) -> Self {
        let wide = AVX512.iter().all(|f| features.contains(f));
        Self {
            triple: X86_64_LINUX.to_owned(),
            features: features.into_iter().map(str::to_owned).collect(),
            vector_bits: if wide { 512 } else { 256 },
            vector_registers: if wide { 32 } else { 16 },
            l1_bytes: 32 << 10,
            l2_bytes: 1 << 20,
        }
    }

    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|f| f == feature)
    }

    /// Whether pairs of bf16 are multiplied and summed in one instruction.
    pub fn has_bf16_products(&self) -> bool {
        self.vector_bits == 512 && self.has("avx512bf16")
    }

    /// The same without tiles, which few kernels use, so that a module without such runs where they are missing.
    pub(crate) fn without_tiles(mut self) -> Self {
        self.features.retain(|feature| !feature.starts_with("amx"));
        self
    }

    /// Whether every machine that runs code for `other` runs code for this.
    pub fn needs_no_more_than(&self, other: &Self) -> bool {
        self.triple == other.triple && self.features.iter().all(|feature| other.has(feature))
    }

    /// Elements of `bits` bits in a vector register.
    pub fn lanes(&self, bits: usize) -> usize {
        (self.vector_bits / bits.max(8)).max(1)
    }

    /// LLVM's words for this target.
    pub(crate) fn spec(&self) -> TargetSpec {
        let features: Vec<_> = self.features.iter().map(|f| format!("+{f}")).collect();
        TargetSpec {
            triple: "x86_64-unknown-linux-gnu".to_owned(),
            cpu: if self.vector_bits == 512 { "x86-64-v4" } else { "x86-64-v3" }.to_owned(),
            features: features.join(","),
            vector_bits: self.vector_bits,
        }
    }
}

/// The canonical text: [`CpuTarget::parse`] gives the same target back.
impl fmt::Display for CpuTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.triple)?;
        self.features.iter().try_for_each(|feature| write!(f, ",+{feature}"))
    }
}

#[cfg(target_arch = "x86_64")]
fn host_features() -> Result<BTreeSet<&'static str>, TargetError> {
    macro_rules! detect {
        ($($llvm:literal = $rust:tt),* $(,)?) => {
            [$(($llvm, std::is_x86_feature_detected!($rust))),*]
        };
    }
    let detected = detect![
        "avx" = "avx",
        "avx2" = "avx2",
        "avx512bf16" = "avx512bf16",
        "avx512bw" = "avx512bw",
        "avx512cd" = "avx512cd",
        "avx512dq" = "avx512dq",
        "avx512f" = "avx512f",
        "avx512vbmi" = "avx512vbmi",
        "avx512vl" = "avx512vl",
        "avx512vnni" = "avx512vnni",
        "avxvnni" = "avxvnni",
        "bmi" = "bmi1",
        "bmi2" = "bmi2",
        "cx16" = "cmpxchg16b",
        "f16c" = "f16c",
        "fma" = "fma",
        "lzcnt" = "lzcnt",
        "movbe" = "movbe",
        "popcnt" = "popcnt",
        "sse3" = "sse3",
        "sse4.1" = "sse4.1",
        "sse4.2" = "sse4.2",
        "ssse3" = "ssse3",
    ];
    let mut present: BTreeSet<_> =
        detected.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
    // Whether the system saves tiles is not for programs to ask for in safe Rust.
    let llvm = ired_mlir::host_features();
    present.extend(
        ["amx-bf16", "amx-int8", "amx-tile"].into_iter().filter(|name| llvm.iter().any(|f| f == name)),
    );
    // Parts of AVX-512 alone are not used: the widths then differ by element type.
    if !AVX512.iter().all(|f| present.contains(f)) {
        present.retain(|f| !f.starts_with("avx512"));
    }
    Ok(present)
}

#[cfg(not(target_arch = "x86_64"))]
fn host_features() -> Result<BTreeSet<&'static str>, TargetError> {
    Err(TargetError::UnknownTriple { found: std::env::consts::ARCH.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_reads_back() {
        for text in ["x86_64-linux", "x86_64-linux,+avx2,+fma", "x86_64-linux,+avx512f,+avx512vnni"] {
            let target = CpuTarget::parse(text).unwrap();
            assert_eq!(CpuTarget::parse(&target.to_string()).unwrap(), target);
        }
        assert_eq!(CpuTarget::parse("x86_64-linux").unwrap().vector_bits, 256);
        let level = |name: &str| CpuTarget::parse(name).unwrap().to_string();
        assert_eq!(level("x86-64-v3"), level("x86_64-linux"));
        assert_eq!(level("x86-64-v4,+avx512vnni"), level("x86_64-linux,+avx512vnni"));
        assert_eq!(CpuTarget::parse("x86_64-linux,+avx512f").unwrap().vector_registers, 32);
    }

    #[test]
    fn wrong_texts_are_named_errors() {
        for text in ["", "m68k-linux", "x86_64-linux,avx2", "x86_64-linux,+avx1024"] {
            assert!(CpuTarget::parse(text).is_err(), "{text}");
        }
    }
}
