//! Einsum: products of any number of tensors, summed over the axes that the result leaves out. Two operands at a time
//! become one matrix product, or are multiplied element by element where nothing is summed.

mod equation;

use std::collections::BTreeMap;

use ired_graph::types::product;
use ired_graph::{BinaryFn, Builder, DType, Dim, Op, ReduceFn, ValueId};

use self::equation::{Equation, Label};
use super::call::{Call, Outcome, invalid, unsupported};

/// Every pair of operands is looked at.
const MAX_OPERANDS: usize = 128;

/// Operands among which the best pair is looked for; more are taken from left to right.
const MAX_ORDERED: usize = 24;

/// What an unknown size counts as when pairs are compared.
const ASSUMED_SIZE: f64 = 64.0;

/// A tensor whose axes have labels, each once.
#[derive(Clone, Debug)]
struct Labelled {
    value: ValueId,
    labels: Vec<Label>,
}

type Sizes = BTreeMap<Label, Dim>;

pub(super) fn einsum(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let inputs = call.all_inputs()?;
    if inputs.len() > MAX_OPERANDS {
        return unsupported(
            format!("{} inputs; at most {MAX_OPERANDS} are", inputs.len()),
            "multiply some of the inputs in a node of their own",
        );
    }
    let Some(text) = call.attributes.text("equation")? else {
        return invalid("attribute `equation` is missing");
    };
    let ranks: Vec<usize> = inputs.iter().map(|input| b.ty(*input).rank()).collect();
    let equation = Equation::parse(text, &ranks)?;
    let dtype = b.ty(inputs[0]).dtype;
    // What lies between two products is not rounded to half precision, and bytes are not widened by some of them only.
    let wide = match dtype {
        DType::F16 | DType::BF16 if inputs.len() > 2 => DType::F32,
        dtype if dtype.is_integer() && dtype.bits() < 32 => DType::I32,
        dtype => dtype,
    };
    let mut operands = Vec::with_capacity(inputs.len());
    for (value, labels) in inputs.into_iter().zip(equation.operands) {
        let value = b.cast(value, wide)?;
        operands.push(diagonals(b, Labelled { value, labels })?);
    }
    let sizes = sizes_of(b, &operands)?;
    for operand in &mut operands {
        *operand = to_sizes(b, operand, &sizes)?;
    }
    let result = contract_all(b, operands, &equation.result)?;
    let result = arrange(b, &result, &equation.result, &sizes)?;
    Ok(b.cast(result, dtype)?)
}

/// `operand` with only the elements whose indices along axes of one label are equal.
fn diagonals(b: &mut Builder<'_>, mut operand: Labelled) -> Outcome<Labelled> {
    while let Some((first, second)) = repeated(&operand.labels) {
        let rank = operand.labels.len();
        let rest: Vec<usize> = (0..rank).filter(|axis| ![first, second].contains(axis)).collect();
        let shape = b.ty(operand.value).shape.clone();
        let size = match shape[second].as_static() {
            Some(_) => shape[second].clone(),
            None => shape[first].clone(),
        };
        if b.graph.symbols.is_known_ne(&shape[first], &shape[second]) {
            return invalid(format!("axes {first} and {second} have one letter but not one size"));
        }
        let matrix = b.transpose(operand.value, rest.iter().copied().chain([first, second]).collect())?;
        let mut flat: Vec<Dim> = rest.iter().map(|axis| shape[*axis].clone()).collect();
        flat.push(shape[first].clone() * shape[second].clone());
        let flat = b.reshape(matrix, flat)?;
        let counter = b.iota(DType::I64, vec![size.clone()], 0)?;
        let step = b.dim(size + 1.into())?;
        let places = b.binary_broadcast(BinaryFn::Mul, counter, step)?;
        let value = b.gather(flat, places, rank - 2)?;
        let labels = rest.iter().chain([&first]).map(|axis| operand.labels[*axis]).collect();
        operand = Labelled { value, labels };
    }
    Ok(operand)
}

/// Two axes of one label.
fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    labels.iter().enumerate().find_map(|(second, label)| {
        labels[..second].iter().position(|other| other == label).map(|first| (first, second))
    })
}

