//! Reshapes of every kind: to a shape with one unknown, dropping and adding axes, flattening.

use super::{Builder, Built};
use crate::dim::UNBOUNDED;
use crate::ops::ShapeError;
use crate::types::product;
use crate::{DType, Dim, Op, Shape, SymbolId, ValueId};

/// No list of sizes has more entries: each is a symbol of its own.
const MAX_READ: usize = 256;

/// Symbols and calls of a size from which on a name for it is shorter.
const LONG: usize = 32;

impl Builder<'_> {
    /// `x` itself where it already has `shape`.
    ///
    /// # Errors
    /// When the element counts provably differ.
    pub fn reshape(&mut self, x: ValueId, shape: Shape) -> Built {
        if self.ty(x).shape == shape { Ok(x) } else { self.push(Op::Reshape { shape }, &[x]) }
    }

    /// A reshape in which at most one entry of `target` may be -1: what is left of the element count.
    ///
    /// # Errors
    /// When two are -1, or the rest provably does not divide the element count.
    pub fn reshape_infer(&mut self, x: ValueId, target: &[Dim]) -> Built {
        let unknown = Dim::constant(-1);
        let mut shape = target.to_vec();
        let mut wanted = target.iter().enumerate().filter(|(_, d)| **d == unknown).map(|(i, _)| i);
        let (first, second) = (wanted.next(), wanted.next());
        let problem = |problem: String| ShapeError::Attribute { op: "reshape", attribute: "shape", problem };
        match (first, second) {
            (None, _) => {}
            (Some(_), Some(_)) => return Err(problem("has more than one -1".to_owned())),
            (Some(axis), None) => {
                let known: Vec<Dim> = target.iter().filter(|d| **d != unknown).cloned().collect();
                let (count, known) = (self.ty(x).elements(), product(&known));
                let symbols = &self.graph.symbols;
                if known == Dim::constant(0) || symbols.is_known_ne(&count.modulo(&known), &0.into()) {
                    let (count, known) = (count.display(symbols), known.display(symbols));
                    return Err(problem(format!("splits {count} elements into a multiple of {known}")));
                }
                shape[axis] = symbols.simplify(&count.floor_div(&known));
            }
        }
        self.reshape(x, shape)
    }

    /// Drops axes of size 1.
    ///
    /// # Errors
    /// When one of them does not exist or provably has another size.
    pub fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> Built {
        let shape = self.ty(x).shape.clone();
        for &axis in axes {
            let one = Dim::constant(1);
            match shape.get(axis) {
                Some(d) if !self.graph.symbols.is_known_ne(d, &one) => {}
                found => {
                    let found =
                        found.map_or("missing".to_owned(), |d| d.display(&self.graph.symbols).to_string());
                    let what = format!("axis {axis}, to be dropped,");
                    return Err(ShapeError::Mismatch {
                        op: "reshape",
                        what,
                        expected: "1".to_owned(),
                        found,
                    });
                }
            }
        }
        let kept = shape.into_iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| d).collect();
        self.reshape(x, kept)
    }

    /// Adds axes of size 1, at these positions of the result.
    ///
    /// # Errors
    /// When a position is past the result's rank or named twice.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> Built {
        let mut shape = self.ty(x).shape.clone();
        let mut ascending = axes.to_vec();
        ascending.sort_unstable();
        let rank = shape.len() + axes.len();
        let distinct = ascending.is_sorted_by(|a, b| a < b);
        if !distinct || ascending.last().is_some_and(|&axis| axis >= rank) {
            let problem = format!("names axes {axes:?} of a result of rank {rank}");
            return Err(ShapeError::Attribute { op: "reshape", attribute: "axes", problem });
        }
        for axis in ascending {
            shape.insert(axis, Dim::constant(1));
        }
        self.reshape(x, shape)
    }

    /// A matrix whose rows are the axes before `axis` (at most the rank) and whose columns are the rest.
    ///
    /// # Errors
    /// When `axis` is over the rank.
    pub fn flatten(&mut self, x: ValueId, axis: usize) -> Built {
        let shape = &self.ty(x).shape;
        if axis > shape.len() {
            let problem = format!("is {axis}; rank is {}", shape.len());
            return Err(ShapeError::Attribute { op: "reshape", attribute: "axis", problem });
        }
        let matrix = vec![product(&shape[..axis]), product(&shape[axis..])];
        self.reshape(x, matrix)
    }

    /// The elements of an integer tensor, a vector of known length or a scalar, as dimensions: what is known of them
    /// as it is, and a new symbol called after `name` for each that only the run decides; see [`Op::ReadDims`].
    /// These are `0..` each: clamp what may be negative before.
    ///
    /// # Errors
    /// When `value` is no such tensor.
    pub fn read_dims(&mut self, value: ValueId, name: &str) -> Result<Vec<Dim>, ShapeError> {
        self.read_dims_within(value, name, 0, UNBOUNDED)
    }

    /// As [`Self::read_dims`] for numbers that may be negative: amounts to pad by, not sizes.
    ///
    /// # Errors
    /// As [`Self::read_dims`].
    pub fn read_integers(&mut self, value: ValueId, name: &str) -> Result<Vec<Dim>, ShapeError> {
        self.read_dims_within(value, name, -UNBOUNDED, UNBOUNDED)
    }

    /// `x` with a symbol, called after `name`, for each size that takes more than `LONG` symbols and calls to
    /// write. Sizes that follow from it stay short then, and equal ones still get equal symbols.
    ///
    /// # Errors
    /// As [`Self::reshape`].
    pub fn name_long_sizes(&mut self, x: ValueId, name: &str) -> Built {
        let is_long = |dim: &Dim| dim.complexity() > LONG;
        if !self.ty(x).shape.iter().any(is_long) {
            return Ok(x);
        }
        let mut shape = self.ty(x).shape.clone();
        for dim in shape.iter_mut().filter(|dim| is_long(dim)) {
            *dim = Dim::symbol(self.named_size(dim, name)?);
        }
        self.reshape(x, shape)
    }

    /// A symbol that has the value of `size` from here on, or from before.
    fn named_size(&mut self, size: &Dim, name: &str) -> Result<SymbolId, ShapeError> {
        let nodes = self.graph.region(self.region).nodes.iter().map(|node| self.graph.node(*node));
        let before = nodes.rev().find_map(|node| match (&node.op, node.operands.as_slice()) {
            (Op::ReadDims { symbols }, &[read]) => match (self.graph.producer_op(read), symbols.as_slice()) {
                (Some(Op::Dims { values, .. }), &[symbol]) if *values == [size.clone()] => Some(symbol),
                _ => None,
            },
            _ => None,
        });
        if let Some(symbol) = before.filter(|_| self.position.is_none()) {
            return Ok(symbol);
        }
        let symbols = &mut self.graph.symbols;
        let (range, divisor) = (symbols.range(size), symbols.divisor(size));
        let symbol = symbols.fresh(name);
        let known = symbols.get_mut(symbol);
        (known.min, known.max) = (range.min.max(0), range.max.clamp(0, UNBOUNDED));
        known.divisor = divisor.max(1);
        let value = self.dims(vec![size.clone()])?;
        self.push(Op::ReadDims { symbols: vec![symbol] }, &[value])?;
        Ok(symbol)
    }

    /// The elements of a vector of known length, each as a dimension where it is known as one.
    pub fn partly_known_dims(&self, value: ValueId) -> Option<Vec<Option<Dim>>> {
        let mut elements = Vec::new();
        for part in self.joined(value) {
            match self.dims_of(part) {
                Some(known) => elements.extend(known.into_iter().map(Some)),
                None => {
                    let length = self.ty(part).elements().as_static()?;
                    elements.resize(elements.len() + usize::try_from(length).ok()?.min(MAX_READ), None);
                }
            }
        }
        Some(elements)
    }

    /// As [`Self::read_dims`] for numbers from `min` to `max`: others are an error of the run.
    ///
    /// # Errors
    /// As [`Self::read_dims`].
    pub fn read_dims_within(
        &mut self,
        value: ValueId,
        name: &str,
        min: i64,
        max: i64,
    ) -> Result<Vec<Dim>, ShapeError> {
        let parts = self.joined(value);
        let known: Vec<Option<Vec<Dim>>> = parts.iter().map(|part| self.dims_of(*part)).collect();
        let unknown = parts.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unknown = unknown.map(|(part, _)| self.sizes_list(*part)).collect::<Result<Vec<_>, _>>()?;
        let lengths: Vec<usize> = unknown.iter().map(|(_, length)| *length).collect();
        let mut read = match unknown.as_slice() {
            [] => Vec::new(),
            [(only, _)] => self.read(*only, name, [min, max])?,
            several => {
                let lists: Vec<ValueId> = several.iter().map(|(list, _)| *list).collect();
                let joined = self.concat(&lists, 0)?;
                self.read(joined, name, [min, max])?
            }
        }
        .into_iter();
        let mut lengths = lengths.into_iter();
        let mut of_part = |known: Option<Vec<Dim>>| {
            known.unwrap_or_else(|| read.by_ref().take(lengths.next().unwrap_or(0)).collect())
        };
        Ok(known.into_iter().flat_map(&mut of_part).collect())
    }

    /// What `value` is the concatenation of, in order; a part may be known where the whole is not.
    fn joined(&self, value: ValueId) -> Vec<ValueId> {
        let (mut parts, mut pending) = (Vec::new(), vec![value]);
        while let Some(value) = pending.pop() {
            let node = self.graph.producer(value).map(|node| self.graph.node(node));
            match node {
                Some(node) if matches!(node.op, Op::Concat { .. }) && parts.len() <= MAX_READ => {
                    pending.extend(node.operands.iter().rev());
                }
                _ => parts.push(value),
            }
        }
        parts
    }

    /// `value` as an i64 vector, and its length.
    fn sizes_list(&mut self, value: ValueId) -> Result<(ValueId, usize), ShapeError> {
        let ty = self.ty(value).clone();
        let refuse = |expected: &str| {
            let (expected, found) = (expected.to_owned(), ty.dtype);
            ShapeError::OperandType { op: "read_dims", operand: 0, expected, found }
        };
        if !ty.dtype.is_integer() {
            return Err(refuse("integers"));
        }
        let shape: Shape = if ty.rank() == 0 { vec![Dim::constant(1)] } else { ty.shape.clone() };
        let [length] = shape.as_slice() else {
            let (op, expected, found) = ("read_dims", "1".to_owned(), ty.rank());
            return Err(ShapeError::OperandRank { op, operand: 0, expected, found });
        };
        let length = length.as_static().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= MAX_READ);
        let Some(length) = length else {
            let found = shape[0].display(&self.graph.symbols).to_string();
            let (what, expected) = ("the number of sizes".to_owned(), format!("a number up to {MAX_READ}"));
            return Err(ShapeError::Mismatch { op: "read_dims", what, expected, found });
        };
        let sizes = self.reshape(value, shape)?;
        Ok((self.cast(sizes, DType::I64)?, length))
    }

    /// New symbols for the elements of `sizes`, or those that this region has for them already.
    fn read(&mut self, sizes: ValueId, name: &str, bounds: [i64; 2]) -> Result<Vec<Dim>, ShapeError> {
        let (origin, symbols) = (self.same_elements(sizes), &self.graph.symbols);
        let bounded = |found: &[SymbolId]| {
            found.iter().map(|symbol| symbols.get(*symbol)).all(|symbol| [symbol.min, symbol.max] == bounds)
        };
        let nodes = self.graph.region(self.region).nodes.iter().map(|node| self.graph.node(*node));
        let before = nodes.rev().find_map(|node| match &node.op {
            Op::ReadDims { symbols }
                if bounded(symbols) && self.same_elements(node.operands[0]) == origin =>
            {
                Some(symbols.clone())
            }
            _ => None,
        });
        let symbols = match before.filter(|_| self.position.is_none()) {
            Some(symbols) => symbols,
            None => {
                let Some(length) = self.ty(sizes).shape[0].as_static() else { return Ok(Vec::new()) };
                let symbols: Vec<SymbolId> = (0..length).map(|_| self.graph.symbols.fresh(name)).collect();
                for symbol in &symbols {
                    let symbol = self.graph.symbols.get_mut(*symbol);
                    [symbol.min, symbol.max] = bounds;
                }
                self.push(Op::ReadDims { symbols: symbols.clone() }, &[sizes])?;
                symbols
            }
        };
        Ok(symbols.into_iter().map(Dim::symbol).collect())
    }

    /// The value whose elements `value` has, under another shape or type.
    fn same_elements(&self, mut value: ValueId) -> ValueId {
        while let Some(node) = self.graph.producer(value).map(|node| self.graph.node(node)) {
            match node.op {
                Op::Reshape { .. } | Op::Cast(DType::I64) => value = node.operands[0],
                _ => break,
            }
        }
        value
    }
}
