//! Every barrier of a schedule is needed, and the validation layer knows: kernels say what they do to bindings.

use ired_graph::parse;
use ired_hal::RecordError;
use ired_hal::validate::Violation;
use ired_module::code::{Inst, Scalar};
use ired_runtime::InvokeError;

use crate::harness::{self, Compiled};

const CHAIN: &str = r#"graph chain {
  symbol n
  body(%0 : f32[n, 16], %1 : f32[16, 16]) {
    %2 = matmul %0, %1 : f32[n, 16]
    %3 = matmul %2, %1 : f32[n, 16]
    %4 = matmul %3, %1 : f32[n, 16]
    %5 = softmax %4 axis=0 : f32[n, 16]
    %6 = matmul %5, %1 : f32[n, 16]
    yield %6
  }
}
"#;

/// Both with sizes known when compiled, whose buffers share bytes by offset, and not, which share by slot.
#[test]
fn a_missing_barrier_is_found() {
    for text in [CHAIN.to_owned(), CHAIN.replace("[n,", "[24,").replace("  symbol n\n", "")] {
        let graph = parse(&text).unwrap_or_else(|e| panic!("{e}"));
        let inputs = harness::inputs(&graph, 24);
        let mut draft = harness::compile(&graph).unwrap_or_else(|e| panic!("{e}"));
        assert!(Compiled::load(&draft).run(&inputs).is_ok());

        let body = draft.functions[0].body.clone();
        let barriers: Vec<_> = (0..body.len()).filter(|&at| matches!(body[at], Inst::Barrier)).collect();
        assert!(barriers.len() >= 4, "{barriers:?}");
        // An instruction without effect in its place keeps every label where it is.
        let spare = Scalar(draft.functions[0].scalars);
        draft.functions[0].scalars += 1;
        for at in barriers {
            draft.functions[0].body.clone_from(&body);
            draft.functions[0].body[at] = Inst::Constant { dst: spare, value: 0 };
            let error = Compiled::load(&draft).run(&inputs).expect_err("a race");
            assert!(
                matches!(error, InvokeError::Record(RecordError::Invalid(Violation::MissingBarrier { .. }))),
                "without instruction {at}: {error:?}"
            );
        }
    }
}
