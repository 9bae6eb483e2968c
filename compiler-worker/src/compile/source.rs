//! The model's files as the compiler asks for them: the main one is mapped here, the others come from the parent.

use bytes::Bytes;
use ired_compiler::{ModelSource, SiblingName, SourceError};
use ired_worker::MappedFile;

use crate::broker::Broker;

pub(crate) struct BrokeredSource {
    file_name: String,
    model: Bytes,
    broker: Broker,
}

impl BrokeredSource {
    pub(crate) fn new(file_name: &str, model: MappedFile, broker: Broker) -> Self {
        Self { file_name: file_name.to_owned(), model: Bytes::from_owner(model), broker }
    }
}

impl ModelSource for BrokeredSource {
    fn file_name(&self) -> &str {
        &self.file_name
    }

    fn model(&self) -> Result<Bytes, SourceError> {
        Ok(self.model.clone())
    }

    fn sibling(&self, name: &SiblingName) -> Result<Bytes, SourceError> {
        let opened = self.broker.open(name.as_str());
        let file = opened.map_err(|cause| SourceError::Read { name: name.as_str().to_owned(), cause })?;
        Ok(Bytes::from_owner(file))
    }
}
