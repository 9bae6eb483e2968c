//! Which function is called, and with what attributes: what graph and module carry.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The attributes of one function.
pub trait Attributes: Serialize + DeserializeOwned {
    /// The function's name and version. What a name stands for never changes: another meaning is another version.
    const FUNCTION: &'static str;
}

/// A call without its operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostCall {
    pub function: String,
    /// Serialized with postcard; see [`Attributes`].
    pub attributes: Vec<u8>,
}

impl HostCall {
    pub fn new<A: Attributes>(attributes: &A) -> Self {
        // Records of numbers and text always serialize into memory.
        let attributes = postcard::to_stdvec(attributes).unwrap_or_default();
        Self { function: A::FUNCTION.to_owned(), attributes }
    }
}
