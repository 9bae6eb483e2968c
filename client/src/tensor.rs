//! Tensors as callers hold them: a name, an element type, a shape and packed little-endian bytes.

use bytes::Bytes;

use crate::ClientError;

/// An element type of the inference protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Strings of bytes, each with its length before it (u32, little-endian).
    Bytes,
}

impl DataType {
    const ALL: &[(DataType, &str, u64)] = &[
        (Self::Bool, "BOOL", 1),
        (Self::Uint8, "UINT8", 1),
        (Self::Uint16, "UINT16", 2),
        (Self::Uint32, "UINT32", 4),
        (Self::Uint64, "UINT64", 8),
        (Self::Int8, "INT8", 1),
        (Self::Int16, "INT16", 2),
        (Self::Int32, "INT32", 4),
        (Self::Int64, "INT64", 8),
        (Self::Fp16, "FP16", 2),
        (Self::Bf16, "BF16", 2),
        (Self::Fp32, "FP32", 4),
        (Self::Fp64, "FP64", 8),
        (Self::Bytes, "BYTES", 0),
    ];

    fn row(self) -> &'static (DataType, &'static str, u64) {
        Self::ALL.iter().find(|row| row.0 == self).expect("the table lists every type")
    }

    /// The protocol's name: `FP32`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one element; `None` for strings, which have each their own.
    pub fn bytes(self) -> Option<u64> {
        Some(self.row().2).filter(|bytes| *bytes > 0)
    }
}

/// A type name that the protocol has and this crate does not, or that nobody has.
#[derive(Debug, thiserror::Error)]
#[error("element type `{name}` is not supported")]
pub struct UnknownDataType {
    name: String,
}

impl std::str::FromStr for DataType {
    type Err = UnknownDataType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .find(|row| row.1 == name)
            .map(|row| row.0)
            .ok_or_else(|| UnknownDataType { name: name.to_owned() })
    }
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A named tensor: `data` holds the elements packed, little-endian, in row-major order; strings with their lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub data_type: DataType,
    pub shape: Vec<u64>,
    pub data: Bytes,
}

impl Tensor {
    /// A tensor of strings, in row-major order.
    ///
    /// # Errors
    /// When there are not as many as `shape` says.
    pub fn of_strings(
        name: impl Into<String>,
        shape: Vec<u64>,
        strings: &[impl AsRef<[u8]>],
    ) -> Result<Self, ClientError> {
        let mut data = Vec::new();
        for string in strings {
            let string = string.as_ref();
            // One that is longer than its length can say is found by the check.
            let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(string);
        }
        let tensor = Self { name: name.into(), data_type: DataType::Bytes, shape, data: data.into() };
        tensor.check().map(|()| tensor)
    }

    /// The elements of a tensor of strings; `None` for other tensors, and where `data` ends within a string.
    pub fn strings(&self) -> Option<Vec<&[u8]>> {
        if self.data_type != DataType::Bytes {
            return None;
        }
        let (mut strings, mut left) = (Vec::new(), &self.data[..]);
        while !left.is_empty() {
            let (length, rest) = left.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (string, rest) = rest.split_at_checked(length)?;
            strings.push(string);
            left = rest;
        }
        Some(strings)
    }

    /// Checks that `data` has the bytes that `shape` and `data_type` need.
    ///
    /// # Errors
    /// [`ClientError::TensorBytes`] when it has not; a shape too big to count needs `u64::MAX`.
    pub fn check(&self) -> Result<(), ClientError> {
        let elements = if self.shape.contains(&0) {
            Some(0)
        } else {
            self.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))
        };
        let Some(bytes) = self.data_type.bytes() else {
            return match (self.strings(), elements) {
                (Some(strings), Some(elements)) if strings.len() as u64 == elements => Ok(()),
                _ => Err(ClientError::Strings { tensor: self.name.clone(), shape: self.shape.clone() }),
            };
        };
        let expected = elements.and_then(|n| n.checked_mul(bytes)).unwrap_or(u64::MAX);
        let found = self.data.len() as u64;
        if found == expected {
            Ok(())
        } else {
            Err(ClientError::TensorBytes { tensor: self.name.clone(), found, expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (data_type, name, _) in DataType::ALL {
            assert_eq!(name.parse::<DataType>().unwrap(), *data_type);
        }
        assert!("INT4".parse::<DataType>().is_err());
    }

    #[test]
    fn strings_go_there_and_back() {
        let tensor = Tensor::of_strings("x", vec![2, 1], &["ab", ""]).unwrap();
        assert_eq!(tensor.data[..], *b"\x02\0\0\0ab\0\0\0\0");
        assert_eq!(tensor.strings().unwrap(), [&b"ab"[..], b""]);
        assert!(Tensor::of_strings("x", vec![3], &["ab", ""]).is_err());
        let cut_short = Tensor { data: tensor.data.slice(..9), ..tensor };
        assert!(cut_short.strings().is_none() && cut_short.check().is_err());
    }

    #[test]
    fn a_shape_too_big_to_count_is_refused() {
        let tensor = |shape: Vec<u64>, bytes: usize| Tensor {
            name: "x".into(),
            data_type: DataType::Fp32,
            shape,
            data: vec![0; bytes].into(),
        };
        assert!(tensor(vec![2, 3], 24).check().is_ok());
        assert!(tensor(vec![], 4).check().is_ok());
        assert!(tensor(vec![0, u64::MAX, u64::MAX], 0).check().is_ok());
        assert!(tensor(vec![1 << 40, 1 << 40], 0).check().is_err());
    }
}
