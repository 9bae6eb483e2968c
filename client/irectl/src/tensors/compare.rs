//! How a result differs from what was expected.

use half::{bf16, f16};
use ired_module::DType;
use ired_module::texts::Texts;

use super::{NamedTensor, narrow};

/// How close floats must be: `|found - expected| <= absolute + relative * |expected|`, as NumPy's `allclose`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) relative: f64,
    /// `None` is `relative` times the largest finite magnitude that is expected of the tensor.
    pub(crate) absolute: Option<f64>,
}

/// What is wrong with a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Difference {
    DType(String),
    Shape(String),
    Value(String),
}

/// `None` when `found` is what was expected. Integers and bools must be equal; NaN equals NaN.
pub(crate) fn difference(
    found: &NamedTensor,
    expected: &NamedTensor,
    within: Tolerance,
) -> Option<Difference> {
    let name = &expected.name;
    if found.dtype != expected.dtype {
        return Some(Difference::DType(format!("`{name}` is {}; expected {}", found.dtype, expected.dtype)));
    }
    if found.dims != expected.dims {
        let text = format!("`{name}` is {}; expected {}", found.type_text(), expected.type_text());
        return Some(Difference::Shape(text));
    }
    let value = match floats(found).zip(floats(expected)) {
        Some((numbers, expected)) => {
            let complex = matches!(found.dtype, DType::C64 | DType::C128);
            float_difference(&numbers, &expected, if complex { "parts" } else { "elements" }, within)
        }
        None => exact_difference(found, expected),
    };
    value.map(|text| Difference::Value(format!("`{name}`: {text}")))
}

fn exact_difference(found: &NamedTensor, expected: &NamedTensor) -> Option<String> {
    if found.data == expected.data {
        return None;
    }
    if found.dtype == DType::String {
        let texts = |tensor: &NamedTensor| -> Vec<String> {
            Texts::new(&tensor.data).map(|text| format!("{:?}", String::from_utf8_lossy(text))).collect()
        };
        let (found, expected) = (texts(found), texts(expected));
        let first = found.iter().zip(&expected).position(|(f, e)| f != e)?;
        return Some(format!("element {first} is {}; expected {}", found[first], expected[first]));
    }
    // Those of several elements a byte take one each here; the bits after the last element mean nothing.
    let elements = |tensor: &NamedTensor| match tensor.dtype.bits() {
        2 | 4 => narrow::codes(tensor).collect(),
        _ => tensor.data.to_vec(),
    };
    let (found_data, expected_data) = (elements(found), elements(expected));
    let width = (found.dtype.bits() as usize).div_ceil(8);
    let pairs = || found_data.chunks(width).zip(expected_data.chunks(width));
    let wrong = pairs().filter(|(f, e)| f != e).count();
    let first = pairs().position(|(f, e)| f != e)?;
    Some(format!("{wrong} of {} elements differ, the first at {first}", found.element_count()))
}

fn float_difference(found: &[f64], expected: &[f64], what: &str, within: Tolerance) -> Option<String> {
    let largest = expected.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let absolute = within.absolute.unwrap_or(within.relative * largest);
    let close = |f: f64, e: f64| {
        let near = e.is_finite() && (f - e).abs() <= absolute + within.relative * e.abs();
        f == e || (f.is_nan() && e.is_nan()) || near
    };
    let wrong = found.iter().zip(expected).filter(|&(&f, &e)| !close(f, e)).count();
    if wrong == 0 {
        return None;
    }
    let error = |i: usize| (found[i] - expected[i]).abs();
    let worst = (0..found.len())
        .filter(|&i| !close(found[i], expected[i]))
        .max_by(|&a, &b| error(a).total_cmp(&error(b)))
        .unwrap_or(0);
    Some(format!(
        "{wrong} of {} {what} differ, the worst at {worst}: found {}, expected {} (largest expected {largest})",
        found.len(),
        found[worst],
        expected[worst],
    ))
}

