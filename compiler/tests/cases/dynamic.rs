//! Sizes that only the run knows: where they are checked, what is said of them, and what memory they take.

use ired_graph::{Graph, Tensor, parse};
use ired_runtime::InvokeError;

use crate::harness::{self, Compiled};

fn graph(symbols: &[&str], body: &str) -> Graph {
    let symbols: String = symbols.iter().map(|symbol| format!("  symbol {symbol}\n")).collect();
    let text = format!("graph g {{\n{symbols}  body{body}\n}}\n");
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn i64s(values: &[i64]) -> Tensor {
    Tensor::from_i64s(&[values.len() as u64], values)
}

fn floats(count: u64) -> Tensor {
    harness::ramp(ired_graph::DType::F32, &[count], 3)
}

/// Whether the compiled graph and the interpreter agree.
fn agrees(graph: &Graph, compiled: &Compiled, inputs: &[Tensor]) {
    let expected = harness::reference(graph, inputs).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    let found = compiled.run(inputs).unwrap_or_else(|e| panic!("{e:?}\n{graph}"));
    harness::compare(&expected, &found, 1e-5).unwrap_or_else(|e| panic!("{e}\n{graph}"));
}

fn refused(compiled: &Compiled, inputs: &[Tensor], expected: &str) {
    match compiled.run(inputs) {
        Err(InvokeError::Check { message }) if message.contains(expected) => {}
        other => panic!("not {expected:?} but {other:?}"),
    }
}

/// Also where the sizes would be negative, or a division by zero.
#[test]
fn a_branch_that_is_not_taken_checks_nothing() {
    let graph = graph(
        &["n"],
        "(%0 : f32[n], %1 : bool[]) {
    %2 = if %1 : f32[n] () {
      %3 = slice %0 start=[4] size=[n - 4] stride=[1] : f32[n - 4]
      %4 = tanh %3 : f32[n - 4]
      %5 = reduce_sum %4 axes=[0] : f32[]
      %6 = broadcast %5 : f32[12]
      %7 = reshape %6 : f32[n, floordiv(12, n)]
      %8 = reduce_sum %7 axes=[1] : f32[n]
      %9 = broadcast %5 : f32[n]
      %10 = add %8, %9 : f32[n]
      yield %10
    } () {
      yield %0
    }
    yield %2\n  }",
    );
    let compiled = Compiled::new(&graph);
    let condition = |taken| Tensor::from_bools(&[], &[taken]);
    for n in [0, 1, 3, 6] {
        agrees(&graph, &compiled, &[floats(n), condition(false)]);
    }
    agrees(&graph, &compiled, &[floats(6), condition(true)]);
    refused(&compiled, &[floats(3), condition(true)], "`slice`: ");
}

/// A constant from around the branch, computed in it again, does not hold up what comes after.
#[test]
fn a_branch_reads_a_size_after_what_it_takes_from_outside() {
    let graph = graph(
        &["k", "n"],
        "(%0 : f32[4], %1 : bool[], %2 : i64[1]) {
    %3 = tanh %0 : f32[4]
    %4 = exp %3 : f32[4]
    %5 = tanh %4 : f32[4]
    %6 = constant [0.5] : f32[]
    %7 = if %1 : f32[n] () {
      %8 = reduce_max %0 axes=[0] : f32[]
      %9 = add %8, %6 : f32[]
      %10 = read_dims %2 symbols=[k] : i64[1]
      %11 = broadcast %9 : f32[k]
      yield %11
    } () {
      yield %5
    }
    yield %7\n  }",
    );
    let compiled = Compiled::new(&graph);
    for taken in [false, true] {
        agrees(&graph, &compiled, &[floats(4), Tensor::from_bools(&[], &[taken]), i64s(&[7])]);
    }
}

#[test]
fn sizes_that_the_host_computed_are_read_as_well() {
    let graph = graph(
        &["n", "s"],
        "(%0 : f32[n]) {
    %1 = dims [n + floordiv(n, 2)] : i64[1]
    %2 = read_dims %1 symbols=[s] : i64[1]
    %3 = reduce_sum %0 axes=[0] : f32[]
    %4 = broadcast %3 : f32[s]
    %5 = add %2, %1 : i64[1]
    yield %4, %5\n  }",
    );
    let compiled = Compiled::new(&graph);
    for n in [0, 1, 7] {
        agrees(&graph, &compiled, &[floats(n)]);
    }
}

#[test]
fn what_is_read_stays_within_its_bounds() {
    let graph = graph(
        &["k min 1 max 9", "m"],
        "(%0 : i64[2], %1 : f32[]) {
    %2 = add %0, %0 : i64[2]
    %3 = read_dims %2 symbols=[k, m] : i64[2]
    %4 = broadcast %1 : f32[k, m]
    yield %4, %3\n  }",
    );
    let compiled = Compiled::new(&graph);
    let x = Tensor::from_f32s(&[], &[1.5]);
    for (k, m) in [(1, 0), (4, 3), (2, 50)] {
        agrees(&graph, &compiled, &[i64s(&[k, m]), x.clone()]);
    }
    refused(&compiled, &[i64s(&[0, 1]), x.clone()], "(`k`) must be at least 1");
    refused(&compiled, &[i64s(&[5, 1]), x.clone()], "(`k`) must be at most 9");
    refused(&compiled, &[i64s(&[2, -1]), x.clone()], "(`m`) must be at least 0");
    refused(&compiled, &[i64s(&[2, 1 << 50]), x.clone()], "(`m`) must be at most");
    // More memory than there is.
    let error = compiled.run(&[i64s(&[4, 1 << 38]), x]).expect_err("no memory");
    assert!(matches!(error, InvokeError::Allocate(_)), "{error:?}");
}

