//! Weights in the form that kernels read: the model's own bytes where nothing was rearranged.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use ired_graph::{DType, Graph};
use ired_module::{ParamDraft, ParamSource};

use crate::dispatch::Packing;
use crate::kernels;
use crate::program::ProgramParam;

/// Every parameter, in the program's order.
pub(super) fn list(graph: &Graph, params: &[ProgramParam]) -> Vec<ParamDraft> {
    let mut names: HashMap<String, usize> = HashMap::new();
    params
        .iter()
        .map(|ProgramParam { param, packing }| {
            let param = graph.param(*param);
            let bytes: Box<dyn ParamSource> = match packing {
                None => Box::new(param.data.clone()),
                Some(packing) => Box::new(Packed {
                    packing: packing.clone(),
                    dtype: param.dtype,
                    shape: param.shape.clone(),
                    data: param.data.clone(),
                }),
            };
            let count = names.entry(param.name.clone()).or_default();
            *count += 1;
            let name = match *count {
                1 => param.name.clone(),
                n => format!("{}.{n}", param.name),
            };
            ParamDraft { name, bytes }
        })
        .collect()
}

/// Weights in another order, which they are brought into when they are written: all of them at once would take as much
/// memory as the model.
struct Packed {
    packing: Packing,
    dtype: DType,
    shape: Vec<u64>,
    data: Bytes,
}

impl ParamSource for Packed {
    fn len_bytes(&self) -> u64 {
        kernels::packed_bytes(&self.packing, self.dtype, &self.shape)
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(kernels::pack(&self.packing, self.dtype, &self.shape, &self.data))
    }
}
