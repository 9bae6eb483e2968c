//! Text from models and archives, made fit for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with its control characters escaped, all but line feeds: names come from files that anybody may have
/// written, and a terminal obeys what it is sent. Marks that turn the direction of writing count as such.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_unprintable(c) {
            // Writing to a string cannot fail.
            true => drop(write!(escaped, "{}", c.escape_default())),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

fn is_unprintable(c: char) -> bool {
    (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31m\r\u{9b}\u{202e}b"), r"a\u{1b}[31m\r\u{9b}\u{202e}b");
        assert!(matches!(printable("größe\n  `x`: é"), Cow::Borrowed(_)));
    }
}
