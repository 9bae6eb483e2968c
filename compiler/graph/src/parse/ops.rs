//! Operations in the text form: a name and attributes into an [`Op`].

use std::collections::HashMap;

use ired_host::{HostCall, StringTable};

use super::lexer::{Place, Token};
use super::{ParseError, Parsed, Parser};
use crate::{
    ArgReduceFn, BinaryFn, CompareFn, CumulativeFn, DType, Dim, Op, PadMode, ParamId, PoolFn, ReduceFn,
    ScatterFn, SymbolId, Tensor, TensorType, UnaryFn, Window,
};

/// What stands between an operation's operands and its type.
#[derive(Default)]
pub(super) struct Attributes {
    named: HashMap<String, (Place, Attribute)>,
    /// What stands alone: a literal's elements, a weight.
    alone: Option<(Place, Literal)>,
}

enum Attribute {
    List(Vec<Dim>),
    Word(String),
    Number(String),
    Text(String),
    Bytes(bytes::Bytes),
}

enum Literal {
    /// Signed numbers or words, each as written, with what they are as sizes.
    Elements(Vec<Element>),
    Bytes(bytes::Bytes),
    Param(ParamId),
}

struct Element {
    text: String,
    dim: Option<Dim>,
}

impl Parser<'_> {
    pub(super) fn attributes(&mut self) -> Parsed<Attributes> {
        let mut attributes = Attributes::default();
        loop {
            let place = self.place;
            match self.token.clone() {
                Token::Punctuation(':') => return Ok(attributes),
                Token::Punctuation('[') => {
                    attributes.alone = Some((place, Literal::Elements(self.elements()?)));
                }
                Token::Punctuation('@') => {
                    self.advance()?;
                    let name = self.name()?;
                    let id = self.params.get(&name).copied();
                    let id = id.ok_or_else(|| ParseError::new(place, format!("`{name}` is no param")))?;
                    attributes.alone = Some((place, Literal::Param(id)));
                }
                Token::Word(word) if word == "hex" => {
                    attributes.alone = Some((place, Literal::Bytes(self.hex()?)));
                }
                Token::Word(word) => {
                    self.advance()?;
                    self.punctuation('=')?;
                    let attribute = self.attribute()?;
                    if attributes.named.insert(word.clone(), (place, attribute)).is_some() {
                        return Err(ParseError::new(place, format!("attribute `{word}` is given twice")));
                    }
                }
                _ => return Err(self.expected("an attribute or `:`")),
            }
        }
    }

    fn attribute(&mut self) -> Parsed<Attribute> {
        match self.token.clone() {
            Token::Punctuation('[') => Ok(Attribute::List(self.dim_list()?)),
            Token::Word(word) if word == "hex" => Ok(Attribute::Bytes(self.hex()?)),
            Token::Word(word) => self.advance().map(|()| Attribute::Word(word)),
            Token::Text(text) => self.advance().map(|()| Attribute::Text(text)),
            Token::Number(number) => self.advance().map(|()| Attribute::Number(number)),
            _ => Err(self.expected("a list, a word, a number or text")),
        }
    }

    /// A flat list whose elements are numbers, `true`, `false` or sizes: the operation decides.
    fn elements(&mut self) -> Parsed<Vec<Element>> {
        self.punctuation('[')?;
        let mut elements = Vec::new();
        while !self.accept(']')? {
            elements.push(self.element()?);
            if !self.accept(',')? && self.token != Token::Punctuation(']') {
                return Err(self.expected("`,` or `]`"));
            }
        }
        Ok(elements)
    }

    fn element(&mut self) -> Parsed<Element> {
        let negative = self.accept('-')?;
        let token = self.token.clone();
        let signed = |text: &str| if negative { format!("-{text}") } else { text.to_owned() };
        let text = match token.clone() {
            // What can only be an element, of a constant.
            Token::Number(text) if signed(&text).parse::<i64>().is_err() => text,
            Token::Word(text) if text == "true" || text == "false" => text,
            // A string, where it is no symbol.
            Token::Text(text) if self.graph.symbols.find(&text).is_none() => text,
            _ => {
                let dim = self.dim_after_sign(negative)?;
                let text = match (dim.as_static(), token) {
                    (Some(value), _) => value.to_string(),
                    (None, Token::Text(text)) => text,
                    _ => String::new(),
                };
                return Ok(Element { text, dim: Some(dim) });
            }
        };
        self.advance()?;
        Ok(Element { text: signed(&text), dim: None })
    }

    /// The operation called `mnemonic`, whose results are of `types`, at least one.
    pub(super) fn op(
        &self,
        mnemonic: &str,
        place: Place,
        mut attributes: Attributes,
        types: &[TensorType],
    ) -> Parsed<Op> {
        let a = &mut attributes;
        let ty = &types[0];
        let op = match mnemonic {
            "constant" => Op::Constant(a.constant(place, ty, &self.graph.strings)?),
            "param" => Op::Param(a.param(place)?),
            "dims" => Op::Dims { values: a.dim_elements(place)?, shape: static_shape(place, ty)? },
            "iota" => Op::Iota { dtype: ty.dtype, shape: ty.shape.clone(), axis: a.number(place, "axis")? },
            "select" => Op::Select,
            "cast" => Op::Cast(ty.dtype),
            "bit_cast" => Op::BitCast(ty.dtype),
            "broadcast" => Op::Broadcast { shape: ty.shape.clone() },
            "reshape" => Op::Reshape { shape: ty.shape.clone() },
            "transpose" => Op::Transpose { perm: a.numbers(place, "perm")? },
            "slice" => Op::Slice {
                start: a.dims(place, "start")?,
                size: a.dims(place, "size")?,
                stride: a.numbers(place, "stride")?,
            },
            "concat" => Op::Concat { axis: a.number(place, "axis")? },
            "pad" => {
                Op::Pad { low: a.dims(place, "low")?, high: a.dims(place, "high")?, mode: a.mode(place)? }
            }
            "gather" => Op::Gather { axis: a.number(place, "axis")? },
            "gather_elements" => Op::GatherElements { axis: a.number(place, "axis")? },
            "gather_nd" => Op::GatherNd { batch_dims: a.number(place, "batch_dims")? },
            "sort" => Op::Sort { axis: a.number(place, "axis")?, descending: a.flag(place, "descending")? },
            "suppress_overlaps" => Op::SuppressOverlaps,
            "softmax" => Op::Softmax { axis: a.number(place, "axis")?, log: false },
            "log_softmax" => Op::Softmax { axis: a.number(place, "axis")?, log: true },
            "layer_norm" => {
                Op::LayerNorm { axis: a.number(place, "axis")?, epsilon: a.number(place, "epsilon")? }
            }
            "matmul" => Op::MatMul,
            "conv" => Op::Conv {
                window: a.window(place)?,
                groups: a.number(place, "groups")?,
                channels_last: a.flag(place, "channels_last")?,
            },
            "read_dims" => Op::ReadDims { symbols: a.symbols(place, "symbols")? },
            "host" => Op::Host {
                function: a.host_call(place)?,
                results: types.to_vec(),
                symbols: a.symbols(place, "symbols")?,
            },
            "if" => Op::If,
            "while" => Op::While,
            "repeat" => Op::Repeat { count: a.one(place, "count")?, index: a.symbol(place, "index")? },
            _ => a.function(mnemonic, place)?,
        };
        a.finish().map(|()| op)
    }
}

