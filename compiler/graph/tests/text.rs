//! The text form: what it looks like, that it reads back, and that errors say where.

use ired_graph::{DType, Graph, Tensor, interpret, parse, verify};
use proptest::prelude::*;

fn round_trip(text: &str) -> Graph {
    let graph = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(verify(&graph), Ok(()), "{text}");
    assert_eq!(graph.to_string(), text);
    assert_eq!(graph.compact().to_string(), text);
    graph
}

const MLP: &str = r#"graph mlp {
  symbol batch min 1 max 64 multiple 2
  symbol "odd name"
  param @w : f32[2, 3] = hex"0000803f0000004000004040000080400000a0400000c040"
  body(%0 "x" : f32[batch, 2]) {
    %1 = param @w : f32[2, 3]
    %2 = matmul %0, %1 : f32[batch, 3] from "/fc1" "Gemm"
    %3 = constant [0.5] : f32[1]
    %4 = broadcast %3 : f32[batch, 3]
    %5 = add %2, %4 : f32[batch, 3]
    %6 "y" = reduce_max %5 axes=[1] : f32[batch]
    yield %6
  }
}
"#;

#[test]
fn a_graph_reads_back_and_runs() {
    let graph = round_trip(MLP);
    let x = Tensor::from_f32s(&[2, 2], &[1.0, 0.0, 0.0, -1.0]);
    assert_eq!(interpret(&graph, &[x]).unwrap(), [Tensor::from_f32s(&[2], &[3.5, -3.5])]);
}

#[test]
fn every_attribute_reads_back() {
    assert_eq!(parse(VARIED).map(|graph| verify(&graph)).map_err(|e| e.to_string()), Ok(Ok(())));
    round_trip(
        r#"graph "all of it" {
  symbol n min 1
  body(%0 : f32[n, 4, 9, 9], %1 : i64[2]) {
    %2 = constant [1, -2] : i64[2]
    %3 = constant [true] : bool[1]
    %4 = constant [1.5, -0.0, 0x7fc00000, 0xff800000] : f32[4]
    %5 = constant [] : f16[0]
    %6 = dims [n, 2*n - 1, floordiv(n, 2), -3] : i64[4]
    %7 = iota axis=1 : i32[n, 4]
    %8 = constant [0.1, 0.2] : f32[2]
    yield %0
  }
}
"#,
    );
    round_trip(
        r#"graph windows {
  symbol n min 1
  body(%0 : f32[n, 4, 9, 9], %1 : f32[6, 2, 3, 3]) {
    %2 = conv %0, %1 extent=[3, 3] stride=[2, 1] dilation=[1, 2] pad_low=[1, 1] pad_high=[1, 0] ceil=false groups=2 channels_last=false : f32[n, 6, 5, 6]
    %3 = max_pool %2 extent=[2, 2] stride=[2, 2] dilation=[1, 1] pad_low=[0, 0] pad_high=[0, 0] ceil=true include_pad=false channels_last=false : f32[n, 6, 3, 3]
    %4 = constant [0.0] : f32[1]
    %5 = reshape %4 : f32[]
    %6 = pad %3, %5 low=[0, 0, 1, -1] high=[n, 0, 0, 0] mode=constant : f32[2*n, 6, 4, 2]
    %7 = slice %6 start=[0, 5, 0, 1] size=[n, 3, 4, 2] stride=[1, -2, 1, -1] : f32[n, 3, 4, 2]
    %8 = transpose %7 perm=[1, 0, 3, 2] : f32[3, n, 2, 4]
    %9 = arg_max %8 axis=3 last_on_tie=true : i64[3, n, 2]
    %10 = layer_norm %8 axis=3 epsilon=1e-5 : f32[3, n, 2, 4]
    %11 = log_softmax %10 axis=0 : f32[3, n, 2, 4]
    %12 = cast %11 : bf16[3, n, 2, 4]
    yield %12, %9
  }
}
"#,
    );
}

