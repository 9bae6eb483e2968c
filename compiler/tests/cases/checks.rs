//! Sizes that only the caller knows and that do not fit together: a named error, before any kernel reads past an end.

use ired_graph::{Graph, parse};
use ired_runtime::InvokeError;

use crate::harness::{self, Compiled};

/// What `graph` says to inputs of `shapes`.
fn run(graph: &Graph, compiled: &Compiled, shapes: &[&[u64]]) -> Result<(), InvokeError> {
    let inputs = graph.inputs().iter().zip(shapes).enumerate();
    let inputs: Vec<_> =
        inputs.map(|(salt, (id, shape))| harness::ramp(graph.ty(*id).dtype, shape, salt)).collect();
    compiled.run(&inputs).map(drop)
}

struct Case {
    inputs: &'static str,
    nodes: &'static str,
    good: &'static [&'static [&'static [u64]]],
    bad: &'static [(&'static [&'static [u64]], &'static str)],
}

const CASES: &[Case] = &[
    Case {
        inputs: "%0 : f32[n], %1 : f32[k]",
        nodes: "%2 = slice %0 start=[k] size=[4] stride=[1] : f32[4] yield %2",
        good: &[&[&[7], &[3]]],
        bad: &[(&[&[6], &[3]], "`slice`: n must be at least k + 4")],
    },
    Case {
        inputs: "%0 : f32[n], %1 : f32[k]",
        nodes: "%2 = slice %0 start=[n - 1] size=[k] stride=[-2] : f32[k] yield %2",
        good: &[&[&[5], &[3]], &[&[0], &[0]]],
        bad: &[(&[&[5], &[4]], "`slice`: "), (&[&[0], &[1]], "`slice`: ")],
    },
    // One place where both start, and only the second reads anything there.
    Case {
        inputs: "%0 : f32[n], %1 : f32[k], %2 : f32[m]",
        nodes: "%3 = slice %0 start=[n - 4] size=[k] stride=[1] : f32[k]
                %4 = slice %0 start=[n - 4] size=[m] stride=[1] : f32[m] yield %3, %4",
        good: &[&[&[4], &[4], &[4]], &[&[2], &[0], &[0]]],
        bad: &[(&[&[2], &[0], &[1]], "`slice`: "), (&[&[9], &[4], &[5]], "`slice`: ")],
    },
    Case {
        inputs: "%0 : f32[n, m], %1 : f32[k]",
        nodes: "%2 = reshape %0 : f32[k, 4] yield %2",
        good: &[&[&[6, 2], &[3]]],
        bad: &[(&[&[6, 2], &[4]], "`reshape`: elements before and after differ")],
    },
    Case {
        inputs: "%0 : f32[n], %1 : f32[m]",
        nodes: "%2 = broadcast %0 : f32[3, m] yield %2",
        good: &[&[&[5], &[5]], &[&[1], &[5]]],
        bad: &[(&[&[2], &[5]], "`broadcast`: n is neither 1 nor m"), (&[&[5], &[1]], "neither 1 nor m")],
    },
    Case {
        inputs: "%0 : f32[n, 2], %1 : f32[m, 3]",
        nodes: "%2 = concat %0, %1 axis=1 : f32[n, 5] yield %2",
        good: &[&[&[4, 2], &[4, 3]]],
        bad: &[(&[&[4, 2], &[3, 3]], "`concat`: operands' sizes differ: n and m")],
    },
    Case {
        inputs: "%0 : f32[b, 3, k], %1 : f32[c, m, 4]",
        nodes: "%2 = matmul %0, %1 : f32[b, 3, 4] yield %2",
        good: &[&[&[2, 3, 5], &[2, 5, 4]]],
        bad: &[
            (&[&[2, 3, 5], &[2, 6, 4]], "`matmul`: inner sizes differ: k and m"),
            (&[&[2, 3, 5], &[1, 5, 4]], "`matmul`: batch sizes differ: b and c"),
        ],
    },
    Case {
        inputs: "%0 : f32[1, c, 8], %1 : f32[k, d, w]",
        nodes: "%2 = conv %0, %1 extent=[3] stride=[1] dilation=[1] pad_low=[0] pad_high=[0] ceil=false \
                groups=2 channels_last=false : f32[1, k, 6] yield %2",
        good: &[&[&[1, 4, 8], &[6, 2, 3]]],
        bad: &[
            (&[&[1, 4, 8], &[6, 3, 3]], "`conv`: channels of operand and weights differ"),
            (&[&[1, 4, 8], &[5, 2, 3]], "`conv`: kernels modulo groups and zero differ"),
            (&[&[1, 4, 8], &[6, 2, 2]], "`conv`: sizes of weights and window differ"),
        ],
    },
    Case {
        inputs: "%0 : f32[n, 4], %1 : i64[m]",
        nodes: "%2 = gather %0, %1 axis=0 : f32[m, 4] yield %2",
        good: &[&[&[2, 4], &[9]], &[&[0, 4], &[0]]],
        bad: &[(&[&[0, 4], &[1]], "`gather`: n must be at least 1")],
    },
    Case {
        inputs: "%0 : f32[n, c], %1 : i64[m, d]",
        nodes: "%2 = gather_elements %0, %1 axis=0 : f32[m, d] yield %2",
        good: &[&[&[2, 5], &[7, 4]], &[&[0, 5], &[0, 5]], &[&[0, 0], &[3, 0]]],
        bad: &[
            (&[&[0, 4], &[1, 4]], "`gather_elements`: n must be at least 1"),
            (&[&[2, 4], &[1, 5]], "`gather_elements`: c must be at least d"),
        ],
    },
    Case {
        inputs: "%0 : f32[b, n], %1 : i64[c, m, 1]",
        nodes: "%2 = gather_nd %0, %1 batch_dims=1 : f32[b, m] yield %2",
        good: &[&[&[3, 2], &[3, 4, 1]], &[&[3, 0], &[3, 0, 1]]],
        bad: &[
            (&[&[3, 2], &[2, 4, 1]], "`gather_nd`: batch sizes differ: b and c"),
            (&[&[3, 0], &[3, 4, 1]], "`gather_nd`: n must be at least 1"),
        ],
    },
    Case {
        inputs: "%0 : f32[n]",
        nodes: "%1 = pad %0 low=[2] high=[1] mode=edge : f32[n + 3] yield %1",
        good: &[&[&[1]]],
        bad: &[(&[&[0]], "`pad`: n must be at least 1")],
    },
    Case {
        inputs: "%0 : f32[n], %1 : f32[]",
        nodes: "%2 = pad %0, %1 low=[-2] high=[-2] mode=constant : f32[n - 4] yield %2",
        good: &[&[&[5], &[]], &[&[4], &[]]],
        bad: &[(&[&[3], &[]], "is negative")],
    },
    Case {
        inputs: "%0 : f32[n, c], %1 : f32[d]",
        nodes: "%2 = layer_norm %0, %1 axis=1 epsilon=0.001 : f32[n, c] yield %2",
        good: &[&[&[3, 8], &[8]]],
        bad: &[(&[&[3, 8], &[7]], "`layer_norm`: sizes of rows and of scale or bias differ: c and d")],
    },
];

