//! Whether rows are independent: by families of operations, in both directions. What is said to be independent gives
//! the same for rows together and alone; what is said to depend on other rows does, in these examples.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;

use batches::{alone_and_together, inputs_of};
use ired_graph::rows::independent_rows;
use ired_graph::{Graph, interpret, parse, verify};

/// `x: f32[n, 4]`, `z: f32[n, m, 4]` and `k: i64[n, 2]` of zeros and ones; the output is `%9`.
fn graph_of(body: &str) -> Graph {
    let text = format!(
        "graph g {{
           symbol n min 1 max 64
           symbol m min 1 max 64
           symbol a symbol b symbol i
           body(%0 \"x\" : f32[n, 4], %1 \"z\" : f32[n, m, 4], %2 \"k\" : i64[n, 2]) {{ {body} yield %9 }} }}"
    );
    let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{body}"));
    assert_eq!(verify(&graph), Ok(()), "{body}");
    graph
}

/// Whether one call with the rows of two gives what the two give.
fn is_alone_and_together(graph: &Graph) -> bool {
    let (one, other) = (inputs_of(graph, 2, 3), inputs_of(graph, 3, 3));
    let same = |graph: &Graph| {
        let (alone, together) = alone_and_together(graph, &one, &other)?;
        let rows = [&alone[0][0], &alone[1][0]].map(|output| output.data().to_vec()).concat();
        Ok::<bool, ired_graph::InterpretError>(together[0].data()[..] == rows[..])
    };
    same(graph).unwrap()
}

#[track_caller]
fn independent(bodies: &[&str]) {
    for body in bodies {
        let graph = graph_of(body);
        assert_eq!(independent_rows(&graph), Ok(()), "{body}");
        assert!(is_alone_and_together(&graph), "{body}");
    }
}

/// The end of the reason for each, and that it holds.
#[track_caller]
fn dependent(bodies: &[(&str, &str)]) {
    for (body, reason) in bodies {
        let graph = graph_of(body);
        let found = independent_rows(&graph).unwrap_err().to_string();
        assert!(found.ends_with(reason), "{found}\n{body}");
        assert!(!is_alone_and_together(&graph), "{body}");
    }
}

#[test]
fn elementwise() {
    independent(&[
        "%9 = tanh %0 : f32[n, 4]",
        "%3 = constant [1.0, 2.0, 3.0, 4.0] : f32[4]  %4 = broadcast %3 : f32[n, 4]  %9 = add %0, %4 : f32[n, 4]",
        "%3 = reshape %0 : f32[n, 1, 4]  %4 = broadcast %3 : f32[n, m, 4]  %9 = mul %1, %4 : f32[n, m, 4]",
        "%3 = lt %0, %0 : bool[n, 4]  %4 = neg %0 : f32[n, 4]  %9 = select %3, %4, %0 : f32[n, 4]",
        "%3 = cast %0 : i32[n, 4]  %9 = bit_cast %3 : f32[n, 4]",
        "%3 = iota axis=1 : f32[n, 4]  %9 = add %0, %3 : f32[n, 4]",
        "%3 = dims [m] : i64[1]  %4 = broadcast %3 : i64[n, 2]  %9 = mul %2, %4 : i64[n, 2]",
        "%3 = constant [7] : i64[1]  %9 = broadcast %3 : i64[n, 2]",
    ]);
    dependent(&[
        (
            "%3 = dims [n] : i64[1]  %4 = broadcast %3 : i64[n, 2]  %9 = mul %2, %4 : i64[n, 2]",
            "(dims) depends on how many rows there are",
        ),
        (
            "%3 = iota axis=0 : f32[n, 4]  %9 = add %0, %3 : f32[n, 4]",
            "(iota) depends on the places of rows in the batch",
        ),
        (
            "%3 = iota axis=0 : i64[n, 2]  %9 = max %2, %3 : i64[n, 2]",
            "(max) depends on the places of rows in the batch",
        ),
        ("%9 = iota axis=0 : i64[n, 4]", "has the places of rows in the batch"),
    ]);
}

#[test]
fn along_an_axis() {
    independent(&[
        "%9 = reduce_sum %1 axes=[1, 2] : f32[n]",
        "%3 = reduce_mean %1 axes=[1] : f32[n, 4]  %9 = sub %0, %3 : f32[n, 4]",
        "%9 = softmax %0 axis=1 : f32[n, 4]",
        "%9 = arg_max %1 axis=1 last_on_tie=false : i64[n, 4]",
        "%3 = constant [1.0, 2.0, 3.0, 4.0] : f32[4]  %9 = layer_norm %1, %3 axis=2 epsilon=1e-5 : f32[n, m, 4]",
        "%9 = cumulative_sum %1 axis=2 exclusive=false reverse=true : f32[n, m, 4]",
        "%3 = sort %0 axis=1 descending=true : i64[n, 4]  %9 = gather_elements %0, %3 axis=1 : f32[n, 4]",
        "%3 = transpose %1 perm=[1, 0, 2] : f32[m, n, 4]  %9 = reduce_max %3 axes=[0] : f32[n, 4]",
    ]);
    let meet = "works along the rows";
    dependent(&[
        (
            "%3 = reduce_mean %0 axes=[0] : f32[4]  %4 = broadcast %3 : f32[n, 4]  %9 = sub %0, %4 : f32[n, 4]",
            "depend on each other: %3 (reduce_mean) works along the rows",
        ),
        ("%9 = softmax %0 axis=0 : f32[n, 4]", meet),
        ("%3 = arg_max %0 axis=0 last_on_tie=false : i64[4]  %9 = broadcast %3 : i64[n, 4]", meet),
        ("%9 = layer_norm %0 axis=0 epsilon=1e-5 : f32[n, 4]", meet),
        ("%9 = cumulative_sum %0 axis=0 exclusive=false reverse=false : f32[n, 4]", meet),
        ("%9 = sort %0 axis=0 descending=true : i64[n, 4]", meet),
        (
            "%3 = abs %0 : f32[n, 4]  %4 = reduce_max %3 axes=[0, 1] : f32[]  %5 = broadcast %4 : f32[n, 4]
             %9 = div %0, %5 : f32[n, 4]",
            meet,
        ),
    ]);
}

#[test]
fn products_and_windows() {
    independent(&[
        "%3 = iota axis=0 : f32[4, 3]  %9 = matmul %0, %3 : f32[n, 3]",
        "%3 = transpose %1 perm=[0, 2, 1] : f32[n, 4, m]  %4 = matmul %1, %3 : f32[n, m, m]
         %5 = softmax %4 axis=2 : f32[n, m, m]  %9 = matmul %5, %1 : f32[n, m, 4]",
        "%3 = transpose %0 perm=[1, 0] : f32[4, n]  %4 = iota axis=1 : f32[2, 4]  %5 = matmul %4, %3 : f32[2, n]
         %9 = transpose %5 perm=[1, 0] : f32[n, 2]",
        "%3 = reshape %0 : f32[n, 1, 4]  %4 = constant [1.0, 2.0] : f32[1, 1, 2]
         %5 = conv %3, %4 extent=[2] stride=[1] dilation=[1] pad_low=[1] pad_high=[0] ceil=false groups=1 \
              channels_last=false : f32[n, 1, 4]
         %9 = average_pool %5 extent=[2] stride=[2] dilation=[1] pad_low=[0] pad_high=[0] ceil=false include_pad=false \
              channels_last=false : f32[n, 1, 2]",
        // As channels, which are pooled one by one.
        "%3 = reshape %0 : f32[1, n, 4]
         %4 = max_pool %3 extent=[4] stride=[1] dilation=[1] pad_low=[0] pad_high=[0] ceil=false include_pad=false \
              channels_last=false : f32[1, n, 1]
         %9 = reshape %4 : f32[n, 1]",
    ]);
    dependent(&[
        (
            "%3 = transpose %0 perm=[1, 0] : f32[4, n]  %4 = matmul %0, %3 : f32[n, n]
             %9 = matmul %4, %0 : f32[n, 4]",
            "(matmul) brings different rows together",
        ),
        (
            "%3 = transpose %0 perm=[1, 0] : f32[4, n]  %4 = matmul %3, %0 : f32[4, 4]
             %9 = matmul %0, %4 : f32[n, 4]",
            "(matmul) works along the rows",
        ),
        (
            "%3 = reshape %0 : f32[1, n, 4]  %4 = transpose %3 perm=[0, 2, 1] : f32[1, 4, n]
             %5 = average_pool %4 extent=[3] stride=[1] dilation=[1] pad_low=[1] pad_high=[1] ceil=false include_pad=false \
                  channels_last=false : f32[1, 4, n]
             %6 = transpose %5 perm=[0, 2, 1] : f32[1, n, 4]  %9 = reshape %6 : f32[n, 4]",
            "(average_pool) works along the rows",
        ),
        (
            "%3 = reshape %0 : f32[1, n, 4]  %4 = iota axis=2 : f32[1, 1, 3]
             %5 = transpose %3 perm=[2, 0, 1] : f32[4, 1, n]
             %6 = conv %5, %4 extent=[3] stride=[1] dilation=[1] pad_low=[1] pad_high=[1] ceil=false groups=1 \
                  channels_last=false : f32[4, 1, n]
             %7 = reshape %6 : f32[4, n]  %9 = transpose %7 perm=[1, 0] : f32[n, 4]",
            "(conv) works along the rows",
        ),
    ]);
}

#[test]
fn movement() {
    independent(&[
        "%3 = reshape %1 : f32[n*m, 4]  %4 = softmax %3 axis=1 : f32[n*m, 4]  %9 = reshape %4 : f32[n, m, 4]",
        "%3 = reshape %1 : f32[n, 4*m]  %9 = reduce_max %3 axes=[1] : f32[n]",
        "%3 = reshape %1 : f32[n, m, 2, 2]  %4 = transpose %3 perm=[0, 2, 1, 3] : f32[n, 2, m, 2]
         %5 = reshape %4 : f32[2*n, m, 2]  %6 = softmax %5 axis=1 : f32[2*n, m, 2]  %9 = reshape %6 : f32[n, 4*m]",
        "%3 = transpose %1 perm=[1, 0, 2] : f32[m, n, 4]  %4 = reshape %3 : f32[m*n, 4]
         %5 = iota axis=0 : f32[4]  %6 = broadcast %5 : f32[m*n, 4]  %7 = add %4, %6 : f32[m*n, 4]
         %8 = reshape %7 : f32[m, n, 4]  %9 = transpose %8 perm=[1, 0, 2] : f32[n, m, 4]",
        "%3 = dims [n*m] : i64[1]  %4 = read_dims %3 symbols=[a] : i64[1]  %5 = reshape %1 : f32[a, 4]
         %6 = neg %5 : f32[a, 4]  %9 = reshape %6 : f32[n, m, 4]",
        "%3 = constant [1.0] : f32[1, 1, 1]  %4 = broadcast %3 : f32[n, 1, 4]  %5 = concat %4, %1 axis=1 : f32[n, m + 1, 4]
         %9 = slice %5 start=[0, 0, 3] size=[n, m, 2] stride=[1, 1, -2] : f32[n, m, 2]",
        "%3 = neg %0 : f32[n, 4]  %4 = concat %0, %3 axis=0 : f32[2*n, 4]  %5 = tanh %4 : f32[2*n, 4]
         %6 = reshape %5 : f32[2, n, 4]  %9 = reduce_sum %6 axes=[0] : f32[n, 4]",
        "%3 = constant [0.5] : f32[]  %9 = pad %0, %3 low=[0, 1] high=[0, -2] mode=constant : f32[n, 3]",
    ]);
    dependent(&[
        (
            "%9 = slice %0 start=[n - 1, 0] size=[n, 4] stride=[-1, 1] : f32[n, 4]",
            "(slice) depends on how many rows there are",
        ),
        (
            "%3 = slice %0 start=[0, 0] size=[1, 4] stride=[1, 1] : f32[1, 4]  %4 = broadcast %3 : f32[n, 4]
             %9 = sub %0, %4 : f32[n, 4]",
            "(slice) works along the rows",
        ),
        (
            "%3 = pad %0 low=[1, 0] high=[-1, 0] mode=edge : f32[n, 4]  %9 = sub %0, %3 : f32[n, 4]",
            "(pad) works along the rows",
        ),
        (
            "%3 = reshape %0 : f32[4, n]  %9 = transpose %3 perm=[1, 0] : f32[n, 4]",
            "(reshape) brings different rows together",
        ),
        (
            "%3 = concat %0, %0 axis=0 : f32[2*n, 4]  %4 = reshape %3 : f32[n, 2, 4]
             %9 = reduce_sum %4 axes=[1] : f32[n, 4]",
            "(reshape) brings different rows together",
        ),
        (
            "%3 = transpose %1 perm=[1, 0, 2] : f32[m, n, 4]  %4 = reshape %3 : f32[n*m, 4]  %9 = reshape %4 : f32[n, m, 4]",
            "(reshape) brings different rows together",
        ),
    ]);
}

#[test]
fn positions() {
    let table = "%3 = constant [1.5, 2.5, 3.5, 4.5] : f32[2, 2]";
    let places = "%4 = iota axis=0 : i64[n]  %5 = reshape %4 : i64[n, 1, 1]  %6 = broadcast %5 : i64[n, 2, 1]
         %7 = reshape %2 : i64[n, 2, 1]  %8 = concat %6, %7 axis=2 : i64[n, 2, 2]";
    let flat = "%10 = reshape %0 : f32[n*4]  %11 = iota axis=0 : i64[n, 4]  %12 = dims [4] : i64[]
         %13 = broadcast %12 : i64[n, 4]  %14 = mul %11, %13 : i64[n, 4]";
    let position =
        "%5 = broadcast %4 : i64[n, 4]  %6 = add %14, %5 : i64[n, 4]  %9 = gather %10, %6 axis=0 : f32[n, 4]";
    independent(&[
        &format!("{table}  %9 = gather %3, %2 axis=0 : f32[n, 2, 2]"),
        "%3 = constant [0, -1] : i64[2]  %9 = gather %1, %3 axis=2 : f32[n, m, 2]",
        "%9 = gather_elements %0, %2 axis=1 : f32[n, 2]",
        "%3 = reshape %2 : i64[n, 2, 1]  %9 = gather_nd %0, %3 batch_dims=1 : f32[n, 2]",
        &format!("{places}  %9 = gather_nd %0, %8 batch_dims=0 : f32[n, 2]"),
        "%3 = iota axis=0 : i32[n]  %9 = gather %0, %3 axis=0 : f32[n, 4]",
        &format!("{flat}  %4 = iota axis=0 : i64[4]  {position}"),
        &format!(
            "{flat}  %3 = arg_max %0 axis=1 last_on_tie=false : i64[n]  %4 = reshape %3 : i64[n, 1] {position}"
        ),
        "%3 = transpose %1 perm=[1, 0, 2] : f32[m, n, 4]  %4 = constant [0] : i64[1, 1]
         %5 = reshape %0 : f32[1, n, 4]  %6 = scatter_add %3, %4, %5 : f32[m, n, 4]
         %9 = transpose %6 perm=[1, 0, 2] : f32[n, m, 4]",
        &format!(
            "{places}  %10 = slice %0 start=[0, 0] size=[n, 2] stride=[1, 1] : f32[n, 2]
             %9 = scatter_add %0, %8, %10 : f32[n, 4]"
        ),
    ]);
    dependent(&[
        (
            "%3 = constant [0] : i64[1]  %4 = gather %0, %3 axis=0 : f32[1, 4]  %5 = broadcast %4 : f32[n, 4]
             %9 = add %0, %5 : f32[n, 4]",
            "(gather) works along the rows",
        ),
        ("%9 = gather %0, %2 axis=0 : f32[n, 2, 4]", "(gather) brings different rows together"),
        (
            "%3 = slice %2 start=[0, 0] size=[n, 1] stride=[1, 1] : i64[n, 1]  %4 = broadcast %3 : i64[n, 4]
             %9 = gather_elements %0, %4 axis=0 : f32[n, 4]",
            "(gather_elements) works along the rows",
        ),
        (
            "%3 = constant [0] : i64[1, 1]  %4 = slice %0 start=[0, 0] size=[1, 4] stride=[1, 1] : f32[1, 4]
             %5 = neg %4 : f32[1, 4]  %9 = scatter_set %0, %3, %5 : f32[n, 4]",
            "(slice) works along the rows",
        ),
        (
            // The places of other rows.
            "%4 = iota axis=0 : i64[n]  %5 = neg %4 : i64[n]  %6 = reshape %5 : i64[n, 1]
             %9 = gather_nd %0, %6 batch_dims=0 : f32[n, 4]",
            "(neg) depends on the places of rows in the batch",
        ),
        (
            // One before the first is the last of the row before, or of all rows.
            &format!("{flat}  %4 = constant [-1, 0, 1, 2] : i64[4]  {position}"),
            "(add) depends on the places of rows in the batch",
        ),
        (
            "%3 = iota axis=0 : i64[n, 2]  %4 = constant [1.0, 2.0, 3.0, 4.0, 5.0] : f32[5]
             %9 = gather %4, %3 axis=0 : f32[n, 2]",
            "(gather) depends on the places of rows in the batch",
        ),
    ]);
}

/// Numbers that are too small for the places of all rows say another row's for some.
#[test]
fn places_that_their_type_cannot_hold() {
    let graph_of = |bound: &str, body: &str| {
        let text = format!(
            "graph g {{ symbol n {bound} symbol m body(%0 \"x\" : f32[n, m], %1 \"y\" : f32[n]) {{ {body} yield %9 }} }}"
        );
        let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{body}"));
        assert_eq!(verify(&graph), Ok(()), "{body}");
        graph
    };
    let is_alone_and_together = |graph: &Graph, rows: u64, length: u64| {
        let calls = [rows, rows + 1].map(|rows| inputs_of(graph, rows, length));
        let (alone, together) = alone_and_together(graph, &calls[0], &calls[1]).unwrap();
        together[0].data()[..] == [&alone[0][0].data()[..], &alone[1][0].data()[..]].concat()[..]
    };
    let own_row = |dtype: &str| {
        format!("%3 = iota axis=0 : {dtype}[n]  %4 = cast %3 : i64[n]  %9 = gather %1, %4 axis=0 : f32[n]")
    };
    let own_element = |dtype: &str| {
        format!(
            "%3 = iota axis=0 : i64[n, m]  %4 = dims [m] : i64[]  %5 = broadcast %4 : i64[n, m]
             %6 = mul %3, %5 : i64[n, m]  %7 = iota axis=1 : {dtype}[n, m]  %8 = cast %7 : i64[n, m]
             %10 = add %6, %8 : i64[n, m]  %11 = reshape %0 : f32[n*m]  %9 = gather %11, %10 axis=0 : f32[n, m]"
        )
    };
    let place = "depends on the places of rows in the batch";
    // More rows than the type has numbers, or a longer row.
    for (body, rows, length) in
        [(own_row("i8"), 100, 1), (own_row("bf16"), 129, 1), (own_element("i8"), 2, 200)]
    {
        let graph = graph_of("", &body);
        let found = independent_rows(&graph).unwrap_err().to_string();
        assert!(found.ends_with(place), "{found}\n{body}");
        assert!(!is_alone_and_together(&graph, rows, length), "{body}");
    }
    for body in [own_row("i64"), own_element("i64")] {
        let graph = graph_of("", &body);
        assert_eq!(independent_rows(&graph), Ok(()), "{body}");
        assert!(is_alone_and_together(&graph, 100, 200), "{body}");
    }
    // What would not fit is too much to compute here.
    let narrowed =
        "%3 = iota axis=0 : i64[n, 1]  %4 = cast %3 : i32[n, 1]  %9 = gather_nd %1, %4 batch_dims=0 : f32[n]";
    for body in [&own_row("i32"), narrowed] {
        assert_eq!(independent_rows(&graph_of("max 2147483648", body)), Ok(()), "{body}");
        let found = independent_rows(&graph_of("max 2147483649", body)).unwrap_err().to_string();
        assert!(found.contains("(gather_nd)") || found.ends_with(place), "{found}\n{body}");
    }
    let found = independent_rows(&graph_of("", &own_row("f32"))).unwrap_err().to_string();
    assert!(found.ends_with(place), "{found}");
}

#[test]
fn sizes_and_control_flow() {
    independent(&[
        // A recurrence over the second axis.
        "%3 = transpose %1 perm=[1, 0, 2] : f32[m, n, 4]
         %4, %5 = repeat %0 count=[m] index=[i] : f32[n, 4], f32[m, n, 4] (%6 : f32[n, 4]) {
           %7 = slice %3 start=[i, 0, 0] size=[1, n, 4] stride=[1, 1, 1] : f32[1, n, 4]
           %8 = reshape %7 : f32[n, 4]  %10 = add %6, %8 : f32[n, 4]  %11 = tanh %10 : f32[n, 4]
           yield %11, %11 }
         %12 = transpose %5 perm=[1, 0, 2] : f32[n, m, 4]  %13 = reshape %4 : f32[n, 1, 4]
         %9 = concat %12, %13 axis=1 : f32[n, m + 1, 4]",
        // A state that grows, and a condition that knows nothing of rows.
        "%3 = constant [0] : i64[]  %10 = reshape %0 : f32[n, 1, 4]
         %4, %5 = while %3, %10 : i64[], f32[n, a, 4] (%6 : i64[], %7 : f32[n, a, 4]) {
           %8 = constant [2] : i64[]  %11 = lt %6, %8 : bool[]  yield %11
         } (%12 : i64[], %13 : f32[n, a, 4]) {
           %14 = constant [1] : i64[]  %15 = add %12, %14 : i64[]
           %16 = concat %13, %10 axis=1 : f32[n, a + 1, 4]  yield %15, %16 }
         %9 = reduce_sum %5 axes=[1] : f32[n, 4]",
        "%3 = dims [m] : i64[]  %4 = constant [3] : i64[]  %5 = lt %4, %3 : bool[]
         %9 = if %5 : f32[n, 4] () { %6 = neg %0 : f32[n, 4] yield %6 } () { yield %0 }",
    ]);
    dependent(&[
        (
            "%3 = reduce_sum %0 axes=[0, 1] : f32[]  %4 = constant [0.0] : f32[]  %5 = lt %3, %4 : bool[]
             %9 = if %5 : f32[n, 4] () { %6 = neg %0 : f32[n, 4] yield %6 } () { %7 = abs %0 : f32[n, 4] yield %7 }",
            "(reduce_sum) works along the rows",
        ),
        (
            "%3 = dims [n] : i64[]  %4 = constant [3] : i64[]  %5 = lt %4, %3 : bool[]
             %9 = if %5 : f32[n, 4] () { %6 = neg %0 : f32[n, 4] yield %6 } () { yield %0 }",
            "(dims) depends on how many rows there are",
        ),
        (
            // The condition has a name of its own for the batch.
            "%3 = constant [0] : i64[]
             %4, %9 = while %3, %0 : i64[], f32[n, 4] (%5 : i64[], %6 : f32[a, 4]) {
               %7 = dims [a] : i64[]  %8 = lt %5, %7 : bool[]  yield %8
             } (%10 : i64[], %11 : f32[n, 4]) {
               %12 = constant [1] : i64[]  %13 = add %10, %12 : i64[]  %14 = tanh %11 : f32[n, 4]
               yield %13, %14 }",
            "(dims) has a size that rows decide",
        ),
        (
            "%9 = repeat %0 count=[n] index=[i] : f32[n, 4] (%3 : f32[n, 4]) {
               %4 = tanh %3 : f32[n, 4] yield %4 }",
            "(repeat) depends on how many rows there are",
        ),
        (
            // Rows are mixed from the second iteration on.
            "%9, %3 = repeat %0, %0 count=[m] index=[i] : f32[n, 4], f32[n, 4] (%4 : f32[n, 4], %5 : f32[n, 4]) {
               %6 = softmax %5 axis=0 : f32[n, 4] yield %5, %6 }",
            "(softmax) works along the rows",
        ),
        (
            // As wide as the batch has ones.
            "%3 = reduce_sum %2 axes=[0, 1] : i64[]  %4 = reshape %3 : i64[1]  %5 = read_dims %4 symbols=[a] : i64[1]
             %6 = iota axis=0 : f32[a + 1]  %7 = reduce_sum %6 axes=[0] : f32[]  %8 = broadcast %7 : f32[n, 4]
             %9 = add %0, %8 : f32[n, 4]",
            "(iota) has a size that rows decide",
        ),
    ]);
}

