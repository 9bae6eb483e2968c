//! Images resized, sampled, cropped, pooled and put together, against the numbers of ONNX's own implementation.

use ired_graph::Tensor;
use ired_graph::{DType, interpret};

use crate::build::*;
use crate::one_node::{Given::*, *};

fn image(shape: &[u64]) -> crate::one_node::Given {
    Data(counting(shape))
}

fn squares() -> crate::one_node::Given {
    vector(&[0.0, 1.0, 4.0, 9.0, 16.0])
}

#[test]
fn antialiasing_widens_the_filter() {
    let scales = || Data(f32s(&[1], &[0.6]));
    let node = op("Resize").text("mode", "linear").int("antialias", 1);
    check(19, node, &[squares(), Missing, scales()], &[3], &[0.375, 4.444444, 13.374999]);
    let node = op("Resize").text("mode", "cubic").int("antialias", 1).int("exclude_outside", 1);
    check(19, node, &[squares(), Missing, scales()], &[3], &[0.045916, 4.087966, 13.474485]);
}

#[test]
fn regions_of_interest_may_reach_beyond_the_image() {
    let node = op("Resize").text("mode", "linear").float("extrapolation_value", 9.0);
    let node = node.text("coordinate_transformation_mode", "tf_crop_and_resize");
    let region = Data(f32s(&[2], &[0.25, 1.25]));
    check(19, node, &[squares(), region, Missing, Data(ints(&[3]))], &[3], &[1.0, 9.0, 9.0]);
}

/// The tallest and the widest that fit: both axes by one scale.
#[test]
fn sizes_may_keep_the_aspect_ratio() {
    let node = |policy| op("Resize").text("keep_aspect_ratio_policy", policy).text("nearest_mode", "floor");
    let given = || [image(&[2, 4]), Missing, Missing, Data(ints(&[1, 3]))];
    check(19, node("not_larger"), &given(), &[1, 2], &[0.0, 2.0]);
    assert_eq!(outputs_of(19, node("not_smaller"), &given(), 1)[0].shape(), &[2, 3]);
}

#[test]
fn integers_are_resized_too() {
    let bytes = Tensor::from_integers(ired_graph::DType::U8, &[3], &[0, 100, 255]);
    let node = op("Resize").text("mode", "linear");
    check(
        19,
        node,
        &[Data(bytes), Missing, Weight(f32s(&[1], &[2.0]))],
        &[6],
        &[0.0, 25.0, 75.0, 138.0, 216.0, 255.0],
    );
}

/// Version 10 rounds down where it enlarges and up where it reduces, as ONNX Runtime does.
#[test]
fn nearest_of_version_10() {
    let given = |scales: &[f32]| [image(&[4]), Weight(f32s(&[1], scales))];
    check(10, op("Resize"), &given(&[0.6]), &[2], &[0.0, 2.0]);
    check(10, op("Resize"), &given(&[1.5]), &[6], &[0.0, 0.0, 1.0, 2.0, 2.0, 3.0]);
}

#[test]
fn grids_sample_between_and_beyond_elements() {
    let grid = || Data(f32s(&[1, 1, 3, 2], &[-1.0, -1.0, 0.5, 0.0, 1.4, -0.2]));
    for (mode, padding, expected) in [
        ("linear", "zeros", [0.0, 6.5, 0.0]),
        ("linear", "border", [0.0, 6.5, 5.8]),
        ("linear", "reflection", [0.0, 6.5, 5.5]),
        ("nearest", "zeros", [0.0, 6.0, 0.0]),
        ("nearest", "border", [0.0, 6.0, 7.0]),
        ("nearest", "reflection", [0.0, 6.0, 7.0]),
        ("cubic", "zeros", [-0.234375, 7.25, -0.615719]),
        ("cubic", "border", [-0.46875, 6.59375, 5.443003]),
        ("cubic", "reflection", [-0.9375, 6.59375, 5.211254]),
    ] {
        let node = op("GridSample").text("mode", mode).text("padding_mode", padding);
        check(20, node, &[image(&[1, 1, 3, 4]), grid()], &[1, 1, 1, 3], &expected);
    }
    let node = op("GridSample").int("align_corners", 1);
    check(20, node, &[image(&[1, 1, 3, 4]), grid()], &[1, 1, 1, 3], &[0.0, 6.25, 2.479999]);
}

#[test]
fn affine_grids() {
    let maps = Data(f32s(&[1, 2, 3], &[1.0, 0.5, 0.0, 0.0, 2.0, 1.0]));
    let expected = [-0.75, 0.0, 0.25, 0.0, -0.25, 2.0, 0.75, 2.0];
    check(20, op("AffineGrid"), &[maps, list(&[1, 1, 2, 2])], &[1, 2, 2, 2], &expected);
}

#[test]
fn deformable_convolution() {
    let (ones, halves) = (f32s(&[1, 1, 2, 2], &[1.0; 4]), f32s(&[1, 8, 2, 2], &[0.5; 32]));
    let given = [image(&[1, 1, 3, 3]), Weight(ones), Data(halves)];
    check(19, op("DeformConv"), &given, &[1, 1, 2, 2], &[16.0, 14.0, 18.0, 15.0]);
}

