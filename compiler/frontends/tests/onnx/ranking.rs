//! What is chosen, ordered, summed along the way and scattered; most of it of sizes that only the run knows.

use ired_graph::{DType, Tensor};

use crate::build::*;
use crate::one_node::{
    Given::{Data, Missing, Weight},
    *,
};

fn bools(values: &[bool]) -> Tensor {
    Tensor::from_bools(&[values.len() as u64], values)
}

#[test]
fn the_greatest_and_the_least() {
    let x = || Data(f32s(&[2, 4], &[1.0, 7.0, 7.0, 3.0, 9.0, -1.0, 2.0, 4.0]));
    for (opset, node, given) in [
        (9, op("TopK").int("k", 2), vec![x()]),
        (10, op("TopK"), vec![x(), list(&[2])]),
        (11, op("TopK"), vec![x(), Data(ints(&[2]))]),
    ] {
        let found = outputs_of(opset, node, &given, 2);
        assert_near(&found[0], &[2, 2], &[7.0, 7.0, 9.0, 4.0]);
        assert_near(&found[1], &[2, 2], &[1.0, 2.0, 0.0, 3.0]);
    }
    let least = op("TopK").int("largest", 0).int("axis", 0).int("sorted", 0);
    check(11, least, &[x(), list(&[1])], &[1, 4], &[1.0, -1.0, 2.0, 3.0]);
}

