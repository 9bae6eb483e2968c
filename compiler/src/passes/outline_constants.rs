//! Gives literals the form that kernels want: one number for a tensor of equal elements, a parameter for all else.

use ired_graph::{Dim, Graph, Op};

use super::PassError;
use super::literal;
use super::rewrite::rewrite;

pub(super) fn outline_constants(graph: &mut Graph) -> Result<(), PassError> {
    rewrite(graph, &mut |rw, id| {
        let Op::Constant(tensor) = &rw.node(id).op else { return Ok(None) };
        let tensor = tensor.clone();
        if tensor.shape().is_empty() {
            return Ok(None);
        }
        if literal::splat(&tensor).is_some()
            && let Some(scalar) = literal::to_scalar(&tensor)
        {
            let shape = tensor.shape().iter().map(|&d| Dim::constant(d as i64)).collect();
            let scalar = rw.add_constant(scalar)?;
            return Ok(Some(vec![rw.broadcast(scalar, shape)?]));
        }
        Ok(Some(vec![rw.add_param("literal", tensor)?]))
    })?;
    Ok(())
}