#[test]
fn inputs_and_outputs_without_a_batch() {
    let cases = [
        (
            "%0 \"x\" : f32[4]",
            "%0",
            "input `x` is f32[4], which does not begin with a size that each call chooses",
        ),
        (
            "%0 \"x\" : f32[]",
            "%0",
            "input `x` is f32[], which does not begin with a size that each call chooses",
        ),
        ("%0 \"x\" : f32[n, 2*n]", "%0", "input `x` has the batch `n` elsewhere than first"),
        ("%0 \"x\" : f32[n, m], %1 \"y\" : f32[m]", "%0", "input `x` has the batch `m` elsewhere than first"),
        ("%0 \"x\" : f32[n], %1 \"y\" : f32[n]", "%0, %1", ""),
        ("%0 \"x\" : f32[n], %1 \"y\" : f32[m]", "%0, %1", ""),
        ("", "%7", "it has no inputs"),
        ("%0 \"x\" : f32[n]", "%7", "output `%1` is f32[1], which does not begin with the batch"),
        ("%0 \"x\" : f32[n]", "%8", "output `%3` is i64[1, n], which does not begin with the batch"),
    ];
    for (inputs, outputs, expected) in cases {
        let shape = if inputs.contains("[n") { "n" } else { "1" };
        let text = format!(
            "graph g {{ symbol n symbol m body({inputs}) {{ %7 = constant [1.0] : f32[1]
             %6 = constant [1] : i64[1]  %8 = broadcast %6 : i64[1, {shape}]  yield {outputs} }} }}"
        );
        let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let found = independent_rows(&graph).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(found, expected, "{text}");
    }
}

