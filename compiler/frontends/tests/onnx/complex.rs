//! Operators on complex numbers: what moves or mixes elements does the same to both parts.

use ired_frontends::onnx::proto::{NodeProto, TensorProto};
use ired_graph::{DType, Tensor};

use crate::build::*;
use crate::one_node::{Given, Given::*, *};

const COMPLEX: [DType; 2] = [DType::C64, DType::C128];

/// Complex elements from parts that follow each other.
fn complex(dtype: DType, shape: &[u64], parts: &[f64]) -> Tensor {
    let parts = Tensor::from_f64s(dtype.part().unwrap(), &[parts.len() as u64], parts);
    Tensor::new(dtype, shape.to_vec(), parts.data().clone()).unwrap()
}

fn parts(tensor: &Tensor) -> Vec<f64> {
    tensor.to_parts().to_f64s()
}

/// What the node gives of complex operands has the parts that it gives of their parts.
#[track_caller]
fn by_part(opset: i64, node: &NodeProto, operands: &[&[u64]], rest: &[Given]) {
    for dtype in COMPLEX {
        let number = |salt: usize, i: u64, part: u64| ((i * 7 + part * 3 + salt as u64) % 11) as f64 - 4.5;
        let run = |dtype: DType, part: Option<u64>| {
            let operand = |(salt, shape): (usize, &&[u64])| {
                let count = shape.iter().product::<u64>();
                let numbers = (0..count).flat_map(|i| {
                    part.map_or(vec![0, 1], |part| vec![part]).into_iter().map(move |p| number(salt, i, p))
                });
                let numbers: Vec<f64> = numbers.collect();
                Data(match part {
                    None => complex(dtype, shape, &numbers),
                    Some(_) => Tensor::from_f64s(dtype, shape, &numbers),
                })
            };
            let mut given: Vec<Given> = operands.iter().enumerate().map(operand).collect();
            given.extend(rest.iter().map(|given| match given {
                Data(tensor) => Data(tensor.clone()),
                Weight(tensor) => Weight(tensor.clone()),
                Missing => Missing,
            }));
            outputs_of(opset, node.clone(), &given, 1).remove(0)
        };
        let part = dtype.part().unwrap();
        let (found, re, im) = (run(dtype, None), run(part, Some(0)), run(part, Some(1)));
        assert_eq!((found.dtype(), found.shape()), (dtype, re.shape()), "{}", node.op_type());
        let joined = re.to_f64s().into_iter().zip(im.to_f64s()).flat_map(|(re, im)| [re, im]);
        assert_eq!(parts(&found), joined.collect::<Vec<_>>(), "{}", node.op_type());
    }
}

