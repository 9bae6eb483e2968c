//! Numbers and strings of a JSON request straight into packed bytes, and packed bytes into JSON.
//!
//! No tree of values is built: an image is some hundred thousand numbers.

mod cut;
mod shape;
mod strings;

pub use cut::Cut;
use half::{bf16, f16};
use ired_module::DType;

use crate::error::Error;

/// How deep arrays may nest: more than any shape.
const DEPTH: usize = 32;

/// Parses `text`, a JSON array of numbers, booleans or strings, flat or nested, into packed elements.
///
/// # Errors
/// [`Error::Invalid`] naming the tensor for another element count than `elements`, a value that does not fit
/// `dtype`, something that is neither number, boolean nor array, and what is no JSON.
pub fn parse(tensor: &str, dtype: DType, elements: u64, text: &str) -> Result<Vec<u8>, Error> {
    if dtype == DType::String {
        return strings::parse(tensor, elements, text);
    }
    let bytes = dtype.bits() / 8;
    // What the text can hold bounds the allocation, whatever the shape claims: two characters per element.
    let room = elements.min(text.len() as u64 / 2 + 1).saturating_mul(bytes);
    let mut scan = Scan { tensor, text, at: 0, found: 0, elements };
    let mut out = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    match dtype {
        DType::Bool => scan.tokens(&mut out, |token| match token {
            "true" | "1" => Some([1]),
            "false" | "0" => Some([0]),
            _ => None,
        }),
        DType::I8 => scan.tokens(&mut out, |token| Some(integer::<i8>(token)?.to_le_bytes())),
        DType::I16 => scan.tokens(&mut out, |token| Some(integer::<i16>(token)?.to_le_bytes())),
        DType::I32 => scan.tokens(&mut out, |token| Some(integer::<i32>(token)?.to_le_bytes())),
        DType::I64 => scan.tokens(&mut out, |token| Some(integer::<i64>(token)?.to_le_bytes())),
        DType::U8 => scan.tokens(&mut out, |token| Some(integer::<u8>(token)?.to_le_bytes())),
        DType::U16 => scan.tokens(&mut out, |token| Some(integer::<u16>(token)?.to_le_bytes())),
        DType::U32 => scan.tokens(&mut out, |token| Some(integer::<u32>(token)?.to_le_bytes())),
        DType::U64 => scan.tokens(&mut out, |token| Some(integer::<u64>(token)?.to_le_bytes())),
        DType::F16 => scan.numbers(&mut out, |value| Some(f16::from_f64(finite(value)?).to_le_bytes())),
        DType::BF16 => scan.numbers(&mut out, |value| Some(bf16::from_f64(finite(value)?).to_le_bytes())),
        DType::F32 => scan.numbers(&mut out, |value| Some(finite_f32(value)?.to_le_bytes())),
        DType::F64 => scan.numbers(&mut out, |value| Some(finite(value)?.to_le_bytes())),
        _ => {
            let name = super::datatype(dtype);
            return Err(Error::invalid(format!(
                "input `{tensor}`: {name} cannot be sent as JSON; use binary data"
            )));
        }
    }?;
    Ok(out)
}

/// How many values `text` has along each dimension; none for a single value.
///
/// # Errors
/// [`Error::Invalid`] naming the tensor for arrays of different shapes beside each other, and for what holds something that
/// is neither number, boolean, text nor array.
pub fn shape(tensor: &str, text: &str) -> Result<Vec<u64>, Error> {
    let found = serde_json::from_str::<shape::Shape>(text);
    found.map(|shape| shape.0).map_err(|error| Error::invalid(format!("input `{tensor}`: {error}")))
}

/// Integers may be written `3.0`, as some clients do.
fn integer<T: std::str::FromStr + TryFrom<i64>>(token: &str) -> Option<T> {
    if !begins_number(token.as_bytes()) {
        return None;
    }
    if let Ok(value) = token.parse() {
        return Some(value);
    }
    let value: f64 = token.parse().ok()?;
    // Up to 2^53 every whole f64 is that integer.
    let exact = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
    T::try_from(exact.then_some(value as i64)?).ok()
}

