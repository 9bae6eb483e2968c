//! Whether two tensors are the same within a tolerance, and where they are not.

use std::fmt;

use half::{bf16, f16};
use ired_module::DType;
use ired_module::texts::Texts;
use ired_worker::Tensor;

use crate::tensors::datatype;

/// How far a number may be from the expected one: `absolute + relative * |expected|`. Both 0: it is equal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tolerance {
    pub absolute: f64,
    pub relative: f64,
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.absolute, self.relative) {
            (0.0, 0.0) => write!(f, "exactly"),
            (absolute, 0.0) => write!(f, "within {absolute}"),
            (absolute, relative) => write!(f, "within {absolute} + {relative} of it"),
        }
    }
}

/// The first thing in which an output is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    output: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Missing,
    Type { found: &'static str, expected: &'static str },
    Shape { found: Vec<u64>, expected: Vec<u64> },
    Element { at: Vec<u64>, found: String, expected: String, tolerance: Tolerance },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "output `{}`", self.output)?;
        match &self.what {
            What::Missing => write!(f, " is missing"),
            What::Type { found, expected } => write!(f, ": found {found}, expected {expected}"),
            What::Shape { found, expected } => write!(f, ": found shape {found:?}, expected {expected:?}"),
            What::Element { at, found, expected, tolerance } => {
                write!(f, ", element {at:?}: found {found}, expected {expected} {tolerance}")
            }
        }
    }
}

/// The first difference between outputs; those that are not expected do not matter.
pub(super) fn difference(found: &[Tensor], expected: &[Tensor], tolerance: Tolerance) -> Option<Difference> {
    let one = |expected: &Tensor| {
        let Some(found) = found.iter().find(|tensor| tensor.name == expected.name) else {
            return Some(What::Missing);
        };
        if found.dtype != expected.dtype {
            return Some(What::Type { found: datatype(found.dtype), expected: datatype(expected.dtype) });
        }
        if found.dims != expected.dims {
            return Some(What::Shape { found: found.dims.clone(), expected: expected.dims.clone() });
        }
        let (at, found, expected) = element(found, expected, tolerance)?;
        Some(What::Element { at, found, expected, tolerance })
    };
    expected.iter().find_map(|tensor| Some(Difference { output: tensor.name.clone(), what: one(tensor)? }))
}

