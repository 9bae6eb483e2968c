//! Values for the inputs of any graph.

use std::collections::HashMap;

use ired_frontends::onnx::proto::ModelProto;
use ired_frontends::onnx::read_test_tensor;
use ired_graph::{DType, Dim, Graph, SymbolId, Tensor, TensorType, ValueId};
use ired_host::StringTable;
use prost::Message;

/// Inputs of more elements are not made.
const MAX_ELEMENTS: u64 = 1 << 14;

/// A model's initializers whose names begin so hold values for the inputs named after it, or numbered: `value of #0`.
/// Nothing in the model uses them, so that for the importer they are not there.
const STORED: &str = "value of ";

/// How inputs are filled.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// The value of a symbol is one of these, by its number.
    pub sizes: [i64; 2],
    /// What integers begin with: they are indices, axes and sizes, of which most are valid when they are small.
    pub first: i64,
}

impl Fill {
    /// Usual sizes, sizes that differ from them, and those that are easily forgotten.
    pub const ALL: [Self; 4] = [
        Self { sizes: [2, 3], first: 0 },
        Self { sizes: [1, 1], first: 1 },
        Self { sizes: [4, 2], first: -1 },
        Self { sizes: [0, 2], first: 2 },
    ];
}

/// Values for every input of `graph`; `None` where they would be large, or a size is negative.
pub fn inputs_for(graph: &Graph, strings: &mut StringTable, fill: Fill) -> Option<Vec<Tensor>> {
    let mut inputs = Vec::new();
    let ids = graph.inputs();
    while let Some(&id) = ids.get(inputs.len()) {
        let part = |at: usize, part: &str| {
            ids.get(at).and_then(|v| graph.value(*v).name.as_deref()?.strip_suffix(part))
        };
        let at = inputs.len();
        match part(at, ".values").filter(|name| part(at + 1, ".shapes") == Some(*name)) {
            Some(_) => inputs.extend(sequence(graph, [id, ids[at + 1]], strings, fill)?),
            None => inputs.push(tensor(graph.ty(id), strings, fill)?),
        }
    }
    Some(inputs)
}

/// The values that a model brings for its inputs; `None` unless there is one for each of them.
pub fn stored_inputs(model: &ModelProto, graph: &Graph, strings: &mut StringTable) -> Option<Vec<Tensor>> {
    let initializers = model.graph.iter().flat_map(|graph| &graph.initializer);
    let stored: HashMap<&str, _> =
        initializers.filter_map(|tensor| Some((tensor.name().strip_prefix(STORED)?, tensor))).collect();
    let mut read = |(position, id): (usize, &ValueId)| {
        let named = stored.get(graph.value(*id).name.as_deref()?);
        let proto = named.or_else(|| stored.get(format!("#{position}").as_str()))?;
        read_test_tensor(proto.encode_to_vec().into(), strings).ok()
    };
    graph.inputs().iter().enumerate().map(&mut read).collect()
}

fn size(dim: &Dim, fill: Fill) -> Option<u64> {
    let size = dim.evaluate(&|SymbolId(number)| Some(fill.sizes[number as usize % 2]))?;
    u64::try_from(size).ok()
}

fn tensor(ty: &TensorType, strings: &mut StringTable, fill: Fill) -> Option<Tensor> {
    let shape: Vec<u64> = ty.shape.iter().map(|dim| size(dim, fill)).collect::<Option<_>>()?;
    filled(ty.dtype, &shape, strings, fill)
}

fn filled(dtype: DType, shape: &[u64], strings: &mut StringTable, fill: Fill) -> Option<Tensor> {
    let count = match shape.contains(&0) {
        true => 0,
        false => shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n <= MAX_ELEMENTS)?,
    };
    let numbers = 0..count as i64;
    Some(match dtype {
        DType::String => {
            let texts = ["a", "b c", "", "1.5", "b"];
            let handles = numbers.map(|i| strings.intern(texts[i as usize % texts.len()].as_bytes()));
            let bytes =
                handles.map(|handle| handle.map(u64::to_le_bytes)).collect::<Result<Vec<_>, _>>().ok()?;
            Tensor::new(dtype, shape.to_vec(), bytes.concat().into()).ok()?
        }
        DType::Bool => {
            Tensor::from_bools(shape, &numbers.map(|i| (i + fill.first) % 2 != 1).collect::<Vec<_>>())
        }
        _ if dtype.is_integer() => {
            let values: Vec<i128> = numbers.map(|i| i128::from((i + fill.first) % 4)).collect();
            Tensor::from_integers(dtype, shape, &values)
        }
        _ => {
            let values: Vec<f64> = numbers.map(|i| ((i + fill.first) as f64 * 0.7).sin() * 2.0).collect();
            Tensor::from_f64s(dtype, shape, &values)
        }
    })
}

/// A sequence of a few tensors: all elements, and a row of sizes for each.
fn sequence(
    graph: &Graph,
    [values, shapes]: [ValueId; 2],
    strings: &mut StringTable,
    fill: Fill,
) -> Option<[Tensor; 2]> {
    let [length, rank] = graph.ty(shapes).shape.as_slice() else { return None };
    let (length, rank) = (size(length, fill)?, size(rank, fill)?);
    if length.checked_mul(rank)? > MAX_ELEMENTS {
        return None;
    }
    let rows: Vec<i64> = (0..length * rank).map(|i| fill.sizes[(i / rank.max(1)) as usize % 2]).collect();
    let total = rows.chunks(rank.max(1) as usize).map(|row| row.iter().product::<i64>()).sum::<i64>();
    let total = if rank == 0 { length } else { u64::try_from(total).ok()? };
    let shapes = Tensor::from_i64s(&[length, rank], &rows);
    Some([filled(graph.ty(values).dtype, &[total], strings, fill)?, shapes])
}