/// Whether a number of JSON may begin so. Others know `+1`, `01`, `.5`, `1.` and `inf`, too.
fn begins_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let fraction = match &text[whole..] {
        [b'.', after @ ..] => after.first().is_some_and(u8::is_ascii_digit),
        _ => true,
    };
    fraction && (whole == 1 || (whole > 1 && text[0] != b'0'))
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The value that a text begins with.
fn token(text: &str) -> &str {
    let len = text.as_bytes().iter().position(ends_value);
    len.map_or(text, |len| &text[..len])
}

fn ends_value(byte: &u8) -> bool {
    matches!(byte, b',' | b'[' | b']' | b' ' | b'\n' | b'\r' | b'\t')
}

/// What may come next of an array.
#[derive(Clone, Copy)]
enum Next {
    /// A value, or the end.
    First,
    Value,
    /// A comma, or the end.
    Separator,
}

struct Scan<'a> {
    tensor: &'a str,
    text: &'a str,
    at: usize,
    found: u64,
    elements: u64,
}

impl Scan<'_> {
    /// Values by their texts.
    fn tokens<const N: usize>(
        &mut self,
        out: &mut Vec<u8>,
        convert: impl Fn(&str) -> Option<[u8; N]>,
    ) -> Result<(), Error> {
        self.all(out, |rest| {
            let token = token(rest);
            Some((convert(token)?, token.len()))
        })
    }

    /// Floating-point numbers, whose ends are found as they are read.
    fn numbers<F: fast_float2::FastFloat, const N: usize>(
        &mut self,
        out: &mut Vec<u8>,
        convert: impl Fn(F) -> Option<[u8; N]>,
    ) -> Result<(), Error> {
        self.all(out, |rest| {
            if !begins_number(rest.as_bytes()) {
                return None;
            }
            let (value, len) = fast_float2::parse_partial(rest).ok()?;
            let ends = rest.as_bytes().get(len).is_none_or(ends_value);
            ends.then_some((convert(value)?, len))
        })
    }

    /// `read` gives the value that a text begins with, and its length there.
    fn all<const N: usize>(
        &mut self,
        out: &mut Vec<u8>,
        read: impl Fn(&str) -> Option<([u8; N], usize)>,
    ) -> Result<(), Error> {
        let bytes = self.text.as_bytes();
        let mut depth = 0usize;
        let mut next = Next::First;
        while let Some(&byte) = bytes.get(self.at) {
            match (byte, next) {
                (b' ' | b'\n' | b'\r' | b'\t', _) => self.at += 1,
                (b'[', Next::First | Next::Value) => {
                    depth += 1;
                    if depth > DEPTH {
                        return Err(self.error(format!("`data` is nested deeper than {DEPTH}")));
                    }
                    next = Next::First;
                    self.at += 1;
                }
                (b']', Next::First | Next::Separator) if depth > 0 => {
                    depth -= 1;
                    next = Next::Separator;
                    self.at += 1;
                }
                (b',', Next::Separator) if depth > 0 => {
                    next = Next::Value;
                    self.at += 1;
                }
                (b',' | b']', _) | (_, Next::Separator) => {
                    let message = format!("`data` is no JSON: unexpected `{}`", self.shown());
                    return Err(self.error(message));
                }
                _ if depth == 0 => return Err(self.error("`data` is not an array".to_owned())),
                _ => {
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    let Some((value, len)) = read(rest) else {
                        let message = format!("`{}` is not a value of its datatype", self.shown());
                        return Err(self.error(message));
                    };
                    self.found += 1;
                    if self.found > self.elements {
                        let message =
                            format!("`data` has more values than the {} of its shape", self.elements);
                        return Err(self.error(message));
                    }
                    out.extend_from_slice(&value);
                    next = Next::Separator;
                    self.at += len;
                }
            }
        }
        if depth > 0 {
            return Err(self.error("`data` is no JSON: an array does not end".to_owned()));
        }
        if self.found != self.elements {
            let message = format!("`data` has {} values, its shape needs {}", self.found, self.elements);
            return Err(self.error(message));
        }
        Ok(())
    }

    /// What comes next, as errors show it.
    fn shown(&self) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let shown = token(rest);
        let shown: String =
            if shown.is_empty() { rest.chars().take(1).collect() } else { shown.chars().take(40).collect() };
        shown.escape_debug().to_string()
    }

    fn error(&self, message: String) -> Error {
        Error::invalid(format!("input `{}`: {message}", self.tensor))
    }
}

