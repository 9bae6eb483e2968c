//! The description of a CPU: instruction sets, vector registers, caches.

use std::collections::BTreeSet;
use std::fmt;

use ired_mlir::TargetSpec;

use super::architecture::{Architecture, Feature, Isa, SVE_LENGTHS, known_names};

/// What kernels are compiled for.
///
/// The least of an architecture has what every kernel needs: x86-64-v3 (AVX2, FMA, F16C), Armv8-A (NEON), RVA22 with
/// vectors. Those features are always part of the set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CpuTarget {
    architecture: &'static Architecture,
    /// LLVM's names of all instruction sets that compiled code may use, sorted: required at load. `sve256` and `sve512`
    /// are SVE with registers of so many bits or more.
    pub features: Vec<String>,
    /// Bits of a vector register, or the least where machines differ.
    pub vector_bits: usize,
    pub vector_registers: usize,
    /// Data cache of one core, in bytes; sizes blocks, promises nothing.
    pub l1_bytes: u64,
    pub l2_bytes: u64,
}

/// Why a target text describes no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("target `{found}` is not known; known are {}", known_names())]
    UnknownTriple { found: String },
    #[error("feature `{found}` is not known for {triple}; known are {known}")]
    UnknownFeature { found: String, triple: &'static str, known: String },
    #[error("feature `{name}` cannot be taken away: every {triple} target has it")]
    Needed { name: &'static str, triple: &'static str },
    #[error("feature `{found}` has no `+` in front")]
    MissingSign { found: String },
    #[error("this machine lacks {}, which every {triple} target needs", missing.join(", "))]
    TooOld { triple: &'static str, missing: Vec<String> },
}

impl CpuTarget {
    /// The machine this runs on.
    ///
    /// # Errors
    /// [`TargetError::TooOld`] below the least of its architecture, [`TargetError::UnknownTriple`] on another one.
    pub fn host() -> Result<Self, TargetError> {
        let name = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let (architecture, _) =
            Architecture::named(&name).ok_or(TargetError::UnknownTriple { found: name })?;
        let present = ired_mlir::host_features();
        let is_present = |name: &&str| present.iter().any(|feature| feature == name);
        let missing: Vec<_> = architecture.baseline.iter().filter(|name| !is_present(name)).collect();
        if !missing.is_empty() {
            let missing = missing.into_iter().map(|name| (*name).to_owned()).collect();
            return Err(TargetError::TooOld { triple: architecture.triple, missing });
        }
        let optional = architecture.optional.iter().filter(|(name, along)| {
            // Parts of AVX-512 alone are not used: the widths then differ by element type.
            is_present(name) && along.iter().all(&is_present)
        });
        let features = architecture.baseline.iter().copied().chain(optional.map(|(name, _)| *name));
        Ok(Self::with_features(architecture, features.collect()))
    }

    /// Reads `x86_64-linux,+avx512f,...`, `x86-64-v4,...`, `aarch64-linux,+dotprod`, or `host`. Features named imply those
    /// of the least target, and `avx512f` all of x86-64-v4's.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        if name == "host" {
            return Self::host();
        }
        let (architecture, more) =
            Architecture::named(name).ok_or_else(|| TargetError::UnknownTriple { found: name.to_owned() })?;
        let features = architecture.baseline.iter().chain(more).copied().collect();
        let mut target = Self::with_features(architecture, features);
        for part in parts.filter(|p| !p.is_empty()) {
            let name =
                part.strip_prefix('+').ok_or_else(|| TargetError::MissingSign { found: part.to_owned() })?;
            target = target.with(name)?;
        }
        Ok(target)
    }

    /// The same with a feature and what comes along with it.
    ///
    /// # Errors
    /// [`TargetError::UnknownFeature`].
    pub fn with(&self, feature: &str) -> Result<Self, TargetError> {
        let (name, along) = self.known(feature)?;
        let features = self.features.iter().map(String::as_str).chain([name]).chain(along.iter().copied());
        Ok(Self::with_features(self.architecture, features.collect()))
    }

    /// The same without a feature, and without those that it comes along with.
    ///
    /// # Errors
    /// [`TargetError::UnknownFeature`], and [`TargetError::Needed`] for what every target has.
    pub fn without(&self, feature: &str) -> Result<Self, TargetError> {
        let (name, _) = self.known(feature)?;
        if self.architecture.baseline.contains(&name) {
            return Err(TargetError::Needed { name, triple: self.triple() });
        }
        let stays = |other: &&str| {
            *other != name
                && !self.architecture.feature(other).is_some_and(|(_, along)| along.contains(&name))
        };
        let features = self.features.iter().map(String::as_str).filter(stays);
        Ok(Self::with_features(self.architecture, features.collect()))
    }

    fn known(&self, feature: &str) -> Result<Feature, TargetError> {
        self.architecture.feature(feature).ok_or_else(|| TargetError::UnknownFeature {
            found: feature.to_owned(),
            triple: self.triple(),
            known: self.architecture.feature_names(),
        })
    }

    fn with_features(architecture: &'static Architecture, features: BTreeSet<&str>) -> Self {
        let registers = architecture.registers(|name| features.contains(name));
        Self {
            architecture,
            features: features.into_iter().map(str::to_owned).collect(),
            vector_bits: registers.bits,
            vector_registers: registers.count,
            l1_bytes: 32 << 10,
            l2_bytes: 1 << 20,
        }
    }

    /// Architecture and system, `x86_64-linux`.
    pub fn triple(&self) -> &'static str {
        self.architecture.triple
    }

    /// Whose instructions kernels may name.
    pub(crate) fn isa(&self) -> Isa {
        self.architecture.isa
    }

    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|f| f == feature)
    }

    /// Whether it has AVX-512, whose parts come together.
    pub(crate) fn has_avx512(&self) -> bool {
        self.has("avx512f")
    }

    /// Whether pairs of bf16 are multiplied and summed in one instruction.
    pub fn has_bf16_products(&self) -> bool {
        match self.isa() {
            Isa::X86_64 => self.has("avx512bf16"),
            Isa::Aarch64 => self.has("bf16"),
            Isa::Riscv64 => false,
        }
    }

    /// The same without tiles, which few kernels use, so that a module without such runs where they are missing.
    pub(crate) fn without_tiles(mut self) -> Self {
        self.features.retain(|feature| !feature.starts_with("amx"));
        self
    }

    /// Whether every machine that runs code for `other` runs code for this.
    pub fn needs_no_more_than(&self, other: &Self) -> bool {
        self.architecture == other.architecture && self.features.iter().all(|feature| other.has(feature))
    }

    /// Elements of `bits` bits in a vector register.
    pub fn lanes(&self, bits: usize) -> usize {
        (self.vector_bits / bits.max(8)).max(1)
    }

    /// LLVM's words for this target.
    pub(crate) fn spec(&self) -> TargetSpec {
        let named = self.features.iter().filter(|feature| !SVE_LENGTHS.contains(&feature.as_str()));
        let features: Vec<_> = named.map(|feature| format!("+{feature}")).collect();
        TargetSpec {
            triple: self.architecture.llvm_triple.to_owned(),
            cpu: self.architecture.registers(|name| self.has(name)).cpu.to_owned(),
            features: features.join(","),
            vector_bits: self.vector_bits,
            least_vscale: self.has("sve").then_some(self.vector_bits / 128),
        }
    }
}

