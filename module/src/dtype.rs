//! Element types as the module, the runtime and the wire know them.

/// An element type; the numbers are part of the file format and never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum DType {
    Bool = 1,
    I4 = 2,
    I8 = 3,
    I16 = 4,
    I32 = 5,
    I64 = 6,
    U4 = 7,
    U8 = 8,
    U16 = 9,
    U32 = 10,
    U64 = 11,
    F16 = 12,
    BF16 = 13,
    F32 = 14,
    F64 = 15,
    I2 = 16,
    U2 = 17,
    F4E2M1 = 18,
    F8E4M3FN = 19,
    F8E4M3FNUZ = 20,
    F8E5M2 = 21,
    F8E5M2FNUZ = 22,
    F8E8M0 = 23,
    /// Two f32: the real and the imaginary part.
    C64 = 24,
    /// Two f64.
    C128 = 25,
    /// A handle of 64 bits into the strings of a call; see [`crate::texts`].
    String = 64,
}

impl DType {
    pub const ALL: &[DType] = &[
        Self::Bool,
        Self::I4,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U4,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::I2,
        Self::U2,
        Self::F4E2M1,
        Self::F8E4M3FN,
        Self::F8E4M3FNUZ,
        Self::F8E5M2,
        Self::F8E5M2FNUZ,
        Self::F8E8M0,
        Self::C64,
        Self::C128,
        Self::String,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| *d as u8 == number)
    }

    /// Bits that one element takes in memory; a bool takes eight.
    pub const fn bits(self) -> u64 {
        match self {
            Self::I2 | Self::U2 => 2,
            Self::I4 | Self::U4 | Self::F4E2M1 => 4,
            Self::Bool | Self::I8 | Self::U8 => 8,
            Self::F8E4M3FN | Self::F8E4M3FNUZ | Self::F8E5M2 | Self::F8E5M2FNUZ | Self::F8E8M0 => 8,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 16,
            Self::I32 | Self::U32 | Self::F32 => 32,
            Self::I64 | Self::U64 | Self::F64 | Self::C64 | Self::String => 64,
            Self::C128 => 128,
        }
    }

    /// Bytes that a tensor of these dimensions takes, packed; `None` when that is more than `u64::MAX`.
    pub fn tensor_bytes(self, dims: &[u64]) -> Option<u64> {
        let elements =
            if dims.contains(&0) { 0 } else { dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))? };
        Some(elements.checked_mul(self.bits())?.div_ceil(8))
    }

    /// The name users see: `f32`, `i64`, `bool`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I4 => "i4",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U4 => "u4",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I2 => "i2",
            Self::U2 => "u2",
            Self::F4E2M1 => "f4e2m1",
            Self::F8E4M3FN => "f8e4m3fn",
            Self::F8E4M3FNUZ => "f8e4m3fnuz",
            Self::F8E5M2 => "f8e5m2",
            Self::F8E5M2FNUZ => "f8e5m2fnuz",
            Self::F8E8M0 => "f8e8m0",
            Self::C64 => "c64",
            Self::C128 => "c128",
            Self::String => "string",
        }
    }
}

impl core::fmt::Display for DType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
