//! Element types of tensors.

/// An element type. Sub-byte types are packed, lowest bits first.
///
/// Floats of at most eight bits are for storage: they are moved and cast, and computed with in a wider type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    Bool,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    U2,
    U4,
    U8,
    U16,
    U32,
    U64,
    /// Sign, two bits of exponent, one of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4 and 6. Neither infinity nor NaN.
    F4E2M1,
    /// Up to 448; all ones is NaN, and there is no infinity.
    F8E4M3FN,
    /// Up to 240; -0 is NaN, and there is no infinity.
    F8E4M3FNUZ,
    /// Up to 57344, with infinities and NaNs as in IEEE 754.
    F8E5M2,
    /// Up to 57344; -0 is NaN, and there is no infinity.
    F8E5M2FNUZ,
    /// A power of two from -127 to 127; all ones is NaN. Neither sign nor zero.
    F8E8M0,
    F16,
    BF16,
    F32,
    F64,
    /// Two f32: the real and the imaginary part. Complex numbers are moved, taken apart and put together.
    C64,
    /// Two f64.
    C128,
    /// A handle into the string table; see [`ired_host::StringTable`].
    String,
}

impl DType {
    pub const ALL: [Self; 26] = [
        Self::Bool,
        Self::I2,
        Self::I4,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U2,
        Self::U4,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F4E2M1,
        Self::F8E4M3FN,
        Self::F8E4M3FNUZ,
        Self::F8E5M2,
        Self::F8E5M2FNUZ,
        Self::F8E8M0,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::C64,
        Self::C128,
        Self::String,
    ];

    /// Bits that one element takes in memory; a bool takes eight.
    pub const fn bits(self) -> usize {
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

    /// Bytes that `elements` elements take, packed; `None` when that is more than `u64::MAX`.
    pub const fn bytes(self, elements: u64) -> Option<u64> {
        match elements.checked_mul(self.bits() as u64) {
            Some(bits) => Some(bits.div_ceil(8)),
            None => None,
        }
    }

    /// The type of the parts of a complex number; `None` for other types.
    pub const fn part(self) -> Option<Self> {
        match self {
            Self::C64 => Some(Self::F32),
            Self::C128 => Some(Self::F64),
            _ => None,
        }
    }

    /// The complex type whose parts are of this one; `None` where there is none.
    pub const fn of_parts(self) -> Option<Self> {
        match self {
            Self::F32 => Some(Self::C64),
            Self::F64 => Some(Self::C128),
            _ => None,
        }
    }

    pub const fn is_complex(self) -> bool {
        self.part().is_some()
    }

    /// A float that can be computed with.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// A float for storage alone, of at most eight bits.
    pub const fn is_narrow_float(self) -> bool {
        matches!(
            self,
            Self::F4E2M1 | Self::F8E4M3FN | Self::F8E4M3FNUZ | Self::F8E5M2 | Self::F8E5M2FNUZ | Self::F8E8M0
        )
    }

    pub const fn is_signed_integer(self) -> bool {
        matches!(self, Self::I2 | Self::I4 | Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    pub const fn is_unsigned_integer(self) -> bool {
        matches!(self, Self::U2 | Self::U4 | Self::U8 | Self::U16 | Self::U32 | Self::U64)
    }

    pub const fn is_integer(self) -> bool {
        self.is_signed_integer() || self.is_unsigned_integer()
    }

    /// Whether elements are whole numbers: integers and bools.
    pub const fn holds_integers(self) -> bool {
        self.is_integer() || matches!(self, Self::Bool)
    }

    /// The name in the text form: `f32`, `i64`, `bool`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I2 => "i2",
            Self::I4 => "i4",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U2 => "u2",
            Self::U4 => "u4",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F4E2M1 => "f4e2m1",
            Self::F8E4M3FN => "f8e4m3fn",
            Self::F8E4M3FNUZ => "f8e4m3fnuz",
            Self::F8E5M2 => "f8e5m2",
            Self::F8E5M2FNUZ => "f8e5m2fnuz",
            Self::F8E8M0 => "f8e8m0",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::C64 => "c64",
            Self::C128 => "c128",
            Self::String => "string",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
