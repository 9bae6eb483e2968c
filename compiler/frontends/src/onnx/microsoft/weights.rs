//! Weights of few bits, in blocks that have a scale and a zero point each.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, Tensor, ValueId};

use super::super::call::{Call, Outcome, axis, invalid, unsupported};
use super::activation::with_bias;

/// The numbers of `bits` bits in the last axis of bytes, the low bits first.
pub(super) fn unpack(b: &mut Builder<'_>, bytes: ValueId, bits: i64) -> Outcome {
    if bits == 8 {
        return Ok(bytes);
    }
    let mut shape = b.ty(bytes).shape.clone();
    let count = 8 / bits;
    let shifts: Vec<i128> = (0..count).map(|i| i128::from(i * bits)).collect();
    let shifts = b.constant(Tensor::from_integers(DType::U8, &[count as u64], &shifts))?;
    let each = b.unsqueeze(bytes, &[shape.len()])?;
    let shifted = b.binary_broadcast(BinaryFn::ShiftRight, each, shifts)?;
    let numbers = b.binary_scalar(BinaryFn::And, shifted, ((1 << bits) - 1) as f64)?;
    if let Some(last) = shape.last_mut() {
        *last = last.clone() * count.into();
    }
    Ok(b.reshape(numbers, shape)?)
}

/// The same, of bytes that the model holds as they are: seen as integers of so many bits.
fn numbers_of(b: &mut Builder<'_>, bytes: ValueId, bits: i64) -> Outcome {
    let dtype = match bits {
        2 => DType::U2,
        4 => DType::U4,
        _ => return unpack(b, bytes, bits),
    };
    let Some(stored) = stored(b, bytes) else { return unpack(b, bytes, bits) };
    let mut shape = stored.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last *= (8 / bits) as u64;
    }
    match Tensor::new(dtype, shape, stored.data().clone()) {
        Ok(numbers) => Ok(b.constant(numbers)?),
        Err(_) => unpack(b, bytes, bits),
    }
}

/// The constant or weight that `value` is, in its shape.
fn stored(b: &Builder<'_>, value: ValueId) -> Option<Tensor> {
    let node = b.graph.node(b.graph.producer(value)?);
    let tensor = match &node.op {
        Op::Constant(tensor) => tensor.clone(),
        Op::Param(id) => b.graph.param(*id).to_tensor().ok()?,
        Op::Reshape { .. } => stored(b, node.operands[0])?,
        _ => return None,
    };
    tensor.with_shape(b.ty(value).static_shape()?).ok()
}

/// `bits` of a node, one of those that divide a byte.
fn bits_of(call: &Call<'_>) -> Outcome<i64> {
    match call.attributes.int_or("bits", 4)? {
        bits @ (2 | 4 | 8) => Ok(bits),
        bits => unsupported(format!("weights of {bits} bits"), "quantise the weights to 2, 4 or 8 bits"),
    }
}

/// A positive size in an attribute.
pub(super) fn size_of(call: &Call<'_>, name: &str) -> Outcome<i64> {
    match call.attributes.int(name)? {
        Some(size @ 1..=0x7fff_ffff) => Ok(size),
        other => invalid(format!("{name} is {other:?}; expected a size")),
    }
}