/// The canonical text: [`CpuTarget::parse`] gives the same target back.
impl fmt::Display for CpuTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.triple())?;
        self.features.iter().try_for_each(|feature| write!(f, ",+{feature}"))
    }
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
    fn other_architectures_have_their_own_features() {
        let bits = |text: &str| CpuTarget::parse(text).unwrap().vector_bits;
        assert_eq!(
            (bits("aarch64-linux"), bits("aarch64-linux,+sve512"), bits("armv9.1-a")),
            (128, 512, 128)
        );
        assert_eq!((bits("riscv64-linux"), bits("rva23u64,+zvl256b")), (128, 256));
        let target = CpuTarget::parse("aarch64-linux,+sve256,+i8mm").unwrap();
        assert_eq!(target.to_string(), "aarch64-linux,+fp-armv8,+fullfp16,+i8mm,+neon,+sve,+sve256");
        assert_eq!(CpuTarget::parse(&target.to_string()).unwrap(), target);
        let error = CpuTarget::parse("aarch64-linux,+avx2").unwrap_err().to_string();
        assert!(
            error.contains("`avx2` is not known for aarch64-linux; known are fp-armv8, neon, bf16"),
            "{error}"
        );
    }

    #[test]
    fn wrong_texts_are_named_errors() {
        for text in ["", "m68k-linux", "x86_64-linux,avx2", "x86_64-linux,+avx1024"] {
            assert!(CpuTarget::parse(text).is_err(), "{text}");
        }
    }
}