fn by_name<T: Copy>(all: &[T], name: fn(T) -> &'static str, wanted: &str) -> Option<T> {
    all.iter().copied().find(|f| name(*f) == wanted)
}

fn static_shape(place: Place, ty: &TensorType) -> Parsed<Vec<u64>> {
    ty.static_shape().ok_or_else(|| ParseError::new(place, "expected a type without symbols"))
}

impl Attributes {
    /// An operation that is one of a family of functions.
    fn function(&mut self, mnemonic: &str, place: Place) -> Parsed<Op> {
        if let Some(f) = by_name(UnaryFn::ALL, UnaryFn::name, mnemonic) {
            return Ok(Op::Unary(f));
        }
        if let Some(f) = by_name(BinaryFn::ALL, BinaryFn::name, mnemonic) {
            return Ok(Op::Binary(f));
        }
        if let Some(f) = by_name(CompareFn::ALL, CompareFn::name, mnemonic) {
            return Ok(Op::Compare(f));
        }
        if let Some(function) = by_name(ReduceFn::ALL, ReduceFn::name, mnemonic) {
            return Ok(Op::Reduce { function, axes: self.numbers(place, "axes")? });
        }
        if let Some(function) = by_name(ScatterFn::ALL, ScatterFn::name, mnemonic) {
            return Ok(Op::ScatterNd { function });
        }
        if let Some(function) = by_name(CumulativeFn::ALL, CumulativeFn::name, mnemonic) {
            return Ok(Op::Cumulative {
                function,
                axis: self.number(place, "axis")?,
                exclusive: self.flag(place, "exclusive")?,
                reverse: self.flag(place, "reverse")?,
            });
        }
        if let Some(function) = by_name(ArgReduceFn::ALL, ArgReduceFn::name, mnemonic) {
            let (axis, last_on_tie) = (self.number(place, "axis")?, self.flag(place, "last_on_tie")?);
            return Ok(Op::ArgReduce { function, axis, last_on_tie });
        }
        if let Some(function) = by_name(PoolFn::ALL, PoolFn::name, mnemonic) {
            return Ok(Op::Pool {
                function,
                window: self.window(place)?,
                include_pad: self.flag(place, "include_pad")?,
                channels_last: self.flag(place, "channels_last")?,
            });
        }
        Err(ParseError::new(place, format!("`{mnemonic}` is no operation")))
    }

