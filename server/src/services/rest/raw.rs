//! Requests without JSON: the body is the data of the model's only input, whose shape follows from its size.

use bytes::Bytes;
use ired_module::signature::{DimSpec, TensorSpec};
use ired_module::{DType, texts};
use ired_worker::Tensor;

use crate::error::Error;

/// The input that `body` is. Of strings it is the only one.
///
/// # Errors
/// [`Error::Invalid`] for a model with more inputs, and for a size that fits no shape or leaves it open.
pub(super) fn input(inputs: &[TensorSpec], body: Bytes) -> Result<Tensor, Error> {
    let [spec] = inputs else {
        return Err(Error::invalid(format!(
            "a body without JSON is for models with one input; this one has {}",
            inputs.len()
        )));
    };
    let (dtype, mut data) = (spec.dtype, body);
    let elements = if dtype == DType::String {
        let mut packed = Vec::with_capacity(data.len() + 4);
        if !texts::push(&mut packed, &data) {
            return Err(Error::invalid(format!("input `{}`: a string of {} bytes", spec.name, data.len())));
        }
        data = packed.into();
        1
    } else {
        data.len() as u64 * 8 / dtype.bits()
    };
    let dims = shape(spec, elements).ok_or_else(|| {
        Error::invalid(format!(
            "input `{}`: {elements} elements do not say its shape; send it with JSON",
            spec.name
        ))
    })?;
    Ok(Tensor { name: spec.name.clone(), dtype, dims, data: data.into() })
}

/// The shape with so many elements, where at most one dimension is open.
fn shape(spec: &TensorSpec, elements: u64) -> Option<Vec<u64>> {
    let fixed = |dim: &DimSpec| match dim {
        DimSpec::Static(size) => Some(*size),
        DimSpec::Symbolic { .. } => None,
    };
    let known = spec.dims.iter().filter_map(fixed).try_fold(1u64, u64::checked_mul)?;
    let open = spec.dims.iter().filter(|dim| fixed(dim).is_none()).count();
    let size = match open {
        0 => 1,
        1 => elements.checked_div(known)?,
        _ => return None,
    };
    (known.checked_mul(size)? == elements)
        .then(|| spec.dims.iter().map(|dim| fixed(dim).unwrap_or(size)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_follows_from_the_number_of_elements() {
        let open = || DimSpec::Symbolic { name: "N".to_owned(), min: 0, max: 9 };
        let shape = |dims: &[DimSpec], elements| {
            shape(&TensorSpec { name: "x".to_owned(), dtype: DType::F32, dims: dims.to_vec() }, elements)
        };
        assert_eq!(shape(&[open(), DimSpec::Static(3)], 6), Some(vec![2, 3]));
        assert_eq!(shape(&[open(), DimSpec::Static(3)], 7), None);
        assert_eq!(shape(&[open(), DimSpec::Static(0)], 0), None, "any number of rows has no elements");
        assert_eq!(shape(&[open(), open()], 4), None);
        assert_eq!(shape(&[DimSpec::Static(4)], 4), Some(vec![4]));
        assert_eq!(shape(&[DimSpec::Static(4)], 5), None);
        assert_eq!(shape(&[], 1), Some(vec![]));
    }
}
