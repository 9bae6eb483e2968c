//! Einsum against sums written out in loops.

use ired_frontends::ImportError;
use ired_graph::Tensor;

use crate::build::*;
use crate::one_node::{Given::*, *};

fn einsum(equation: &'static str, inputs: &[Tensor]) -> Tensor {
    let given: Vec<_> = inputs.iter().cloned().map(Data).collect();
    outputs_of(12, op("Einsum").text("equation", equation), &given, 1).remove(0)
}

#[track_caller]
fn check_einsum(equation: &'static str, inputs: &[Tensor], shape: &[u64], expected: &[f64]) {
    assert_near(&einsum(equation, inputs), shape, expected);
}

#[test]
fn one_operand() {
    let x = counting(&[2, 3]);
    check_einsum("ij->ji", std::slice::from_ref(&x), &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    check_einsum("ij -> i", std::slice::from_ref(&x), &[2], &[3.0, 12.0]);
    check_einsum("ij->", std::slice::from_ref(&x), &[], &[15.0]);
    check_einsum("...j->...", std::slice::from_ref(&x), &[2], &[3.0, 12.0]);
    // Without an arrow the letters of the result are sorted.
    check_einsum("ba", &[x], &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    check_einsum("->", &[f32s(&[], &[7.0])], &[], &[7.0]);
    check_einsum("", &[f32s(&[], &[7.0])], &[], &[7.0]);
}

#[test]
fn diagonals() {
    let x = counting(&[2, 2, 2]);
    check_einsum("ii", &[counting(&[3, 3])], &[], &[12.0]);
    check_einsum("ii->i", &[counting(&[3, 3])], &[3], &[0.0, 4.0, 8.0]);
    check_einsum("iij->ij", std::slice::from_ref(&x), &[2, 2], &[0.0, 1.0, 6.0, 7.0]);
    check_einsum("iji->j", std::slice::from_ref(&x), &[2], &[5.0, 9.0]);
    check_einsum("iii->i", std::slice::from_ref(&x), &[2], &[0.0, 7.0]);
    check_einsum("...ii->...i", &[x], &[2, 2], &[0.0, 3.0, 4.0, 7.0]);
}

#[test]
fn two_operands() {
    let (x, y) = (counting(&[2, 3]), counting(&[3, 2]));
    let product = [10.0, 13.0, 28.0, 40.0];
    check_einsum("ij,jk->ik", &[x.clone(), y.clone()], &[2, 2], &product);
    check_einsum("ij,jk", &[x.clone(), y.clone()], &[2, 2], &product);
    check_einsum("ij,ji->", &[x.clone(), y.clone()], &[], &[50.0]);
    check_einsum("ij,kj->ki", &[x.clone(), x.clone()], &[2, 2], &[5.0, 14.0, 14.0, 50.0]);
    check_einsum("ij,ij->ij", &[x.clone(), x.clone()], &[2, 3], &[0.0, 1.0, 4.0, 9.0, 16.0, 25.0]);
    let row = f32s(&[2], &[1.0, 2.0]);
    check_einsum("i,j->ij", &[row.clone(), row.clone()], &[2, 2], &[1.0, 2.0, 2.0, 4.0]);
    check_einsum("i,i", &[row.clone(), row.clone()], &[], &[5.0]);
    check_einsum(",i->i", &[f32s(&[], &[3.0]), row.clone()], &[2], &[3.0, 6.0]);
    // The batch stands last in one operand and in the middle of the result.
    let batched = counting(&[2, 2, 2]);
    let found = einsum("bij,jkb->ibk", &[batched.clone(), batched.clone()]);
    let at = |b: usize, i: usize, j: usize| (4 * b + 2 * i + j) as f64;
    let mut loops = Vec::new();
    for (i, b, k) in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
    {
        loops.push((0..2).map(|j| at(b, i, j) * at(j, k, b)).sum::<f64>());
    }
    assert_near(&found, &[2, 2, 2], &loops);
}

#[test]
fn ellipses_broadcast() {
    let (x, y) = (counting(&[2, 1, 2]), counting(&[3, 2]));
    let expected = [1.0, 3.0, 5.0, 3.0, 13.0, 23.0];
    check_einsum("...i,...i->...", &[x, y], &[2, 3], &expected);
    let (x, y) = (counting(&[1, 2]), counting(&[3, 2]));
    check_einsum("ai,bi->ab", &[x, y], &[1, 3], &[1.0, 3.0, 5.0]);
}

#[test]
fn many_operands_and_integers() {
    let x = counting(&[2, 2]);
    // Taken from left to right the first two share nothing.
    check_einsum("ab,cd,bc->ad", &[x.clone(), x.clone(), x.clone()], &[2, 2], &[6.0, 11.0, 22.0, 39.0]);
    let numbers = Tensor::from_i64s(&[2, 2], &[1, 2, 3, 4]);
    let product = einsum("ij,jk->ik", &[numbers.clone(), numbers]);
    assert_eq!(product.to_integers(), [7, 10, 15, 22]);
}

#[test]
fn equations_that_do_not_fit() {
    let refusal = |equation: &'static str| {
        let node = node("Einsum", &["x"], &["y"]).text("equation", equation);
        let model = model_of(12, graph(vec![input_f32("x", &[2, 3])], vec![node], &["y"]));
        match import(&model) {
            Err(error @ ImportError::Invalid(_)) => chain(&error),
            other => panic!("{equation}: {other:?}"),
        }
    };
    assert!(refusal("i->i").contains("term `i` of the equation for an input of rank 2"));
    assert!(refusal("ij,jk->ik").contains("an equation of 2 terms for 1 inputs"));
    assert!(refusal("ij->k").contains("no input has"));
    assert!(refusal("ij->ii").contains("names an axis twice"));
    assert!(refusal("i1->i").contains("expected letters"));
    assert!(refusal("......->").contains("at most one"));
    assert!(refusal("ii->i").contains("not one size"));
}