/// Exporters give the batch of each input a name of its own.
#[test]
fn batches_of_several_names_are_one_in_joined_calls() {
    let of = |x: &str, y: &str| {
        format!(
            "graph g {{ symbol n symbol m body(%0 \"x\" : f32[{x}, 4], %1 \"y\" : f32[{y}, 4]) {{
             %2 = iota axis=0 : i64[{x}, 1]  %3 = gather_nd %1, %2 batch_dims=0 : f32[{x}, 4]  %4 = add %0, %3 : f32[{x}, 4]
             %5 = reshape %1 : f32[{y}, 1, 4]  %6 = broadcast %5 : f32[{x}, 1, 4]  %7 = reshape %6 : f32[{x}, 4]
             yield %4, %7 }} }}"
        )
    };
    let graph = parse(&of("n", "m")).unwrap();
    assert_eq!(verify(&graph), Ok(()));
    assert_eq!(independent_rows(&graph), Ok(()));
    assert!(is_alone_and_together(&graph));
}

#[test]
fn sizes_that_agree_in_some_calls_only_keep_rows_together() {
    // Four rows are multiplied by one number each: a call of four rows is fine, one of eight is not.
    let graph = graph_of(
        "%3 = constant [1.0, 2.0, 3.0, 4.0] : f32[4, 1]  %4 = broadcast %3 : f32[n, 4]  %9 = mul %0, %4 : f32[n, 4]",
    );
    assert!(interpret(&graph, &inputs_of(&graph, 4, 1)).is_ok());
    assert!(interpret(&graph, &inputs_of(&graph, 8, 1)).is_err());
    let found = independent_rows(&graph).unwrap_err().to_string();
    assert!(found.ends_with("(broadcast) brings different rows together"), "{found}");
}