#[test]
fn sizes_that_do_not_fit_are_named_before_anything_runs() {
    let mut failures = Vec::new();
    for case in CASES {
        let symbols = ["n", "m", "k", "b", "c", "d", "w"];
        let dims = case.inputs.replace("f32", "").replace("i64", "");
        let used = symbols.iter().filter(|symbol| dims.contains(**symbol));
        let declared: String = used.map(|symbol| format!("  symbol {symbol}\n")).collect();
        let nodes = case.nodes.replace(" yield", "\n yield").replace(" %4 =", "\n %4 =");
        let text = format!("graph g {{\n{declared}  body({}) {{\n{nodes}\n  }}\n}}\n", case.inputs);
        let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let compiled = Compiled::new(&graph);
        for shapes in case.good {
            let outcome = run(&graph, &compiled, shapes);
            failures.extend(outcome.err().map(|e| format!("{shapes:?} is refused: {e:?}\n{text}")));
        }
        for (shapes, expected) in case.bad {
            match run(&graph, &compiled, shapes) {
                Err(InvokeError::Check { message }) if message.contains(expected) => {}
                other => failures.push(format!("{shapes:?}: not {expected:?} but {other:?}\n{text}")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a symbol may be, said of it alone or of an expression, is checked before anything else.
#[test]
fn symbols_stay_in_their_ranges() {
    let text =
        "graph g {\n  symbol n min 2 max 8\n  symbol h\n  body(%0 : f32[n], %1 : f32[2*h + 3], %2 : f32[h]) {
    %3 = tanh %0 : f32[n]\n    %4 = tanh %1 : f32[2*h + 3]\n    yield %3, %4\n  }\n}\n";
    let graph = parse(text).unwrap_or_else(|e| panic!("{e}"));
    let compiled = Compiled::new(&graph);
    assert!(run(&graph, &compiled, &[&[8], &[3], &[0]]).is_ok());
    assert!(run(&graph, &compiled, &[&[2], &[9], &[3]]).is_ok());
    for (n, odd, h, expected) in [
        (1, 5, 1, "(`n`) is 1, expected 2 to 8"),
        (9, 5, 1, "(`n`) is 9, expected 2 to 8"),
        (4, 4, 1, "axis 0 must be 2*h + 3"),
        (4, 1, 0, "(`2*h + 3`) is 1, expected 3 to"),
    ] {
        let error = run(&graph, &compiled, &[&[n], &[odd], &[h]]).expect_err("a size out of range");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