/// Sizes of what is read are checked against what is there, after what is read is known.
#[test]
fn what_follows_from_data_is_checked_where_it_is_known() {
    let graph = graph(
        &["n", "k"],
        "(%0 : f32[n], %1 : i64[1]) {
    %2 = read_dims %1 symbols=[k] : i64[1]
    %3 = slice %0 start=[0] size=[k] stride=[1] : f32[k]
    %4 = exp %3 : f32[k]
    yield %4\n  }",
    );
    let compiled = Compiled::new(&graph);
    agrees(&graph, &compiled, &[floats(5), i64s(&[5])]);
    agrees(&graph, &compiled, &[floats(5), i64s(&[0])]);
    refused(&compiled, &[floats(5), i64s(&[6])], "n must be at least k");
}

const GROWING: &str = "(%0 : f32[n], %1 : i64[]) {
    %2 = constant [0] : i64[]
    %3, %4 = while %2, %0 : i64[], f32[s] (%6 : i64[], %7 : f32[s]) {
      %10 = lt %6, %1 : bool[]
      yield %10
    } (%11 : i64[], %12 : f32[s]) {
      %14 = constant [1] : i64[]
      %15 = add %11, %14 : i64[]
      %16 = sin %12 : f32[s]
      %17 = reduce_mean %16 axes=[0] : f32[]
      %18 = reshape %17 : f32[1]
      %19 = concat %16, %18 axis=0 : f32[s + 1]
      yield %15, %19
    }
    yield %4\n  }";

/// Each iteration lets go of what the one before took.
#[test]
fn loops_hold_what_one_iteration_needs() {
    let graph = graph(&["n", "s"], GROWING);
    let budget = 1 << 20;
    let compiled = Compiled::new(&graph).within(budget);
    for count in [0, 1, 7, 300] {
        agrees(&graph, &compiled, &[floats(40_000), Tensor::from_i64s(&[], &[count])]);
    }
    let error = compiled.run(&[floats(400_000), Tensor::from_i64s(&[], &[1])]).expect_err("no memory");
    assert!(matches!(error, InvokeError::OverBudget { .. }), "{error:?}");
}

/// Without looking at data, whole calls are recorded, and the recording serves the next call.
#[test]
fn counted_loops_run_without_waiting() {
    let graph = graph(
        &["n", "i"],
        "(%0 : f32[n, 8], %1 : f32[1, 8], %2 : f32[8, 8]) {
    %3, %4 = repeat %1 count=[n] index=[i] : f32[1, 8], f32[n, 1, 8] (%5 : f32[1, 8]) {
      %6 = slice %0 start=[i, 0] size=[1, 8] stride=[1, 1] : f32[1, 8]
      %7 = matmul %5, %2 : f32[1, 8]
      %8 = add %6, %7 : f32[1, 8]
      %9 = tanh %8 : f32[1, 8]
      yield %9, %9
    }
    yield %3, %4\n  }",
    );
    let draft = harness::compile(&graph).unwrap_or_else(|e| panic!("{e}"));
    let waits = |inst: &ired_module::code::OwnedInst| matches!(inst, ired_module::code::Inst::Await);
    assert!(!draft.functions[0].body.iter().any(waits));
    let compiled = Compiled::load(&draft);
    for n in [0, 1, 7, 512, 7] {
        let matrix = |rows, salt| harness::ramp(ired_graph::DType::F32, &[rows, 8], salt);
        // Small enough that rounding does not grow from step to step.
        let weights: Vec<f32> = matrix(8, 3).to_f64s().iter().map(|w| *w as f32 / 16.0).collect();
        let weights = Tensor::from_f32s(&[8, 8], &weights);
        agrees(&graph, &compiled, &[matrix(n, 1), matrix(1, 2), weights]);
    }
}

/// Buffers of one iteration share memory with each other.
#[test]
fn an_iteration_needs_what_its_widest_place_does() {
    let chain = |length: usize| {
        let mut body = String::from(
            "(%0 : f32[64, 64], %1 : f32[64, 64]) {
    %2 = repeat %0 count=[5] index=[i] : f32[64, 64] (%10 : f32[64, 64]) {\n",
        );
        for at in 0..length {
            body += &format!("      %{} = matmul %{}, %1 : f32[64, 64]\n", at + 11, at + 10);
        }
        body += &format!("      yield %{}\n    }}\n    yield %2\n  }}", length + 10);
        Compiled::new(&graph(&["i"], &body)).peak_bytes(&[vec![64, 64], vec![64, 64]])
    };
    assert_eq!(chain(4), chain(12));
}
