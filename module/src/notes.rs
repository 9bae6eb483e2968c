//! What each dispatch of a module computes, for profiles: the debug section. Nothing that runs depends on it, so that a
//! module without it, or with one that nobody understands, is as good as any.
//!
//! ```text
//! sizes u32 × { 0 | 1 input u16 axis u16 | 2 expression }
//! notes u32 × { function u32 | instruction u32 | nodes text | problem text | result text | rank u8 × expression
//!             | operations expression | bytes expression }
//! text        bytes u32 | UTF-8
//! expression  terms u16 × { 0 value i64 | 1 size u16 | 2..=7 operation }, in postfix order
//! ```

use std::string::{String, ToString};
use std::vec::Vec;

use crate::code::ArithOp;

/// The notes of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DispatchNotes {
    /// What [`Term::Size`] refers to; each refers to earlier ones only.
    pub sizes: Vec<Size>,
    pub notes: Vec<DispatchNote>,
}

/// Where a size is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// Decided by data, while a call runs.
    Unknown,
    Input {
        input: u16,
        axis: u16,
    },
    Expression(Expression),
}

/// One dispatch instruction of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchNote {
    pub function: u32,
    /// Index into the body of the function.
    pub instruction: u32,
    /// The model's nodes that it computes, separated by commas.
    pub nodes: String,
    /// What a tuning file calls it; nothing of what cannot be tuned.
    pub problem: String,
    /// Element type and dimensions of what its main node gives.
    pub dtype: String,
    pub shape: Vec<Expression>,
    /// Multiplications, additions, comparisons and functions of one element.
    pub operations: Expression,
    /// What it has to read and write, each byte once.
    pub bytes: Expression,
}

/// An expression of sizes in postfix order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expression(pub Vec<Term>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    Value(i64),
    /// An index into [`DispatchNotes::sizes`].
    Size(u16),
    /// Takes two values, gives one.
    Apply(ArithOp),
}

/// The operations that expressions have; the position is part of the format.
const OPERATIONS: [ArithOp; 6] =
    [ArithOp::Add, ArithOp::Mul, ArithOp::FloorDiv, ArithOp::Mod, ArithOp::Min, ArithOp::Max];

/// A note with numbers, where they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDispatch<'a> {
    pub function: u32,
    pub instruction: u32,
    pub nodes: &'a str,
    pub problem: &'a str,
    /// `f32[1, 64, n?]`, a dimension that is not known as `?`.
    pub result: String,
    pub operations: Option<u64>,
    pub bytes: Option<u64>,
}

