//! The text form, read. Types are checked while reading, so an error is where it was made.

mod dims;
mod lexer;
mod ops;

use std::collections::HashMap;

use bytes::Bytes;

pub use lexer::Place;
use lexer::{Lexer, Token};

use crate::ops::{control, host};
use crate::verify::{MAX_REGION_DEPTH, same_type};
use crate::{
    DType, Definition, Dim, Graph, Node, NodeId, Op, Origin, Param, RegionId, Symbols, TensorType, Value,
    ValueId,
};

/// What is wrong with the text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {problem}", place.line, place.column)]
pub struct ParseError {
    pub place: Place,
    pub problem: String,
}

impl ParseError {
    fn new(place: Place, problem: impl Into<String>) -> Self {
        Self { place, problem: problem.into() }
    }
}

type Parsed<T> = Result<T, ParseError>;

/// Reads a graph whose weights all are printed with their data.
///
/// # Errors
/// The first problem of the text, with its line and column.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    parse_with_params(text, &mut |_| None)
}

/// Reads a graph; `data_of` gives the bytes of each weight, by name, that is printed without.
///
/// # Errors
/// As [`parse`].
pub fn parse_with_params(
    text: &str,
    data_of: &mut dyn FnMut(&str) -> Option<Bytes>,
) -> Result<Graph, ParseError> {
    let mut parser = Parser::new(text, Graph::new(""))?;
    parser.graph(data_of)?;
    Ok(parser.graph)
}