/// Writes packed elements as a flat JSON array.
///
/// # Errors
/// [`Error::Invalid`] for NaN and infinities, which JSON has no words for, and for strings that are not UTF-8.
pub fn write(tensor: &str, dtype: DType, data: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if dtype == DType::String {
        return strings::write(tensor, data, out);
    }
    match dtype {
        DType::Bool => list(out, data, |[byte]| Some(byte != 0)),
        DType::I8 => list(out, data, |b| Some(i8::from_le_bytes(b))),
        DType::I16 => list(out, data, |b| Some(i16::from_le_bytes(b))),
        DType::I32 => list(out, data, |b| Some(i32::from_le_bytes(b))),
        DType::I64 => list(out, data, |b| Some(i64::from_le_bytes(b))),
        DType::U8 => list(out, data, |b| Some(u8::from_le_bytes(b))),
        DType::U16 => list(out, data, |b| Some(u16::from_le_bytes(b))),
        DType::U32 => list(out, data, |b| Some(u32::from_le_bytes(b))),
        DType::U64 => list(out, data, |b| Some(u64::from_le_bytes(b))),
        DType::F16 => list(out, data, |b| finite_f32(f16::from_le_bytes(b).to_f32())),
        DType::BF16 => list(out, data, |b| finite_f32(bf16::from_le_bytes(b).to_f32())),
        DType::F32 => list(out, data, |b| finite_f32(f32::from_le_bytes(b))),
        DType::F64 => list(out, data, |b| finite(f64::from_le_bytes(b))),
        _ => {
            let name = super::datatype(dtype);
            return Err(Error::invalid(format!(
                "output `{tensor}`: {name} has no JSON form; ask for binary data"
            )));
        }
    }
    .ok_or_else(|| {
        Error::invalid(format!(
            "output `{tensor}` holds a value that JSON cannot express (NaN or infinity); ask for binary data"
        ))
    })
}

fn finite_f32(value: f32) -> Option<f32> {
    value.is_finite().then_some(value)
}

