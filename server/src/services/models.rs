//! `ired.v1.ModelService`: uploads, listing, labels, deletion.

use std::sync::Arc;
use std::time::Duration;

use ired_proto::ired::v1::model_service_server::ModelService;
use ired_proto::ired::v1::upload_model_request::Part;
use ired_proto::ired::v1::*;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::auth::Admitted;
use crate::engine::Process;
use crate::error::Error;
use crate::models::Origin;
use crate::registry::{Served, State, VersionView};

pub struct Models(pub Arc<App>);

#[tonic::async_trait]
impl ModelService for Models {
    async fn upload_model(
        &self,
        request: Request<Streaming<UploadModelRequest>>,
    ) -> Result<Response<UploadModelResponse>, Status> {
        let admitted = Admitted::of(&request)?.clone();
        let mut parts = request.into_inner();
        let idle = Duration::from_secs(self.0.settings.upload_idle_s);
        let Some(Part::Start(start)) = next(&mut parts, idle).await? else {
            return Err(Error::invalid("an upload begins with `start`").into());
        };
        admitted.for_model(&start.name)?;
        let version = Some(start.version).filter(|&version| version != 0);
        let mut receiving = self.0.uploads.receive(&start.name, version)?;
        while let Some(part) = next(&mut parts, idle).await? {
            match part {
                Part::Start(_) => return Err(Error::invalid("an upload has one `start`").into()),
                Part::File(file) => receiving.file(&file.path, file.bytes).await?,
                Part::Chunk(chunk) => receiving.chunk(chunk).await?,
            }
        }
        let committed = self.0.registry.add(receiving).await?;
        Ok(Response::new(UploadModelResponse {
            name: start.name,
            version: committed.version,
            digest: committed.digest.to_string(),
            bytes: committed.bytes,
            unchanged: committed.unchanged,
        }))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.0.registry.versions().into_iter().map(encode).collect();
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn delete_model(
        &self,
        request: Request<DeleteModelRequest>,
    ) -> Result<Response<DeleteModelResponse>, Status> {
        let request = request.into_inner();
        let deleted_versions = self.0.delete(&request.name, request.version).await?;
        Ok(Response::new(DeleteModelResponse { deleted_versions }))
    }

    async fn set_label(
        &self,
        request: Request<SetLabelRequest>,
    ) -> Result<Response<SetLabelResponse>, Status> {
        let SetLabelRequest { name, label, version } = request.into_inner();
        let previous = self.0.set_label(&name, &label, version).await?;
        Ok(Response::new(SetLabelResponse { previous_version: previous.unwrap_or(0) }))
    }

    async fn delete_label(
        &self,
        request: Request<DeleteLabelRequest>,
    ) -> Result<Response<DeleteLabelResponse>, Status> {
        let DeleteLabelRequest { name, label } = request.into_inner();
        let previous_version = self.0.delete_label(&name, &label).await?;
        Ok(Response::new(DeleteLabelResponse { previous_version }))
    }
}

/// The next part that this server knows; a sender that pauses too long is given up.
async fn next(parts: &mut Streaming<UploadModelRequest>, idle: Duration) -> Result<Option<Part>, Status> {
    loop {
        let message = tokio::time::timeout(idle, parts.message()).await.map_err(|_| Error::SlowBody(idle))?;
        match message? {
            None => return Ok(None),
            Some(UploadModelRequest { part: Some(part) }) => return Ok(Some(part)),
            Some(UploadModelRequest { part: None }) => {}
        }
    }
}

fn encode(view: VersionView) -> Model {
    let state = state(&view.state);
    let reason = match view.state {
        State::Unavailable(reason) => reason,
        State::Loading | State::Ready | State::Unloading => String::new(),
    };
    let source = match view.source.origin {
        Origin::Repository => model::Source::Repository,
        Origin::Upload => model::Source::Upload,
    };
    Model {
        name: view.name,
        version: view.version,
        source: source.into(),
        state: state.into(),
        reason,
        file: view.source.main.name.clone(),
        digest: view.source.digest.get().map(ToString::to_string).unwrap_or_default(),
        bytes: view.source.bytes(),
        module: view.serving.map(|served| loaded(&served)),
        labels: view.labels,
    }
}

pub(super) fn state(state: &State) -> model::State {
    match state {
        State::Loading => model::State::Loading,
        State::Ready => model::State::Ready,
        State::Unloading => model::State::Unloading,
        State::Unavailable(_) => model::State::Unavailable,
    }
}

fn loaded(served: &Served) -> LoadedModule {
    let module = served.runner.module();
    LoadedModule {
        triple: module.target.triple.clone(),
        features: module.target.features.clone(),
        module_bytes: module.module_bytes,
        resident_bytes: module.resident_bytes,
        restarts: served.runner.restarts(),
        worker_pid: served.runner.pid().unwrap_or(0),
        processes: served.runner.processes().into_iter().map(process).collect(),
    }
}

fn process(Process { group, pid, restarts }: Process) -> WorkerProcess {
    WorkerProcess {
        device_group: group.device_group.map(|group| group.name).unwrap_or_default(),
        count: group.count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        pid: pid.unwrap_or(0),
        restarts,
    }
}