#[test]
fn control_flow_reads_back_and_runs() {
    let graph = round_trip(
        r#"graph loops {
  symbol n
  symbol m
  body(%0 "x" : f32[n]) {
    %1 = constant [0] : i64[]
    %2, %3 "out" = while %1, %0 : i64[], f32[m] (%4 : i64[], %5 : f32[m]) {
      %6 = constant [3] : i64[]
      %7 = lt %4, %6 : bool[]
      yield %7
    } (%8 : i64[], %9 : f32[m]) {
      %10 = constant [1] : i64[]
      %11 = add %8, %10 : i64[]
      %12 = concat %9, %9 axis=0 : f32[2*m]
      %13 = eq %8, %10 : bool[]
      %14 = if %13 : f32[2*m] () {
        %15 = neg %12 : f32[2*m]
        yield %15
      } () {
        yield %12
      }
      yield %11, %14
    }
    yield %3
  }
}
"#,
    );
    let x = Tensor::from_f32s(&[1], &[1.5]);
    assert_eq!(interpret(&graph, &[x]).unwrap(), [Tensor::from_f32s(&[8], &[-1.5; 8])]);
    let empty = Tensor::from_f32s(&[0], &[]);
    assert_eq!(interpret(&graph, std::slice::from_ref(&empty)).unwrap()[0], empty);
}

#[test]
fn errors_say_where() {
    let wrong = [
        (
            "matmul %0, %1 : f32[batch, 3]",
            "matmul %0, %1 : f32[batch, 4]",
            "7:5: `matmul` gives f32[batch, 3]; found f32[batch, 4]",
        ),
        ("%0, %1", "%0, %9", "7:21: %9 is not defined here"),
        ("matmul", "mapmul", "7:10: `mapmul` is no operation"),
        ("f32[batch, 2]", "f32[bach, 2]", "5:21: `bach` is no symbol of the graph"),
        ("axes=[1]", "axes=[x]", "11:34: `x` is no symbol of the graph"),
        ("axes=[1]", "axis=1", "11:14: attribute `axes` is missing"),
        ("[0.5]", "[half]", "8:20: `half` is no symbol of the graph"),
        ("= constant [0.5]", "= constant [0.5, 1]", "8:19: 2 elements do not fill [1]"),
        ("yield", "yeld", "12:5: expected a node or `yield`; found `yeld`"),
        ("hex\"00", "hex\"0", "4:29: bytes are written as pairs of hexadecimal digits"),
        ("max 64", "max 0", "2:10: symbol `batch` has no possible value"),
    ];
    let found = wrong.map(|(from, to, _)| {
        let text = MLP.replacen(from, to, 1);
        assert_ne!(text, MLP);
        parse(&text).map(|g| g.to_string()).unwrap_err().to_string()
    });
    assert_eq!(found, wrong.map(|(_, _, expected)| expected));
}

#[test]
fn every_element_type_reads_back() {
    for dtype in DType::ALL {
        let values: &[i128] = if dtype.bits() < 4 || dtype == DType::Bool { &[1, 0] } else { &[1, 7] };
        let mut graph = Graph::new("g");
        let tensor = Tensor::from_integers(dtype, &[2], values);
        let body = graph.body;
        graph.push(body, ired_graph::Op::Constant(tensor), &[], None).unwrap();
        graph.set_outputs(body, vec![ired_graph::ValueId(0)]);
        round_trip(&graph.to_string());
    }
}

/// A text with every operation that has attributes of its own.
const VARIED: &str = r#"graph g {
  symbol n min 1
  param @w : i8[2] = hex"01ff"
  body(%0 "x" : f32[n, 4, 9, 9], %1 : f32[6, 2, 3, 3], %2 : bool[]) {
    %3 = conv %0, %1 extent=[3, 3] stride=[2, 1] dilation=[1, 2] pad_low=[1, 1] pad_high=[1, 0] ceil=false groups=2 channels_last=false : f32[n, 6, 5, 6]
    %4 = constant [1.5, -0.0, 0x7fc00000] : f32[3]
    %5 = dims [n, 2*n - 1, floordiv(n, 2)] : i64[3]
    %6 = slice %0 start=[0, 3, 0, 1] size=[n, 3, 4, 2] stride=[1, -1, 1, 1] : f32[n, 3, 4, 2] from "a" "b"
    %7 = if %2 : i8[2] () {
      %8 = param @w : i8[2]
      yield %8
    } () {
      %8 = constant [1, -128] : i8[2]
      yield %8
    }
    %9 = while %7 : i8[2] (%10 : i8[2]) {
      yield %2
    } (%11 : i8[2]) {
      yield %11
    }
    yield %3, %6, %9
  }
}
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_text_is_refused_or_reads_back(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, "[-%@\"\\[\\](){}:,=*0-9a-z]{0,3}"), 1..4)
    ) {
        let mut text = VARIED.to_owned();
        for (at, removed, inserted) in cuts {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.replace_range(at..end, &inserted);
        }
        if let Ok(graph) = parse(&text)
            && verify(&graph).is_ok()
        {
            let printed = graph.to_string();
            prop_assert_eq!(parse(&printed).map(|g| g.to_string()), Ok(printed));
        }
    }
}
