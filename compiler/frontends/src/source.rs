//! Where a model's bytes come from: the main file, and the files beside it that it names.
//!
//! Frontends see only this trait, so the same importer runs over a folder, over memory, and in a process that may
//! open nothing itself and asks another for each file.

mod directory;

pub use directory::{DirectorySource, map_file};

use bytes::Bytes;

/// Gives a frontend the files of one model. Reading may block.
pub trait ModelSource {
    /// The main file's name, without its folder: `model.onnx`.
    fn file_name(&self) -> &str;

    /// The main file; mapped rather than read where that is possible.
    ///
    /// # Errors
    /// [`SourceError`] when it cannot be read.
    fn model(&self) -> Result<Bytes, SourceError>;

    /// A file beside the main one, such as external weights; mapped rather than read where that is possible.
    ///
    /// # Errors
    /// [`SourceError`] when there is none, or it may not be read.
    fn sibling(&self, name: &SiblingName) -> Result<Bytes, SourceError>;
}

/// Why a file of a model could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read `{name}`")]
    Read {
        name: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("`{name}` leads outside the model's folder")]
    Escapes { name: String },
    #[error("`{name}` is not a regular file")]
    NotAFile { name: String },
    #[error("`{name}` was not supplied with the model")]
    Absent { name: String },
}

/// A path below the model's folder, made of plain names: not absolute, no `..`, no empty part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiblingName(String);

/// A file name in a model that [`SiblingName`] refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is {fault}; expected a plain relative path below the model's folder")]
pub struct SiblingNameError {
    pub name: String,
    pub fault: &'static str,
}

/// Longer than any path Linux opens.
const NAME_BYTES: usize = 4096;

impl SiblingName {
    /// # Errors
    /// When `name` is empty, absolute, too long, or has a part that is not a plain file name.
    pub fn new(name: &str) -> Result<Self, SiblingNameError> {
        let fault = match name {
            "" => Some("empty"),
            _ if name.len() > NAME_BYTES => Some("too long"),
            _ if name.contains('\0') => Some("a path with a NUL byte"),
            _ if name.contains('\\') => Some("a path with a backslash"),
            _ if name.starts_with('/') => Some("an absolute path"),
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(Self::refuse(name, fault));
        }
        // A leading `./` is common in exported models and means nothing.
        let mut parts = name.split('/').peekable();
        while parts.next_if_eq(&".").is_some() {}
        let mut plain = Vec::new();
        for part in parts {
            match part {
                "" | "." => return Err(Self::refuse(name, "a path with an empty part")),
                ".." => return Err(Self::refuse(name, "a path through a parent folder")),
                _ => plain.push(part),
            }
        }
        match plain.is_empty() {
            true => Err(Self::refuse(name, "empty")),
            false => Ok(Self(plain.join("/"))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn refuse(name: &str, fault: &'static str) -> SiblingNameError {
        SiblingNameError { name: name.chars().take(120).collect(), fault }
    }
}

impl std::fmt::Display for SiblingName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model held in memory, with any number of files beside it.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    file_name: String,
    model: Bytes,
    siblings: Vec<(String, Bytes)>,
}

impl MemorySource {
    pub fn new(file_name: &str, model: Bytes) -> Self {
        Self { file_name: file_name.to_owned(), model, siblings: Vec::new() }
    }

    /// Adds a file beside the model.
    pub fn with_sibling(mut self, name: &str, data: Bytes) -> Self {
        self.siblings.push((name.to_owned(), data));
        self
    }
}

impl ModelSource for MemorySource {
    fn file_name(&self) -> &str {
        &self.file_name
    }

    fn model(&self) -> Result<Bytes, SourceError> {
        Ok(self.model.clone())
    }

    fn sibling(&self, name: &SiblingName) -> Result<Bytes, SourceError> {
        let found = self.siblings.iter().find(|(n, _)| n == name.as_str());
        found.map(|(_, data)| data.clone()).ok_or_else(|| SourceError::Absent { name: name.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_names_are_taken() {
        for (name, plain) in [("w.bin", "w.bin"), ("./w.bin", "w.bin"), ("data/w.bin", "data/w.bin")] {
            assert_eq!(SiblingName::new(name).unwrap().as_str(), plain);
        }
        for name in [
            "",
            ".",
            "/etc/passwd",
            "../w",
            "a/../../w",
            "a//w",
            "a/./w",
            "a/",
            "C:\\w",
            "a\0b",
            &"x".repeat(5000),
        ] {
            assert!(SiblingName::new(name).is_err(), "{name:?}");
        }
    }
}
