//! Random graphs out of the builder's operations, with control flow and sizes that data decides.

mod patterns;
mod regions;

use arbitrary::{Result, Unstructured};
use ired_graph::{
    ArgReduceFn, BinaryFn, Builder, CompareFn, CumulativeFn, DType, Dim, Graph, Op, PadMode, Param, PoolFn,
    ReduceFn, RegionId, ScatterFn, ShapeError, Tensor, TensorType, UnaryFn, ValueId, Window,
};

type Built = std::result::Result<ValueId, ShapeError>;

/// Functions of which a small change of the operand changes the result a little.
const SMOOTH: [UnaryFn; 9] = [
    UnaryFn::Neg,
    UnaryFn::Abs,
    UnaryFn::Tanh,
    UnaryFn::Erf,
    UnaryFn::Sigmoid,
    UnaryFn::Sin,
    UnaryFn::Cos,
    UnaryFn::Atan,
    UnaryFn::Asinh,
];

/// A graph of up to twenty steps on inputs of several types that share the symbol `n`.
///
/// # Errors
/// When the fuzzer's bytes do not suffice.
pub fn random_graph(u: &mut Unstructured<'_>) -> Result<Graph> {
    let mut graph = Graph::new("fuzz");
    let [n, m] = ["n", "m"].map(|name| {
        let symbol = graph.symbols.named(name);
        graph.symbols.get_mut(symbol).max = 16;
        Dim::symbol(symbol)
    });
    let narrow =
        *u.choose(&[DType::F16, DType::BF16, DType::F64, DType::U8, DType::I8, DType::I32, DType::I4])?;
    let four = Dim::constant(4);
    let inputs = [
        ("x", DType::F32, vec![n.clone(), four.clone(), 6.into()]),
        ("y", DType::F32, vec![n.clone(), 6.into()]),
        ("image", DType::F32, vec![n.clone(), four, m.clone(), 3.into()]),
        ("bytes", DType::U8, vec![n.clone(), 6.into()]),
        ("narrow", narrow, vec![m, 6.into()]),
        ("list", DType::I64, vec![3.into()]),
        ("holds", DType::Bool, vec![n]),
    ];
    let values =
        inputs.map(|(name, dtype, shape)| graph.add_input(name, TensorType::new(dtype, shape))).to_vec();
    let mut steps = Steps { smooth: u.arbitrary()?, weights: 0, depth: 0, u };
    let body = graph.body;
    let mut values = values;
    let most = steps.u.int_in_range(1..=20)?;
    steps.add(&mut graph, body, &mut values, most)?;
    let mut outputs = vec![values[values.len() - 1]];
    if steps.u.arbitrary()? {
        outputs.push(*steps.u.choose(&values)?);
    }
    graph.set_outputs(body, outputs);
    Ok(graph)
}

/// Adds steps to a graph.
struct Steps<'u, 'd> {
    /// No step turns a small difference into a large one, so that numbers can be compared after passes that round.
    smooth: bool,
    weights: usize,
    /// How many regions are around the one that steps are added to.
    depth: usize,
    u: &'u mut Unstructured<'d>,
}