/// The elements as f64, if they are floats; of complex numbers the parts.
fn floats(tensor: &NamedTensor) -> Option<Vec<f64>> {
    let data = &tensor.data;
    Some(match tensor.dtype {
        DType::F64 | DType::C128 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        DType::F32 | DType::C64 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        DType::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).into()).collect(),
        DType::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).into()).collect(),
        _ => return narrow::floats(tensor),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> NamedTensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        NamedTensor {
            name: "y".into(),
            dtype: DType::F32,
            dims: vec![values.len() as u64],
            data: data.into(),
        }
    }

    const WITHIN: Tolerance = Tolerance { relative: 1e-3, absolute: Some(1e-6) };

    #[test]
    fn close_values_and_equal_nans_pass() {
        let expected = tensor(&[1.0, f32::NAN, f32::INFINITY, 0.0]);
        assert_eq!(difference(&tensor(&[1.0005, f32::NAN, f32::INFINITY, 1e-7]), &expected, WITHIN), None);
    }

    #[test]
    fn a_nan_for_a_number_fails() {
        let wrong = difference(&tensor(&[f32::NAN]), &tensor(&[1.0]), WITHIN);
        assert!(matches!(wrong, Some(Difference::Value(_))), "{wrong:?}");
    }

    #[test]
    fn narrow_elements_are_compared_one_by_one() {
        let packed = |dtype, dims: u64, data: &'static [u8]| NamedTensor {
            name: "y".into(),
            dtype,
            dims: vec![dims],
            data: data.into(),
        };
        let i2 = |data| packed(DType::I2, 3, data);
        assert_eq!(difference(&i2(&[0b00_01_10_11]), &i2(&[0b11_01_10_11]), WITHIN), None);
        let wrong = difference(&i2(&[0b01_10_11]), &i2(&[0b01_11_11]), WITHIN);
        assert_eq!(wrong, Some(Difference::Value("`y`: 1 of 3 elements differ, the first at 1".to_owned())));
        let f8 = |data| packed(DType::F8E4M3FN, 2, data);
        assert_eq!(difference(&f8(&[0x7f, 0x38]), &f8(&[0xff, 0x38]), WITHIN), None);
        assert!(difference(&f8(&[0x7f, 0x38]), &f8(&[0x7f, 0x39]), WITHIN).is_some());
    }

    #[test]
    fn complex_numbers_are_close_where_both_parts_are() {
        let complex = |parts: &[f32]| NamedTensor { dtype: DType::C64, dims: vec![1], ..tensor(parts) };
        assert_eq!(difference(&complex(&[1.0, f32::NAN]), &complex(&[1.0005, f32::NAN]), WITHIN), None);
        let wrong = difference(&complex(&[1.0, 2.0]), &complex(&[1.0, 2.5]), WITHIN);
        let text = "`y`: 1 of 2 parts differ, the worst at 1: found 2, expected 2.5 (largest expected 2.5)";
        assert_eq!(wrong, Some(Difference::Value(text.to_owned())));
    }

    #[test]
    fn the_worst_element_is_named() {
        let Some(Difference::Value(text)) =
            difference(&tensor(&[1.0, 2.0, 9.0]), &tensor(&[1.0, 2.5, 3.0]), WITHIN)
        else {
            panic!("values differ")
        };
        assert!(
            text.starts_with("`y`: 2 of 3 elements differ, the worst at 2: found 9, expected 3"),
            "{text}"
        );
    }

    #[test]
    fn infinity_is_not_close_to_a_number() {
        assert!(difference(&tensor(&[f32::INFINITY]), &tensor(&[1.0]), WITHIN).is_some());
        assert!(difference(&tensor(&[1.0]), &tensor(&[f32::INFINITY]), WITHIN).is_some());
    }

    #[test]
    fn shape_and_dtype_come_before_values() {
        let mut other = tensor(&[1.0, 2.0]);
        assert!(matches!(difference(&other, &tensor(&[1.0]), WITHIN), Some(Difference::Shape(_))));
        other.dtype = DType::I32;
        assert!(matches!(difference(&other, &tensor(&[1.0]), WITHIN), Some(Difference::DType(_))));
    }
}
