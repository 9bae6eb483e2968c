//! Strings, and the functions that no device has: splitting and matching text, decoding images.
//!
//! A string in a tensor is a 64-bit handle into a [`StringTable`], which keeps each text once: equal strings have equal
//! handles, so moving, selecting and comparing them is work for any kernel. What has to look at the text is a *host
//! function*: a pure function from tensors and an attribute record to tensors, found by its versioned name in
//! [`FUNCTIONS`]. The reference interpreter and the runtime call the same ones.
//!
//! Operands may come from anyone. Nothing here panics, does I/O, or takes more memory or steps than its [`Limits`].
//! This crate knows no graph, no module and no device.

#![forbid(unsafe_code)]

mod call;
mod error;
mod functions;
mod image;
mod number;
mod rank;
mod search;
mod split;
mod strings;
mod tensor;
mod text;
mod vectorize;

pub use call::{Attributes, HostCall};
pub use error::HostError;
pub use functions::{FUNCTIONS, HostFunction, Limits, find, run, run_until};
pub use image::{DecodeImage, PixelFormat};
pub use number::{Format, Parse};
pub use rank::StringRank;
pub use search::IndexOf;
pub use split::StringSplit;
pub use strings::{Quota, StringLimits, StringTable, TableFull};
pub use tensor::{DType, HostTensor, TensorView};
pub use text::{CaseChange, RegexFullMatch, StringConcat, StringNormalize};
pub use vectorize::CountNgrams;