    fn finish(&mut self) -> Parsed<()> {
        let left =
            self.named.iter().map(|(name, (place, _))| (*place, format!("no attribute `{name}` here")));
        let left = left.chain(self.alone.iter().map(|(place, _)| (*place, "no literal here".to_owned())));
        match left.min_by_key(|(place, _)| (place.line, place.column)) {
            None => Ok(()),
            Some((place, problem)) => Err(ParseError::new(place, problem)),
        }
    }

    fn take(&mut self, place: Place, name: &str) -> Parsed<(Place, Attribute)> {
        let found = self.named.remove(name);
        found.ok_or_else(|| ParseError::new(place, format!("attribute `{name}` is missing")))
    }

    fn dims(&mut self, place: Place, name: &str) -> Parsed<Vec<Dim>> {
        match self.take(place, name)? {
            (_, Attribute::List(dims)) => Ok(dims),
            (place, _) => Err(ParseError::new(place, format!("`{name}` is a list"))),
        }
    }

    /// A list of one size.
    fn one(&mut self, place: Place, name: &str) -> Parsed<Dim> {
        let mut dims = self.dims(place, name)?;
        match (dims.pop(), dims.len()) {
            (Some(dim), 0) => Ok(dim),
            _ => Err(ParseError::new(place, format!("`{name}` is a list of one size"))),
        }
    }

    fn symbol(&mut self, place: Place, name: &str) -> Parsed<SymbolId> {
        let symbol = self.one(place, name)?.as_symbol();
        symbol.ok_or_else(|| ParseError::new(place, format!("`{name}` is a list of one symbol")))
    }

    fn symbols(&mut self, place: Place, name: &str) -> Parsed<Vec<SymbolId>> {
        let symbols: Option<Vec<SymbolId>> = self.dims(place, name)?.iter().map(Dim::as_symbol).collect();
        symbols.ok_or_else(|| ParseError::new(place, format!("`{name}` is a list of symbols")))
    }

    fn host_call(&mut self, place: Place) -> Parsed<HostCall> {
        let function = match self.take(place, "function")? {
            (_, Attribute::Text(name)) => name,
            (place, _) => return Err(ParseError::new(place, "`function` is text")),
        };
        match self.take(place, "attributes")? {
            (_, Attribute::Bytes(attributes)) => Ok(HostCall { function, attributes: attributes.to_vec() }),
            (place, _) => Err(ParseError::new(place, "`attributes` are bytes")),
        }
    }

    fn numbers<T: TryFrom<i64>>(&mut self, place: Place, name: &str) -> Parsed<Vec<T>> {
        let number = |d: Dim| d.as_static().and_then(|v| T::try_from(v).ok());
        let numbers: Option<Vec<T>> = self.dims(place, name)?.into_iter().map(number).collect();
        numbers.ok_or_else(|| ParseError::new(place, format!("`{name}` is a list of numbers in range")))
    }

    fn number<T: std::str::FromStr>(&mut self, place: Place, name: &str) -> Parsed<T> {
        match self.take(place, name)? {
            (_, Attribute::Number(text)) if let Ok(value) = text.parse() => Ok(value),
            (place, _) => Err(ParseError::new(place, format!("`{name}` is a number"))),
        }
    }

    fn flag(&mut self, place: Place, name: &str) -> Parsed<bool> {
        match self.take(place, name)? {
            (_, Attribute::Word(word)) if let Ok(value) = word.parse() => Ok(value),
            (place, _) => Err(ParseError::new(place, format!("`{name}` is true or false"))),
        }
    }

