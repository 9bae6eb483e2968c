//! What modules say of their dispatches, for profiles.

use ired_graph::parse;
use ired_module::code::Inst;
use ired_module::notes::DispatchNotes;

use crate::harness;

/// Two of its sizes are those of inputs, one is decided by data.
const GRAPH: &str = "graph g {
  symbol n
  symbol m
  symbol k
  body(%0 : f32[n, 8], %1 : f32[8, m], %2 : i64[1]) {
    %3 = matmul %0, %1 : f32[n, m]
    %4 = tanh %3 : f32[n, m]
    %5 = mul %2, %2 : i64[1]
    %6 = read_dims %5 symbols=[k] : i64[1]
    %7 = iota axis=0 : f32[k]
    yield %4, %7
  }
}
";

#[test]
fn work_is_counted_in_sizes_and_what_data_decides_is_not_known() {
    let graph = parse(GRAPH).unwrap_or_else(|e| panic!("{e}"));
    let draft = harness::compile(&graph).unwrap();
    let notes = DispatchNotes::decode(&draft.debug).unwrap();
    let known = notes.at(&[vec![3, 8], vec![8, 5], vec![1]]);
    let product = known.iter().find(|dispatch| dispatch.result == "f32[3, 5]").unwrap();
    assert_eq!(product.operations, Some(2 * 3 * 5 * 8 + 3 * 5));
    assert_eq!(product.bytes, Some(4 * (3 * 8 + 8 * 5 + 3 * 5)));
    assert_eq!(product.nodes, "(matmul), (tanh)");
    let decided = known.iter().find(|dispatch| dispatch.result == "f32[?]").unwrap();
    assert_eq!(decided.bytes, None);
}

#[test]
fn every_dispatch_has_a_note() {
    let draft = harness::compile(&parse(GRAPH).unwrap_or_else(|e| panic!("{e}"))).unwrap();
    let notes = DispatchNotes::decode(&draft.debug).unwrap();
    let body = &draft.functions[0].body;
    let dispatches = (0u32..).zip(body).filter(|(_, inst)| matches!(inst, Inst::Dispatch { .. }));
    let noted = notes.notes.iter().map(|note| note.instruction);
    assert!(noted.eq(dispatches.map(|(at, _)| at)));
}
