//! Mixtures of experts: every expert's net is run on all tokens, one expert after the other, and weighed by how far the
//! router chose it.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, ReduceFn, UnaryFn, ValueId};

use super::super::activation::{gelu_of, swish_of};
use super::super::call::{Call, Outcome, invalid, unsupported};
use super::super::repeat::{Step, repeat};
use super::weights::unpack;

/// Inputs: tokens, scores of experts, then weights and bias of three layers, of which the last may be missing.
pub(in super::super) fn experts(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let layer = |at: usize| Layer { weights: call.optional(at), bias: call.optional(at + 1), bits: None };
    mixture(b, call, [layer(2), layer(4), layer(6)], None)
}

/// As [`experts`] with weights of few bits. Inputs: tokens, scores, then weights, scales and bias of three layers, zero
/// points of them, and what the chosen experts are weighed by instead of the scores.
pub(in super::super) fn quantized(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    if call.attributes.text("quant_type")?.is_some_and(|kind| kind != "int") {
        return unsupported("experts of floats of few bits", "quantise the experts to integers");
    }
    if call.attributes.int_or("weights_prepacked", 0)? > 0 || (15..=20).any(|at| call.optional(at).is_some())
    {
        return unsupported("weights in an order or of scales of some device's own", "export without them");
    }
    call.attributes.ignore(&["weights_prepacked", "accuracy_level"]);
    let all = call.attributes.int_or("expert_weight_bits", 4)?;
    let mut layers = Vec::new();
    for (i, own) in
        ["fc1_expert_weight_bits", "fc2_expert_weight_bits", "fc3_expert_weight_bits"].into_iter().enumerate()
    {
        let bits = call.attributes.int_or(own, all)?;
        if !matches!(bits, 2 | 4 | 8) {
            return unsupported(format!("weights of {bits} bits"), "quantise the weights to 2, 4 or 8 bits");
        }
        let at = 2 + 3 * i;
        let (scales, zeros) = (call.optional(at + 1), call.optional(11 + i));
        let bits = Some(Bits { bits, scales, zeros });
        layers.push(Layer { weights: call.optional(at), bias: call.optional(at + 2), bits });
    }
    // A positive size only says what the shape of the scales does.
    call.attributes.ignore(&["block_size"]);
    match layers.as_slice() {
        [first, second, third] => mixture(b, call, [*first, *second, *third], call.optional(14)),
        _ => invalid("has no layers"),
    }
}

#[derive(Clone, Copy)]
struct Layer {
    /// `[experts, outputs, inputs]`
    weights: Option<ValueId>,
    /// `[experts, outputs]`
    bias: Option<ValueId>,
    bits: Option<Bits>,
}

#[derive(Clone, Copy)]
struct Bits {
    bits: i64,
    /// `[experts, outputs]` or `[experts, outputs, blocks]`
    scales: Option<ValueId>,
    zeros: Option<ValueId>,
}

fn mixture(b: &mut Builder<'_>, call: &Call<'_>, layers: [Layer; 3], given: Option<ValueId>) -> Outcome {
    let x = call.input(0)?;
    let ty = b.ty(x).clone();
    let Some(hidden) = ty.shape.last().cloned().filter(|_| ty.rank() >= 2) else {
        return invalid(format!("tokens of rank {}", ty.rank()));
    };
    let tokens = ired_graph::types::product(&ty.shape[..ty.rank() - 1]);
    let flat = b.reshape(x, vec![tokens.clone(), hidden.clone()])?;
    let flat = b.cast(flat, DType::F32)?;
    let routing = routing(b, call, given)?;
    let activation = Activation::of(call)?;
    let [first, second, third] = layers;
    if third.weights.is_some() && activation.gate != Gate::None {
        return unsupported("a third layer besides a gate in the first", "export with one of the two");
    }
    let Some(experts) = b.ty(routing).shape.get(1).cloned() else { return invalid("scores of rank 1") };
    for weights in layers.iter().filter_map(|layer| layer.weights) {
        let found = b.ty(weights).shape.first().cloned().unwrap_or(1.into());
        if b.graph.symbols.is_known_ne(&found, &experts) {
            let (found, scored) = (found.display(&b.graph.symbols), experts.display(&b.graph.symbols));
            return invalid(format!("weights of {found} experts and scores of {scored}"));
        }
    }
    let nothing = b.full(DType::F32, vec![tokens.clone(), hidden], 0.0)?;
    let results = repeat(b, experts, &[nothing], |b, expert, state| {
        let inner = first.apply(b, flat, expert)?;
        let mut inner = activation.apply(b, inner)?;
        if third.weights.is_some() {
            let gate = third.apply(b, flat, expert)?;
            inner = b.binary_broadcast(BinaryFn::Mul, inner, gate)?;
        }
        let outer = second.apply(b, inner, expert)?;
        let share = b.slice_axis(routing, 1, expert.clone(), 1.into())?;
        let weighed = b.binary_broadcast(BinaryFn::Mul, outer, share)?;
        Ok(Step { state: vec![b.binary_broadcast(BinaryFn::Add, state[0], weighed)?], slices: Vec::new() })
    })?;
    let result = b.reshape(results[0], ty.shape)?;
    Ok(b.cast(result, ty.dtype)?)
}

