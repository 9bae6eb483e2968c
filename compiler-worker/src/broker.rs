//! Files beside the model: asked for by name, as this process has no file system.

use std::io;
use std::sync::{Mutex, PoisonError};

use ired_worker::MappedFile;
use ired_worker::child::{Receiver, Sender};
use ired_worker::messages::compile::{FromCompiler, ToCompiler};

/// Asks the parent for files; one at a time, from any thread.
pub(crate) struct Broker {
    sender: Sender,
    receiver: Mutex<Receiver>,
}

impl Broker {
    pub(crate) fn new(sender: Sender, receiver: Receiver) -> Self {
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// Maps the file that the model calls `name`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] with the parent's reason when it does not hand out that file.
    pub(crate) fn open(&self, name: &str) -> io::Result<MappedFile> {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = FromCompiler::OpenFile { name: name.to_owned() };
        self.sender.send(&ask, &[]).map_err(io::Error::other)?;
        match receiver.receive().map_err(io::Error::other)? {
            (ToCompiler::File(Ok(())), fds) => match <[_; 1]>::try_from(fds) {
                Ok([file]) => MappedFile::open(file),
                Err(_) => Err(io::Error::other("the file came without a descriptor")),
            },
            (ToCompiler::File(Err(reason)), _) => Err(io::Error::new(io::ErrorKind::NotFound, reason)),
            _ => Err(io::Error::other("another answer than a file")),
        }
    }
}
