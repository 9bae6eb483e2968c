//! Descriptors that tokio watches.
#![allow(unsafe_code, reason = "tokio asks for a promise about the descriptor that `OwnedFd` keeps")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `file` with the current runtime; gives it back when that fails.
pub(crate) fn watched(file: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, (OwnedFd, io::Error)> {
    // SAFETY: an `OwnedFd` is one open descriptor, the same until it is dropped, and the `AsyncFd` owns it from here.
    unsafe { AsyncFd::register_with_interest(file, interest) }.map_err(|error| error.into_parts())
}
