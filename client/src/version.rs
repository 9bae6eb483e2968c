//! Which version of a model a request means.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A version of a model: its number, or a label that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    Number(u64),
    /// Such as `stable`; see [`crate::Client::set_label`].
    Label(String),
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl FromStr for Version {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Label(text.to_owned()), Self::Number))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Label(label) => label.fmt(f),
        }
    }
}
