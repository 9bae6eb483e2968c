//! Random graphs: whatever is said of how rows are spread over a value holds when rows are computed together.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;

use batches::{alone_and_together, inputs_of};
use ired_graph::rows::{Content, Rows, Spread, batch_of, spreads};
use ired_graph::{
    ArgReduceFn, BinaryFn, Builder, CompareFn, CumulativeFn, DType, Dim, Graph, Op, PadMode, PoolFn,
    ReduceFn, ScatterFn, Tensor, TensorType, UnaryFn, ValueId, Window,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What to add next: which operation, on which values, and a choice within it.
type Step = (u8, u8, u8, u8);

/// Applies a step; operations that do not fit their operands add nothing.
fn apply(b: &mut Builder<'_>, values: &mut Vec<ValueId>, (kind, x, y, choice): Step) {
    let pick = |i: u8| values[i as usize % values.len()];
    let (x, y, c) = (pick(x), pick(y), choice as usize);
    let shape = b.ty(x).shape.clone();
    let (rank, axis) = (shape.len(), if shape.is_empty() { 0 } else { c % shape.len() });
    let whole = |b: &Builder<'_>| (vec![Dim::constant(0); rank], b.ty(x).shape.clone(), vec![1; rank]);
    let built = match kind % 28 {
        0 => b.unary([UnaryFn::Neg, UnaryFn::Abs, UnaryFn::Tanh][c % 3], x),
        1 | 2 => b.binary_broadcast([BinaryFn::Add, BinaryFn::Mul, BinaryFn::Max][c % 3], x, y),
        3 => b.compare_broadcast(CompareFn::Lt, x, y),
        4 => b.cast(x, [DType::F32, DType::I32, DType::I64][c % 3]),
        5 => b.flatten(x, c % (rank + 1)),
        6 => b.unsqueeze(x, &[c % (rank + 1)]),
        7 => {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.rotate_left(axis);
            if c % 2 == 1 && rank > 1 {
                perm.swap(0, 1);
            }
            b.transpose(x, perm)
        }
        8 => b.concat(&[x, y], axis),
        9 => b.reduce([ReduceFn::Sum, ReduceFn::Max, ReduceFn::Mean][c % 3], x, &[axis], c % 2 == 0),
        10 => b.softmax(x, axis, c % 2 == 0),
        11 => b.matmul_broadcast(x, y),
        12 => {
            let mut amounts = vec![Dim::constant(0); rank];
            if let Some(amount) = amounts.get_mut(axis) {
                *amount = 1.into();
            }
            b.pad(x, amounts.clone(), amounts, PadMode::Edge, None)
        }
        13 => {
            let (mut start, mut size, mut stride) = whole(b);
            if rank > 0 && c % 3 == 0 {
                (start[axis], stride[axis]) = (shape[axis].clone() - 1.into(), -1);
            } else if rank > 0 {
                size[axis] = 1.into();
            }
            b.push(Op::Slice { start, size, stride }, &[x])
        }
        14 => b.dims(vec![shape.get(axis).cloned().unwrap_or(3.into())]),
        15 => b.reshape_infer(x, &[[2.into(), Dim::constant(-1)], [Dim::constant(-1), 4.into()]][c % 2]),
        16 => b.reshape(x, shape.iter().rev().cloned().collect()),
        17 => {
            // Two axes become one, or one of 4 becomes two.
            let mut to = shape.clone();
            if c % 2 == 0 && axis + 1 < rank {
                let merged = to.remove(axis) * to[axis].clone();
                to[axis] = merged;
            } else if let Some(four) = to.iter().position(|d| *d == Dim::constant(4)) {
                to.splice(four..=four, [2.into(), 2.into()]);
            }
            b.reshape(x, to)
        }
        18 => b.push(Op::ArgReduce { function: ArgReduceFn::Max, axis, last_on_tie: c % 2 == 0 }, &[x]),
        19 => {
            let indices = b.constant_i64(&[0, -1]);
            indices.and_then(|indices| b.gather(x, indices, axis))
        }
        20 => b.push(
            [Op::Gather { axis }, Op::GatherElements { axis }, Op::GatherNd { batch_dims: c % 2 }][c % 3]
                .clone(),
            &[x, y],
        ),
        21 => {
            let function = [CumulativeFn::Sum, CumulativeFn::Product][c % 2];
            b.push(Op::Cumulative { function, axis, exclusive: c % 3 == 0, reverse: c % 5 == 0 }, &[x])
        }
        22 => b.push(Op::Sort { axis, descending: c % 2 == 0 }, &[x]),
        23 => {
            let at = b.constant(Tensor::from_i64s(&[1, 1], &[0]));
            let part = b.constant_i64(&[0]).and_then(|first| b.gather(y, first, 0));
            let function = [ScatterFn::Set, ScatterFn::Add][c % 2];
            at.and_then(|at| b.push(Op::ScatterNd { function }, &[x, at, part?]))
        }
        24 => b.iota([DType::I64, DType::F32][c % 2], shape.clone(), axis),
        25 => {
            // Of each row, what `y` says of it.
            let column = b.ty(y).shape.get(..1).map(<[Dim]>::to_vec);
            let pairs = column.map(|rows| {
                let rows = [&rows[..], &[1.into()]].concat();
                let place = b.iota(DType::I64, rows.clone(), 0)?;
                let first = b.slice_axis(y, 1, 0.into(), 1.into())?;
                let pairs = b.concat(&[place, first], 1)?;
                b.push(Op::GatherNd { batch_dims: 0 }, &[x, pairs])
            });
            pairs.unwrap_or(Ok(x))
        }
        26 => {
            // Of the flattened, by row and by a position that may be the row's own.
            let (rows, length) = (shape.first().cloned(), shape.get(1).cloned());
            let picked = rows.zip(length).filter(|_| rank == 2).map(|(rows, length)| {
                let flat = b.flatten(x, 0)?;
                let flat = b.squeeze(flat, &[0])?;
                let place = b.iota(DType::I64, vec![rows, 1.into()], 0)?;
                let step = b.dim(length.clone())?;
                let start = b.binary_broadcast(BinaryFn::Mul, place, step)?;
                let within = match c % 3 {
                    0 => b.iota(DType::I64, vec![length + Dim::constant(choice as i64 / 128)], 0)?,
                    1 => b.push(Op::Sort { axis: 1, descending: false }, &[x])?,
                    _ => y,
                };
                let index = b.binary_broadcast(BinaryFn::Add, start, within)?;
                b.push(Op::Gather { axis: 0 }, &[flat, index])
            });
            picked.unwrap_or(Ok(x))
        }
        _ => match c % 3 {
            0 => b.push(Op::LayerNorm { axis, epsilon: 1e-3 }, &[x]),
            1 => b.pool(PoolFn::Average, x, Window::dense(vec![2]), c % 2 == 0),
            _ => b.pool(PoolFn::Max, x, Window { pad_low: vec![1], ..Window::dense(vec![2]) }, c % 2 == 0),
        },
    };
    // Sizes grow by what is concatenated and padded; keep the runs short.
    if let Ok(value) = built
        && b.graph.symbols.range(&b.ty(value).elements()).max < 1 << 12
        && b.ty(value).rank() < 6
    {
        values.push(value);
    }
}

/// Values that no step makes.
const INPUTS: usize = 4;

/// Every value that steps make is an output.
fn graph_of(steps: &[Step]) -> Graph {
    let mut graph = Graph::new("random");
    let [n, m] = ["n", "m"].map(|name| {
        let id = graph.symbols.named(name);
        (graph.symbols.get_mut(id).min, graph.symbols.get_mut(id).max) = (1, 5);
        Dim::symbol(id)
    });
    let x = graph.add_input("x", TensorType::new(DType::F32, vec![n.clone(), m, 4.into()]));
    let y = graph.add_input("y", TensorType::new(DType::F32, vec![n.clone(), 4.into()]));
    let k = graph.add_input("k", TensorType::new(DType::I64, vec![n, 2.into()]));
    let mut b = Builder::new(&mut graph);
    let w = b.constant(Tensor::from_f32s(&[4, 2], &[0.5, -1.0, 2.0, 0.25, -0.5, 1.5, 1.0, -2.0])).unwrap();
    let mut values = vec![x, y, k, w];
    for &step in steps {
        apply(&mut b, &mut values, step);
    }
    let body = graph.body;
    graph.set_outputs(body, values);
    graph
}

/// The elements of rows `from..to` of a tensor of `batch` rows, as the analysis places them.
fn part(tensor: &Tensor, rows: &Rows, inner: usize, batch: usize, from: usize, to: usize) -> Vec<u64> {
    let after: usize = tensor.shape()[rows.axis + 1..].iter().product::<u64>() as usize;
    let elements = tensor.to_f64s();
    let row = |element: usize| element / after / inner % batch;
    let taken = elements.iter().enumerate().filter(|(i, _)| (from..to).contains(&row(*i)));
    taken.map(|(_, v)| v.to_bits()).collect()
}

/// Whether what is said of a value is so in these calls, of two rows, of three, and of all five.
fn holds(graph: &Graph, spread: &Spread, alone: [&Tensor; 2], together: &Tensor) -> bool {
    let rows = match spread {
        Spread::Mixed(_) => return true,
        Spread::Shared => return alone[0] == alone[1] && alone[0] == together,
        Spread::Rows(rows) => rows,
    };
    let size =
        |dim: &Dim| dim.evaluate(&|id| graph.symbols.find("m").filter(|m| *m == id).map(|_| 3)).unwrap();
    let inner = size(&rows.inner) as usize;
    let [one, two] = [(alone[0], 2), (alone[1], 3)].map(|(t, n)| part(t, rows, inner, n, 0, n));
    match &rows.content {
        Content::Place { step, span } => {
            let (step, span) = (size(step) as f64, size(span) as f64);
            // What is left of each row's elements without its place.
            let within = |t: &Tensor, n: usize, row: usize| {
                let elements = part(t, rows, inner, n, row, row + 1).into_iter().map(f64::from_bits);
                elements.map(|v| v - row as f64 * step).collect::<Vec<f64>>()
            };
            let alike = |row: usize| {
                let (alone, row_alone) =
                    if row < 2 { ((alone[0], 2), row) } else { ((alone[1], 3), row - 2) };
                let found = within(together, 5, row);
                found.iter().all(|v| (0.0..span).contains(v)) && found == within(alone.0, alone.1, row_alone)
            };
            (0..5).all(alike)
        }
        Content::Own => {
            one == part(together, rows, inner, 5, 0, 2) && two == part(together, rows, inner, 5, 2, 5)
        }
        Content::Equal => {
            let first = part(
                alone[0],
                &Rows { inner: 1.into(), ..rows.clone() },
                1,
                alone[0].shape()[rows.axis] as usize,
                0,
                1,
            );
            [alone[0], alone[1], together].iter().all(|t| {
                let extent = t.shape()[rows.axis] as usize;
                (0..extent).all(|i| part(t, rows, 1, extent, i, i + 1) == first)
            })
        }
    }
}

#[test]
fn what_is_said_of_rows_holds() {
    let config = Config { cases: 6000, failure_persistence: None, ..Config::default() };
    let mut ran = [0usize; 4];
    let counted = std::cell::RefCell::new(&mut ran);
    let steps = prop::collection::vec(any::<Step>(), 1..24);
    let result = TestRunner::new(config).run(&steps, |steps| {
        let graph = graph_of(&steps);
        let (one, other) = (inputs_of(&graph, 2, 3), inputs_of(&graph, 3, 3));
        // Sizes and positions may turn out not to fit.
        let Ok((alone, together)) = alone_and_together(&graph, &one, &other) else { return Ok(()) };
        let batch = batch_of(&graph).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let spreads = spreads(&graph, &batch);
        for (i, output) in graph.outputs().iter().enumerate().skip(INPUTS) {
            let spread = &spreads[output];
            let kind = match spread {
                Spread::Shared => 0,
                Spread::Rows(rows) if rows.content == Content::Own => 1,
                Spread::Rows(_) => 2,
                Spread::Mixed(_) => 3,
            };
            counted.borrow_mut()[kind] += 1;
            let said = || format!("%{} is said to be {spread:?}\n{graph}", output.0);
            prop_assert!(holds(&graph, spread, [&alone[0][i], &alone[1][i]], &together[i]), "{}", said());
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    // The test is of something only where all kinds of values come up.
    assert!(ran.iter().all(|kind| *kind > 500), "shared, own, equal, mixed: {ran:?}");
}