#[test]
fn movement_moves_both_parts() {
    let on = |node: NodeProto, operands: &[&[u64]], rest: &[Given]| by_part(21, &node, operands, rest);
    on(op("Identity"), &[&[]], &[]);
    on(op("Transpose"), &[&[2, 3]], &[]);
    on(op("Concat").int("axis", -1), &[&[2, 3], &[2, 1]], &[]);
    on(op("Reshape"), &[&[2, 3]], &[list(&[-1, 2])]);
    on(op("Expand"), &[&[3, 1]], &[list(&[2, 3, 4])]);
    on(op("Slice"), &[&[4, 3]], &[list(&[3, 0]), list(&[-5, 2]), list(&[0, 1]), list(&[-2, 1])]);
    on(op("Split").int("axis", 1).int("num_outputs", 1), &[&[2, 3]], &[]);
    on(op("Tile"), &[&[2, 3]], &[list(&[2, 2])]);
    on(op("Gather").int("axis", 1), &[&[2, 3]], &[list(&[-1, 0, 0])]);
    on(op("GatherElements"), &[&[2, 3]], &[Weight(Tensor::from_i64s(&[1, 3], &[1, 0, -1]))]);
    on(op("GatherND"), &[&[2, 3]], &[Weight(Tensor::from_i64s(&[2, 1], &[1, 0]))]);
    on(op("Flatten").int("axis", 2), &[&[2, 3, 2]], &[]);
    on(op("Squeeze"), &[&[2, 1, 3]], &[list(&[1])]);
    on(op("Unsqueeze"), &[&[2, 3]], &[list(&[-1])]);
    on(op("Pad"), &[&[2, 3]], &[list(&[1, 0, 0, 2])]);
    on(op("Pad").text("mode", "edge"), &[&[2, 3]], &[list(&[1, 0, 0, 2])]);
    on(op("CenterCropPad").ints("axes", &[0, 1]), &[&[2, 3]], &[list(&[4, 1])]);
    on(op("SpaceToDepth").int("blocksize", 2), &[&[1, 2, 4, 2]], &[]);
    on(op("DepthToSpace").int("blocksize", 2), &[&[1, 8, 2, 1]], &[]);
    on(op("Compress").int("axis", 1), &[&[2, 3]], &[Weight(Tensor::from_bools(&[3], &[true, false, true]))]);
    on(op("ReverseSequence"), &[&[3, 2]], &[list(&[2, 3])]);
    on(op("Trilu").int("upper", 0), &[&[3, 3]], &[]);
    on(op("Resize").text("mode", "nearest"), &[&[1, 1, 2, 3]], &[Missing, Missing, list(&[1, 1, 3, 4])]);
}

#[test]
fn what_two_complex_operands_become() {
    for dtype in COMPLEX {
        let x = || Data(complex(dtype, &[2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]));
        let row = || Weight(complex(dtype, &[1, 2], &[-1.0, -2.0, -3.0, -4.0]));
        let check = |node: NodeProto, given: &[Given], expected: &[f64]| {
            let y = outputs_of(21, node, given, 1).remove(0);
            assert_eq!((y.dtype(), parts(&y)), (dtype, expected.to_vec()));
        };
        let condition = Weight(Tensor::from_bools(&[2, 1], &[true, false]));
        let node = op("Where");
        let y = outputs_of(21, node, &[condition, x(), row()], 1).remove(0);
        assert_eq!(parts(&y), [1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0]);
        let index = || Weight(Tensor::from_i64s(&[1, 1], &[1]));
        check(op("ScatterND"), &[x(), index(), row()], &[1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0]);
        let indices = Weight(Tensor::from_i64s(&[1, 2], &[1, 0]));
        let expected = [1.0, 2.0, -3.0, -4.0, -1.0, -2.0, 7.0, 8.0];
        check(op("ScatterElements"), &[x(), indices, row()], &expected);
        let values = Weight(complex(dtype, &[2], &[0.5, -0.5, 2.0, 3.0]));
        let y = outputs_of(21, op("OneHot"), &[Data(ints(&[1])), scalar(2), values], 1).remove(0);
        assert_eq!(parts(&y), [0.5, -0.5, 2.0, 3.0]);
    }
}

#[test]
fn sums_mix_parts_with_parts() {
    let sizes = || vec![Missing, Missing, list(&[1, 1, 4, 5])];
    by_part(21, &op("Resize").text("mode", "linear"), &[&[1, 1, 2, 3]], &sizes());
    by_part(21, &op("Resize").text("mode", "cubic"), &[&[1, 1, 2, 3]], &sizes());
    let grid = f32s(&[1, 1, 2, 2], &[-0.4, 0.3, 1.2, -0.9]);
    by_part(22, &op("GridSample"), &[&[1, 2, 3, 3]], &[Weight(grid)]);
    by_part(21, &op("Col2Im"), &[&[1, 4, 4]], &[list(&[3, 3]), list(&[2, 2])]);
    // What is outside is a number without an imaginary part.
    let node = op("Resize")
        .text("mode", "linear")
        .text("coordinate_transformation_mode", "tf_crop_and_resize")
        .float("extrapolation_value", 7.0);
    let region = Weight(f32s(&[2], &[0.0, 2.0]));
    let x = Data(complex(DType::C64, &[2], &[1.0, 2.0, 3.0, 4.0]));
    let y = outputs_of(21, node, &[x, region, Missing, list(&[2])], 1).remove(0);
    assert_eq!(parts(&y), [1.0, 2.0, 7.0, 0.0]);
}