/// The first element that differs, and both values.
fn element(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Option<(Vec<u64>, String, String)> {
    let (a, b) = (&found.data[..], &expected.data[..]);
    let differs = match found.dtype {
        DType::Bool | DType::U8 => numbers(a, b, tolerance, |[byte]| i128::from(byte)),
        DType::I8 => numbers(a, b, tolerance, |b| i128::from(i8::from_le_bytes(b))),
        DType::I16 => numbers(a, b, tolerance, |b| i128::from(i16::from_le_bytes(b))),
        DType::I32 => numbers(a, b, tolerance, |b| i128::from(i32::from_le_bytes(b))),
        DType::I64 => numbers(a, b, tolerance, |b| i128::from(i64::from_le_bytes(b))),
        DType::U16 => numbers(a, b, tolerance, |b| i128::from(u16::from_le_bytes(b))),
        DType::U32 => numbers(a, b, tolerance, |b| i128::from(u32::from_le_bytes(b))),
        DType::U64 => numbers(a, b, tolerance, |b| i128::from(u64::from_le_bytes(b))),
        DType::F16 => numbers(a, b, tolerance, |b| f16::from_le_bytes(b).to_f64()),
        DType::BF16 => numbers(a, b, tolerance, |b| bf16::from_le_bytes(b).to_f64()),
        DType::F32 => numbers(a, b, tolerance, |b| f64::from(f32::from_le_bytes(b))),
        DType::F64 => numbers(a, b, tolerance, f64::from_le_bytes),
        DType::String => strings(a, b),
        // Of types that are no whole bytes or have no numbers here, every bit counts.
        _ => (a != b).then(|| {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
            (at, "other bytes".to_owned(), "the same".to_owned())
        }),
    };
    differs.map(|(at, found, expected_value)| (index(at as u64, &expected.dims), found, expected_value))
}

/// What can be compared within a tolerance.
trait Number: Copy + PartialEq + fmt::Display {
    fn is_near(self, expected: Self, tolerance: Tolerance) -> bool;
}

impl Number for f64 {
    fn is_near(self, expected: Self, tolerance: Tolerance) -> bool {
        // Infinities are near themselves only.
        let bound = tolerance.absolute + tolerance.relative * expected.abs();
        self == expected
            || self.is_nan() && expected.is_nan()
            || self.is_finite() && expected.is_finite() && (self - expected).abs() <= bound
    }
}

impl Number for i128 {
    fn is_near(self, expected: Self, tolerance: Tolerance) -> bool {
        // As floats they might be equal where they are not.
        (self - expected).abs() as f64 <= tolerance.absolute + tolerance.relative * expected.abs() as f64
    }
}

fn numbers<T: Number, const N: usize>(
    found: &[u8],
    expected: &[u8],
    tolerance: Tolerance,
    read: impl Fn([u8; N]) -> T,
) -> Option<(usize, String, String)> {
    let (found, expected) = (found.as_chunks::<N>().0, expected.as_chunks::<N>().0);
    let pairs = found.iter().zip(expected).map(|(found, expected)| (read(*found), read(*expected)));
    let mut differing =
        pairs.enumerate().filter(|(_, (found, expected))| !found.is_near(*expected, tolerance));
    differing.next().map(|(at, (found, expected))| (at, found.to_string(), expected.to_string()))
}

fn strings(found: &[u8], expected: &[u8]) -> Option<(usize, String, String)> {
    let shown = |text: &[u8]| format!("`{}`", crate::error::shown(&String::from_utf8_lossy(text)));
    let mut pairs = Texts::new(found).zip(Texts::new(expected)).enumerate();
    pairs.find(|(_, (a, b))| a != b).map(|(at, (a, b))| (at, shown(a), shown(b)))
}

/// Where the element with this number is.
fn index(mut at: u64, dims: &[u64]) -> Vec<u64> {
    let mut index: Vec<u64> = dims
        .iter()
        .rev()
        .map(|&size| {
            let (this, rest) = (at % size.max(1), at / size.max(1));
            at = rest;
            this
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dtype: DType, dims: &[u64], data: &[u8]) -> Tensor {
        Tensor { name: "y".to_owned(), dtype, dims: dims.to_vec(), data: data.to_vec().into() }
    }

    fn floats(values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor(DType::F32, &[values.len() as u64 / 2, 2], &data)
    }

    fn text(found: Tensor, expected: Tensor, absolute: f64, relative: f64) -> String {
        let found = difference(&[found], &[expected], Tolerance { absolute, relative });
        found.map(|difference| difference.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_first_element_that_is_too_far_away_is_told() {
        let expected = || floats(&[1.0, 2.0, 4.0, f32::NAN]);
        assert_eq!(text(expected(), expected(), 0.0, 0.0), "");
        let found = || floats(&[1.0, 2.0, 4.5, f32::NAN]);
        let told = "output `y`, element [1, 0]: found 4.5, expected 4 ";
        assert_eq!(text(found(), expected(), 0.0, 0.0), format!("{told}exactly"));
        assert_eq!(text(found(), expected(), 0.25, 0.0), format!("{told}within 0.25"));
        assert_eq!(text(found(), expected(), 0.25, 0.01), format!("{told}within 0.25 + 0.01 of it"));
        assert_eq!(text(found(), expected(), 0.25, 0.0625), "");
        assert_eq!(text(found(), expected(), 0.5, 0.0), "");
        let infinite = || floats(&[f32::INFINITY, 0.0]);
        assert_eq!(text(infinite(), infinite(), 0.0, 0.0), "");
        assert!(text(floats(&[1e30, 0.0]), infinite(), 1e30, 1.0).contains("expected inf"));
        assert!(text(floats(&[f32::NAN, 0.0]), floats(&[0.0, 0.0]), 9.0, 9.0).contains("found NaN"));
    }

    #[test]
    fn types_shapes_integers_and_strings_are_told_apart() {
        let bytes = |data: &[u8]| tensor(DType::U8, &[data.len() as u64], data);
        assert_eq!(text(bytes(&[1, 9]), bytes(&[1, 8]), 1.0, 0.0), "");
        assert!(text(bytes(&[1, 9]), bytes(&[1, 8]), 0.5, 0.0).contains("element [1]: found 9, expected 8"));
        let long = |value: i64| tensor(DType::I64, &[], &value.to_le_bytes());
        assert!(
            text(long(i64::MAX), long(i64::MAX - 1), 0.0, 0.0)
                .contains("element []: found 9223372036854775807")
        );
        assert!(text(bytes(&[1]), bytes(&[1, 2]), 0.0, 0.0).contains("found shape [1], expected [2]"));
        assert!(text(bytes(&[1; 8]), long(1), 0.0, 0.0).contains("found UINT8, expected INT64"));
        let strings = |data: &[u8]| tensor(DType::String, &[2], data);
        let told = text(strings(b"\x01\0\0\0a\x01\0\0\0b"), strings(b"\x01\0\0\0a\x01\0\0\0c"), 1.0, 1.0);
        assert!(told.contains("element [1]: found `b`, expected `c`"), "{told}");
        assert!(
            difference(&[], &[long(1)], Tolerance::default()).unwrap().to_string().ends_with("is missing")
        );
    }
}
