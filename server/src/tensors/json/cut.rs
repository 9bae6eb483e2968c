//! Long arrays of numbers, cut out of a request before it is read as JSON: to find where a number ends takes a reader of
//! any JSON as long as it takes to read it.
//!
//! Nothing is decided here. What is left of the request is read as any JSON, the array as the numbers of its tensor;
//! whoever finds either wrong, or an array that belongs to no tensor, can still read the whole.

use memchr::memmem;
use serde_json::value::RawValue;

/// Shorter arrays are not worth it.
const LONG: usize = 1 << 10;

/// What has arrays of numbers for its values.
const KEY: &[u8] = b"\"data\"";

/// What stands where an array was: a value that nothing behind it continues.
const MARK: &[u8] = b"\"\"";

/// Bytes that are looked at together.
const CHUNK: usize = 64;

/// A request without its long arrays of numbers.
pub struct Cut<'a> {
    rest: Vec<u8>,
    /// Where in `rest` there was one.
    arrays: Vec<(usize, &'a str)>,
}

impl<'a> Cut<'a> {
    /// `None` where there is nothing to cut.
    pub fn of(text: &'a [u8]) -> Option<Self> {
        let (mut rest, mut arrays) = (Vec::new(), Vec::new());
        let mut from = 0;
        for key in memmem::find_iter(text, KEY) {
            let Some(first) = value(text, key + KEY.len()) else { continue };
            let Some(array) = numbers(&text[first..]).filter(|array| array.len() >= LONG) else { continue };
            rest.extend_from_slice(&text[from..first]);
            arrays.push((rest.len(), array));
            rest.extend_from_slice(MARK);
            from = first + array.len();
        }
        rest.extend_from_slice(&text[from..]);
        (!arrays.is_empty()).then_some(Self { rest, arrays })
    }

    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.arrays.len()
    }

    /// The array that was cut out where `value`, a part of what is left, stands now.
    pub fn array(&self, value: &RawValue) -> Option<&'a str> {
        let at = value.get().as_ptr().addr().checked_sub(self.rest.as_ptr().addr())?;
        self.arrays.iter().find(|(mark, _)| *mark == at).map(|(_, array)| *array)
    }
}

/// Where the value of the key that ends at `end` begins.
fn value(text: &[u8], end: usize) -> Option<usize> {
    let colon = end + blanks(&text[end..]);
    (text.get(colon) == Some(&b':')).then(|| colon + 1 + blanks(&text[colon + 1..]))
}

fn blanks(text: &[u8]) -> usize {
    text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len())
}

/// The array that `text` begins with, if there is nothing in it that numbers and arrays of them don't have.
fn numbers(text: &[u8]) -> Option<&str> {
    let (mut open, mut at) = (usize::from(text.first() == Some(&b'[')), 1);
    while open > 0 {
        match text.get(at..).and_then(<[u8]>::first_chunk).and_then(|chunk| inside(chunk, open)) {
            Some(still_open) => {
                open = still_open;
                at += CHUNK;
            }
            None => {
                // Where it may end.
                for byte in text.get(at..)?.iter().take(CHUNK) {
                    at += 1;
                    match byte {
                        b'[' => open += 1,
                        b']' if open == 1 => return std::str::from_utf8(&text[..at]).ok(),
                        b']' => open -= 1,
                        byte if is_of_numbers(*byte) => {}
                        _ => return None,
                    }
                }
                text.get(at)?;
            }
        }
    }
    None
}

/// How many arrays are open behind `chunk`, where `open` are before it and it cannot be the end of them.
fn inside(chunk: &[u8; CHUNK], open: usize) -> Option<usize> {
    let count = |is: fn(u8) -> bool| chunk.iter().fold(0u8, |count, &byte| count + u8::from(is(byte)));
    let (opened, closed) = (count(|byte| byte == b'['), count(|byte| byte == b']'));
    let all = usize::from(opened) + usize::from(closed) + usize::from(count(is_of_numbers)) == CHUNK;
    (all && usize::from(closed) < open).then(|| open + usize::from(opened) - usize::from(closed))
}

fn is_of_numbers(byte: u8) -> bool {
    // `+`, `,`, `-` and `.` are beside each other.
    byte.is_ascii_digit() | matches!(byte, b'+'..=b'.') | matches!(byte, b'e' | b'E') | is_blank(byte)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_of(text: &str) -> Option<(String, Vec<&str>)> {
        let cut = Cut::of(text.as_bytes())?;
        let arrays = cut.arrays.iter().map(|(_, array)| *array).collect();
        Some((String::from_utf8(cut.rest).unwrap(), arrays))
    }

    #[test]
    fn long_arrays_of_numbers_are_cut_and_nothing_else() {
        for row in [1, 3, 40, 64, 65, 5000] {
            let numbers: Vec<String> = (0..5000).map(|n| format!("{}", f64::from(n - 7) * 1e-3)).collect();
            let rows: Vec<String> = numbers.chunks(row).map(|row| format!("[{}]", row.join(", "))).collect();
            let array = format!("[{}]", rows.join(",\n"));
            let text = format!(r#"{{"x": [1], "data" : {array}, "data":[1], "y":{{"data":{array}}}}}"#);
            let rest = r#"{"x": [1], "data" : "", "data":[1], "y":{"data":""}}"#.to_owned();
            assert_eq!(cut_of(&text), Some((rest, vec![&*array, &*array])), "{row}");
        }
    }

    #[test]
    fn what_is_no_array_of_numbers_stays() {
        let long = "1,".repeat(LONG);
        for text in [
            format!(r#"{{"data":[{long}"#),
            format!(r#"{{"data":[{long}"a"]}}"#),
            format!(r#"{{"data":[{long}null]}}"#),
            format!(r#"{{"data" [{long}1]}}"#),
            format!(r#"{{"date":[{long}1]}}"#),
            format!(r#"{{"data":{long}1]}}"#),
            format!(r#"{{"data":]{long}1]}}"#),
            r#"{"data":"#.to_owned(),
            r#"{"data""#.to_owned(),
        ] {
            assert_eq!(cut_of(&text), None, "{text}");
        }
    }

    #[test]
    fn an_array_is_found_by_what_stands_in_its_place() {
        #[derive(serde::Deserialize)]
        struct Two<'a> {
            #[serde(borrow)]
            data: &'a RawValue,
            #[serde(borrow)]
            other: &'a RawValue,
        }
        let array = format!("[{}1]", "1,".repeat(LONG));
        let text = format!(r#"{{"data":{array},"other":""}}"#);
        let cut = Cut::of(text.as_bytes()).unwrap();
        let short: Two = serde_json::from_slice(cut.rest()).unwrap();
        assert_eq!(cut.array(short.data), Some(&*array));
        assert_eq!(cut.array(short.other), None);
        let whole: Two = serde_json::from_str(&text).unwrap();
        assert_eq!(cut.array(whole.data), None);
        assert_eq!(cut.count(), 1);
    }
}