fn list<T: serde::Serialize, const N: usize>(
    out: &mut Vec<u8>,
    data: &[u8],
    value: impl Fn([u8; N]) -> Option<T>,
) -> Option<()> {
    out.push(b'[');
    let (chunks, _) = data.as_chunks::<N>();
    for (at, chunk) in chunks.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, &value(*chunk)?).ok()?;
    }
    out.push(b']');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str, elements: u64) -> Result<Vec<f32>, String> {
        let bytes = parse("x", DType::F32, elements, text).map_err(|error| error.to_string())?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }

    #[test]
    fn flat_and_nested_arrays_give_the_same() {
        let expected = vec![1.0, -2.5, 3e-8, 4.0];
        assert_eq!(floats("[1,-2.5,3e-8,4]", 4).unwrap(), expected);
        assert_eq!(floats(" [ [1 , -2.5],\n[3E-8,4.0] ] ", 4).unwrap(), expected);
        assert_eq!(floats("[]", 0).unwrap(), Vec::<f32>::new());
    }

    #[test]
    fn counts_and_values_are_checked() {
        assert_eq!(floats("[1,2]", 3).unwrap_err(), "input `x`: `data` has 2 values, its shape needs 3");
        assert!(floats("[1,2,3,4]", 3).unwrap_err().contains("more values than the 3"));
        assert!(floats("[1,null]", 2).unwrap_err().contains("`null` is not a value"));
        assert!(floats("[1e400]", 1).unwrap_err().contains("not a value"));
        assert!(floats("[\"1\"]", 1).is_err() && floats("{}", 1).is_err() && floats("7", 1).is_err());
        assert!(floats(&"[".repeat(100_000), 1).unwrap_err().contains("nested deeper"));
        assert!(floats("[1]", u64::MAX).is_err(), "a huge shape costs no memory");
        assert!(parse("x", DType::U8, 1, "[256]").is_err() && parse("x", DType::U8, 1, "[-1]").is_err());
        assert_eq!(parse("x", DType::I64, 1, "[9223372036854775807]").unwrap(), i64::MAX.to_le_bytes());
        assert_eq!(parse("x", DType::I32, 1, "[3.0]").unwrap(), 3i32.to_le_bytes());
        assert!(parse("x", DType::I32, 1, "[3.5]").is_err());
    }

    #[test]
    fn only_json_is_read() {
        for text in [
            "[1 2]", "[1,,2]", "[,1,2]", "[1,2,]", "[1,2", "[1,2]]", "[1,2]3", "]1,2[", "[[1][2]]",
            "[1,[2,]]",
        ] {
            assert!(floats(text, 2).is_err() && parse("x", DType::I64, 2, text).is_err(), "{text}");
        }
        for number in
            ["+1", "01", "-01", ".5", "-.5", "1.", "1.e3", "1e", "1e+", "-", "inf", "nan", "0x1", "1_0", "1f"]
        {
            let text = format!("[{number}]");
            assert!(floats(&text, 1).is_err() && parse("x", DType::I64, 1, &text).is_err(), "{text}");
            assert!(serde_json::from_str::<f64>(number).is_err(), "{number}");
        }
        for number in ["0", "-0", "0.0", "-0.5e-1", "10.25E+2", "1e2", "123456789012345678901234567890e-20"] {
            let read: f32 = serde_json::from_str(number).unwrap();
            assert_eq!(floats(&format!("[{number}]"), 1).unwrap(), [read], "{number}");
        }
        assert_eq!(floats("[1 2]", 2).unwrap_err(), "input `x`: `data` is no JSON: unexpected `2`");
        assert_eq!(floats("[1,,2]", 2).unwrap_err(), "input `x`: `data` is no JSON: unexpected `,`");
    }

    #[test]
    fn every_type_survives_the_round_trip() {
        let sent = |dtype: &&DType| {
            dtype.bits() >= 8
                && **dtype != DType::String
                && !["FP8", "COMPLEX"].iter().any(|name| super::super::datatype(**dtype).starts_with(name))
        };
        for &dtype in DType::ALL.iter().filter(sent) {
            let text = if dtype == DType::Bool { "[true,false]" } else { "[0,1]" };
            let bytes = parse("x", dtype, 2, text).unwrap();
            let mut out = Vec::new();
            write("x", dtype, &bytes, &mut out).unwrap();
            assert_eq!(parse("x", dtype, 2, std::str::from_utf8(&out).unwrap()).unwrap(), bytes, "{dtype}");
        }
        let mut out = Vec::new();
        assert!(write("x", DType::F32, &f32::NAN.to_le_bytes(), &mut out).is_err());
    }

    #[test]
    fn strings_go_there_and_back() {
        let text = r#"[["a", "\u00e9\"]"], ["", "\n"]]"#;
        let bytes = parse("x", DType::String, 4, text).unwrap();
        let mut out = Vec::new();
        write("x", DType::String, &bytes, &mut out).unwrap();
        assert_eq!(std::str::from_utf8(&out).unwrap(), r#"["a","é\"]","","\n"]"#);
        let error = |elements, text: &str| parse("x", DType::String, elements, text).unwrap_err().to_string();
        assert_eq!(error(3, r#"["a"]"#), "input `x`: `data` has 1 values, its shape needs 3");
        assert!(error(1, r#"["a","b"]"#).contains("more values than the 1"));
        assert!(error(1, "[1]").contains("expected a string or an array of strings"));
        assert!(error(1, &"[".repeat(100)).contains("nested deeper"));
        assert!(write("x", DType::String, b"\x01\0\0\0\xff", &mut Vec::new()).is_err());
    }

    #[test]
    fn floats_are_read_to_the_nearest_bit() {
        for text in ["0.1", "16777217", "1.00000017881393432617187499", "3.4028235e38", "1e-45"] {
            assert_eq!(
                floats(&format!("[{text}]"), 1).unwrap()[0].to_bits(),
                text.parse::<f32>().unwrap().to_bits()
            );
        }
    }
}