#[test]
fn running_sums_along_axes_that_only_the_run_knows() {
    let x = || Data(f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    for (axis, expected) in [(0, [1.0, 2.0, 4.0, 6.0]), (1, [1.0, 3.0, 3.0, 7.0]), (-1, [1.0, 3.0, 3.0, 7.0])]
    {
        check(14, op("CumSum"), &[x(), scalar(axis)], &[2, 2], &expected);
        check(14, op("CumSum"), &[x(), Data(Tensor::from_i64s(&[], &[axis]))], &[2, 2], &expected);
    }
    let backwards = op("CumSum").int("exclusive", 1).int("reverse", 1);
    check(11, backwards, &[x(), scalar(1)], &[2, 2], &[2.0, 0.0, 4.0, 0.0]);
    check(26, op("CumProd"), &[x(), scalar(0)], &[2, 2], &[1.0, 2.0, 3.0, 8.0]);
}

#[test]
fn scattered_elements_and_slices() {
    let x = || Data(f32s(&[2, 3], &[0.0; 6]));
    let at = || Data(Tensor::from_i64s(&[2, 2], &[2, -3, 2, 2]));
    let updates = || Data(f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    let given = [x(), at(), updates()];
    check(9, op("Scatter").int("axis", 1), &given, &[2, 3], &[2.0, 0.0, 1.0, 0.0, 0.0, 4.0]);
    let sums = op("ScatterElements").int("axis", 1).text("reduction", "add");
    check(18, sums, &given, &[2, 3], &[2.0, 0.0, 1.0, 0.0, 0.0, 7.0]);
    let rows = [x(), Data(Tensor::from_i64s(&[2, 1], &[1, 1])), Data(counting(&[2, 3]))];
    check(18, op("ScatterND").text("reduction", "max"), &rows, &[2, 3], &[0.0, 0.0, 0.0, 3.0, 4.0, 5.0]);
}

#[test]
fn rows_of_a_cache() {
    let cache = || Data(f32s(&[2, 1, 3, 1], &[0.0; 6]));
    let update = || Data(f32s(&[2, 1, 2, 1], &[1.0, 2.0, 3.0, 4.0]));
    check(24, op("TensorScatter"), &[cache(), update()], &[2, 1, 3, 1], &[1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
    let given = [cache(), update(), Data(ints(&[1, 2]))];
    let circular = op("TensorScatter").text("mode", "circular");
    check(24, circular, &given, &[2, 1, 3, 1], &[0.0, 1.0, 2.0, 4.0, 0.0, 3.0]);
}

#[test]
fn pooling_undone() {
    let x = || Data(f32s(&[1, 1, 2], &[5.0, 6.0]));
    let at = || Data(Tensor::from_i64s(&[1, 1, 2], &[1, 2]));
    let node = || op("MaxUnpool").ints("kernel_shape", &[2]).ints("strides", &[2]);
    check(11, node(), &[x(), at()], &[1, 1, 4], &[0.0, 5.0, 6.0, 0.0]);
    for shape in [list(&[1, 1, 5]), Data(ints(&[1, 1, 5]))] {
        check(11, node(), &[x(), at(), shape], &[1, 1, 5], &[0.0, 5.0, 6.0, 0.0, 0.0]);
    }
}

#[test]
fn what_is_not_zero() {
    let x = Data(f32s(&[2, 3], &[0.0, 1.0, f32::NAN, -2.0, 0.0, 0.0]));
    check(13, op("NonZero"), &[x], &[2, 3], &[0.0, 0.0, 1.0, 1.0, 2.0, 0.0]);
    check(13, op("NonZero"), &[Data(f32s(&[2, 2], &[0.0; 4]))], &[2, 0], &[]);
    check(13, op("NonZero"), &[Data(f32s(&[], &[3.0]))], &[1, 1], &[0.0]);
}

#[test]
fn slices_on_a_condition() {
    let x = || Data(counting(&[3, 2]));
    let condition = || Data(bools(&[false, true, true]));
    check(11, op("Compress").int("axis", 0), &[x(), condition()], &[2, 2], &[2.0, 3.0, 4.0, 5.0]);
    check(11, op("Compress"), &[x(), condition()], &[2], &[1.0, 2.0]);
}

#[test]
fn different_elements() {
    let x = || vector(&[2.0, 1.0, f32::NAN, 1.0, 3.0, 2.0, f32::NAN, 2.0]);
    let sorted = outputs_of(11, op("Unique"), &[x()], 4);
    assert_near(&sorted[0], &[4], &[1.0, 2.0, 3.0, f64::NAN]);
    assert_near(&sorted[1], &[4], &[1.0, 0.0, 4.0, 2.0]);
    assert_near(&sorted[2], &[8], &[1.0, 0.0, 3.0, 0.0, 2.0, 1.0, 3.0, 1.0]);
    assert_near(&sorted[3], &[4], &[2.0, 3.0, 1.0, 2.0]);
    let by_appearance = outputs_of(11, op("Unique").int("sorted", 0), &[x()], 4);
    assert_near(&by_appearance[0], &[4], &[2.0, 1.0, f64::NAN, 3.0]);
    assert_near(&by_appearance[1], &[4], &[0.0, 1.0, 2.0, 4.0]);
    assert_near(&by_appearance[2], &[8], &[0.0, 1.0, 2.0, 1.0, 3.0, 0.0, 2.0, 0.0]);
    assert_near(&by_appearance[3], &[4], &[3.0, 2.0, 2.0, 1.0]);
}

#[test]
fn different_slices_are_ordered_by_their_elements() {
    // Of sizes that only the run knows, and as constants.
    let values = f32s(&[2, 4], &[1.0, 0.0, 1.0, 1.0, 5.0, 9.0, 4.0, 5.0]);
    for given in [Data(values.clone()), Weight(values)] {
        let found = outputs_of(11, op("Unique").int("axis", 1), &[given], 4);
        assert_near(&found[0], &[2, 3], &[0.0, 1.0, 1.0, 9.0, 4.0, 5.0]);
        assert_near(&found[1], &[3], &[1.0, 2.0, 0.0]);
        assert_near(&found[2], &[4], &[2.0, 0.0, 1.0, 2.0]);
        assert_near(&found[3], &[3], &[1.0, 1.0, 2.0]);
    }
}

#[test]
fn one_hot_of_a_depth_that_only_the_run_knows() {
    let at = Data(Tensor::from_i64s(&[3], &[1, -1, 7]));
    let depth = Data(Tensor::from_f64s(DType::F32, &[], &[3.0]));
    let values = Data(f32s(&[2], &[0.0, 9.0]));
    let expected = [0.0, 9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0];
    check(11, op("OneHot"), &[at, depth, values], &[3, 3], &expected);
}

#[test]
fn sequences_turned_round() {
    let x = || Data(counting(&[3, 2]));
    let lengths = Data(ints(&[2, 3]));
    check(10, op("ReverseSequence"), &[x(), lengths], &[3, 2], &[2.0, 5.0, 0.0, 3.0, 4.0, 1.0]);
    let rows = op("ReverseSequence").int("batch_axis", 0).int("time_axis", 1);
    check(10, rows, &[x(), Data(ints(&[1, 2, 2]))], &[3, 2], &[0.0, 1.0, 3.0, 2.0, 5.0, 4.0]);
}

#[test]
fn features_taken_out() {
    let given = [Data(counting(&[2, 3])), Data(Tensor::from_i64s(&[1, 2], &[2, 0]))];
    check(11, op_of("ai.onnx.ml", "ArrayFeatureExtractor"), &given, &[2, 2], &[2.0, 0.0, 5.0, 3.0]);
}

#[test]
fn overlapping_boxes() {
    // The second overlaps the first, the third neither; the fourth is the second with its corners swapped.
    let corners = [0.0, 0.0, 2.0, 2.0, 0.0, 0.5, 2.0, 2.5, 4.0, 4.0, 6.0, 6.0, 2.0, 2.5, 0.0, 0.5];
    let boxes = || Data(f32s(&[1, 4, 4], &corners));
    let scores = || Data(f32s(&[1, 2, 4], &[0.5, 0.9, 0.1, 0.8, 0.7, 0.6, 0.7, 0.0]));
    let number = |value: f64| Data(Tensor::from_f64s(DType::F32, &[1], &[value]));
    let limit = |value: i64| Data(ints(&[value]));
    let all = [0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0, 1.0, 2.0];
    let node = || op("NonMaxSuppression");
    check(11, node(), &[boxes(), scores(), limit(9), number(0.5)], &[4, 3], &all);
    check(
        11,
        node(),
        &[boxes(), scores(), limit(9), number(0.5), number(0.1)],
        &[3, 3],
        &[&all[..3], &all[6..]].concat(),
    );
    check(
        11,
        node(),
        &[boxes(), scores(), limit(1), number(0.5), Missing],
        &[2, 3],
        &[&all[..3], &all[6..9]].concat(),
    );
    check(11, node(), &[boxes(), scores()], &[0, 3], &[]);
    let centers = Data(f32s(&[1, 2, 4], &[1.0, 1.0, 2.0, 2.0, 1.5, 1.0, 2.0, 2.0]));
    let two = Data(f32s(&[1, 1, 2], &[0.1, 0.2]));
    let given = [centers, two, limit(9), number(0.5)];
    check(11, node().int("center_point_box", 1), &given, &[1, 3], &[0.0, 0.0, 1.0]);
}