#[test]
fn complex_numbers_are_compared_part_by_part() {
    for dtype in COMPLEX {
        let x = complex(dtype, &[4], &[0.0, -0.0, 0.0, 1e-30, 1.0, 0.0, f64::NAN, 0.0]);
        let y = outputs_of(21, op("NonZero"), &[Data(x)], 1).remove(0);
        assert_eq!(y, Tensor::from_i64s(&[1, 3], &[1, 2, 3]));
        let x = || Data(complex(dtype, &[4], &[2.0, 1.0, 1.0, 5.0, 2.0, 1.0, 1.0, -5.0]));
        let found = outputs_of(21, op("Unique"), &[x()], 4);
        assert_eq!(parts(&found[0]), [1.0, -5.0, 1.0, 5.0, 2.0, 1.0]);
        let rest: Vec<Vec<i64>> = found[1..].iter().map(Tensor::to_i64s).collect();
        assert_eq!(rest, [vec![3, 1, 0], vec![2, 1, 2, 0], vec![1, 1, 2]]);
        let found = outputs_of(21, op("Unique").int("sorted", 0), &[x()], 1);
        assert_eq!(parts(&found[0]), [2.0, 1.0, 1.0, 5.0, 1.0, -5.0]);
    }
}

#[test]
fn files_hold_parts_side_by_side() {
    for (dtype, float_data, double_data) in
        [(DType::C64, vec![1.5, -2.0, 0.0, 4.0], vec![]), (DType::C128, vec![], vec![1.5, -2.0, 0.0, 4.0])]
    {
        let typed = TensorProto {
            name: Some("k".to_owned()),
            data_type: Some(code(dtype)),
            dims: vec![2],
            float_data,
            double_data,
            ..TensorProto::default()
        };
        let mut g = graph(vec![input("x", dtype, [1.into()])], vec![], &["y"]);
        g.node.push(node("Concat", &["x", "k"], &["y"]).int("axis", 0));
        g.initializer.push(typed);
        let y = run(&model(g.clone()), &[complex(dtype, &[1], &[9.0, 8.0])]).remove(0);
        assert_eq!((y.dtype(), parts(&y)), (dtype, vec![9.0, 8.0, 1.5, -2.0, 0.0, 4.0]));
        g.initializer[0].dims = vec![3];
        let error = chain(&import(&model(g)).unwrap_err());
        assert!(error.ends_with("takes 6 values in its typed data; found 4"), "{error}");
    }
    let bits = op("BitCast").int("to", i64::from(code(DType::F64)));
    let x = complex(DType::C64, &[1], &[0.0, 1.875]);
    let y = outputs_of(26, bits, &[Data(x)], 1).remove(0);
    assert_eq!(y, Tensor::from_f64s(DType::F64, &[1], &[1.0]));
}

#[test]
fn what_computes_refuses_complex_numbers_by_name() {
    for (node, reason) in [
        (node("Add", &["x", "x"], &["y"]), "c64"),
        (node("Cast", &["x"], &["y"]).int("to", 1), "a cast from c64 to f32"),
        (node("Equal", &["x", "x"], &["y"]), "c64"),
        (node("RandomNormalLike", &["x"], &["y"]), "random numbers of type c64"),
        (node("ReduceSum", &["x"], &["y"]), "c64"),
        (node("MatMul", &["x", "x"], &["y"]), "c64"),
    ] {
        let g = graph(vec![input("x", DType::C64, [2.into(), 2.into()])], vec![node], &["y"]);
        let error = chain(&import(&model(g)).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }
}
