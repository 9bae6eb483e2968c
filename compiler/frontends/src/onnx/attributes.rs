//! The attributes of a node, read by name and type. What an operator does not read, it does not support: leftovers
//! are found by [`Attributes::unread`] rather than silently ignored.

use std::cell::Cell;

use bytes::Bytes;

use super::proto::{AttributeProto, GraphProto, TensorProto};
use crate::Problem;

/// The values of ONNX's attribute discriminator.
mod kind {
    pub(super) const FLOAT: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const STRING: i32 = 3;
    pub(super) const TENSOR: i32 = 4;
    pub(super) const GRAPH: i32 = 5;
    pub(super) const FLOATS: i32 = 6;
    pub(super) const INTS: i32 = 7;
    pub(super) const STRINGS: i32 = 8;
}

pub(crate) struct Attributes<'a> {
    list: &'a [AttributeProto],
    read: Vec<Cell<bool>>,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(list: &'a [AttributeProto]) -> Self {
        Self { list, read: vec![Cell::new(false); list.len()] }
    }

    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, Problem> {
        Ok(self.find(name, kind::INT, "an integer")?.map(|a| a.i()))
    }

    pub(crate) fn int_or(&self, name: &str, default: i64) -> Result<i64, Problem> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer that stands for false or true.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        Ok(self.int_or(name, i64::from(default))? != 0)
    }

    pub(crate) fn float(&self, name: &str) -> Result<Option<f64>, Problem> {
        Ok(self.find(name, kind::FLOAT, "a float")?.map(|a| f64::from(a.f())))
    }

    /// A float; the default is in f32 too, as ONNX defines defaults.
    pub(crate) fn float_or(&self, name: &str, default: f32) -> Result<f64, Problem> {
        Ok(self.float(name)?.unwrap_or(f64::from(default)))
    }

    pub(crate) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Problem> {
        Ok(self.find(name, kind::INTS, "a list of integers")?.map(|a| a.ints.as_slice()))
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, Problem> {
        Ok(self.find(name, kind::FLOATS, "a list of floats")?.map(|a| a.floats.as_slice()))
    }

    /// The bytes of a string, which need not be UTF-8.
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<&'a [u8]>, Problem> {
        let attribute = self.find(name, kind::STRING, "a string")?;
        Ok(attribute.map(|attribute| attribute.s.as_deref().unwrap_or_default()))
    }

    /// The bytes of each string of a list.
    pub(crate) fn bytes_list(&self, name: &str) -> Result<Option<&'a [Bytes]>, Problem> {
        Ok(self.find(name, kind::STRINGS, "a list of strings")?.map(|a| a.strings.as_slice()))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        let Some(attribute) = self.find(name, kind::STRING, "a string")? else { return Ok(None) };
        match std::str::from_utf8(attribute.s.as_deref().unwrap_or_default()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Self::fault(name, "is not UTF-8")),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, Problem> {
        let Some(attribute) = self.find(name, kind::STRINGS, "a list of strings")? else { return Ok(None) };
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Self::fault(name, "is not UTF-8"));
        attribute.strings.iter().map(|bytes| text(bytes)).collect::<Result<_, _>>().map(Some)
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>, Problem> {
        match self.find(name, kind::TENSOR, "a tensor")? {
            Some(AttributeProto { t: Some(tensor), .. }) => Ok(Some(tensor)),
            Some(_) => Err(Self::fault(name, "holds no tensor")),
            None => Ok(None),
        }
    }

    pub(crate) fn graph(&self, name: &str) -> Result<&'a GraphProto, Problem> {
        self.optional_graph(name)?.ok_or_else(|| Self::fault(name, "is missing"))
    }

    /// As [`Self::graph`] for a graph that may be left out.
    pub(crate) fn optional_graph(&self, name: &str) -> Result<Option<&'a GraphProto>, Problem> {
        match self.find(name, kind::GRAPH, "a graph")? {
            Some(AttributeProto { g: Some(graph), .. }) => Ok(Some(graph)),
            Some(_) => Err(Self::fault(name, "holds no graph")),
            None => Ok(None),
        }
    }

    /// Marks attributes as read that do not change an inference result.
    pub(crate) fn ignore(&self, names: &[&str]) {
        for (attribute, read) in self.list.iter().zip(&self.read) {
            if names.contains(&attribute.name()) {
                read.set(true);
            }
        }
    }

    /// The attributes that nothing has asked for.
    pub(crate) fn unread(&self) -> Vec<&'a str> {
        self.list.iter().zip(&self.read).filter(|(_, read)| !read.get()).map(|(a, _)| a.name()).collect()
    }

    pub(crate) fn fault(name: &str, problem: impl Into<String>) -> Problem {
        Problem::Attribute { attribute: name.to_owned(), problem: problem.into() }
    }

    fn find(&self, name: &str, kind: i32, expected: &str) -> Result<Option<&'a AttributeProto>, Problem> {
        let mut found = self.list.iter().zip(&self.read).filter(|(a, _)| a.name() == name);
        let Some((attribute, read)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(Self::fault(name, "is given twice"));
        }
        read.set(true);
        match attribute.r#type() == kind {
            true => Ok(Some(attribute)),
            false => {
                Err(Self::fault(name, format!("is of type {}; expected {expected}", attribute.r#type())))
            }
        }
    }
}