/// The size of every label. Axes of an ellipsis broadcast; those of a letter are equal.
fn sizes_of(b: &Builder<'_>, operands: &[Labelled]) -> Outcome<Sizes> {
    let mut sizes = Sizes::new();
    for operand in operands {
        for (label, size) in operand.labels.iter().zip(&b.ty(operand.value).shape) {
            let Some(known) = sizes.get(label) else {
                sizes.insert(*label, size.clone());
                continue;
            };
            let one = Dim::constant(1);
            let merged = match label {
                Label::Ellipsis(_) => b.graph.symbols.broadcast(known, size),
                Label::Letter(_) if *size == one => Some(known.clone()),
                Label::Letter(_) if *known == one || size.as_static().is_some() => {
                    (*known == one || !b.graph.symbols.is_known_ne(known, size)).then(|| size.clone())
                }
                Label::Letter(_) => (!b.graph.symbols.is_known_ne(known, size)).then(|| known.clone()),
            };
            let Some(merged) = merged else {
                let text = |dim: &Dim| dim.display(&b.graph.symbols).to_string();
                return invalid(format!("axes of sizes {} and {} have one name", text(known), text(size)));
            };
            sizes.insert(*label, merged);
        }
    }
    Ok(sizes)
}

/// `operand` in the sizes of its labels; axes of size 1 that others have more of are dropped, which says the same.
fn to_sizes(b: &mut Builder<'_>, operand: &Labelled, sizes: &Sizes) -> Outcome<Labelled> {
    let one = Dim::constant(1);
    let shape = b.ty(operand.value).shape.clone();
    let dropped: Vec<usize> =
        (0..shape.len()).filter(|axis| shape[*axis] == one && sizes[&operand.labels[*axis]] != one).collect();
    let value = b.squeeze(operand.value, &dropped)?;
    let kept = operand.labels.iter().enumerate().filter(|(axis, _)| !dropped.contains(axis));
    let labels: Vec<Label> = kept.map(|(_, label)| *label).collect();
    let value = b.broadcast_to(value, labels.iter().map(|label| sizes[label].clone()).collect())?;
    Ok(Labelled { value, labels })
}

/// The product of all operands, summed over every label that `result` lacks.
fn contract_all(b: &mut Builder<'_>, mut operands: Vec<Labelled>, result: &[Label]) -> Outcome<Labelled> {
    for i in 0..operands.len() {
        let others = operands.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
        let needed = needed_labels(others, result);
        operands[i] = sum_over(b, &operands[i], &needed)?;
    }
    while operands.len() > 1 {
        let (i, j) = next_pair(b, &operands, result);
        let right = operands.remove(j);
        let left = operands.remove(i);
        let needed = needed_labels(operands.iter(), result);
        operands.insert(i, contract(b, &left, &right, &needed)?);
    }
    Ok(operands.remove(0))
}

fn needed_labels<'o>(operands: impl Iterator<Item = &'o Labelled>, result: &[Label]) -> Vec<Label> {
    let mut needed: Vec<Label> = operands.flat_map(|o| &o.labels).chain(result).copied().collect();
    needed.sort_unstable();
    needed.dedup();
    needed
}

/// `operand` summed over the labels that are not needed.
fn sum_over(b: &mut Builder<'_>, operand: &Labelled, needed: &[Label]) -> Outcome<Labelled> {
    let (kept, summed): (Vec<usize>, Vec<usize>) =
        (0..operand.labels.len()).partition(|axis| needed.binary_search(&operand.labels[*axis]).is_ok());
    if summed.is_empty() {
        return Ok(operand.clone());
    }
    let value = b.reduce(ReduceFn::Sum, operand.value, &summed, false)?;
    Ok(Labelled { value, labels: kept.iter().map(|axis| operand.labels[*axis]).collect() })
}