/// How far each token goes to each expert: `[tokens, experts]` in f32, zeros but for the `k` best.
fn routing(b: &mut Builder<'_>, call: &Call<'_>, given: Option<ValueId>) -> Outcome {
    if call.attributes.flag("use_sparse_mixer", false)? {
        return unsupported("routing by a sparse mixer", "export the router with standard operators");
    }
    let scores = b.cast(call.input(1)?, DType::F32)?;
    let shape = b.ty(scores).shape.clone();
    let [_, experts] = shape.as_slice() else { return invalid("scores of experts that are no matrix") };
    let k = call.attributes.int_or("k", 1)?;
    if k < 1 || experts.as_static().is_some_and(|n| k > n) {
        return invalid(format!("{k} experts of {}", experts.display(&b.graph.symbols)));
    }
    let order = b.sort(scores, 1, true)?;
    // The rank of each expert: where it stands in the order.
    let rank = b.sort(order, 1, false)?;
    let bound = b.scalar(DType::I64, k as f64)?;
    let chosen = b.compare_broadcast(CompareFn::Lt, rank, bound)?;
    let nothing = b.scalar(DType::F32, 0.0)?;
    let normal = call.attributes.flag("normalize_routing_weights", false)?;
    if let Some(given) = given {
        let given = b.cast(given, DType::F32)?;
        let shares = b.select_broadcast(chosen, given, nothing)?;
        return if normal { share_out(b, shares) } else { Ok(shares) };
    }
    let all = b.softmax(scores, 1, false)?;
    let shares = b.select_broadcast(chosen, all, nothing)?;
    if normal { share_out(b, shares) } else { Ok(shares) }
}

/// Rows divided by their sums.
fn share_out(b: &mut Builder<'_>, shares: ValueId) -> Outcome {
    let sum = b.reduce(ReduceFn::Sum, shares, &[1], true)?;
    Ok(b.binary_broadcast(BinaryFn::Div, shares, sum)?)
}

impl Layer {
    /// `x * weightsᵀ + bias` of one expert.
    fn apply(&self, b: &mut Builder<'_>, x: ValueId, expert: &Dim) -> Outcome {
        let Some(weights) = self.weights else { return invalid("has no weights of a layer") };
        let own = of_expert(b, weights, expert)?;
        let own = match self.bits {
            Some(bits) => bits.dequantize(b, own, expert)?,
            None => b.cast(own, DType::F32)?,
        };
        let turned = b.transpose(own, vec![1, 0])?;
        let product = b.push(Op::MatMul, &[x, turned])?;
        let Some(bias) = self.bias else { return Ok(product) };
        let bias = of_expert(b, bias, expert)?;
        let bias = b.cast(bias, DType::F32)?;
        Ok(b.binary_broadcast(BinaryFn::Add, product, bias)?)
    }
}

/// What `all` holds for one expert.
fn of_expert(b: &mut Builder<'_>, all: ValueId, expert: &Dim) -> Outcome {
    let one = b.slice_axis(all, 0, expert.clone(), 1.into())?;
    let shape = b.ty(one).shape[1..].to_vec();
    Ok(b.reshape(one, shape)?)
}

impl Bits {
    /// `(numbers - zero) * scale` in f32 of bytes `[outputs, inputs * bits / 8]`.
    fn dequantize(&self, b: &mut Builder<'_>, bytes: ValueId, expert: &Dim) -> Outcome {
        if b.ty(bytes).dtype != DType::U8 {
            return unsupported(
                format!("weights of {}", b.ty(bytes).dtype),
                "quantise the experts to integers",
            );
        }
        let Some(scales) = self.scales else { return invalid("weights of few bits without scales") };
        let numbers = unpack(b, bytes, self.bits)?;
        let numbers = b.cast(numbers, DType::F32)?;
        let shape = b.ty(numbers).shape.clone();
        let scales = of_expert(b, scales, expert)?;
        let scales = b.cast(scales, DType::F32)?;
        let count = b.ty(scales).elements();
        let blocks = if b.ty(scales).rank() == 2 { b.ty(scales).shape[1].clone() } else { 1.into() };
        let scales = spread(b, scales, &shape, &blocks)?;
        let centred = match self.zeros {
            None => b.binary_scalar(BinaryFn::Sub, numbers, (1 << (self.bits - 1)) as f64)?,
            Some(zeros) => {
                let zeros = of_expert(b, zeros, expert)?;
                let zeros = unpack(b, zeros, self.bits)?;
                // The last byte of a row, or of all, may have room left.
                let zeros = match b.ty(zeros).rank() {
                    1 => b.slice_axis(zeros, 0, 0.into(), count)?,
                    _ => b.slice_axis(zeros, 1, 0.into(), blocks.clone())?,
                };
                let zeros = b.cast(zeros, DType::F32)?;
                let zeros = spread(b, zeros, &shape, &blocks)?;
                b.binary_broadcast(BinaryFn::Sub, numbers, zeros)?
            }
        };
        Ok(b.binary_broadcast(BinaryFn::Mul, centred, scales)?)
    }
}

