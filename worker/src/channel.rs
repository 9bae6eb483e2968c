//! Frames over a Unix stream socket: a length, a count of file descriptors, postcard bytes.
//!
//! The child's end blocks ([`blocking`]), the parent's end belongs to tokio ([`asynchronous`]). Whatever arrives is
//! taken for hostile: sizes and counts are bounded before anything is allocated, and bad bytes are errors.

pub(crate) mod asynchronous;
pub(crate) mod blocking;
mod frame;

use std::io;

pub(crate) use frame::{Incoming, decode_all, encode, receive_some, send_some};

/// Bytes of one message at most. Larger things travel as sealed memory beside it.
pub(crate) const MAX_FRAME_BYTES: usize = 1 << 20;

/// File descriptors of one message at most.
pub(crate) const MAX_FRAME_FDS: usize = 8;

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("the other side closed the channel")]
    Closed,
    #[error("a message of {found_bytes} bytes; the limit is {MAX_FRAME_BYTES}")]
    TooLarge { found_bytes: usize },
    #[error("a message with {found} file descriptors; the limit is {MAX_FRAME_FDS}")]
    TooManyFds { found: usize },
    #[error("a message announces {announced} file descriptors; {found} came")]
    MissingFds { announced: usize, found: usize },
    #[error("file descriptors that no message announces")]
    StrayFds,
    #[error("a message does not decode: {0}")]
    Decode(postcard::Error),
    #[error("a message does not encode: {0}")]
    Encode(postcard::Error),
    #[error("{unsent_bytes} bytes wait to be sent; the other side does not read")]
    Full { unsent_bytes: usize },
    #[error("socket: {0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for ChannelError {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}