impl DispatchNotes {
    /// The numbers for a call with inputs of these dimensions.
    pub fn at(&self, inputs: &[Vec<u64>]) -> Vec<KnownDispatch<'_>> {
        let mut sizes: Vec<Option<i64>> = Vec::with_capacity(self.sizes.len());
        for size in &self.sizes {
            let known = match size {
                Size::Unknown => None,
                Size::Input { input, axis } => {
                    let dim = inputs.get(usize::from(*input)).and_then(|dims| dims.get(usize::from(*axis)));
                    dim.and_then(|dim| i64::try_from(*dim).ok())
                }
                Size::Expression(expression) => expression.evaluate(&sizes),
            };
            sizes.push(known);
        }
        let number = |expression: &Expression| u64::try_from(expression.evaluate(&sizes)?).ok();
        let dim = |expression: &Expression| number(expression).map_or("?".to_string(), |n| n.to_string());
        let known = |note: &'_ DispatchNote| {
            let dims: Vec<String> = note.shape.iter().map(dim).collect();
            std::format!("{}[{}]", note.dtype, dims.join(", "))
        };
        self.notes
            .iter()
            .map(|note| KnownDispatch {
                function: note.function,
                instruction: note.instruction,
                nodes: &note.nodes,
                problem: &note.problem,
                result: known(note),
                operations: number(&note.operations),
                bytes: number(&note.bytes),
            })
            .collect()
    }

    /// The bytes of a debug section; none where there is nothing to say, or more than the format takes.
    pub fn encode(&self) -> Vec<u8> {
        if self.notes.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        self.write(&mut out).map_or_else(Vec::new, |()| out)
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend(u32::try_from(self.sizes.len()).ok()?.to_le_bytes());
        for size in &self.sizes {
            match size {
                Size::Unknown => out.push(0),
                Size::Input { input, axis } => {
                    out.push(1);
                    out.extend(input.to_le_bytes());
                    out.extend(axis.to_le_bytes());
                }
                Size::Expression(expression) => {
                    out.push(2);
                    expression.write(out)?;
                }
            }
        }
        out.extend(u32::try_from(self.notes.len()).ok()?.to_le_bytes());
        for note in &self.notes {
            out.extend(note.function.to_le_bytes());
            out.extend(note.instruction.to_le_bytes());
            for text in [&note.nodes, &note.problem, &note.dtype] {
                out.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
                out.extend(text.as_bytes());
            }
            out.push(u8::try_from(note.shape.len()).ok()?);
            for expression in note.shape.iter().chain([&note.operations, &note.bytes]) {
                expression.write(out)?;
            }
        }
        Some(())
    }

    /// Reads a debug section; `None` when it is not one of these.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let mut notes = Self::default();
        if bytes.is_empty() {
            return Some(notes);
        }
        // What is read takes more bytes than it says there is of it: a wrong count ends at the section's end.
        for _ in 0..input.u32()? {
            notes.sizes.push(match input.u8()? {
                0 => Size::Unknown,
                1 => Size::Input { input: input.u16()?, axis: input.u16()? },
                2 => Size::Expression(input.expression()?),
                _ => return None,
            });
        }
        for _ in 0..input.u32()? {
            notes.notes.push(DispatchNote {
                function: input.u32()?,
                instruction: input.u32()?,
                nodes: input.text()?,
                problem: input.text()?,
                dtype: input.text()?,
                shape: (0..input.u8()?).map(|_| input.expression()).collect::<Option<_>>()?,
                operations: input.expression()?,
                bytes: input.expression()?,
            });
        }
        input.0.is_empty().then_some(notes)
    }
}

impl Expression {
    pub fn constant(value: i64) -> Self {
        Self(std::vec![Term::Value(value)])
    }

    /// `None` where a size is not known, a number too large, or this is no expression.
    fn evaluate(&self, sizes: &[Option<i64>]) -> Option<i64> {
        let mut stack = Vec::new();
        for term in &self.0 {
            let value = match *term {
                Term::Value(value) => value,
                Term::Size(size) => (*sizes.get(usize::from(size))?)?,
                Term::Apply(op) => {
                    let (rhs, lhs) = (stack.pop()?, stack.pop()?);
                    op.apply(lhs, rhs)?
                }
            };
            stack.push(value);
        }
        let value = stack.pop()?;
        stack.is_empty().then_some(value)
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend(u16::try_from(self.0.len()).ok()?.to_le_bytes());
        for term in &self.0 {
            match term {
                Term::Value(value) => {
                    out.push(0);
                    out.extend(value.to_le_bytes());
                }
                Term::Size(size) => {
                    out.push(1);
                    out.extend(size.to_le_bytes());
                }
                Term::Apply(op) => out.push(2 + OPERATIONS.iter().position(|known| known == op)? as u8),
            }
        }
        Some(())
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.u32()?).ok()?;
        core::str::from_utf8(self.take(len)?).ok().map(String::from)
    }

    fn expression(&mut self) -> Option<Expression> {
        let terms = self.u16()?;
        let term = |_| {
            Some(match self.u8()? {
                0 => Term::Value(self.array().map(i64::from_le_bytes)?),
                1 => Term::Size(self.u16()?),
                operation => Term::Apply(*OPERATIONS.get(usize::from(operation) - 2)?),
            })
        };
        (0..terms).map(term).collect::<Option<_>>().map(Expression)
    }
}
