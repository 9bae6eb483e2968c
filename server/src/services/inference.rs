//! `inference.GRPCInferenceService`: KServe v2 and Triton's extensions over gRPC.

mod decode;
mod encode;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use futures::stream::BoxStream;
use ired_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use ired_proto::inference::*;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::auth::Admitted;
use crate::describe;
use crate::error::{Error, shown};
use crate::inline::Inline;
use crate::services::settings;
use crate::services::transfer::Transfer;
use crate::shared_memory::Region;
use crate::tenants::Tenant;
use crate::trace::{self, Origin};

pub struct InferenceService(pub Arc<App>);

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Reply<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Reply<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Reply<ModelReadyResponse> {
        let request = request.into_inner();
        let ready = self.0.registry.find(&request.name, &request.version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Reply<ServerMetadataResponse> {
        Ok(Response::new(describe::server(&self.0.settings)))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Reply<ModelMetadataResponse> {
        let request = request.into_inner();
        let served = self.0.registry.find(&request.name, &request.version)?;
        Ok(Response::new(describe::metadata(&self.0.registry, &served)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Reply<ModelInferResponse> {
        let origin = Origin::of(request.metadata().as_ref());
        let deadline = decode::deadline(request.metadata())?;
        let tenant = request.extensions().get().and_then(Admitted::tenant);
        let (answer, request_id) = answer(&self.0, origin, tenant, request.into_inner(), deadline).await?;
        let mut reply = answer.map(Response::new).map_err(Status::from);
        if let Some(id) = request_id.and_then(|id| id.parse().ok()) {
            let metadata = match &mut reply {
                Ok(response) => response.metadata_mut(),
                Err(status) => status.metadata_mut(),
            };
            metadata.insert(trace::REQUEST_ID, id);
        }
        reply
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Reply<Self::ModelStreamInferStream> {
        let admitted = Admitted::of(&request)?.clone();
        let origin = Origin::of(request.metadata().as_ref());
        let errors = stream::Errors::of(request.metadata());
        let answers = stream::answers(self.0.clone(), admitted, errors, origin, request.into_inner());
        Ok(Response::new(answers))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Reply<ModelConfigResponse> {
        let request = request.into_inner();
        let served = self.0.registry.find(&request.name, &request.version)?;
        let config = describe::config(&served, &self.0.settings);
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Reply<ModelStatisticsResponse> {
        let request = request.into_inner();
        let model_stats = describe::statistics(&self.0.registry, &request.name, &request.version)?;
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Reply<RepositoryIndexResponse> {
        let request = request.into_inner();
        check_repository(&request.repository_name)?;
        let models = describe::index(&self.0.registry, request.ready);
        Ok(Response::new(RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Reply<RepositoryModelLoadResponse> {
        let request = request.into_inner();
        check_repository(&request.repository_name)?;
        let mut inline = Inline::default();
        for (name, parameter) in request.parameters {
            decode::load_parameter(&mut inline, &name, parameter)?;
        }
        inline.load(&self.0, &request.model_name).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Reply<RepositoryModelUnloadResponse> {
        let request = request.into_inner();
        check_repository(&request.repository_name)?;
        self.0.unload(&request.model_name).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Reply<SystemSharedMemoryStatusResponse> {
        let regions = self.0.regions.status(&request.into_inner().name)?.into_iter();
        let status = |(name, region): (String, Arc<Region>)| {
            let (key, offset, byte_size) = (region.key.clone(), region.offset, region.byte_size);
            (
                name.clone(),
                system_shared_memory_status_response::RegionStatus { name, key, offset, byte_size },
            )
        };
        Ok(Response::new(SystemSharedMemoryStatusResponse { regions: regions.map(status).collect() }))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Reply<SystemSharedMemoryRegisterResponse> {
        let region = request.into_inner();
        self.0.regions.register(&region.name, &region.key, region.offset, region.byte_size)?;
        Ok(Response::new(SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Reply<SystemSharedMemoryUnregisterResponse> {
        self.0.regions.unregister(&request.into_inner().name);
        Ok(Response::new(SystemSharedMemoryUnregisterResponse {}))
    }

    // A client that reads the status before or after its work finds no regions.
    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Reply<CudaSharedMemoryStatusResponse> {
        Ok(Response::new(CudaSharedMemoryStatusResponse::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Reply<CudaSharedMemoryRegisterResponse> {
        Err(Error::NoCuda.into())
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Reply<CudaSharedMemoryUnregisterResponse> {
        Ok(Response::new(CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Reply<TraceSettingResponse> {
        let request = request.into_inner();
        let changes = request.settings.into_iter().map(|(name, setting)| (name, setting.value)).collect();
        let values = settings::trace(&self.0, &request.model_name, &changes)?;
        let value =
            |(name, value): (&str, _)| (name.to_owned(), trace_setting_response::SettingValue { value });
        Ok(Response::new(TraceSettingResponse { settings: values.into_iter().map(value).collect() }))
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Reply<LogSettingsResponse> {
        let changes = request.into_inner().settings.into_iter();
        let changes = changes.map(decode::log_setting).collect::<Result<Vec<_>, _>>()?;
        let values = settings::log(changes)?.into_iter();
        Ok(Response::new(LogSettingsResponse { settings: values.map(encode::log_setting).collect() }))
    }
}

/// Answers one request, and gives the name that its answer shall carry; an error before that is of no request.
async fn answer(
    app: &App,
    origin: Origin,
    tenant: Option<Arc<Tenant>>,
    request: ModelInferRequest,
    deadline: Option<Instant>,
) -> Result<(Result<ModelInferResponse, Error>, Option<String>), Error> {
    let mut transfer = decode::transfer(&app.regions, request, deadline)?;
    transfer.call.tenant = tenant;
    Ok(run(app, origin, transfer).await)
}

/// The same of a request that is decoded.
async fn run(
    app: &App,
    origin: Origin,
    mut transfer: Transfer,
) -> (Result<ModelInferResponse, Error>, Option<String>) {
    let mut watch = app.traces.watch(origin, &mut transfer.call);
    let mut answer = transfer.run(app, &mut watch.course).await.map(encode::response);
    let ended = watch.end(answer.as_ref().err());
    if let Ok(response) = &mut answer {
        response.id = ended.own_id;
    }
    (answer, ended.request_id)
}

fn check_repository(name: &str) -> Result<(), Error> {
    // Clients send either for "the" repository.
    if name.is_empty() || name == "default" {
        return Ok(());
    }
    Err(Error::invalid(format!("there is one repository, the default one; found `{}`", shown(name))))
}
