//! Scores as the classes that have the highest: the classification extension.

use std::cmp::Ordering;

use half::{bf16, f16};
use ired_module::{DType, texts};
use ired_worker::Tensor;

use crate::error::Error;

/// The `count` highest scores of an output, as strings `SCORE:INDEX`, or `SCORE:INDEX:NAME` where `names` has one for the
/// index; the highest first and equal ones by index. NaN comes last. With `by_row` those of each row, which is what its
/// first dimension counts, else of all elements.
///
/// # Errors
/// [`Error::Invalid`] for an output that is not of numbers.
pub fn classify(scores: &Tensor, count: u64, by_row: bool, names: &[String]) -> Result<Tensor, Error> {
    let rows = match scores.dims.first() {
        Some(&rows) if by_row => Some(rows),
        _ => None,
    };
    let (dtype, data) = (scores.dtype, &scores.data[..]);
    let mut classes = Classes { rows: rows.unwrap_or(1), count, names, packed: Vec::new() };
    let shown = match dtype {
        DType::I8 => classes.of(data, i8::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::I16 => classes.of(data, i16::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::I32 => classes.of(data, i32::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::I64 => classes.of(data, i64::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::U8 => classes.of(data, u8::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::U16 => classes.of(data, u16::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::U32 => classes.of(data, u32::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::U64 => classes.of(data, u64::from_le_bytes, Ord::cmp, |v| v.to_string()),
        DType::F16 => classes.of(data, |b| f16::from_le_bytes(b).to_f64(), by_score, six_digits),
        DType::BF16 => classes.of(data, |b| bf16::from_le_bytes(b).to_f64(), by_score, six_digits),
        DType::F32 => classes.of(data, |b| f64::from(f32::from_le_bytes(b)), by_score, six_digits),
        DType::F64 => classes.of(data, f64::from_le_bytes, by_score, six_digits),
        _ => {
            let (name, datatype) = (&scores.name, super::datatype(dtype));
            return Err(Error::invalid(format!(
                "output `{name}`: {datatype} has no classes, only numbers have"
            )));
        }
    };
    Ok(Tensor {
        name: scores.name.clone(),
        dtype: DType::String,
        dims: rows.into_iter().chain([shown]).collect(),
        data: classes.packed.into(),
    })
}

struct Classes<'a> {
    rows: u64,
    count: u64,
    names: &'a [String],
    packed: Vec<u8>,
}

impl Classes<'_> {
    /// Adds the classes of every row; gives how many each has.
    fn of<T, const N: usize>(
        &mut self,
        data: &[u8],
        value: impl Fn([u8; N]) -> T,
        ascending: impl Fn(&T, &T) -> Ordering,
        show: impl Fn(&T) -> String,
    ) -> u64 {
        let (elements, _) = data.as_chunks::<N>();
        let row = elements.len().checked_div(usize::try_from(self.rows).unwrap_or(usize::MAX)).unwrap_or(0);
        let count = usize::try_from(self.count).map_or(row, |count| count.min(row));
        if count == 0 {
            return 0;
        }
        for scores in elements.chunks_exact(row) {
            let mut order: Vec<(usize, T)> = scores.iter().map(|bytes| value(*bytes)).enumerate().collect();
            let best = |a: &(usize, T), b: &(usize, T)| ascending(&b.1, &a.1).then(a.0.cmp(&b.0));
            order.select_nth_unstable_by(count - 1, best);
            order.truncate(count);
            order.sort_unstable_by(best);
            for (index, score) in &order {
                let mut class = format!("{}:{index}", show(score));
                if let Some(name) = self.names.get(*index).filter(|name| !name.is_empty()) {
                    class.push(':');
                    class.push_str(name);
                }
                // So few bytes always fit.
                texts::push(&mut self.packed, class.as_bytes());
            }
        }
        count as u64
    }
}

/// Numbers in their order, after NaN.
fn by_score(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// As clients of the extension know scores.
fn six_digits(score: &f64) -> String {
    format!("{score:.6}")
}

#[cfg(test)]
mod tests {
    use ired_module::texts::Texts;

    use super::*;

    fn scores(dims: &[u64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { name: "y".to_owned(), dtype: DType::F32, dims: dims.to_vec(), data: data.into() }
    }

    fn shown(tensor: &Tensor) -> Vec<String> {
        Texts::new(&tensor.data).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_highest_come_first() {
        let y = scores(&[2, 3], &[0.1, 0.7, 0.7, f32::NAN, -1.0, f32::INFINITY]);
        let by_row = classify(&y, 2, true, &[]).unwrap();
        assert_eq!((by_row.dtype, &by_row.dims[..]), (DType::String, &[2, 2][..]));
        assert_eq!(shown(&by_row), ["0.700000:1", "0.700000:2", "inf:2", "-1.000000:1"]);
        let names = ["one".to_owned(), String::new(), "three".to_owned()];
        let named = classify(&y, 2, true, &names).unwrap();
        assert_eq!(shown(&named), ["0.700000:1", "0.700000:2:three", "inf:2:three", "-1.000000:1"]);
        let all = classify(&y, 100, false, &[]).unwrap();
        assert_eq!(all.dims, [6]);
        let expected = ["inf:5", "0.700000:1", "0.700000:2", "0.100000:0", "-1.000000:4", "NaN:3"];
        assert_eq!(shown(&all), expected);
    }

    #[test]
    fn few_and_odd_elements_have_classes_too() {
        assert_eq!(classify(&scores(&[0, 3], &[]), 1, true, &[]).unwrap().dims, [0, 0]);
        assert_eq!(classify(&scores(&[3, 0], &[]), 1, true, &[]).unwrap().dims, [3, 0]);
        let scalar = classify(&scores(&[], &[2.0]), 5, true, &[]).unwrap();
        assert_eq!((&scalar.dims[..], shown(&scalar)), (&[1][..], vec!["2.000000:0".to_owned()]));
        let large: Vec<u8> = [u64::MAX, 7].iter().flat_map(|value| value.to_le_bytes()).collect();
        let large = Tensor { dtype: DType::U64, data: large.into(), ..scores(&[2], &[]) };
        assert_eq!(shown(&classify(&large, 1, false, &[]).unwrap()), ["18446744073709551615:0"]);
        let strings = Tensor { dtype: DType::String, ..scores(&[1], &[]) };
        let error = classify(&strings, 1, false, &[]).unwrap_err().to_string();
        assert_eq!(error, "output `y`: BYTES has no classes, only numbers have");
    }
}
