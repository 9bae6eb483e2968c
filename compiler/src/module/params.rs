//! Weights in the form that kernels read: the model's own bytes where nothing was rearranged.

use std::collections::HashMap;

use bytes::Bytes;
use ired_graph::Graph;
use ired_module::ParamDraft;

use crate::kernels;
use crate::program::ProgramParam;

/// Bytes of every parameter, in the program's order. Only rearranged weights are copied.
pub(super) fn materialize(graph: &Graph, params: &[ProgramParam]) -> Vec<ParamDraft> {
    let mut names: HashMap<String, usize> = HashMap::new();
    params
        .iter()
        .map(|ProgramParam { param, packing }| {
            let param = graph.param(*param);
            let data = match packing {
                None => param.data.clone(),
                Some(packing) => Bytes::from(kernels::pack(packing, param.dtype, &param.shape, &param.data)),
            };
            let count = names.entry(param.name.clone()).or_default();
            *count += 1;
            let name = match *count {
                1 => param.name.clone(),
                n => format!("{}.{n}", param.name),
            };
            ParamDraft { name, bytes: Box::new(data) }
        })
        .collect()
}
