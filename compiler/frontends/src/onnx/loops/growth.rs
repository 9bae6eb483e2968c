//! What a loop stacks without knowing how often it runs, or how large each slice is: state that grows.

use ired_graph::types::product;
use ired_graph::{Builder, DType, Dim, RegionId, Tensor, TensorType, ValueId};

use super::super::call::{Call, Outcome};
use super::super::import::{Frame, Importer};
use super::body::Body;

/// A stack in the making.
pub(super) struct Growth {
    /// What it is before the loop, and after one more iteration.
    pub(super) initial: Vec<ValueId>,
    pub(super) next: Vec<ValueId>,
}

impl Growth {
    /// Whether the state is the stack itself, not its elements beside the shape of a slice.
    pub(super) fn is_stack(&self) -> bool {
        self.next.len() == 1
    }

    /// The stack, from the final state, of `count` slices.
    pub(super) fn finish(
        self,
        b: &mut Builder<'_>,
        results: &mut impl Iterator<Item = ValueId>,
        count: &Dim,
    ) -> Outcome {
        let nothing = ValueId(u32::MAX);
        let values = results.next().unwrap_or(nothing);
        if self.is_stack() {
            return Ok(values);
        }
        let slice = b.read_dims(results.next().unwrap_or(nothing), "slice")?;
        Ok(b.reshape(values, [std::slice::from_ref(count), &slice].concat())?)
    }
}

/// Adds the state for a stack of `slice`, a value of the body, to the body's inputs.
pub(super) fn grow(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    frame: &Frame<'_>,
    body: &Body,
    slice: ValueId,
) -> Outcome<Growth> {
    let ty = importer.graph.ty(slice).clone();
    let many = Dim::symbol(importer.graph.symbols.fresh("stacked"));
    if body.is_known_outside(importer, slice) {
        let stack = [&[many], &ty.shape[..]].concat();
        let input = importer.graph.add_region_input(body.region, TensorType::new(ty.dtype, stack));
        let mut b = importer.builder(call.name, "Loop", body.region);
        let slice = b.unsqueeze(slice, &[0])?;
        let next = vec![b.concat(&[input, slice], 0)?];
        let mut b = importer.builder(call.name, "Loop", frame.region);
        let empty = [&[Dim::constant(0)], &ty.shape[..]].concat();
        return Ok(Growth { initial: vec![b.full(ty.dtype, empty, 0.0)?], next });
    }
    let rank = ty.rank() as u64;
    let values = importer.graph.add_region_input(body.region, TensorType::new(ty.dtype, vec![many]));
    importer.graph.add_region_input(body.region, TensorType::of_sizes(DType::I64, &[rank]));
    let next = append(importer, call, body.region, values, slice)?;
    let mut b = importer.builder(call.name, "Loop", frame.region);
    let none = b.constant(Tensor::from_i64s(&[rank], &vec![0; ty.rank()]))?;
    Ok(Growth { initial: vec![b.full(ty.dtype, vec![0.into()], 0.0)?, none], next })
}

/// `values` and the elements of `slice`, and its shape.
fn append(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    region: RegionId,
    values: ValueId,
    slice: ValueId,
) -> Outcome<Vec<ValueId>> {
    let mut b = importer.builder(call.name, "Loop", region);
    let shape = b.shape_of(slice)?;
    let elements = product(&b.ty(slice).shape.clone());
    let flat = b.reshape(slice, vec![elements])?;
    Ok(vec![b.concat(&[values, flat], 0)?, shape])
}
