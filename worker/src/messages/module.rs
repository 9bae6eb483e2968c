//! How the module crate's types are encoded in messages; the module crate itself knows no serde.

use ired_module::DType;
use ired_module::signature::{
    DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Encodes a [`DType`] by its number in the file format.
pub(crate) mod dtype {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*dtype as u8)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DType, D::Error> {
        let number = u8::deserialize(deserializer)?;
        DType::from_number(number)
            .ok_or_else(|| serde::de::Error::custom(format!("element type {number} is not known")))
    }
}

/// Encodes a list whose elements have a remote encoding.
macro_rules! list_of {
    ($module:ident, $type:ty, $wire:literal) => {
        mod $module {
            use super::*;

            #[derive(Serialize)]
            struct Borrowed<'a>(#[serde(with = $wire)] &'a $type);

            #[derive(Deserialize)]
            struct Owned(#[serde(with = $wire)] $type);

            pub(super) fn serialize<S: Serializer>(list: &[$type], serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(list.iter().map(Borrowed))
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Vec<$type>, D::Error> {
                let owned = Vec::<Owned>::deserialize(deserializer)?;
                Ok(owned.into_iter().map(|element| element.0).collect())
            }
        }
    };
}

list_of!(entries, EntryPoint, "EntryPointWire");
list_of!(tensors, TensorSpec, "TensorSpecWire");
list_of!(dims, DimSpec, "DimSpecWire");

#[derive(Serialize, Deserialize)]
#[serde(remote = "Signature")]
pub(crate) struct SignatureWire {
    #[serde(with = "entries")]
    entries: Vec<EntryPoint>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "EntryPoint")]
struct EntryPointWire {
    name: String,
    function: u32,
    #[serde(with = "tensors")]
    inputs: Vec<TensorSpec>,
    #[serde(with = "tensors")]
    outputs: Vec<TensorSpec>,
    #[serde(with = "RowsWire")]
    rows: Rows,
    #[serde(with = "PeakBytesWire")]
    peak: PeakBytes,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "TensorSpec")]
struct TensorSpecWire {
    name: String,
    #[serde(with = "dtype")]
    dtype: DType,
    #[serde(with = "dims")]
    dims: Vec<DimSpec>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DimSpec")]
enum DimSpecWire {
    Static(u64),
    Symbolic { name: String, min: u64, max: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rows")]
enum RowsWire {
    Independent { exact: Result<(), String>, costs: Vec<u32> },
    Dependent { reason: String },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PeakBytes")]
enum PeakBytesWire {
    Static(u64),
    Function(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Target")]
pub(crate) struct TargetWire {
    triple: String,
    features: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Provenance")]
pub(crate) struct ProvenanceWire {
    model_digest: [u8; 32],
    model_name: String,
    compiler: String,
    options: String,
}
