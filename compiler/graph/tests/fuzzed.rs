//! What fuzzers found, each as small as it gets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use ired_graph::{Tensor, interpret, parse, verify};

/// What a graph, given as text, computes on these inputs.
fn run(text: &str, inputs: &[Tensor]) -> Vec<Tensor> {
    let graph = parse(text).unwrap_or_else(|error| panic!("{error}"));
    verify(&graph).unwrap_or_else(|errors| panic!("{errors:?}"));
    interpret(&graph, inputs).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn a_convolution_of_nothing_gives_what_is_in_its_padding() {
    let text = "graph g {
        body(%0 : f32[1, 0, 2], %1 : f32[1, 2, 2]) {
            %2 = conv %0, %1 extent=[2] stride=[1] dilation=[1] pad_low=[1] pad_high=[2] ceil=false groups=1 channels_last=true : f32[1, 2, 1]
            yield %2
        }
    }";
    let inputs = [Tensor::from_f32s(&[1, 0, 2], &[]), Tensor::from_f32s(&[1, 2, 2], &[1.0; 4])];
    assert_eq!(run(text, &inputs), [Tensor::from_f32s(&[1, 2, 1], &[0.0; 2])]);
}

#[test]
fn the_smallest_number_reads_back_as_a_size() {
    let text = "graph g {\n  symbol n\n  body(%0 : f32[n]) {\n    \
        %1 = dims [-9223372036854775808, -9223372036854775808*n, n - 9223372036854775808] : i64[3]\n    yield %1\n  }\n}\n";
    assert_eq!(parse(text).unwrap().to_string(), text);
}
