//! The text form, written. [`crate::parse`] reads it back to the same graph.

use std::collections::HashMap;
use std::fmt::{self, Write};

use crate::dim::{SymbolName, UNBOUNDED, is_word};
use crate::{DType, Dim, Graph, NodeId, Op, RegionId, Tensor, ValueId, Window};

/// Weights of at most this many bytes are printed with their data.
const MAX_INLINE_PARAM_BYTES: usize = 256;

/// Prints values as numbered in order of appearance; weights over 256 bytes without their data.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { graph: self, numbers: HashMap::new() }.graph(f)
    }
}

struct Printer<'g> {
    graph: &'g Graph,
    numbers: HashMap<ValueId, usize>,
}

impl Printer<'_> {
    fn graph(&mut self, f: &mut dyn Write) -> fmt::Result {
        let graph = self.graph;
        writeln!(f, "graph {} {{", Name(&graph.name))?;
        for (_, symbol) in graph.symbols.iter() {
            write!(f, "  symbol {}", SymbolName(&symbol.name))?;
            if symbol.min != 0 {
                write!(f, " min {}", symbol.min)?;
            }
            if symbol.max != UNBOUNDED {
                write!(f, " max {}", symbol.max)?;
            }
            if symbol.divisor != 1 {
                write!(f, " multiple {}", symbol.divisor)?;
            }
            writeln!(f)?;
        }
        // The first is the empty string, which every graph has.
        for text in graph.strings.texts().skip(1) {
            match std::str::from_utf8(text) {
                Ok(text) => writeln!(f, "  string {}", Quoted(text))?,
                Err(_) => writeln!(f, "  string {}", Hex(text))?,
            }
        }
        for param in &graph.params {
            write!(f, "  param @{} : {}{:?}", Name(&param.name), param.dtype, param.shape)?;
            match param.data.len() <= MAX_INLINE_PARAM_BYTES {
                true => writeln!(f, " = {}", Hex(&param.data))?,
                false => writeln!(f)?,
            }
        }
        f.write_str("  body")?;
        self.region(graph.body, 1, f)?;
        f.write_str("\n}\n")
    }

    fn region(&mut self, id: RegionId, depth: usize, f: &mut dyn Write) -> fmt::Result {
        let (graph, region) = (self.graph, self.graph.region(id));
        f.write_str("(")?;
        for (i, &input) in region.inputs.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            self.definition(input, f)?;
            write!(f, " : {}", graph.ty(input).display(&graph.symbols))?;
        }
        f.write_str(") {\n")?;
        for &node in &region.nodes {
            self.node(node, depth + 1, f)?;
        }
        write!(f, "{:indent$}yield", "", indent = 2 * (depth + 1))?;
        self.uses(&region.outputs, f)?;
        write!(f, "\n{:indent$}}}", "", indent = 2 * depth)
    }

    fn node(&mut self, id: NodeId, depth: usize, f: &mut dyn Write) -> fmt::Result {
        let graph = self.graph;
        let node = graph.node(id);
        write!(f, "{:indent$}", "", indent = 2 * depth)?;
        for (i, &result) in node.results.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            self.definition(result, f)?;
        }
        write!(f, " = {}", node.op.name())?;
        self.uses(&node.operands, f)?;
        self.attributes(&node.op, f)?;
        f.write_str(" :")?;
        for (i, result) in node.results.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { " " })?;
            write!(f, "{}", graph.ty(*result).display(&graph.symbols))?;
        }
        if let Some(origin) = &node.origin {
            write!(f, " from {} {}", Quoted(&origin.name), Quoted(&origin.op))?;
        }
        for &region in &node.regions {
            f.write_str(" ")?;
            self.region(region, depth, f)?;
        }
        f.write_str("\n")
    }

    fn definition(&mut self, value: ValueId, f: &mut dyn Write) -> fmt::Result {
        let next = self.numbers.len();
        let number = *self.numbers.entry(value).or_insert(next);
        match &self.graph.value(value).name {
            Some(name) => write!(f, "%{number} {}", Quoted(name)),
            None => write!(f, "%{number}"),
        }
    }

    fn uses(&self, values: &[ValueId], f: &mut dyn Write) -> fmt::Result {
        for (i, value) in values.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { " " })?;
            match self.numbers.get(value) {
                Some(number) => write!(f, "%{number}")?,
                // Of a graph that does not verify.
                None => write!(f, "%undefined{}", value.0)?,
            }
        }
        Ok(())
    }

    fn attributes(&self, op: &Op, f: &mut dyn Write) -> fmt::Result {
        let dims = |dims: &[Dim]| crate::types::shape_text(dims, &self.graph.symbols);
        match op {
            Op::Constant(tensor) => match self.texts(tensor) {
                Some(texts) => write!(f, " [{}]", texts.join(", ")),
                None => write!(f, " {}", Elements(tensor)),
            },
            Op::Param(id) => write!(f, " @{}", Name(&self.graph.param(*id).name)),
            Op::Dims { values, .. } => write!(f, " {}", dims(values)),
            Op::Iota { axis, .. } => write!(f, " axis={axis}"),
            Op::ReadDims { symbols } => {
                let symbols: Vec<Dim> = symbols.iter().copied().map(Dim::symbol).collect();
                write!(f, " symbols={}", dims(&symbols))
            }
            Op::Repeat { count, index } => {
                write!(
                    f,
                    " count={} index={}",
                    dims(std::slice::from_ref(count)),
                    dims(&[Dim::symbol(*index)])
                )
            }
            Op::Transpose { perm } => write!(f, " perm={perm:?}"),
            Op::Slice { start, size, stride } => {
                write!(f, " start={} size={} stride={stride:?}", dims(start), dims(size))
            }
            Op::Concat { axis } | Op::Gather { axis } | Op::GatherElements { axis } => {
                write!(f, " axis={axis}")
            }
            Op::Pad { low, high, mode } => {
                write!(f, " low={} high={} mode={}", dims(low), dims(high), mode.name())
            }
            Op::GatherNd { batch_dims } => write!(f, " batch_dims={batch_dims}"),
            Op::Cumulative { axis, exclusive, reverse, .. } => {
                write!(f, " axis={axis} exclusive={exclusive} reverse={reverse}")
            }
            Op::Sort { axis, descending } => write!(f, " axis={axis} descending={descending}"),
            Op::Reduce { axes, .. } => write!(f, " axes={axes:?}"),
            Op::ArgReduce { axis, last_on_tie, .. } => write!(f, " axis={axis} last_on_tie={last_on_tie}"),
            Op::Softmax { axis, .. } => write!(f, " axis={axis}"),
            Op::LayerNorm { axis, epsilon } => write!(f, " axis={axis} epsilon={epsilon:?}"),
            Op::Conv { window, groups, channels_last } => {
                write!(f, " {} groups={groups} channels_last={channels_last}", WindowText(window))
            }
            Op::Pool { window, include_pad, channels_last, .. } => {
                write!(f, " {} include_pad={include_pad} channels_last={channels_last}", WindowText(window))
            }
            Op::Host { function, symbols, .. } => {
                let symbols: Vec<Dim> = symbols.iter().copied().map(Dim::symbol).collect();
                let (name, attributes) = (Quoted(&function.function), Hex(&function.attributes));
                write!(f, " function={name} attributes={attributes} symbols={}", dims(&symbols))
            }
            // The result's type says the rest.
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select => Ok(()),
            Op::Cast(_) | Op::BitCast(_) | Op::MatMul => Ok(()),
            Op::Broadcast { .. }
            | Op::Reshape { .. }
            | Op::ScatterNd { .. }
            | Op::SuppressOverlaps
            | Op::If
            | Op::While => Ok(()),
        }
    }

    /// The elements of a small string constant, quoted; others are written as bytes of handles.
    fn texts(&self, tensor: &Tensor) -> Option<Vec<String>> {
        if tensor.dtype() != DType::String || tensor.len() > MAX_LISTED {
            return None;
        }
        let text = |handle| std::str::from_utf8(self.graph.strings.get(handle)?).ok();
        tensor.to_handles().into_iter().map(|handle| Some(Quoted(text(handle)?).to_string())).collect()
    }
}

