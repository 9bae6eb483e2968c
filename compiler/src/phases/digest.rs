//! The digest of a model: its main file and every file beside it that was read.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use ired_frontends::{ModelSource, SiblingName, SourceError};

/// A source that remembers which siblings were asked for.
pub(super) struct Recorded<'a> {
    source: &'a dyn ModelSource,
    siblings: RefCell<BTreeMap<SiblingName, Bytes>>,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(source: &'a dyn ModelSource) -> Self {
        Self { source, siblings: RefCell::default() }
    }

    /// BLAKE3 of the main file; with siblings, of the digests of all files in order of their names.
    pub(super) fn digest(&self) -> Result<[u8; 32], SourceError> {
        let model = blake3::hash(&self.source.model()?);
        let siblings = self.siblings.borrow();
        if siblings.is_empty() {
            return Ok(*model.as_bytes());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(model.as_bytes());
        for (name, data) in siblings.iter() {
            hasher.update(name.as_str().as_bytes());
            hasher.update(&[0]);
            hasher.update(blake3::hash(data).as_bytes());
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

impl ModelSource for Recorded<'_> {
    fn file_name(&self) -> &str {
        self.source.file_name()
    }

    fn model(&self) -> Result<Bytes, SourceError> {
        self.source.model()
    }

    fn sibling(&self, name: &SiblingName) -> Result<Bytes, SourceError> {
        let data = self.source.sibling(name)?;
        self.siblings.borrow_mut().insert(name.clone(), data.clone());
        Ok(data)
    }
}
