//! Complex numbers: how they are written, that they move whole, what takes them apart, and what refuses them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use ired_graph::{
    BinaryFn, Builder, DType, Graph, Op, Tensor, TensorType, UnaryFn, interpret, parse, verify,
};

/// Complex elements from parts that follow each other.
fn complex(dtype: DType, shape: &[u64], parts: &[f64]) -> Tensor {
    let parts = Tensor::from_f64s(dtype.part().unwrap(), &[parts.len() as u64], parts);
    Tensor::new(dtype, shape.to_vec(), parts.data().clone()).unwrap()
}

#[test]
fn constants_are_written_part_by_part_and_move_whole() {
    let text = r#"graph moved {
  body(%0 : c64[2, 2], %1 : i64[1, 1]) {
    %2 = constant [1.5, -2.0, 0x7fc00001, 0.0] : c64[2]
    %3 = transpose %0 perm=[1, 0] : c64[2, 2]
    %4 = constant [0.0, 1.0] : c64[1]
    %5 = reshape %4 : c64[]
    %6 = pad %3, %5 low=[0, 1] high=[0, 0] mode=constant : c64[2, 3]
    %7 = reshape %2 : c64[1, 2]
    %8 = scatter_set %3, %1, %7 : c64[2, 2]
    %9 = concat %6, %8 axis=1 : c64[2, 5]
    yield %9
  }
}
"#;
    let graph = parse(text).unwrap();
    assert_eq!(verify(&graph), Ok(()));
    assert_eq!(graph.to_string(), text);
    let x = complex(DType::C64, &[2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let found = interpret(&graph, &[x, Tensor::from_i64s(&[1, 1], &[1])]).unwrap().remove(0);
    let nan = f32::from_bits(0x7fc0_0001);
    let rows = [
        [0.0, 1.0, 1.0, 2.0, 5.0, 6.0, 1.0, 2.0, 5.0, 6.0],
        [0.0, 1.0, 3.0, 4.0, 7.0, 8.0, 1.5, -2.0, nan, 0.0],
    ];
    let data: Vec<u8> = rows.iter().flatten().flat_map(|v: &f32| v.to_le_bytes()).collect();
    assert_eq!(found, Tensor::new(DType::C64, vec![2, 5], Bytes::from(data)).unwrap());
    let wrong = text.replace("[0.0, 1.0]", "[0.0]");
    assert_eq!(parse(&wrong).unwrap_err().to_string(), "5:19: 1 elements do not fill [1]");
}

#[test]
fn parts_are_taken_apart_and_put_together() {
    for (dtype, part) in [(DType::C64, DType::F32), (DType::C128, DType::F64)] {
        let x = complex(dtype, &[3], &[1.0, -2.0, -0.0, f64::INFINITY, 3.5, 0.1]);
        let mut graph = Graph::new("parts");
        let value = graph.add_input("x", TensorType::of_sizes(dtype, &[3]));
        let mut b = Builder::new(&mut graph);
        let re = b.unary(UnaryFn::Real, value).unwrap();
        let im = b.unary(UnaryFn::Imag, value).unwrap();
        let swapped = b.push(Op::Binary(BinaryFn::Complex), &[im, re]).unwrap();
        graph.set_outputs(graph.body, vec![re, im, swapped]);
        assert_eq!(verify(&graph), Ok(()));
        assert_eq!(parse(&graph.to_string()).unwrap().to_string(), graph.to_string());
        let found = interpret(&graph, &[x]).unwrap();
        assert_eq!(found[0], Tensor::from_f64s(part, &[3], &[1.0, -0.0, 3.5]));
        assert_eq!(found[1], Tensor::from_f64s(part, &[3], &[-2.0, f64::INFINITY, 0.1]));
        assert_eq!(found[2], complex(dtype, &[3], &[-2.0, 1.0, f64::INFINITY, -0.0, 0.1, 3.5]));
    }
}

#[test]
fn what_computes_refuses_them() {
    let refused = |op: &str, ty: &str| {
        let text = format!("graph g {{ body(%0 : c128[2], %1 : c128[2]) {{ %2 = {op} : {ty} yield %2 }} }}");
        parse(&text).unwrap_err().to_string()
    };
    for (op, ty) in [
        ("add %0, %1", "c128[2]"),
        ("neg %0", "c128[2]"),
        ("eq %0, %1", "bool[2]"),
        ("reduce_sum %0 axes=[0]", "c128[]"),
        ("sort %0 axis=0 descending=false", "i64[2]"),
        ("cast %0", "f64[2]"),
        ("real %0", "f32[2]"),
        ("complex %0, %1", "c128[2]"),
    ] {
        let error = refused(op, ty);
        assert!(error.contains("c128") || error.contains("f64[2]"), "{op}: {error}");
    }
    let text = "graph g { body(%0 : f64[2]) { %1 = cast %0 : c128[2] yield %1 } }";
    assert!(parse(text).unwrap_err().to_string().contains("which is put together from its parts"));
}