/// A name after `@`, or of the graph: bare where it reads as one word.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_word(self.0) { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// Text in quotes, with `"`, `\` and control characters escaped as in Rust.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hex\"")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("\"")
    }
}

/// Constants of at most this many elements are printed as lists.
const MAX_LISTED: usize = 64;

/// Up to 64 numbers as a flat list, others as bytes. Numbers that are not finite keep their bits: `0x7fc00000`. Complex
/// numbers are listed part by part, real ones first.
struct Elements<'a>(&'a Tensor);

impl fmt::Display for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensor = &self.0.to_parts();
        if tensor.len() > MAX_LISTED || tensor.dtype() == DType::String {
            return Hex(tensor.data()).fmt(f);
        }
        let texts: Vec<String> = match tensor.dtype() {
            DType::Bool => tensor.to_bools().iter().map(bool::to_string).collect(),
            DType::F64 => float_texts(tensor, tensor.to_f64s(), f64::is_finite),
            dtype if dtype.holds_integers() => tensor.to_integers().iter().map(i128::to_string).collect(),
            _ => float_texts(tensor, tensor.to_f32s(), f32::is_finite),
        };
        write!(f, "[{}]", texts.join(", "))
    }
}

fn float_texts<T: Copy + fmt::Debug>(
    tensor: &Tensor,
    values: Vec<T>,
    is_finite: fn(T) -> bool,
) -> Vec<String> {
    let text = |(v, bits)| if is_finite(v) { format!("{v:?}") } else { format!("{bits:#x}") };
    values.into_iter().zip(tensor.to_bits()).map(text).collect()
}

struct WindowText<'a>(&'a Window);

impl fmt::Display for WindowText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { extent, stride, dilation, pad_low, pad_high, ceil } = self.0;
        write!(f, "extent={extent:?} stride={stride:?} dilation={dilation:?}")?;
        write!(f, " pad_low={pad_low:?} pad_high={pad_high:?} ceil={ceil}")
    }
}
