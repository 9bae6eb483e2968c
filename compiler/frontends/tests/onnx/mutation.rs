//! A valid model with bytes changed: whatever comes of it, it is an answer and not a crash.

use ired_graph::DType;
use proptest::prelude::*;
use prost::Message;

use crate::build::*;

/// A model with a bit of everything that import looks at.
fn victim() -> Vec<u8> {
    let branch = |op: &str| graph(vec![], vec![node(op, &["flat"], &["r"])], &["r"]);
    let mut g = graph(
        vec![input("x", DType::F32, ["n".into(), 1.into(), 4.into(), 4.into()])],
        vec![
            node("Conv", &["x", "w", "b"], &["c"]).ints("pads", &[1, 1, 1, 1]).ints("strides", &[2, 2]),
            node("Relu", &["c"], &["a"]),
            node("MaxPool", &["a"], &["p"]).ints("kernel_shape", &[2, 2]),
            node("Shape", &["p"], &["s"]),
            node("Slice", &["s", "zero", "one"], &["n"]),
            node("Concat", &["n", "minus"], &["t"]).int("axis", 0),
            node("Reshape", &["p", "t"], &["flat"]),
            node("If", &["flag"], &["y"])
                .graph("then_branch", branch("Neg"))
                .graph("else_branch", branch("Exp")),
            node("Softmax", &["y"], &["z"]).int("axis", -1),
        ],
        &["z"],
    );
    g.input.push(input("flag", DType::Bool, []));
    g.initializer.push(raw("w", &f32s(&[2, 1, 3, 3], &[0.1; 18])));
    g.initializer.push(raw("b", &f32s(&[2], &[0.0, 1.0])));
    for (name, value) in [("zero", 0), ("one", 1), ("minus", -1)] {
        g.initializer.push(raw_ints(name, &[value]));
    }
    model(g).encode_to_vec()
}

#[test]
fn the_victim_is_valid() {
    let imported = import_bytes(victim()).unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(imported.outputs().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_do_not_crash(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = victim();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = import_bytes(bytes);
    }

    #[test]
    fn cut_and_spliced_bytes_do_not_crash(a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let bytes = victim();
        let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
        let _ = import_bytes([&bytes[..a], &bytes[b..]].concat());
    }

    #[test]
    fn noise_does_not_crash(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = import_bytes(bytes);
    }
}
