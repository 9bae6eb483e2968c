//! Tensors as host functions see them: packed little-endian elements, strings as handles.

/// The element types that host functions read and write, by the names that graph and module give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum DType {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    BF16,
    F32,
    F64,
    String,
}

impl DType {
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::String,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::String => "string",
        }
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::String => 8,
        }
    }
}

/// An operand: as many bytes as `dtype` and `dims` take, which [`crate::run`] checks.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    pub dtype: DType,
    pub dims: &'a [u64],
    pub data: &'a [u8],
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTensor {
    pub dtype: DType,
    pub dims: Vec<u64>,
    pub data: Vec<u8>,
}

/// The number of elements; `None` when it is over `u64::MAX`.
pub(crate) fn count(dims: &[u64]) -> Option<u64> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))
}

impl TensorView<'_> {
    pub(crate) fn expected_bytes(&self) -> Option<u64> {
        count(self.dims)?.checked_mul(self.dtype.bytes() as u64)
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len() / self.dtype.bytes()
    }

    /// Elements of eight bytes: handles, for one.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.data.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
    }

    /// The bits of elements of any width, zero-extended.
    pub(crate) fn bits(&self) -> impl Iterator<Item = u64> + '_ {
        self.data.chunks_exact(self.dtype.bytes()).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        })
    }
}

impl HostTensor {
    pub(crate) fn of_words(dtype: DType, dims: Vec<u64>, words: impl IntoIterator<Item = u64>) -> Self {
        Self { dtype, dims, data: words.into_iter().flat_map(u64::to_le_bytes).collect() }
    }

    pub(crate) fn of_bools(dims: Vec<u64>, values: impl IntoIterator<Item = bool>) -> Self {
        Self { dtype: DType::Bool, dims, data: values.into_iter().map(u8::from).collect() }
    }

    pub fn view(&self) -> TensorView<'_> {
        TensorView { dtype: self.dtype, dims: &self.dims, data: &self.data }
    }
}