    fn mode(&mut self, place: Place) -> Parsed<PadMode> {
        match self.take(place, "mode")? {
            (_, Attribute::Word(word)) if let Some(mode) = by_name(PadMode::ALL, PadMode::name, &word) => {
                Ok(mode)
            }
            (place, _) => Err(ParseError::new(place, "no such padding")),
        }
    }

    fn window(&mut self, place: Place) -> Parsed<Window> {
        Ok(Window {
            extent: self.numbers(place, "extent")?,
            stride: self.numbers(place, "stride")?,
            dilation: self.numbers(place, "dilation")?,
            pad_low: self.numbers(place, "pad_low")?,
            pad_high: self.numbers(place, "pad_high")?,
            ceil: self.flag(place, "ceil")?,
        })
    }

    fn literal(&mut self, place: Place) -> Parsed<(Place, Literal)> {
        self.alone.take().ok_or_else(|| ParseError::new(place, "a literal is missing"))
    }

    fn param(&mut self, place: Place) -> Parsed<ParamId> {
        match self.literal(place)? {
            (_, Literal::Param(id)) => Ok(id),
            (place, _) => Err(ParseError::new(place, "expected a weight, `@name`")),
        }
    }

    fn dim_elements(&mut self, place: Place) -> Parsed<Vec<Dim>> {
        let (place, literal) = self.literal(place)?;
        let dims = match literal {
            Literal::Elements(elements) => elements.into_iter().map(|e| e.dim).collect(),
            _ => None,
        };
        dims.ok_or_else(|| ParseError::new(place, "expected a list of sizes"))
    }

    fn constant(&mut self, place: Place, ty: &TensorType, strings: &StringTable) -> Parsed<Tensor> {
        let shape = static_shape(place, ty)?;
        let (place, literal) = self.literal(place)?;
        let data = match literal {
            Literal::Bytes(data) => data,
            Literal::Elements(elements) => list_data(place, ty.dtype, &shape, &elements, strings)?,
            Literal::Param(_) => {
                return Err(ParseError::new(place, format!("expected a list of {} elements", ty.dtype)));
            }
        };
        Tensor::new(ty.dtype, shape, data).map_err(|e| ParseError::new(place, e.to_string()))
    }
}

/// The data of a constant whose elements are listed, those of a complex one part by part.
fn list_data(
    place: Place,
    dtype: DType,
    shape: &[u64],
    elements: &[Element],
    strings: &StringTable,
) -> Parsed<bytes::Bytes> {
    let listed = dtype.part().unwrap_or(dtype);
    let parts = if dtype.is_complex() { 2 } else { 1 };
    let bits = |e: &Element| match dtype {
        DType::String => strings.find(e.text.as_bytes()).map(u128::from),
        _ => element_bits(&e.text, listed),
    };
    let Some(bits) = elements.iter().map(bits).collect::<Option<Vec<u128>>>() else {
        return Err(ParseError::new(place, format!("expected a list of {listed} elements")));
    };
    let found = bits.len() as u64;
    if crate::tensor::element_count(shape).and_then(|count| count.checked_mul(parts)) != Some(found) {
        return Err(ParseError::new(place, format!("{found} elements do not fill {shape:?}")));
    }
    Ok(Tensor::from_bits(listed, &[found], &bits).data().clone())
}

/// The bits of one element as it is written; `None` if it is no element of `dtype`.
fn element_bits(text: &str, dtype: DType) -> Option<u128> {
    let one = match dtype {
        DType::Bool => Tensor::from_bools(&[1], &[text.parse().ok()?]),
        _ if !dtype.holds_integers() => match text.strip_prefix("0x") {
            Some(digits) => return u128::from_str_radix(digits, 16).ok(),
            // Narrow floats are written as the f32 they equal.
            None if dtype == DType::F64 => Tensor::from_f64s(dtype, &[1], &[text.parse().ok()?]),
            None => Tensor::from_f64s(dtype, &[1], &[f64::from(text.parse::<f32>().ok()?)]),
        },
        _ => {
            let value: i128 = text.parse().ok()?;
            let (min, max) = crate::tensor::integer_limits(dtype);
            (min..=max).contains(&value).then(|| Tensor::from_integers(dtype, &[1], &[value]))?
        }
    };
    one.to_bits().first().copied()
}
