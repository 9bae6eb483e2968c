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
    ];

    fn row(self) -> &'static (DataType, &'static str, u64) {
        Self::ALL.iter().find(|row| row.0 == self).expect("the table lists every type")
    }

    /// The protocol's name: `FP32`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        self.row().2
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

/// A named tensor: `data` holds the elements packed, little-endian, in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub data_type: DataType,
    pub shape: Vec<u64>,
    pub data: Bytes,
}

impl Tensor {
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
        let expected = elements.and_then(|n| n.checked_mul(self.data_type.bytes())).unwrap_or(u64::MAX);
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
        assert!("BYTES".parse::<DataType>().is_err());
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
