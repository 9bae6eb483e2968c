//! How many values of JSON there are along each dimension of nested arrays.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use super::DEPTH;

/// None for a single value.
pub(super) struct Shape(pub(super) Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a boolean, a text, or arrays of them of equal length")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape(Vec::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape(Vec::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape(Vec::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape(Vec::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut row: Option<Shape> = None;
        let mut length = 0;
        while let Some(item) = items.next_element::<Shape>()? {
            if row.as_ref().is_some_and(|row| row.0 != item.0) {
                return Err(A::Error::custom("arrays beside each other are of different shapes"));
            }
            row = Some(item);
            length += 1;
        }
        let mut dims = row.map_or_else(Vec::new, |row| row.0);
        if dims.len() == DEPTH {
            return Err(A::Error::custom(format!("it is nested deeper than {DEPTH}")));
        }
        dims.insert(0, length);
        Ok(Shape(dims))
    }
}