/// Reads one dimension, such as `2*batch + 1`, over symbols that exist.
///
/// # Errors
/// As [`parse`].
pub fn parse_dim(text: &str, symbols: &Symbols) -> Result<Dim, ParseError> {
    let graph = Graph { symbols: symbols.clone(), ..Graph::new("") };
    let mut parser = Parser::new(text, graph)?;
    let dim = parser.dim()?;
    parser.end().map(|()| dim)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    /// Where `token` starts.
    place: Place,
    graph: Graph,
    /// Values by number, while they can be used.
    values: HashMap<String, ValueId>,
    /// The keys of `values` in order of definition.
    defined: Vec<String>,
    params: HashMap<String, crate::ParamId>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, graph: Graph) -> Parsed<Self> {
        let mut lexer = Lexer::new(text);
        let (token, place) = lexer.next()?;
        Ok(Self {
            lexer,
            token,
            place,
            graph,
            values: HashMap::new(),
            defined: Vec::new(),
            params: HashMap::new(),
        })
    }

    fn graph(&mut self, data_of: &mut dyn FnMut(&str) -> Option<Bytes>) -> Parsed<()> {
        self.keyword("graph")?;
        self.graph.name = self.name()?;
        self.punctuation('{')?;
        loop {
            match &self.token {
                Token::Word(word) if word == "symbol" => self.symbol()?,
                Token::Word(word) if word == "string" => self.string()?,
                Token::Word(word) if word == "param" => self.param(data_of)?,
                _ => break,
            }
        }
        self.keyword("body")?;
        self.region(self.graph.body, 0)?;
        self.punctuation('}')?;
        self.end()
    }

    fn end(&self) -> Parsed<()> {
        if self.token == Token::End { Ok(()) } else { Err(self.expected("the end")) }
    }

    fn symbol(&mut self) -> Parsed<()> {
        self.keyword("symbol")?;
        let place = self.place;
        let name = self.name()?;
        if self.graph.symbols.find(&name).is_some() {
            return Err(ParseError::new(place, format!("symbol `{name}` is declared twice")));
        }
        let id = self.graph.symbols.named(&name);
        while let Token::Word(word) = &self.token {
            let field = match word.as_str() {
                "min" | "max" | "multiple" => word.clone(),
                _ => break,
            };
            self.advance()?;
            let value = self.integer()?;
            let symbol = self.graph.symbols.get_mut(id);
            match field.as_str() {
                "min" => symbol.min = value,
                "max" => symbol.max = value,
                _ => symbol.divisor = value,
            }
        }
        let symbol = self.graph.symbols.get(id);
        if symbol.min > symbol.max || symbol.divisor < 1 {
            return Err(ParseError::new(place, format!("symbol `{name}` has no possible value")));
        }
        Ok(())
    }

    /// `string "text"` or `string hex"ff"`; the order is that of handles.
    fn string(&mut self) -> Parsed<()> {
        self.keyword("string")?;
        let place = self.place;
        let text = match self.token {
            Token::Text(_) => self.text()?.into_bytes().into(),
            _ => self.hex()?,
        };
        let next = self.graph.strings.len();
        match self.graph.intern(&text) {
            Ok(handle) if handle == next => Ok(()),
            Ok(_) => Err(ParseError::new(place, "this string is declared twice")),
            Err(full) => Err(ParseError::new(place, full.to_string())),
        }
    }

    fn param(&mut self, data_of: &mut dyn FnMut(&str) -> Option<Bytes>) -> Parsed<()> {
        self.keyword("param")?;
        let place = self.place;
        self.punctuation('@')?;
        let name = self.name()?;
        self.punctuation(':')?;
        let ty = self.ty()?;
        let Some(shape) = ty.static_shape() else {
            return Err(ParseError::new(place, format!("param `{name}` has a symbolic size")));
        };
        let data = match self.accept('=')? {
            true => self.hex()?,
            false => data_of(&name).ok_or_else(|| {
                ParseError::new(place, format!("the data of param `{name}` is neither here nor given"))
            })?,
        };
        let param = Param { name: name.clone(), dtype: ty.dtype, shape, data };
        param.to_tensor().map_err(|e| ParseError::new(place, format!("param `{name}`: {e}")))?;
        let id = self.graph.add_param(param);
        match self.params.insert(name.clone(), id) {
            None => Ok(()),
            Some(_) => Err(ParseError::new(place, format!("param `{name}` is declared twice"))),
        }
    }

    /// `(%0 : f32[2], ...) { nodes yield %1, ... }`
    fn region(&mut self, region: RegionId, depth: usize) -> Parsed<()> {
        if depth > MAX_REGION_DEPTH {
            return Err(ParseError::new(self.place, format!("regions nest deeper than {MAX_REGION_DEPTH}")));
        }
        let outer = self.defined.len();
        self.punctuation('(')?;
        while !self.accept(')')? {
            let place = self.place;
            let (number, name) = self.definition()?;
            self.punctuation(':')?;
            let ty = self.ty()?;
            let input = self.graph.add_region_input(region, ty);
            self.graph.values[input.index()].name = name;
            self.define(place, number, input)?;
            if !self.accept(',')? && self.token != Token::Punctuation(')') {
                return Err(self.expected("`,` or `)`"));
            }
        }
        self.punctuation('{')?;
        while self.token == Token::Punctuation('%') {
            self.node(region, depth)?;
        }
        self.keyword("yield").map_err(|_| self.expected("a node or `yield`"))?;
        let outputs = self.uses()?;
        self.graph.set_outputs(region, outputs);
        self.punctuation('}')?;
        // What a region defines is not known after it.
        for number in self.defined.drain(outer..) {
            self.values.remove(&number);
        }
        Ok(())
    }

    /// `%2 "name", %3 = op %0, %1 attributes : types from "name" "Op" regions`
    fn node(&mut self, region: RegionId, depth: usize) -> Parsed<()> {
        let place = self.place;
        let mut results = Vec::new();
        loop {
            results.push((self.place, self.definition()?));
            if !self.accept(',')? {
                break;
            }
        }
        self.punctuation('=')?;
        let mnemonic_place = self.place;
        let mnemonic = self.word("an operation")?;
        let operands = self.uses()?;
        let attributes = self.attributes()?;
        self.punctuation(':')?;
        let mut types = vec![self.ty()?];
        while self.accept(',')? {
            types.push(self.ty()?);
        }
        let op = self.op(&mnemonic, mnemonic_place, attributes, &types)?;
        let origin = self.origin()?;
        let mut regions = Vec::new();
        while self.token == Token::Punctuation('(') {
            let nested = self.graph.add_region();
            self.region(nested, depth + 1)?;
            regions.push(nested);
        }
        if types.len() != results.len() {
            return Err(ParseError::new(place, format!("{} results, {} types", results.len(), types.len())));
        }
        let node = NodeId(self.graph.nodes.len() as u32);
        let mut ids = Vec::new();
        for (position, (ty, (place, (number, name)))) in types.into_iter().zip(results).enumerate() {
            let id = ValueId(self.graph.values.len() as u32);
            self.graph.values.push(Value { ty, name, definition: Definition::Result(node, position) });
            self.define(place, number, id)?;
            ids.push(id);
        }
        self.graph.nodes.push(Node { op, operands, results: ids, regions, origin });
        self.graph.regions[region.index()].nodes.push(node);
        self.check_types(node).map_err(|problem| ParseError::new(place, problem))
    }

    /// The types written are those that the operation gives.
    fn check_types(&self, node: NodeId) -> Result<(), String> {
        let graph = &self.graph;
        let node = graph.node(node);
        if node.op.is_control() {
            return control::check_results(graph, &node.op, &node.operands, &node.regions, &node.results)
                .map_err(|e| e.to_string());
        }
        if let Op::Host { results, .. } = &node.op {
            if results.len() != node.results.len() || !node.regions.is_empty() {
                return Err("`host` has as many results as types, and no regions".to_owned());
            }
            return host::check(graph, &node.op, &node.operands).map_err(|e| e.to_string());
        }
        let expected = graph.infer(&node.op, &node.operands).map_err(|e| e.to_string())?;
        let found = graph.ty(node.results[0]);
        if node.results.len() != 1 || !node.regions.is_empty() {
            return Err(format!("`{}` has one result and no regions", node.op.name()));
        }
        if !same_type(graph, &expected, found) {
            let (expected, found) = (expected.display(&graph.symbols), found.display(&graph.symbols));
            return Err(format!("`{}` gives {expected}; found {found}", node.op.name()));
        }
        Ok(())
    }

    fn origin(&mut self) -> Parsed<Option<Origin>> {
        if self.token != Token::Word("from".to_owned()) {
            return Ok(None);
        }
        self.advance()?;
        Ok(Some(Origin { name: self.text()?, op: self.text()? }))
    }

    /// `%0` or `%0 "name"`
    fn definition(&mut self) -> Parsed<(String, Option<String>)> {
        let number = self.value_number()?;
        let name = matches!(self.token, Token::Text(_)).then(|| self.text()).transpose()?;
        Ok((number, name))
    }

    fn define(&mut self, place: Place, number: String, id: ValueId) -> Parsed<()> {
        self.defined.push(number.clone());
        match self.values.insert(number.clone(), id) {
            None => Ok(()),
            Some(_) => Err(ParseError::new(place, format!("%{number} is defined twice"))),
        }
    }

    fn uses(&mut self) -> Parsed<Vec<ValueId>> {
        let mut uses = Vec::new();
        if self.token != Token::Punctuation('%') {
            return Ok(uses);
        }
        loop {
            let place = self.place;
            let number = self.value_number()?;
            match self.values.get(&number) {
                Some(&id) => uses.push(id),
                None => return Err(ParseError::new(place, format!("%{number} is not defined here"))),
            }
            if !self.accept(',')? {
                return Ok(uses);
            }
        }
    }

    fn value_number(&mut self) -> Parsed<String> {
        self.punctuation('%')?;
        match std::mem::replace(&mut self.token, Token::End) {
            Token::Number(number) => {
                self.advance()?;
                Ok(number)
            }
            other => {
                self.token = other;
                Err(self.expected("a value's number"))
            }
        }
    }

    /// `f32[batch, 768]`
    fn ty(&mut self) -> Parsed<TensorType> {
        let place = self.place;
        let name = self.word("a type")?;
        let Some(dtype) = DType::ALL.into_iter().find(|d| d.name() == name) else {
            return Err(ParseError::new(place, format!("`{name}` is no element type")));
        };
        let shape = self.dim_list()?;
        Ok(TensorType { dtype, shape })
    }

    /// `hex"00ff"`
    fn hex(&mut self) -> Parsed<Bytes> {
        self.keyword("hex")?;
        let place = self.place;
        let text = self.text()?;
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => {
                Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
            }
            _ => Err(ParseError::new(place, "bytes are written as pairs of hexadecimal digits")),
        }
    }

    fn advance(&mut self) -> Parsed<()> {
        (self.token, self.place) = self.lexer.next()?;
        Ok(())
    }

    fn expected(&self, what: &str) -> ParseError {
        ParseError::new(self.place, format!("expected {what}; found {}", self.token.describe()))
    }

    fn accept(&mut self, c: char) -> Parsed<bool> {
        let found = self.token == Token::Punctuation(c);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn punctuation(&mut self, c: char) -> Parsed<()> {
        if self.accept(c)? { Ok(()) } else { Err(self.expected(&format!("`{c}`"))) }
    }

    fn keyword(&mut self, keyword: &str) -> Parsed<()> {
        match &self.token {
            Token::Word(word) if word == keyword => self.advance(),
            _ => Err(self.expected(&format!("`{keyword}`"))),
        }
    }

    fn word(&mut self, what: &str) -> Parsed<String> {
        let Token::Word(word) = self.token.clone() else { return Err(self.expected(what)) };
        self.advance()?;
        Ok(word)
    }

    fn text(&mut self) -> Parsed<String> {
        let Token::Text(text) = self.token.clone() else { return Err(self.expected("quoted text")) };
        self.advance()?;
        Ok(text)
    }

    /// A bare word or quoted text.
    fn name(&mut self) -> Parsed<String> {
        match self.token {
            Token::Text(_) => self.text(),
            _ => self.word("a name"),
        }
    }

    fn integer(&mut self) -> Parsed<i64> {
        let (place, dim) = (self.place, self.dim()?);
        dim.as_static().ok_or_else(|| ParseError::new(place, "expected a number"))
    }
}
