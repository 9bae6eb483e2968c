//! The tensors of a data set, as a module takes and gives them: of a sequence the elements of all its tensors and
//! their shapes, of an optional value a flag and what it holds.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use ired_module::DType;
use ired_module::signature::{DimSpec, TensorSpec};

use crate::tensors::NamedTensor;
use crate::tensors::onnx_data::{self, Optional};

/// `input_0.pb`, `input_1.pb`… of a data set, as long as there are any, for `specs` in their order.
pub(super) fn read(set: &Path, prefix: &str, specs: &[TensorSpec]) -> Result<Vec<NamedTensor>> {
    let (mut found, mut rest) = (Vec::new(), specs);
    for number in 0.. {
        let path = set.join(format!("{prefix}_{number}.pb"));
        if !path.exists() {
            break;
        }
        let Some(first) = rest.first() else { bail!("more than {number} {prefix}s; the model has no more") };
        let whole = first.name.rsplit_once('.').map_or("", |(whole, _)| whole);
        let is = |at: usize, part: &str| {
            rest.get(at).is_some_and(|spec| spec.name.strip_prefix(whole) == Some(part))
        };
        let tensors = if is(0, ".values") && is(1, ".shapes") {
            join(&onnx_data::read_sequence(&path)?, first, &rest[1])?.to_vec()
        } else if is(0, ".present") {
            let held = match rest {
                [_, values, shapes, ..] if is(1, ".values") && is(2, ".shapes") => {
                    Some((values, Some(shapes)))
                }
                [_, value, ..] if is(1, "") => Some((value, None)),
                _ => None,
            };
            optional(onnx_data::read_optional(&path)?, held)?
        } else {
            vec![onnx_data::read(&path)?]
        };
        ensure!(tensors.len() <= rest.len(), "`{}` holds more than the model takes", path.display());
        for (mut tensor, spec) in tensors.into_iter().zip(rest) {
            tensor.name.clone_from(&spec.name);
            found.push(tensor);
        }
        rest = &specs[found.len()..];
    }
    Ok(found)
}

/// One tensor for the elements of all, one for their shapes.
fn join(tensors: &[NamedTensor], values: &TensorSpec, shapes: &TensorSpec) -> Result<[NamedTensor; 2]> {
    let stated = match shapes.dims.last() {
        Some(DimSpec::Static(rank)) => *rank,
        _ => 0,
    };
    let rank = tensors.first().map_or(stated, |tensor| tensor.dims.len() as u64);
    let dtype = tensors.first().map_or(values.dtype, |tensor| tensor.dtype);
    let mut data = Vec::new();
    let mut sizes = Vec::new();
    let mut total = 0;
    for tensor in tensors {
        ensure!(
            tensor.dtype == dtype && tensor.dims.len() as u64 == rank,
            "a sequence of {} and of {dtype} of rank {rank}",
            tensor.type_text()
        );
        data.extend_from_slice(&tensor.data);
        total += tensor.element_count();
        sizes.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
    }
    ensure!(dtype.bits().is_multiple_of(8), "a sequence of {dtype}, whose elements share bytes");
    Ok([plain(dtype, vec![total], data), plain(DType::I64, vec![tensors.len() as u64, rank], sizes)])
}

fn optional(value: Optional, held: Option<(&TensorSpec, Option<&TensorSpec>)>) -> Result<Vec<NamedTensor>> {
    let mut found = vec![plain(DType::Bool, Vec::new(), vec![u8::from(!matches!(value, Optional::Nothing))])];
    match (value, held) {
        (Optional::Nothing, None) => {}
        (Optional::Nothing, Some((values, Some(shapes)))) => found.extend(join(&[], values, shapes)?),
        // Of what is not there, as little as there can be.
        (Optional::Nothing, Some((value, None))) => {
            let size = |dim: &DimSpec| match dim {
                DimSpec::Static(size) => *size,
                DimSpec::Symbolic { min, .. } => *min,
            };
            let dims: Vec<u64> = value.dims.iter().map(size).collect();
            let bytes = value.dtype.tensor_bytes(&dims).unwrap_or(0);
            found.push(plain(value.dtype, dims, vec![0; usize::try_from(bytes)?]));
        }
        (Optional::Tensor(tensor), _) => found.push(tensor),
        (Optional::Sequence(tensors), Some((values, Some(shapes)))) => {
            found.extend(join(&tensors, values, shapes)?);
        }
        (Optional::Sequence(_), _) => bail!("a sequence where the model has none"),
    }
    Ok(found)
}

fn plain(dtype: DType, dims: Vec<u64>, data: Vec<u8>) -> NamedTensor {
    NamedTensor { name: String::new(), dtype, dims, data: Bytes::from(data) }
}