/// `x * weightsᵀ + bias`. Inputs: x, bytes of weights `[n, blocks, bytes]`, scales `[n, blocks]`, zero points (bytes of
/// the same bits, or numbers), the block of each column, bias.
pub(in super::super) fn matmul_bits(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    // How exact the product has to be at least: it is as exact as f32 gets.
    call.attributes.ignore(&["accuracy_level"]);
    if call.attributes.int_or("weight_prepacked", 0)? != 0 {
        return unsupported(
            "weights in an order of some device's own",
            "export the model without prepacking",
        );
    }
    let bits = bits_of(call)?;
    let (k, n, block) = (size_of(call, "K")?, size_of(call, "N")?, size_of(call, "block_size")?);
    let x = call.input(0)?;
    let dtype = b.ty(x).dtype;
    let blocks = k.div_euclid(block) + i64::from(k % block != 0);
    let bytes = call.input(1)?;
    if b.ty(bytes).dtype != DType::U8 {
        return invalid(format!("weights of {}; expected bytes", b.ty(bytes).dtype));
    }
    let bytes = b.reshape(bytes, vec![n.into(), (blocks * (block * bits / 8)).into()])?;
    let numbers = numbers_of(b, bytes, bits)?;
    let numbers = b.cast(numbers, DType::F32)?;
    let scales = b.cast(call.input(2)?, DType::F32)?;
    let scales = b.reshape(scales, vec![n.into(), blocks.into()])?;
    let zeros = match call.optional(3) {
        Some(zeros) if b.ty(zeros).dtype == DType::U8 => {
            let width = (blocks * bits + 7) / 8;
            let packed = b.reshape(zeros, vec![n.into(), width.into()])?;
            let zeros = numbers_of(b, packed, bits)?;
            let zeros = b.slice_axis(zeros, 1, 0.into(), blocks.into())?;
            Some(b.cast(zeros, DType::F32)?)
        }
        Some(zeros) => {
            let zeros = b.cast(zeros, DType::F32)?;
            Some(b.reshape(zeros, vec![n.into(), blocks.into()])?)
        }
        None => None,
    };
    let spread = Spread::of(b, call.optional(4), [n, blocks, block])?;
    let numbers = match zeros {
        Some(zeros) => {
            let zeros = spread.apply(b, zeros)?;
            b.binary_broadcast(BinaryFn::Sub, numbers, zeros)?
        }
        None => b.binary_scalar(BinaryFn::Sub, numbers, (1 << (bits - 1)) as f64)?,
    };
    let scales = spread.apply(b, scales)?;
    let weights = b.binary_broadcast(BinaryFn::Mul, numbers, scales)?;
    let weights = b.slice_axis(weights, 1, 0.into(), k.into())?;
    let weights = b.cast(weights, dtype)?;
    let weights = b.transpose(weights, vec![1, 0])?;
    let product = b.matmul_broadcast(x, weights)?;
    with_bias(b, call, product, 5)
}

/// From a number a block to a number a column.
struct Spread {
    /// The block of each column, where that is not its place over the block's size.
    of_column: Option<ValueId>,
    sizes: [i64; 3],
}

impl Spread {
    fn of(b: &mut Builder<'_>, groups: Option<ValueId>, sizes: [i64; 3]) -> Outcome<Self> {
        let [_, blocks, block] = sizes;
        let Some(groups) = groups else { return Ok(Self { of_column: None, sizes }) };
        // Columns past the last are of any block; they are cut off.
        let given = b.ty(groups).elements();
        let missing = Dim::constant(blocks * block) - given.clone();
        let flat = b.reshape(groups, vec![given])?;
        let fill = b.scalar_like(flat, 0.0)?;
        let constant = ired_graph::PadMode::Constant;
        let of_column = b.pad(flat, vec![0.into()], vec![missing], constant, Some(fill))?;
        Ok(Self { of_column: Some(of_column), sizes })
    }

    fn apply(&self, b: &mut Builder<'_>, numbers: ValueId) -> Outcome {
        let [n, blocks, block] = self.sizes;
        if let Some(of_column) = self.of_column {
            return Ok(b.gather(numbers, of_column, 1)?);
        }
        let each = b.unsqueeze(numbers, &[2])?;
        let each = b.broadcast_to(each, vec![n.into(), blocks.into(), block.into()])?;
        Ok(b.reshape(each, vec![n.into(), (blocks * block).into()])?)
    }
}