/// One number a block of a row, as one an element of `shape`.
fn spread(b: &mut Builder<'_>, numbers: ValueId, shape: &[Dim], blocks: &Dim) -> Outcome {
    let [rows, columns] = shape else { return invalid("weights of an expert that are no matrix") };
    let each = b.reshape(numbers, vec![rows.clone(), blocks.clone(), 1.into()])?;
    let size = columns.floor_div(blocks);
    let each = b.broadcast_to(each, vec![rows.clone(), blocks.clone(), size])?;
    Ok(b.reshape(each, shape.to_vec())?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Relu,
    Gelu,
    Silu,
    Identity,
    Swiglu,
}

/// Which of the first layer's outputs are the gate of the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    None,
    /// Every second one is gated by the one before it.
    Interleaved,
    /// The second half is gated by the first.
    Halves,
}

struct Activation {
    function: Function,
    gate: Gate,
    alpha: f64,
    beta: f64,
    limit: Option<f64>,
}

impl Activation {
    fn of(call: &Call<'_>) -> Outcome<Self> {
        let function = match call.attributes.text("activation_type")?.unwrap_or("relu") {
            "relu" => Function::Relu,
            "gelu" => Function::Gelu,
            "silu" => Function::Silu,
            "identity" => Function::Identity,
            "swiglu" => Function::Swiglu,
            other => return invalid(format!("activation_type `{other}`")),
        };
        let gate = match (function, call.attributes.int_or("swiglu_fusion", 0)?) {
            (Function::Swiglu, 1) => Gate::Interleaved,
            (Function::Swiglu, 2) => Gate::Halves,
            (Function::Swiglu, other) => {
                return unsupported(
                    format!("swiglu_fusion {other}"),
                    "export with the gate in the first layer",
                );
            }
            _ => Gate::None,
        };
        let (alpha, beta) = (
            call.attributes.float_or("activation_alpha", 1.0)?,
            call.attributes.float_or("activation_beta", 0.0)?,
        );
        Ok(Self { function, gate, alpha, beta, limit: call.attributes.float("swiglu_limit")? })
    }

    fn apply(&self, b: &mut Builder<'_>, x: ValueId) -> Outcome {
        match self.function {
            Function::Relu => Ok(b.binary_scalar(BinaryFn::Max, x, 0.0)?),
            Function::Gelu => gelu_of(b, x, false),
            Function::Silu => swish_of(b, x, 1.0),
            Function::Identity => Ok(x),
            Function::Swiglu => self.gated(b, x),
        }
    }

    /// `g * sigmoid(alpha * g) * (l + beta)`, both kept within the limit.
    fn gated(&self, b: &mut Builder<'_>, x: ValueId) -> Outcome {
        let shape = b.ty(x).shape.clone();
        let [tokens, both] = shape.as_slice() else { return invalid("a first layer that gives no matrix") };
        let half = both.floor_div(&2.into());
        let mut part = |at: i64| {
            let (start, stride) = match self.gate {
                Gate::Interleaved => (Dim::constant(at), 2),
                _ => (Dim::constant(at) * half.clone(), 1),
            };
            b.slice(x, vec![0.into(), start], vec![tokens.clone(), half.clone()], vec![1, stride])
        };
        let (mut gate, mut linear) = (part(0)?, part(1)?);
        if let Some(limit) = self.limit {
            gate = b.binary_scalar(BinaryFn::Min, gate, limit)?;
            linear = b.binary_scalar(BinaryFn::Min, linear, limit)?;
            linear = b.binary_scalar(BinaryFn::Max, linear, -limit)?;
        }
        let bent = b.binary_scalar(BinaryFn::Mul, gate, self.alpha)?;
        let bent = b.unary(UnaryFn::Sigmoid, bent)?;
        let gate = b.binary_broadcast(BinaryFn::Mul, gate, bent)?;
        let linear = b.binary_scalar(BinaryFn::Add, linear, self.beta)?;
        Ok(b.binary_broadcast(BinaryFn::Mul, gate, linear)?)
    }
}
