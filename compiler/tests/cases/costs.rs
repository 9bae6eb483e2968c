//! What a module says that calls of so many rows cost.

use ired_compiler::targets::CpuTarget;
use ired_module::efficient_rows;
use ired_module::signature::Rows;

use crate::exact::{INEXACT, Model, compile, named};

const V4: &str = "x86-64-v4";

fn costs(model: &Model, target: &str) -> Vec<u32> {
    match &model.compile(&CpuTarget::parse(target).unwrap()).signature.entries[0].rows {
        Rows::Independent { costs, .. } => costs.clone(),
        Rows::Dependent { reason } => panic!("{}: {reason}", model.name),
    }
}

/// Of a row, in calls of so many.
fn each(costs: &[u32], rows: usize) -> f64 {
    f64::from(costs[rows - 1]) / rows as f64
}

/// A layer as wide as 30 vectors: tiles are of nine rows and three vectors where there are 32 registers.
const LAYER: Model = Model {
    name: "layer",
    params: &[("w", "f32", &[480, 480])],
    body: "(%0 \"x\" : f32[n, 480]) {
    %1 = param @w : f32[480, 480]
    %2 = matmul %0, %1 : f32[n, 480]
    yield %2",
};

#[test]
fn a_row_that_is_alone_in_a_tile_costs_as_much_as_two() {
    let found = costs(&LAYER, V4);
    assert_eq!((found.len(), found[0]), (64, 1000));
    for tiles in 1..=7 {
        let whole = 9 * tiles;
        let [before, at, after] = [whole - 1, whole, whole + 1].map(|rows| f64::from(found[rows - 1]));
        assert!(after - at > 1.9 * (at - before), "{whole} rows: {before}, {at}, {after}");
        assert!(each(&found, whole) < each(&found, whole + 1), "{whole} rows");
    }
    assert_eq!(found, costs(&LAYER, V4));
    // What is left of a tile of six rows and two short vectors waits for its sums where it is three.
    let narrow = costs(&LAYER, "x86-64-v3");
    let more = |rows: usize| narrow[rows] - narrow[rows - 1];
    assert!(more(8) > more(7) && more(8) > more(9), "{narrow:?}");
}

#[test]
fn a_few_rows_are_worth_having_and_the_last_number_is_nearly_as_good_as_any() {
    let found = costs(&LAYER, V4);
    let listed: Vec<usize> = efficient_rows(found.iter().copied()).map(|rows| rows as usize).collect();
    assert!((2..=8).contains(&listed.len()) && listed[0] == 1, "{listed:?}");
    assert!(listed.is_sorted_by(|x, y| x < y && each(&found, *y) < each(&found, *x)), "{listed:?}");
    let least = (1..=64).map(|rows| each(&found, rows)).fold(f64::MAX, f64::min);
    assert!(each(&found, listed[listed.len() - 1]) <= least * 17.0 / 16.0, "{listed:?}");
}

#[test]
fn weights_that_come_from_far_serve_several_rows() {
    let far = Model {
        name: "far",
        params: &[("w", "f32", &[600, 2000])],
        body: "(%0 \"x\" : f32[n, 600]) {
    %1 = param @w : f32[600, 2000]
    %2 = matmul %0, %1 : f32[n, 2000]
    yield %2",
    };
    let found = costs(&far, V4);
    assert!(found[5] < 1100 && found[31] > 2500, "{found:?}");
}

#[test]
fn images_are_computed_one_by_one_and_cost_more_where_they_leave_the_cache() {
    let images = Model {
        name: "images",
        params: &[("w", "f32", &[32, 16, 3, 3])],
        body: "(%0 \"x\" : f32[n, 24, 24, 16]) {
    %1 = param @w : f32[32, 16, 3, 3]
    %2 = conv %0, %1 extent=[3, 3] stride=[2, 2] dilation=[1, 1] pad_low=[1, 1] pad_high=[1, 1] ceil=false groups=1 channels_last=true : f32[n, 12, 12, 32]
    yield %2",
    };
    let found = costs(&images, V4);
    let more: Vec<u32> = found.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // An image takes 54 KiB, and the cache of the target is one MiB.
    let (near, far) = (&more[..17], &more[20..]);
    for alike in [near, far] {
        assert!(alike.iter().all(|cost| cost.abs_diff(alike[0]) <= 1), "{more:?}");
    }
    assert!(near[0] + 1 < far[0], "{more:?}");
}

#[test]
fn nothing_is_said_of_what_depends_on_more_than_rows_or_is_not_understood() {
    assert_eq!(costs(named("attention"), V4), []);
    assert_eq!(costs(&INEXACT[0], V4), []);
}

#[test]
fn no_more_rows_are_told_of_than_the_batch_can_have() {
    let mut graph = LAYER.graph();
    for symbol in
        graph.inputs().iter().flat_map(|input| graph.ty(*input).shape[0].symbols()).collect::<Vec<_>>()
    {
        graph.symbols.get_mut(symbol).max = 12;
    }
    let draft = compile(&graph, &CpuTarget::parse(V4).unwrap()).unwrap();
    assert!(matches!(&draft.signature.entries[0].rows, Rows::Independent { costs, .. } if costs.len() == 12));
}