/// The two operands whose product is smallest.
fn next_pair(b: &Builder<'_>, operands: &[Labelled], result: &[Label]) -> (usize, usize) {
    let pairs = (1..operands.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
    let (mut best, mut smallest) = ((0, 1), f64::INFINITY);
    if operands.len() > 2 && operands.len() <= MAX_ORDERED {
        for (i, j) in pairs {
            let others = operands.iter().enumerate().filter(|(k, _)| *k != i && *k != j);
            let needed = needed_labels(others.map(|(_, other)| other), result);
            let size = size_of_product(b, &operands[i], &operands[j], &needed);
            if size < smallest {
                (best, smallest) = ((i, j), size);
            }
        }
    }
    best
}

fn size_of_product(b: &Builder<'_>, left: &Labelled, right: &Labelled, needed: &[Label]) -> f64 {
    let size = |operand: &Labelled, axis: usize| {
        b.ty(operand.value).shape[axis].as_static().map_or(ASSUMED_SIZE, |size| size as f64)
    };
    let is_kept = |label: &Label| needed.binary_search(label).is_ok();
    let from_left = left.labels.iter().enumerate().filter(|(_, l)| is_kept(l)).map(|(i, _)| size(left, i));
    let from_right = right.labels.iter().enumerate();
    let from_right =
        from_right.filter(|(_, l)| is_kept(l) && !left.labels.contains(l)).map(|(i, _)| size(right, i));
    from_left.chain(from_right).product()
}

/// `left * right`, summed over the labels of both that are not needed. Labels of one only are all needed.
fn contract(b: &mut Builder<'_>, left: &Labelled, right: &Labelled, needed: &[Label]) -> Outcome<Labelled> {
    let is_needed = |label: &Label| needed.binary_search(label).is_ok();
    let in_both = |label: &&Label| right.labels.contains(label);
    let of = |labels: &[Label], keep: &dyn Fn(&Label) -> bool| -> Vec<Label> {
        labels.iter().filter(|label| keep(label)).copied().collect()
    };
    let batch = of(&left.labels, &|l| in_both(&l) && is_needed(l));
    let summed = of(&left.labels, &|l| in_both(&l) && !is_needed(l));
    let rows = of(&left.labels, &|l| !in_both(&l));
    let columns = of(&right.labels, &|l| !left.labels.contains(l));
    let labels = [batch.clone(), rows.clone(), columns.clone()].concat();
    if summed.is_empty() {
        let left = spread(b, left, &labels)?;
        let right = spread(b, right, &labels)?;
        let value = b.binary_broadcast(BinaryFn::Mul, left, right)?;
        return Ok(Labelled { value, labels });
    }
    let (left_value, left_shape) = group(b, left, [&batch, &rows, &summed])?;
    let (right_value, right_shape) = group(b, right, [&batch, &summed, &columns])?;
    let value = b.push(Op::MatMul, &[left_value, right_value])?;
    let shape =
        [&left_shape[..batch.len() + rows.len()], &right_shape[batch.len() + summed.len()..]].concat();
    Ok(Labelled { value: b.reshape(value, shape)?, labels })
}

/// `operand` with an axis for each of `labels`, of size 1 where it has none.
fn spread(b: &mut Builder<'_>, operand: &Labelled, labels: &[Label]) -> Outcome {
    let present: Vec<Label> = labels.iter().filter(|label| operand.labels.contains(label)).copied().collect();
    let value = in_order(b, operand, &present)?;
    let added: Vec<usize> = (0..labels.len()).filter(|i| !present.contains(&labels[*i])).collect();
    Ok(b.unsqueeze(value, &added)?)
}

/// `operand` as a batch of matrices, an axis for each group of labels; and the shape before axes were merged.
fn group(b: &mut Builder<'_>, operand: &Labelled, groups: [&Vec<Label>; 3]) -> Outcome<(ValueId, Vec<Dim>)> {
    let order: Vec<Label> = groups.iter().flat_map(|group| group.iter()).copied().collect();
    let value = in_order(b, operand, &order)?;
    let shape = b.ty(value).shape.clone();
    let mut rest = &shape[..];
    let merged = groups.map(|group| {
        let (these, others) = rest.split_at(group.len());
        rest = others;
        product(these)
    });
    let merged: Vec<Dim> = if groups[0].is_empty() { merged[1..].to_vec() } else { merged.to_vec() };
    Ok((b.reshape(value, merged)?, shape))
}

/// `operand` with its axes in this order.
fn in_order(b: &mut Builder<'_>, operand: &Labelled, order: &[Label]) -> Outcome {
    let place = |label: &Label| operand.labels.iter().position(|l| l == label).expect("one of its labels");
    Ok(b.transpose(operand.value, order.iter().map(place).collect())?)
}

/// The result with its axes in order; labels that only operands of size 1 had are there again.
fn arrange(b: &mut Builder<'_>, result: &Labelled, order: &[Label], sizes: &Sizes) -> Outcome {
    let value = spread(b, result, order)?;
    Ok(b.broadcast_to(value, order.iter().map(|label| sizes[label].clone()).collect())?)
}
