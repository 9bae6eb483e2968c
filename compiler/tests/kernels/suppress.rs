//! Choices among boxes, in every number of boxes, classes and batches.

use ired_graph::{DType, Op, Tensor};

use crate::harness::{Case, Random};

#[test]
fn boxes_are_kept_as_the_interpreter_keeps_them() {
    let mut random = Random::new(81);
    for (batch, classes, length) in
        [(1u64, 1u64, 1u64), (2, 3, 40), (1, 70, 9), (1, 2, 300), (1, 2, 0), (0, 1, 3)]
    {
        for (limit, threshold) in [(1000, 0.3f32), (5, 0.5), (0, 0.5), (1000, 0.0)] {
            let mut case = Case::new();
            let (b, c) = (case.symbol("b", batch), case.symbol("c", classes));
            let n = case.symbol("n", length);
            let boxes = random.tensor(DType::F32, &[batch, length, 4], -1.0, 1.0);
            let boxes = case.input_of(boxes, vec![b.clone(), n.clone(), 4.into()]);
            let order = random.tensor(DType::I64, &[batch, classes, length], 0.0, length as f64 - 1.0);
            let order = case.input_of(order, vec![b.clone(), c.clone(), n]);
            let count = random.tensor(DType::I64, &[batch, classes], 0.0, length as f64 + 1.0);
            let count = case.input_of(count, vec![b, c]);
            let limit = case.input(Tensor::from_i64s(&[], &[limit]));
            let threshold = case.input(Tensor::from_f32s(&[], &[threshold]));
            let y = case.root(Op::SuppressOverlaps, &[boxes, order, count, limit, threshold]);
            case.check(y, 0.0);
        }
    }
}
