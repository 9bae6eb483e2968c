//! The front door: each service decodes a request, makes one call behind the door, and encodes the answer.

pub mod activity;
pub mod compile;
mod console;
pub mod devices;
pub mod inference;
pub mod models;
mod profile;
pub mod rest;
mod settings;
pub mod traces;
mod transfer;

use crate::error::Error;

/// Bytes of a file sent in one message.
const CHUNK_BYTES: usize = 1 << 20;

/// Does work on so many bytes; on more than `few` of them without keeping other requests waiting.
async fn aside<T: Send + 'static>(
    bytes: u64,
    few: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if bytes < few {
        return Ok(work());
    }
    // The work is lost only when the daemon ends.
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopping)
}