/// Rows of a table of few bits, as numbers. Inputs: data, indices, scales, zero points; a row that is not there is
/// zeros.
pub(in super::super) fn gather_blocks(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, indices, scales) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (ty, to) = (b.ty(data).clone(), b.ty(scales).dtype);
    let block = size_of(call, "block_size").or_else(|refusal| {
        if call.attributes.int("block_size")?.is_none() { Ok(128) } else { Err(refusal) }
    })?;
    let bits = bits_of(call)?;
    let rank = ty.rank();
    let gathered = axis(call.attributes.int_or("gather_axis", 0)?, rank)?;
    let blocked = axis(call.attributes.int_or("quantize_axis", 1)?, rank)?;
    let packed = ty.dtype == DType::U8;
    if !ty.dtype.is_integer() {
        return unsupported(format!("a table of {}", ty.dtype), "quantise the table to integers");
    }
    if gathered == blocked || packed && bits < 8 && gathered + 1 == rank {
        return invalid(format!("gathers along axis {gathered}, which is quantised along {blocked}"));
    }
    let size = ty.shape[gathered].clone();
    let indices = b.cast(indices, DType::I64)?;
    let extent = b.dim(size)?;
    let zero = b.scalar(DType::I64, 0.0)?;
    let wrapped = b.binary_broadcast(BinaryFn::Add, indices, extent)?;
    let negative = b.compare_broadcast(CompareFn::Lt, indices, zero)?;
    let place = b.select_broadcast(negative, wrapped, indices)?;
    let not_before = b.compare_broadcast(CompareFn::Ge, place, zero)?;
    let not_after = b.compare_broadcast(CompareFn::Lt, place, extent)?;
    let is_there = b.binary_broadcast(BinaryFn::And, not_before, not_after)?;
    let place = b.select_broadcast(is_there, place, zero)?;
    let rows = |b: &mut Builder<'_>, table: ValueId| -> Outcome {
        // Elements of less than a byte are widened before they are chosen.
        let table = match b.ty(table).dtype {
            DType::U4 => b.cast(table, DType::U8)?,
            DType::I4 => b.cast(table, DType::I8)?,
            _ => table,
        };
        let table = if packed && b.ty(table).dtype == DType::U8 { unpack(b, table, bits)? } else { table };
        let rows = b.gather(table, place, gathered)?;
        Ok(b.cast(rows, DType::F32)?)
    };
    let mut numbers = rows(b, data)?;
    let zeros = call.optional(3).map(|zeros| rows(b, zeros)).transpose()?;
    let wide = b.cast(scales, DType::F32)?;
    let scales = b.gather(wide, place, gathered)?;
    // Axes after the gathered one move by those of the indices.
    let moved = b.ty(indices).rank();
    let blocked = if blocked > gathered { blocked + moved - 1 } else { blocked };
    match zeros {
        Some(zeros) => {
            let zeros = spread_blocks(b, zeros, blocked, block, numbers)?;
            numbers = b.binary_broadcast(BinaryFn::Sub, numbers, zeros)?;
        }
        None if packed => numbers = b.binary_scalar(BinaryFn::Sub, numbers, (1 << (bits - 1)) as f64)?,
        None => {}
    }
    let scales = spread_blocks(b, scales, blocked, block, numbers)?;
    let result = b.binary_broadcast(BinaryFn::Mul, numbers, scales)?;
    let mut column = vec![Dim::constant(1); b.ty(result).rank()];
    column[gathered..gathered + moved].clone_from_slice(&b.ty(is_there).shape.clone());
    let is_there = b.reshape(is_there, column)?;
    let none = b.scalar_like(result, 0.0)?;
    let result = b.select_broadcast(is_there, result, none)?;
    Ok(b.cast(result, to)?)
}

/// `parameters` of one number a block along `axis`, as many numbers as `like` has.
fn spread_blocks(
    b: &mut Builder<'_>,
    parameters: ValueId,
    axis: usize,
    block: i64,
    like: ValueId,
) -> Outcome {
    let shape = b.ty(like).shape.clone();
    let counter = b.iota(DType::I64, vec![shape[axis].clone()], 0)?;
    let of_column = b.binary_scalar(BinaryFn::Div, counter, block as f64)?;
    let spread = b.gather(parameters, of_column, axis)?;
    Ok(b.broadcast_to(spread, shape)?)
}
