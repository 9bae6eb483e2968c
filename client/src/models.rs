//! What the daemon has: list, load, unload, label, delete.

use ired_proto::inference::{RepositoryModelLoadRequest, RepositoryModelUnloadRequest};
use ired_proto::ired::v1::{
    DeleteLabelRequest, DeleteModelRequest, ListModelsRequest, Model, SetLabelRequest,
};

use crate::{Client, ClientError};

impl Client {
    /// Every version of every model, loaded or not.
    pub async fn models(&self) -> Result<Vec<Model>, ClientError> {
        Ok(self.models.clone().list_models(ListModelsRequest {}).await?.into_inner().models)
    }

    /// Loads or reloads a model, compiling it where needed; answers when it is ready.
    pub async fn load(&self, model: &str) -> Result<(), ClientError> {
        let request = RepositoryModelLoadRequest { model_name: model.to_owned(), ..Default::default() };
        self.inference.clone().repository_model_load(request).await?;
        Ok(())
    }

    /// Unloads every version of a model; requests that it has are answered first.
    pub async fn unload(&self, model: &str) -> Result<(), ClientError> {
        let request = RepositoryModelUnloadRequest { model_name: model.to_owned(), ..Default::default() };
        self.inference.clone().repository_model_unload(request).await?;
        Ok(())
    }

    /// Gives a ready version a label, which requests may use in place of its number, or moves the label to it. Gives the
    /// version that had it.
    pub async fn set_label(
        &self,
        model: &str,
        label: &str,
        version: u64,
    ) -> Result<Option<u64>, ClientError> {
        let request = SetLabelRequest { name: model.to_owned(), label: label.to_owned(), version };
        let previous = self.models.clone().set_label(request).await?.into_inner().previous_version;
        Ok(Some(previous).filter(|&version| version != 0))
    }

    /// Takes a label away. Gives the version that had it.
    pub async fn delete_label(&self, model: &str, label: &str) -> Result<u64, ClientError> {
        let request = DeleteLabelRequest { name: model.to_owned(), label: label.to_owned() };
        Ok(self.models.clone().delete_label(request).await?.into_inner().previous_version)
    }

    /// Unloads and forgets an uploaded model: one version, or all. Gives the versions that went.
    pub async fn delete(&self, model: &str, version: Option<u64>) -> Result<Vec<u64>, ClientError> {
        let request = DeleteModelRequest { name: model.to_owned(), version: version.unwrap_or(0) };
        Ok(self.models.clone().delete_model(request).await?.into_inner().deleted_versions)
    }
}
