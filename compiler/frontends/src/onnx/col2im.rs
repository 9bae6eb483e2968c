//! Images from the columns of their blocks, summed where blocks overlap.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ReduceFn, ValueId};

use super::call::{Call, Outcome, invalid, unsupported};
use super::complex;
use super::tensor::MAX_RANK;

/// Input `[n, c · block, blocks]`, in row-major order of the block and of where blocks are; gives `[n, c, image..]`.
pub(super) fn col2im(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let rank = spatial_rank(b, call)?;
    let (image, block) = (call.counted_sizes(b, 1, rank)?, call.counted_sizes(b, 2, rank)?);
    let list = |name: &str, length: usize, least: i64| match call.attributes.ints(name)? {
        None => Outcome::Ok(vec![least; length]),
        Some(list) if list.len() == length && list.iter().all(|v| (least..1 << 28).contains(v)) => {
            Ok(list.to_vec())
        }
        Some(list) => {
            invalid(format!("`{name}` is {list:?}; expected {length} numbers, each at least {least}"))
        }
    };
    let (strides, dilations) = (list("strides", rank, 1)?, list("dilations", rank, 1)?);
    let pads = list("pads", 2 * rank, 0)?;
    let shape = b.ty(x).shape.clone();
    if shape.len() != 3 || block.len() != rank || rank == 0 {
        return invalid(format!(
            "columns of rank {}, an image of rank {rank} and blocks of rank {}",
            shape.len(),
            block.len()
        ));
    }
    let axes: Vec<Axis> = (0..rank)
        .map(|a| Axis {
            image: image[a].clone(),
            block: block[a].clone(),
            stride: strides[a],
            dilation: dilations[a],
            low: pads[a],
            high: pads[rank + a],
        })
        .collect();
    let elements = block.iter().fold(Dim::constant(1), |all, d| all * d.clone());
    let channels = b.graph.symbols.simplify(&shape[1].floor_div(&elements));
    let outer = [shape[0].clone(), channels];
    let counts: Vec<Dim> = axes.iter().map(|axis| b.graph.symbols.simplify(&axis.count())).collect();
    // [n, c, block.., blocks..] with each axis's block and count side by side, then as one axis.
    let apart = b.reshape(x, [&outer[..], &block, &counts].concat())?;
    let order = [0, 1].into_iter().chain((0..rank).flat_map(|a| [2 + a, 2 + rank + a])).collect();
    let paired = b.transpose(apart, order)?;
    let joined = block.iter().zip(&counts).map(|(k, l)| k.clone() * l.clone()).collect::<Vec<_>>();
    let paired = b.reshape(paired, [&outer[..], &joined].concat())?;
    complex::by_part(b, paired, |b, mut result| {
        for (a, (axis, count)) in axes.iter().zip(&counts).enumerate() {
            result = axis.sum(b, result, 2 + a, count)?;
        }
        Ok(result)
    })
}

/// How many axes the image has, of whatever tells it.
fn spatial_rank(b: &Builder<'_>, call: &Call<'_>) -> Outcome<usize> {
    let listed = |index| Outcome::Ok(call.input_type(b, index)?.elements().as_static());
    let attribute = |name| Outcome::Ok(call.attributes.ints(name)?.map(<[i64]>::len));
    let lists = [listed(1)?, listed(2)?].into_iter().flatten().find_map(|n| usize::try_from(n).ok());
    let rank =
        lists.or(attribute("strides")?).or(attribute("dilations")?).or(attribute("pads")?.map(|n| n / 2));
    match rank.or(call.stated_rank(0).and_then(|rank| rank.checked_sub(2))) {
        Some(rank) if rank <= MAX_RANK => Ok(rank),
        Some(rank) => invalid(format!("an image of {rank} axes")),
        None => unsupported(
            "an image of a rank only known at run time",
            "state the rank of the node's output in the model",
        ),
    }
}

struct Axis {
    image: Dim,
    block: Dim,
    stride: i64,
    dilation: i64,
    low: i64,
    high: i64,
}

impl Axis {
    /// How many blocks lie along the axis.
    fn count(&self) -> Dim {
        let reach = (self.block.clone() - 1.into()) * self.dilation.into() + 1.into();
        let padded = self.image.clone() + (self.low + self.high).into();
        (padded - reach).floor_div(&self.stride.into()) + 1.into()
    }

    /// The elements of all blocks, `[.., block · count, ..]`, summed into those of the image.
    fn sum(&self, b: &mut Builder<'_>, x: ValueId, axis: usize, count: &Dim) -> Outcome {
        let table = vec![self.image.clone(), self.block.clone()];
        let position = b.iota(DType::I64, table.clone(), 0)?;
        let tap = b.iota(DType::I64, table, 1)?;
        // Element `tap` of block `i` is at `i · stride + tap · dilation - low`.
        let before = b.binary_scalar(BinaryFn::Mul, tap, self.dilation as f64)?;
        let from = b.binary_scalar(BinaryFn::Add, position, self.low as f64)?;
        let from = b.binary_broadcast(BinaryFn::Sub, from, before)?;
        let blocks = b.dim(count.clone())?;
        let number = b.binary_scalar(BinaryFn::Div, from, self.stride as f64)?;
        let rest = b.binary_scalar(BinaryFn::Mod, from, self.stride as f64)?;
        let zero = b.scalar(DType::I64, 0.0)?;
        let divides = b.compare_broadcast(CompareFn::Eq, rest, zero)?;
        let from_first = b.compare_broadcast(CompareFn::Ge, from, zero)?;
        let to_last = b.compare_broadcast(CompareFn::Lt, number, blocks)?;
        let is_there = b.binary_broadcast(BinaryFn::And, divides, from_first)?;
        let is_there = b.binary_broadcast(BinaryFn::And, is_there, to_last)?;
        let index = b.binary_broadcast(BinaryFn::Mul, tap, blocks)?;
        let index = b.binary_broadcast(BinaryFn::Add, index, number)?;
        let index = b.select_broadcast(is_there, index, zero)?;
        let gathered = b.gather(x, index, axis)?;
        let after: Vec<usize> = (2..b.ty(gathered).rank() - axis).collect();
        let is_there = b.unsqueeze(is_there, &after)?;
        let nothing = b.scalar_like(x, 0.0)?;
        let counted = b.select_broadcast(is_there, gathered, nothing)?;
        Ok(b.reduce(ReduceFn::Sum, counted, &[axis + 1], false)?)
    }
}
