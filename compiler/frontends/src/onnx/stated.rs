//! Shapes of inputs that are stated beside the model, which is then read as if it said so itself.

use std::collections::HashMap;

use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{GraphProto, TensorShapeProto, ValueInfoProto, type_proto};
use crate::{ImportError, InputShape};

/// Writes `shapes` into the inputs of `graph`. A named size that is stated is so wherever the inputs name it.
///
/// # Errors
/// [`ImportError::Input`] for a name that no input has, and for what the model says otherwise.
pub(super) fn state_shapes(graph: &mut GraphProto, shapes: &[InputShape]) -> Result<(), ImportError> {
    let mut named = HashMap::new();
    for shape in shapes {
        let invalid = |problem| ImportError::Input { input: shape.input.clone(), problem };
        let is_weight = graph.initializer.iter().any(|tensor| tensor.name() == shape.input);
        let input = graph.input.iter_mut().find(|input| input.name() == shape.input && !is_weight);
        let input = input.ok_or_else(|| invalid("is stated with a shape, and not there".to_owned()))?;
        state(input, &shape.dims, &mut named).map_err(invalid)?;
    }
    for dim in graph.input.iter_mut().filter_map(shape_of).flatten().flat_map(|shape| &mut shape.dim) {
        if let Some(dimension::Value::DimParam(name)) = &dim.value
            && let Some(&size) = named.get(name)
        {
            dim.value = Some(dimension::Value::DimValue(size));
        }
    }
    Ok(())
}

/// The shape of a tensor, as far as the model says it; `None` for other inputs.
fn shape_of(input: &mut ValueInfoProto) -> Option<&mut Option<TensorShapeProto>> {
    match input.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => Some(&mut tensor.shape),
        _ => None,
    }
}

fn state(
    input: &mut ValueInfoProto,
    sizes: &[Option<u64>],
    named: &mut HashMap<String, i64>,
) -> Result<(), String> {
    let shape = shape_of(input).ok_or("is stated with a shape, and no tensor")?;
    let rank = sizes.len();
    let dims =
        &mut shape.get_or_insert_with(|| TensorShapeProto { dim: vec![Dimension::default(); rank] }).dim;
    if dims.len() != rank {
        return Err(format!("is stated with rank {rank}; the model says {}", dims.len()));
    }
    for (axis, (dim, size)) in dims.iter_mut().zip(sizes).enumerate() {
        let Some(size) = *size else { continue };
        let size = i64::try_from(size).map_err(|_| format!("is stated with size {size}"))?;
        let said = match &dim.value {
            Some(dimension::Value::DimValue(said)) => *said,
            Some(dimension::Value::DimParam(name)) if !name.is_empty() => {
                *named.entry(name.clone()).or_insert(size)
            }
            _ => {
                dim.value = Some(dimension::Value::DimValue(size));
                continue;
            }
        };
        if said != size {
            return Err(format!("is stated with size {size} on axis {axis}; elsewhere it is {said}"));
        }
    }
    Ok(())
}
