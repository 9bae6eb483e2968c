//! The first message each way: both ends prove that they speak the same protocol before anything else is decoded.

use serde::{Deserialize, Serialize};

/// The protocol's number; it changes with any change of a message's encoding.
pub const PROTOCOL: u32 = 1;

/// What a worker process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Compiles one model, then ends.
    Compile,
    /// Holds one loaded module and answers inferences.
    Runtime,
}

impl Role {
    /// The file name of the executable that plays this role.
    pub const fn executable_name(self) -> &'static str {
        match self {
            Self::Compile => "ired-compiler-worker",
            Self::Runtime => "ired-runtime-worker",
        }
    }

    /// The word that people read: `compile`, `runtime`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compile => "compile",
            Self::Runtime => "runtime",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Eight bytes that no other program sends first.
pub(crate) const MAGIC: [u8; 8] = *b"iredwrk\0";

/// Tells apart builds whose messages may differ although [`PROTOCOL`] does not: a digest of this crate's sources.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("IRED_WORKER_SOURCES"));

/// What each side says first. The first two fields never change, so that any two versions can tell that they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) magic: [u8; 8],
    pub(crate) protocol: u32,
    pub(crate) build: String,
    pub(crate) role: Role,
    pub(crate) pid: u32,
}

/// Why two processes do not work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the other side is not an ired worker")]
    NotAWorker,
    #[error("protocol {found}, expected {PROTOCOL}: the worker is from another version of ired")]
    Protocol { found: u32 },
    #[error("build `{found}`, expected `{BUILD}`: the worker is from another build of ired")]
    Build { found: String },
    #[error("a {found} worker, expected a {expected} worker")]
    Role { found: Role, expected: Role },
}

impl Hello {
    pub(crate) fn new(role: Role) -> Self {
        Self { magic: MAGIC, protocol: PROTOCOL, build: BUILD.to_owned(), role, pid: std::process::id() }
    }

    /// Checks the other side's encoded hello, field by field in the order in which they may be trusted.
    pub(crate) fn check(bytes: &[u8], expected: Role) -> Result<Self, HandshakeError> {
        let Ok(((MAGIC, protocol), _)) = postcard::take_from_bytes::<([u8; 8], u32)>(bytes) else {
            return Err(HandshakeError::NotAWorker);
        };
        if protocol != PROTOCOL {
            return Err(HandshakeError::Protocol { found: protocol });
        }
        let hello: Self = postcard::from_bytes(bytes).map_err(|_| HandshakeError::NotAWorker)?;
        if hello.build != BUILD {
            return Err(HandshakeError::Build { found: hello.build });
        }
        if hello.role != expected {
            return Err(HandshakeError::Role { found: hello.role, expected });
        }
        Ok(hello)
    }
}

/// What the parent sends after the hellos: how the worker confines itself before anything else reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) confinement: crate::confine::Confinement,
}

/// The worker's answer: the layers in force, or why it refuses to go on.
pub(crate) type Confined = Result<super::sandbox::SandboxReport, String>;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(change: impl FnOnce(&mut Hello)) -> Vec<u8> {
        let mut hello = Hello::new(Role::Compile);
        change(&mut hello);
        postcard::to_stdvec(&hello).unwrap()
    }

    #[test]
    fn each_difference_has_its_name() {
        let check = |bytes: &[u8]| Hello::check(bytes, Role::Compile);
        assert!(check(&encoded(|_| {})).is_ok());
        assert_eq!(check(b"HTTP/1.1 200 OK"), Err(HandshakeError::NotAWorker));
        assert_eq!(check(b""), Err(HandshakeError::NotAWorker));
        let found = PROTOCOL + 1;
        assert_eq!(check(&encoded(|h| h.protocol = found)), Err(HandshakeError::Protocol { found }));
        let found = "0.0.1+0".to_owned();
        assert_eq!(check(&encoded(|h| h.build = "0.0.1+0".into())), Err(HandshakeError::Build { found }));
        let other = HandshakeError::Role { found: Role::Runtime, expected: Role::Compile };
        assert_eq!(check(&encoded(|h| h.role = Role::Runtime)), Err(other));
    }

    #[test]
    fn a_later_protocol_is_told_apart_even_when_its_hello_grew() {
        let mut bytes = postcard::to_stdvec(&(MAGIC, PROTOCOL + 1)).unwrap();
        bytes.extend_from_slice(&[0xff; 40]);
        assert_eq!(
            Hello::check(&bytes, Role::Compile),
            Err(HandshakeError::Protocol { found: PROTOCOL + 1 })
        );
    }
}
