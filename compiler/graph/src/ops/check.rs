//! The checks that operations share, and the errors they give: always what was found and what was expected.

use crate::{DType, Dim, Op, Shape, Symbols, TensorType};

/// More axes than any framework's tensors have.
pub const MAX_RANK: usize = 64;

/// Tensors that take more bytes whatever their symbols are, are refused.
pub const MAX_TENSOR_BYTES: u64 = 1 << 46;

/// Why an operation does not fit its operands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("`{op}` takes {expected} operands; found {found}")]
    OperandCount { op: &'static str, expected: String, found: usize },
    #[error("`{op}` takes {expected} as operand {operand}; found {found}")]
    OperandType { op: &'static str, operand: usize, expected: String, found: DType },
    #[error("`{op}` takes operand {operand} of rank {expected}; found rank {found}")]
    OperandRank { op: &'static str, operand: usize, expected: String, found: usize },
    #[error("`{op}`: {what} is {found}; expected {expected}")]
    Mismatch { op: &'static str, what: String, expected: String, found: String },
    #[error("`{op}`: attribute `{attribute}` {problem}")]
    Attribute { op: &'static str, attribute: &'static str, problem: String },
    #[error("`{op}` gives {ty}; tensors over {MAX_TENSOR_BYTES} bytes or {MAX_RANK} axes are refused")]
    TooLarge { op: &'static str, ty: String },
    #[error(
        "`{op}` gives a size written with {found} symbols and calls; at most {} are kept",
        Dim::MAX_COMPLEXITY
    )]
    TooComplex { op: &'static str, found: usize },
}

/// The operands of one operation while they are checked.
pub(crate) struct Operands<'a> {
    pub(crate) op: &'static str,
    pub(crate) symbols: &'a Symbols,
    pub(crate) types: &'a [&'a TensorType],
}

type Checked<T = ()> = Result<T, ShapeError>;

impl<'a> Operands<'a> {
    pub(crate) fn new(op: &Op, types: &'a [&'a TensorType], symbols: &'a Symbols) -> Self {
        Self { op: op.name(), symbols, types }
    }

    /// Exactly `N` operands.
    pub(crate) fn exactly<const N: usize>(&self) -> Checked<[&'a TensorType; N]> {
        <[&TensorType; N]>::try_from(self.types).map_err(|_| self.count(N.to_string()))
    }

    /// At least `min` and at most `max` operands.
    pub(crate) fn between(&self, min: usize, max: usize) -> Checked<&'a [&'a TensorType]> {
        if (min..=max).contains(&self.types.len()) {
            return Ok(self.types);
        }
        let expected = if max == usize::MAX { format!("at least {min}") } else { format!("{min} to {max}") };
        Err(self.count(expected))
    }

    fn count(&self, expected: String) -> ShapeError {
        ShapeError::OperandCount { op: self.op, expected, found: self.types.len() }
    }

    pub(crate) fn dtype(&self, operand: usize, accepted: bool, expected: &str) -> Checked {
        if accepted {
            return Ok(());
        }
        let found = self.types[operand].dtype;
        Err(ShapeError::OperandType { op: self.op, operand, expected: expected.to_owned(), found })
    }

    /// Operand `operand` has the dtype of operand 0.
    pub(crate) fn same_dtype(&self, operand: usize, other: usize) -> Checked {
        let expected = self.types[other].dtype;
        self.dtype(operand, self.types[operand].dtype == expected, expected.name())
    }

    pub(crate) fn rank(&self, operand: usize, accepted: bool, expected: impl ToString) -> Checked {
        if accepted {
            return Ok(());
        }
        let found = self.types[operand].rank();
        Err(ShapeError::OperandRank { op: self.op, operand, expected: expected.to_string(), found })
    }

    /// Operands `operand` and `other` have one shape, provably.
    pub(crate) fn same_shape(&self, operand: usize, other: usize) -> Checked {
        let (found, expected) = (&self.types[operand].shape, &self.types[other].shape);
        let same = found.len() == expected.len()
            && found.iter().zip(expected).all(|(f, e)| self.symbols.is_known_eq(f, e));
        if same {
            return Ok(());
        }
        let (found, expected) = (self.shape_text(found), self.shape_text(expected));
        Err(ShapeError::Mismatch {
            op: self.op,
            what: format!("shape of operand {operand}"),
            expected,
            found,
        })
    }

    pub(crate) fn axis(&self, axis: usize, rank: usize) -> Checked {
        if axis < rank {
            return Ok(());
        }
        Err(self.attribute("axis", format!("is {axis}; rank is {rank}")))
    }

    pub(crate) fn attribute(&self, attribute: &'static str, problem: impl Into<String>) -> ShapeError {
        ShapeError::Attribute { op: self.op, attribute, problem: problem.into() }
    }

    /// An attribute with one entry an axis.
    pub(crate) fn length(&self, attribute: &'static str, found: usize, expected: usize) -> Checked {
        if found == expected {
            return Ok(());
        }
        Err(self.attribute(attribute, format!("has {found} entries; expected {expected}")))
    }

    /// The one dimension that two must be: the number if one of them is, otherwise the first.
    ///
    /// # Errors
    /// When they provably differ.
    pub(crate) fn unify(&self, what: impl Into<String>, expected: &Dim, found: &Dim) -> Checked<Dim> {
        if self.symbols.is_known_ne(expected, found) {
            return Err(self.mismatch(what, expected, found));
        }
        Ok(if found.as_static().is_some() { found.clone() } else { expected.clone() })
    }

    pub(crate) fn mismatch(&self, what: impl Into<String>, expected: &Dim, found: &Dim) -> ShapeError {
        let text = |d: &Dim| d.display(self.symbols).to_string();
        ShapeError::Mismatch { op: self.op, what: what.into(), expected: text(expected), found: text(found) }
    }

    /// A dimension given by an attribute is not provably negative.
    pub(crate) fn sizes(&self, attribute: &'static str, sizes: &[Dim]) -> Checked {
        if sizes.len() > MAX_RANK {
            return Err(self.attribute(attribute, format!("has {} axes; at most {MAX_RANK}", sizes.len())));
        }
        match sizes.iter().find(|d| self.symbols.range(d).max < 0) {
            None => Ok(()),
            Some(d) => Err(self.attribute(attribute, format!("has the size {}", d.display(self.symbols)))),
        }
    }

    pub(crate) fn shape_text(&self, shape: &Shape) -> String {
        crate::types::shape_text(shape, self.symbols)
    }

    /// The type itself, if it is not provably too large to ever hold.
    pub(crate) fn bounded(&self, ty: TensorType) -> Checked<TensorType> {
        let too_large = smallest_bytes(&ty, self.symbols).is_none_or(|bytes| bytes > MAX_TENSOR_BYTES);
        if too_large || ty.rank() > MAX_RANK {
            let ty = format!("{}{}", ty.dtype, self.shape_text(&ty.shape));
            return Err(ShapeError::TooLarge { op: self.op, ty });
        }
        if let Some(found) = ty.shape.iter().map(Dim::complexity).find(|&found| found > Dim::MAX_COMPLEXITY) {
            return Err(ShapeError::TooComplex { op: self.op, found });
        }
        Ok(ty)
    }
}

/// The fewest bytes a tensor of this type can take; `None` on overflow.
pub(crate) fn smallest_bytes(ty: &TensorType, symbols: &Symbols) -> Option<u64> {
    let mut elements = 1u64;
    let mut overflowed = false;
    for dim in &ty.shape {
        match u64::try_from(symbols.range(dim).min).unwrap_or(0) {
            0 => return Some(0),
            n => match elements.checked_mul(n) {
                Some(product) => elements = product,
                None => overflowed = true,
            },
        }
    }
    if overflowed { None } else { ty.dtype.bytes(elements) }
}