#[test]
fn regions_pooled_to_one_size() {
    let align = |height, width| op("RoiAlign").int("output_height", height).int("output_width", width);
    let images = |count| Data(ints(&vec![0; count]));
    let region = Data(f32s(&[1, 4], &[0.0, 0.0, 3.0, 3.0]));
    let given = [image(&[1, 1, 4, 4]), region, images(1)];
    check(16, align(2, 2).int("sampling_ratio", 2), &given, &[1, 1, 2, 2], &[1.5625, 3.0, 7.3125, 8.75]);
    // As many samples as each region's bins have elements.
    let regions = Data(f32s(&[2, 4], &[0.0, 0.0, 3.0, 3.0, 1.0, 1.0, 1.5, 2.0]));
    let given = [image(&[1, 1, 4, 4]), regions, images(2)];
    check(16, align(1, 2).text("mode", "max"), &given, &[2, 1, 1, 2], &[8.0, 8.75, 3.125, 4.375]);
    let regions = Data(f32s(&[2, 5], &[0.0, 0.0, 0.0, 3.0, 2.0, 0.0, 2.0, 1.0, 2.0, 3.0]));
    let node = op("MaxRoiPool").ints("pooled_shape", &[2, 2]);
    let expected = [5.0, 7.0, 9.0, 11.0, 10.0, 10.0, 14.0, 14.0];
    check(11, node, &[image(&[1, 1, 4, 4]), regions], &[2, 1, 2, 2], &expected);
}

/// A bin takes a sample an element, but no more than 4096 a side.
#[test]
fn more_samples_than_anyone_wants_are_an_error_of_the_run() {
    let inputs = vec![
        input_f32("x", &[1, 1, 4, 4]),
        input_f32("regions", &[1, 4]),
        input("images", DType::I64, [1.into()]),
    ];
    let nodes = vec![node("RoiAlign", &["x", "regions", "images"], &["y"]).named("align")];
    let g = import(&model_of(16, graph(inputs, nodes, &["y"]))).unwrap();
    let given = |end: f32| [counting(&[1, 1, 4, 4]), f32s(&[1, 4], &[0.0, 0.0, end, 1.0]), ints(&[0])];
    interpret(&g, &given(4096.0)).unwrap();
    let error = interpret(&g, &given(5000.0)).unwrap_err();
    assert!(chain(&error).contains("4096"), "{}", chain(&error));
}

#[test]
fn overlapping_blocks_are_summed() {
    let given = [image(&[1, 4, 4]), list(&[3, 3]), list(&[2, 2])];
    let expected = [0.0, 5.0, 5.0, 10.0, 30.0, 20.0, 10.0, 25.0, 15.0];
    check(18, op("Col2Im"), &given, &[1, 1, 3, 3], &expected);
}

#[test]
fn the_middle_stays_in_the_middle() {
    let given = [image(&[3, 3]), Data(ints(&[2, 4]))];
    check(18, op("CenterCropPad"), &given, &[2, 4], &[0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 0.0]);
}

#[test]
fn norms_of_windows() {
    let given = [Data(f32s(&[1, 1, 4], &[-1.5, -0.5, 0.5, 1.5]))];
    let node = op("LpPool").ints("kernel_shape", &[2]).int("p", 3);
    check(18, node, &given, &[1, 1, 3], &[1.518294, 0.629961, 1.518294]);
    check(2, op("GlobalLpPool").int("p", 1), &given, &[1, 1, 1], &[4.0]);
}

#[test]
fn where_the_largest_elements_are() {
    let x = || Data(f32s(&[1, 1, 3, 3], &[0.0, -1.0, 2.0, 3.0, -4.0, 5.0, 6.0, -7.0, 8.0]));
    for (order, expected) in [(0, [3, 5, 6, 8]), (1, [1, 7, 2, 8])] {
        let node = op("MaxPool").ints("kernel_shape", &[2, 2]).int("storage_order", order);
        let [values, indices] = outputs_of(12, node, &[x()], 2).try_into().unwrap();
        assert_near(&values, &[1, 1, 2, 2], &[3.0, 5.0, 6.0, 8.0]);
        assert_eq!(indices.to_i64s(), expected);
    }
}

/// Padding from sizes that are symbols, and weights whose window is one.
#[test]
fn windows_over_symbols() {
    let node = op("AveragePool").ints("kernel_shape", &[3]).ints("strides", &[2]);
    let node = node.text("auto_pad", "SAME_LOWER");
    check(19, node, &[image(&[1, 1, 4])], &[1, 1, 2], &[0.5, 2.0]);
    let x = input("x", ired_graph::DType::F32, [1, 1, 4].into_iter().map(Size::Number));
    let w = input("w", ired_graph::DType::F32, ["k", "c", "e"].into_iter().map(Size::Named));
    let m = model_of(22, graph(vec![x, w], vec![node_of_conv()], &["y"]));
    let found = run(&m, &[counting(&[1, 1, 4]), f32s(&[1, 1, 2], &[1.0, 10.0])]);
    assert_near(&found[0], &[1, 1, 3], &[10.0, 21.0, 32.0]);
}

fn node_of_conv() -> ired_frontends::onnx::proto::NodeProto {
    node("Conv", &["x", "w"], &["y"])
}