/// Each loop is looked at twice, as its state is the same for all rows before the first iteration only; and so is each loop
/// in it, each time. That is done for a while, and then given up on.
#[test]
fn loops_in_loops_are_followed_for_a_while() {
    let nested = |depth: usize| {
        let mut body = "%100 = tanh %0 : f32[n, 4]".to_owned();
        let (mut symbols, mut last) = (String::new(), 100);
        for level in 0..depth {
            let (state, next, result) = (201 + 3 * level, 202 + 3 * level, 203 + 3 * level);
            symbols.push_str(&format!("symbol i{level} "));
            body = format!(
                "%{result} = repeat %2 count=[m] index=[i{level}] : f32[n, 4] (%{state} : f32[n, 4]) {{
                   {body} %{next} = add %{last}, %{state} : f32[n, 4] yield %{next} }}"
            );
            last = result;
        }
        let text = format!(
            "graph g {{ symbol n symbol m {symbols} body(%0 \"x\" : f32[n, 4], %1 \"z\" : f32[n, m]) {{
             %3 = constant [0.0] : f32[]  %2 = broadcast %3 : f32[n, 4]  {body}  yield %{last} }} }}"
        );
        let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(verify(&graph), Ok(()));
        independent_rows(&graph).map_err(|e| e.to_string())
    };
    assert_eq!(nested(3), Ok(()));
    let found = nested(40).unwrap_err();
    assert!(found.ends_with("(repeat) is not known to treat each row alone"), "{found}");
}
