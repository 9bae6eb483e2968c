//! JSON strings into the layout that strings travel in, and back.

use std::fmt;

use ired_module::texts::{self, Texts};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use super::DEPTH;
use crate::error::Error;

pub(super) fn parse(tensor: &str, elements: u64, text: &str) -> Result<Vec<u8>, Error> {
    let mut found = Found { bytes: Vec::new(), count: 0, elements };
    let mut json = serde_json::Deserializer::from_str(text);
    let outcome = Level { found: &mut found, depth: 0 }.deserialize(&mut json);
    outcome.map_err(|error| Error::invalid(format!("input `{tensor}`: {error}")))?;
    if found.count != elements {
        let message = format!("`data` has {} values, its shape needs {elements}", found.count);
        return Err(Error::invalid(format!("input `{tensor}`: {message}")));
    }
    Ok(found.bytes)
}

struct Found {
    bytes: Vec<u8>,
    count: u64,
    elements: u64,
}

/// A string, or an array of what is one level further in.
struct Level<'f> {
    found: &'f mut Found,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom("`data` is not an array"));
        }
        self.found.count += 1;
        if self.found.count > self.found.elements {
            let elements = self.found.elements;
            return Err(E::custom(format!("`data` has more values than the {elements} of its shape")));
        }
        match texts::push(&mut self.found.bytes, text.as_bytes()) {
            true => Ok(()),
            false => Err(E::custom(format!("a string of {} bytes", text.len()))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        if depth > DEPTH {
            return Err(A::Error::custom(format!("`data` is nested deeper than {DEPTH}")));
        }
        while items.next_element_seed(Level { found: &mut *self.found, depth })?.is_some() {}
        Ok(())
    }
}

pub(super) fn write(tensor: &str, data: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    out.push(b'[');
    for (at, text) in Texts::new(data).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let written =
            std::str::from_utf8(text).ok().and_then(|text| serde_json::to_writer(&mut *out, text).ok());
        if written.is_none() {
            let message = "holds a string that is not UTF-8, which JSON cannot express; ask for binary data";
            return Err(Error::invalid(format!("output `{tensor}` {message}")));
        }
    }
    out.push(b']');
    Ok(())
}