impl Steps<'_, '_> {
    fn add(
        &mut self,
        graph: &mut Graph,
        region: RegionId,
        values: &mut Vec<ValueId>,
        most: usize,
    ) -> Result<()> {
        for _ in 0..most {
            if let Some(value) = self.step(graph, region, values)? {
                let small = graph.symbols.range(&graph.ty(value).elements()).max < 1 << 20;
                if small && graph.ty(value).rank() < 7 {
                    values.push(value);
                }
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<usize> {
        Ok(usize::from(self.u.arbitrary::<u8>()?))
    }

    /// One more value; `None` where the operation does not fit what it was to work on.
    fn step(&mut self, graph: &mut Graph, region: RegionId, values: &[ValueId]) -> Result<Option<ValueId>> {
        let (x, y, z) = (self.value(values)?, self.value(values)?, self.value(values)?);
        let c = self.byte()?;
        let built = match self.u.int_in_range(0..=9)? {
            0 | 1 => self.elementwise(&mut Builder::in_region(graph, region), [x, y, z], c)?,
            2 | 3 => movement(&mut Builder::in_region(graph, region), [x, y], c, self.byte()?),
            4 => self.indexed(&mut Builder::in_region(graph, region), [x, y, z], c)?,
            5 => self.reduced(&mut Builder::in_region(graph, region), x, c)?,
            6 => self.with_weight(graph, region, x, c)?,
            7 => patterns::step(self, graph, region, [x, y], c)?,
            8 => self.sized(&mut Builder::in_region(graph, region), [x, y], c)?,
            _ => regions::step(self, graph, region, values, x, c)?,
        };
        Ok(built.ok())
    }

    /// Lately made, as a rule.
    fn value(&mut self, values: &[ValueId]) -> Result<ValueId> {
        let recent = values.len().saturating_sub(4);
        if self.u.arbitrary()? {
            Ok(*self.u.choose(&values[recent..])?)
        } else {
            Ok(*self.u.choose(values)?)
        }
    }

    fn elementwise(&mut self, b: &mut Builder<'_>, [x, y, z]: [ValueId; 3], c: usize) -> Result<Built> {
        let kind = if self.smooth { c % 4 } else { c % 9 };
        let which = self.byte()?;
        let pick = |list: &'static [BinaryFn]| list[which % list.len()];
        Ok(match kind {
            0 => b.unary(SMOOTH[which % SMOOTH.len()], x),
            1 => {
                b.binary_broadcast(pick(&[BinaryFn::Add, BinaryFn::Sub, BinaryFn::Max, BinaryFn::Min]), x, y)
            }
            2 => {
                let bounded = b.unary(UnaryFn::Tanh, y);
                bounded.and_then(|bounded| b.binary_broadcast(BinaryFn::Mul, x, bounded))
            }
            3 => {
                let number = [0.0, 1.0, 2.0, -1.0, 0.5, -0.0][which / 4 % 6];
                b.binary_scalar(
                    pick(&[BinaryFn::Mul, BinaryFn::Add, BinaryFn::Sub, BinaryFn::Max]),
                    x,
                    number,
                )
            }
            4 => b.unary(UnaryFn::ALL[which % UnaryFn::ALL.len()], x),
            5 => b.binary_broadcast(pick(BinaryFn::ALL), x, y),
            6 => b.compare_broadcast(CompareFn::ALL[which % CompareFn::ALL.len()], x, y),
            7 if which % 3 == 0 => b.bit_cast(x, DType::ALL[which / 3 % DType::ALL.len()]),
            7 => b.cast(x, DType::ALL[which % DType::ALL.len()]),
            _ => match which % 2 {
                0 => b.select_broadcast(z, x, y),
                _ => b.binary_scalar(pick(BinaryFn::ALL), x, [0.0, 1.0, 2.0, 255.0][which / 16 % 4]),
            },
        })
    }

    fn indexed(&mut self, b: &mut Builder<'_>, [x, y, z]: [ValueId; 3], c: usize) -> Result<Built> {
        let shape = b.ty(x).shape.clone();
        let axis = if shape.is_empty() { 0 } else { c % shape.len() };
        let known = [&[0, -1, 0][..], &[0], &[], &[1, 0, 2, 1]][c / 8 % 4];
        let indices = if self.u.ratio(1, 3)? { Ok(y) } else { b.constant_i64(known) };
        let Ok(indices) = indices else { return Ok(indices) };
        let function = ScatterFn::ALL[c % ScatterFn::ALL.len()];
        Ok(match self.u.int_in_range(0..=7)? {
            0 | 1 => b.gather(x, indices, axis),
            2 => {
                let mut wanted = shape.clone();
                wanted.iter_mut().skip(axis).take(1).for_each(|dim| *dim = Dim::constant(known.len() as i64));
                let indices = b.broadcast_to(indices, wanted);
                let indices = indices.and_then(|indices| b.cast(indices, DType::I64));
                indices.and_then(|indices| b.push(Op::GatherElements { axis }, &[x, indices]))
            }
            3 => b.push(Op::GatherNd { batch_dims: c % 2 }, &[x, indices]),
            4 => {
                let taken = b.gather(x, indices, 0);
                let pairs = b.unsqueeze(indices, &[1]);
                taken.and_then(|taken| b.scatter_nd(function, x, pairs?, taken))
            }
            5 => b.scatter_along(function, x, indices, z, axis),
            6 if !self.smooth => b.sort(x, axis, c.is_multiple_of(2)),
            _ => {
                let function = CumulativeFn::ALL[c % 2];
                b.push(Op::Cumulative { function, axis, exclusive: c % 3 == 0, reverse: c % 5 == 0 }, &[x])
            }
        })
    }

    fn reduced(&mut self, b: &mut Builder<'_>, x: ValueId, c: usize) -> Result<Built> {
        let rank = b.ty(x).rank();
        let axis = if rank == 0 { 0 } else { c % rank };
        let axes: Vec<usize> = if c.is_multiple_of(3) { (axis..rank).collect() } else { vec![axis] };
        let keep = c.is_multiple_of(2);
        Ok(match self.u.int_in_range(0..=5)? {
            0 | 1 => b.reduce([ReduceFn::Sum, ReduceFn::Max, ReduceFn::Mean][c % 3], x, &axes, keep),
            2 => b.reduce(ReduceFn::ALL[c % ReduceFn::ALL.len()], x, &axes, keep),
            3 => b.softmax(x, axis, c.is_multiple_of(2)),
            4 if !self.smooth => {
                b.push(Op::ArgReduce { function: ArgReduceFn::ALL[c % 2], axis, last_on_tie: keep }, &[x])
            }
            _ => b.push(Op::LayerNorm { axis, epsilon: 1e-3 }, &[x]),
        })
    }

    fn with_weight(&mut self, graph: &mut Graph, region: RegionId, x: ValueId, c: usize) -> Result<Built> {
        let ty = graph.ty(x).clone();
        let (Some(last), true) = (ty.shape.last().and_then(Dim::as_static), ty.dtype == DType::F32) else {
            return Ok(Builder::in_region(graph, region).unary(UnaryFn::Neg, x));
        };
        let last = last as u64;
        Ok(match self.u.int_in_range(0..=4)? {
            0 => {
                let w = self.weight(graph, region, &[last]);
                let mut b = Builder::in_region(graph, region);
                let axis = ty.rank() - 1;
                w.and_then(|w| b.push(Op::LayerNorm { axis, epsilon: 1e-3 }, &[x, w, w]))
            }
            1 | 2 => {
                let w = self.weight(graph, region, &[last]);
                let function = [BinaryFn::Mul, BinaryFn::Add, BinaryFn::Sub][c % 3];
                w.and_then(|w| Builder::in_region(graph, region).binary_broadcast(function, x, w))
            }
            3 => {
                let w = self.weight(graph, region, &[last, 1 + c as u64 % 4]);
                w.and_then(|w| Builder::in_region(graph, region).matmul_broadcast(x, w))
            }
            _ => patterns::convolution(self, graph, region, x, c),
        })
    }

    /// Numbers of this graph's own.
    fn weight(&mut self, graph: &mut Graph, region: RegionId, shape: &[u64]) -> Built {
        self.weights += 1;
        let (number, count) = (self.weights as u64, shape.iter().product::<u64>());
        let values: Vec<f32> = (0..count).map(|i| ((i * 29 + number) % 13) as f32 / 8.0 - 0.75).collect();
        let tensor = Tensor::from_f32s(shape, &values);
        let (dtype, shape, data) = (tensor.dtype(), tensor.shape().to_vec(), tensor.data().clone());
        let id = graph.add_param(Param { name: format!("w{number}"), dtype, shape, data });
        Builder::in_region(graph, region).param(id)
    }

    /// What takes its size from data.
    fn sized(&mut self, b: &mut Builder<'_>, [x, y]: [ValueId; 2], c: usize) -> Result<Built> {
        if b.ty(y).dtype != DType::I64 {
            return Ok(b.shape_of(x));
        }
        let shape = b.ty(x).shape.clone();
        let axis = if shape.is_empty() { 0 } else { c % shape.len() };
        let Ok(sizes) = b.read_dims(y, "read") else { return Ok(b.shape_of(y)) };
        let first = sizes.first().cloned().unwrap_or(1.into());
        Ok(match self.u.int_in_range(0..=4)? {
            0 => b.iota(DType::I64, sizes, 0),
            1 => b.expand(x, &sizes),
            2 => b.slice_axis(x, axis, 0.into(), first),
            3 => b.reshape(x, sizes),
            _ => {
                let mut low = vec![Dim::constant(0); shape.len()];
                low.iter_mut().skip(axis).take(1).for_each(|dim| *dim = first.clone());
                b.pad(x, low.clone(), low, [PadMode::Edge, PadMode::Wrap, PadMode::Reflect][c % 3], None)
            }
        })
    }
}

fn movement(b: &mut Builder<'_>, [x, y]: [ValueId; 2], c: usize, kind: usize) -> Built {
    let shape = b.ty(x).shape.clone();
    let axis = if shape.is_empty() { 0 } else { c % shape.len() };
    match kind % 14 {
        0 => b.flatten(x, c % (shape.len() + 1)),
        1 => b.unsqueeze(x, &[c % (shape.len() + 1)]),
        2 => {
            let mut perm: Vec<usize> = (0..shape.len()).collect();
            if c.is_multiple_of(2) {
                perm.reverse()
            } else {
                perm.rotate_left(axis)
            }
            b.transpose(x, perm)
        }
        3 => b.concat(&[x, y], axis),
        4 => b.concat(&[x, x, y], axis),
        5 => {
            let amounts = vec![Dim::constant((c % 4) as i64 - 1); shape.len()];
            let mode = PadMode::ALL[c % PadMode::ALL.len()];
            let fill = if mode == PadMode::Constant { b.scalar_like(x, 0.0).ok() } else { None };
            b.pad(x, amounts.clone(), amounts, mode, fill)
        }
        6 => {
            let start = shape.iter().map(|d| d.clone() - 1.into()).collect();
            b.push(Op::Slice { start, size: shape.clone(), stride: vec![-1; shape.len()] }, &[x])
        }
        7 => {
            let mut size = shape.clone();
            let start = vec![Dim::constant(0); shape.len()];
            size.iter_mut().skip(axis).take(1).for_each(|d| *d = (d.clone() + 1.into()).floor_div(&2.into()));
            let stride = (0..shape.len()).map(|a| if a == axis { 2 } else { 1 }).collect();
            b.slice(x, start, size, stride)
        }
        8 => b.reshape_infer(x, &[[1, 2, 3, 4][c % 4].into(), Dim::constant(-1)]),
        9 => b.matmul_broadcast(x, y),
        10 => b.expand(x, &[2.into(), 1.into(), 1.into()]),
        11 => {
            let wide = b.ty(y).shape.clone();
            b.expand(x, &wide)
        }
        12 => {
            let ones: Vec<usize> = (0..shape.len()).filter(|a| shape[*a] == Dim::constant(1)).collect();
            b.squeeze(x, &ones)
        }
        _ => {
            let function = PoolFn::ALL[c % 2];
            let axes = shape.len().saturating_sub(2).clamp(1, 2);
            let mut window = Window { ceil: c.is_multiple_of(2), ..Window::dense(vec![2; axes]) };
            window.stride = vec![1 + c as u64 % 3; axes];
            window.pad_low = vec![c as u64 / 2 % 2; axes];
            b.pool(function, x, window, c.is_multiple_of(3))
        }
    }
}
