//! Inputs against the signature, before anything is sent to a worker: what is wrong is told by name.

use std::collections::HashMap;

use ired_module::signature::{DimSpec, TensorSpec};
use ired_module::{DType, texts};
use ired_worker::Tensor;

use crate::error::{Error, shown};
use crate::tensors::{datatype, tensor_bytes};

/// Checks names, types, shapes and sizes; equal symbols must have equal sizes.
pub(crate) fn inputs<'a>(
    specs: impl IntoIterator<Item = &'a TensorSpec, IntoIter: Clone>,
    tensors: &[Tensor],
) -> Result<(), Error> {
    let specs = specs.into_iter();
    for (at, tensor) in tensors.iter().enumerate() {
        if !specs.clone().any(|spec| spec.name == tensor.name) {
            return Err(unknown("input", &tensor.name, specs));
        }
        if tensors[..at].iter().any(|other| other.name == tensor.name) {
            return Err(Error::invalid(format!("input `{}` is given twice", tensor.name)));
        }
    }
    let mut symbols: HashMap<&str, (u64, &str)> = HashMap::new();
    for spec in specs {
        let tensor = tensors.iter().find(|tensor| tensor.name == spec.name);
        let tensor = tensor.ok_or_else(|| Error::invalid(format!("input `{}` is missing", spec.name)))?;
        one(spec, tensor, &mut symbols)?;
    }
    Ok(())
}

fn one<'a>(
    spec: &'a TensorSpec,
    tensor: &Tensor,
    symbols: &mut HashMap<&'a str, (u64, &'a str)>,
) -> Result<(), Error> {
    let name = &spec.name;
    if tensor.dtype != spec.dtype {
        let (found, expected) = (datatype(tensor.dtype), datatype(spec.dtype));
        return Err(Error::invalid(format!("input `{name}`: found datatype {found}, expected {expected}")));
    }
    if tensor.dims.len() != spec.dims.len() {
        return Err(shape_error(spec, tensor, ""));
    }
    for (&found, dim) in tensor.dims.iter().zip(&spec.dims) {
        match dim {
            DimSpec::Static(expected) if found == *expected => {}
            DimSpec::Static(_) => return Err(shape_error(spec, tensor, "")),
            DimSpec::Symbolic { name: symbol, min, max } => {
                if found < *min || found > *max {
                    let note = format!(" with `{symbol}` from {min} to {max}");
                    return Err(shape_error(spec, tensor, &note));
                }
                let (first, input) = *symbols.entry(symbol).or_insert((found, name));
                if first != found {
                    let note = format!(", and `{symbol}` is {first} in input `{input}`");
                    return Err(shape_error(spec, tensor, &note));
                }
            }
        }
    }
    let expected = tensor_bytes(name, spec.dtype, &tensor.dims)?;
    if spec.dtype == DType::String {
        return match texts::is_tensor(spec.dtype, &tensor.dims, &tensor.data) {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "input `{name}`: the bytes are not one string, with its length before it, for each element of {:?}",
                tensor.dims
            ))),
        };
    }
    let found = tensor.data.len() as u64;
    if found != expected {
        return Err(Error::invalid(format!(
            "input `{name}`: found {found} bytes, its shape needs {expected}"
        )));
    }
    // Compiled code takes a bool for a 0 or a 1.
    if tensor.dtype == DType::Bool && tensor.data.iter().any(|&byte| byte > 1) {
        return Err(Error::invalid(format!("input `{name}`: a BOOL is the byte 0 or 1")));
    }
    Ok(())
}

fn shape_error(spec: &TensorSpec, tensor: &Tensor, note: &str) -> Error {
    let dims = spec.dims.iter().map(|dim| match dim {
        DimSpec::Static(size) => size.to_string(),
        DimSpec::Symbolic { name, .. } => name.clone(),
    });
    let expected = dims.collect::<Vec<_>>().join(", ");
    let name = &spec.name;
    Error::invalid(format!("input `{name}`: found shape {:?}, expected [{expected}]{note}", tensor.dims))
}

/// The error for a tensor that the model does not have.
pub(super) fn unknown<'a>(kind: &str, name: &str, specs: impl Iterator<Item = &'a TensorSpec>) -> Error {
    let names: Vec<String> = specs.map(|spec| format!("`{}`", spec.name)).collect();
    Error::invalid(format!("the model has no {kind} `{}`; it has {}", shown(name), names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dims: &[DimSpec]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype: DType::F32, dims: dims.to_vec() }
    }

    fn tensor(name: &str, dims: &[u64]) -> Tensor {
        let bytes = usize::try_from(dims.iter().product::<u64>() * 4).unwrap();
        Tensor { name: name.to_owned(), dtype: DType::F32, dims: dims.to_vec(), data: vec![0; bytes].into() }
    }

    #[test]
    fn every_mismatch_has_its_text() {
        let batch = || DimSpec::Symbolic { name: "N".to_owned(), min: 1, max: 8 };
        let specs = [spec("a", &[batch(), DimSpec::Static(3)]), spec("b", &[batch()])];
        let text = |tensors: &[Tensor]| inputs(&specs, tensors).map_err(|error| error.to_string());
        assert_eq!(text(&[tensor("b", &[2]), tensor("a", &[2, 3])]), Ok(()));
        let cases = [
            (vec![tensor("a", &[2, 3])], "input `b` is missing"),
            (vec![tensor("a", &[2, 3]), tensor("c", &[2])], "the model has no input `c`; it has `a`, `b`"),
            (vec![tensor("b", &[2]), tensor("b", &[2])], "input `b` is given twice"),
            (vec![tensor("a", &[2, 4]), tensor("b", &[2])], "input `a`: found shape [2, 4], expected [N, 3]"),
            (vec![tensor("a", &[6]), tensor("b", &[2])], "input `a`: found shape [6], expected [N, 3]"),
            (
                vec![tensor("a", &[9, 3]), tensor("b", &[9])],
                "input `a`: found shape [9, 3], expected [N, 3] with `N` from 1 to 8",
            ),
            (
                vec![tensor("a", &[2, 3]), tensor("b", &[4])],
                "input `b`: found shape [4], expected [N], and `N` is 2 in input `a`",
            ),
        ];
        for (tensors, expected) in cases {
            assert_eq!(text(&tensors), Err(expected.to_owned()));
        }
        let mut short = tensor("b", &[2]);
        short.data = vec![0; 7].into();
        let error = text(&[tensor("a", &[2, 3]), short]).unwrap_err();
        assert_eq!(error, "input `b`: found 7 bytes, its shape needs 8");
    }
}
