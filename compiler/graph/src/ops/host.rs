//! Functions that the host runs: their types, and running them.

use ired_host::{HostTensor, Limits, StringTable, TensorView};

use super::check::Operands;
use super::{ComputeError, ShapeError};
use crate::tensor::element_count;
use crate::{DType, Dim, Graph, Op, Tensor, TensorType, ValueId};

/// Whether `op`, an [`Op::Host`], says what can be: a function there is, types that host functions know, symbols that are
/// dimensions of its results.
pub(crate) fn check(graph: &Graph, op: &Op, operands: &[ValueId]) -> Result<(), ShapeError> {
    let types: Vec<&TensorType> = operands.iter().map(|v| graph.ty(*v)).collect();
    let checked = Operands::new(op, &types, &graph.symbols);
    let Op::Host { function, results, symbols } = op else { return Ok(()) };
    ired_host::find(function).map_err(|error| checked.attribute("function", format!("is wrong: {error}")))?;
    for (i, ty) in types.iter().enumerate() {
        checked.dtype(i, host_dtype(ty.dtype).is_some(), "a type that host functions read")?;
    }
    if results.is_empty() {
        return Err(checked.attribute("results", "are none"));
    }
    for ty in results {
        if host_dtype(ty.dtype).is_none() {
            return Err(checked.attribute("results", format!("are of {}", ty.dtype)));
        }
        checked.sizes("results", &ty.shape)?;
        checked.bounded(ty.clone())?;
    }
    let is_result_dim =
        |symbol| results.iter().flat_map(|ty| &ty.shape).any(|d| d.as_symbol() == Some(symbol));
    match symbols.iter().find(|symbol| !is_result_dim(**symbol)) {
        None => Ok(()),
        Some(&symbol) => {
            let name = Dim::symbol(symbol).display(&graph.symbols).to_string();
            Err(checked.attribute("symbols", format!("name {name}, which is no dimension of a result")))
        }
    }
}

/// Runs the function of `op`, an [`Op::Host`]; results have the number and element types that it says.
pub(crate) fn compute(
    op: &Op,
    operands: &[Tensor],
    strings: &mut StringTable,
    limit_bytes: u64,
) -> Result<Vec<Tensor>, ComputeError> {
    let Op::Host { function, results, .. } = op else { return Ok(Vec::new()) };
    let views: Option<Vec<TensorView<'_>>> = operands.iter().map(view).collect();
    // `check` has seen to the types of operands.
    let views = views.unwrap_or_default();
    let limits = Limits::default();
    let limits = Limits { bytes: limits.bytes.min(limit_bytes), ..limits };
    let given = ired_host::run(function, &views, strings, limits)?;
    let types = |given: &[HostTensor]| given.iter().map(|t| t.dtype.name()).collect::<Vec<_>>();
    let expected: Vec<&str> = results.iter().map(|ty| ty.dtype.name()).collect();
    if types(&given) != expected {
        let (expected, found) = (format!("{expected:?}"), format!("{:?}", types(&given)));
        let what = format!("results of `{}`", function.function);
        return Err(ShapeError::Mismatch { op: op.name(), what, expected, found }.into());
    }
    let tensors = given.into_iter().zip(results);
    tensors.map(|(given, ty)| Ok(Tensor::new(ty.dtype, given.dims, given.data.into())?)).collect()
}

fn view(tensor: &Tensor) -> Option<TensorView<'_>> {
    let dtype = host_dtype(tensor.dtype())?;
    debug_assert_eq!(element_count(tensor.shape()), Some(tensor.len() as u64));
    Some(TensorView { dtype, dims: tensor.shape(), data: tensor.data() })
}

/// The two crates name the types that both have the same.
fn host_dtype(dtype: DType) -> Option<ired_host::DType> {
    ired_host::DType::named(dtype.name())
}
