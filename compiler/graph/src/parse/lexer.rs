//! Text into tokens, each with the place it starts.

use super::ParseError;

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// A number without sign, as written.
    Number(String),
    /// Quoted text, unescaped.
    Text(String),
    Punctuation(char),
    End,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Number(number) => format!("`{number}`"),
            Self::Text(text) => format!("{text:?}"),
            Self::Punctuation(c) => format!("`{c}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// A place in the text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

pub(super) struct Lexer<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    place: Place,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { chars: text.chars().peekable(), place: Place { line: 1, column: 1 } }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        match c {
            '\n' => self.place = Place { line: self.place.line + 1, column: 1 },
            _ => self.place.column += 1,
        }
        Some(c)
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(&c) = self.chars.peek()
            && accept(c)
        {
            taken.push(c);
            self.bump();
        }
        taken
    }

    /// The next token and where it starts.
    pub(super) fn next(&mut self) -> Result<(Token, Place), ParseError> {
        loop {
            self.take_while(char::is_whitespace);
            let place = self.place;
            let Some(&c) = self.chars.peek() else { return Ok((Token::End, place)) };
            let token = match c {
                '/' => {
                    self.take_while(|c| c != '\n');
                    continue;
                }
                '"' => self.text(place)?,
                c if c.is_ascii_digit() => self.number(),
                c if c.is_ascii_alphabetic() || c == '_' => {
                    Token::Word(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_'))
                }
                c => {
                    self.bump();
                    Token::Punctuation(c)
                }
            };
            return Ok((token, place));
        }
    }

    fn number(&mut self) -> Token {
        let mut number = self.take_while(|c| c.is_ascii_alphanumeric() || c == '.');
        // The sign of an exponent; hexadecimal numbers have none.
        if number.ends_with(['e', 'E'])
            && !number.starts_with("0x")
            && let Some(&sign @ ('-' | '+')) = self.chars.peek()
        {
            self.bump();
            number.push(sign);
            number.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        Token::Number(number)
    }

    fn text(&mut self, start: Place) -> Result<Token, ParseError> {
        self.bump();
        let mut text = String::new();
        loop {
            let place = self.place;
            match self.bump() {
                None => return Err(ParseError::new(start, "this text has no closing quote")),
                Some('"') => return Ok(Token::Text(text)),
                Some('\\') => match self.escape() {
                    Some(c) => text.push(c),
                    None => return Err(ParseError::new(place, "this is no known escape")),
                },
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        match self.bump()? {
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            '0' => Some('\0'),
            c @ ('"' | '\\' | '\'') => Some(c),
            'u' => {
                let digits = (self.bump()? == '{').then(|| self.take_while(|c| c.is_ascii_hexdigit()))?;
                let code = u32::from_str_radix(&digits, 16).ok()?;
                (self.bump()? == '}').then(|| char::from_u32(code))?
            }
            _ => None,
        }
    }
}
