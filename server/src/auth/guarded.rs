//! Services behind the gate. Messages say which model a call is about; here each method says which field does.

use ired_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use ired_proto::inference::*;
use ired_proto::ired::v1::activity_service_server::ActivityService;
use ired_proto::ired::v1::compile_service_server::CompileService;
use ired_proto::ired::v1::device_service_server::DeviceService;
use ired_proto::ired::v1::model_service_server::ModelService;
use ired_proto::ired::v1::trace_service_server::TraceService;
use ired_proto::ired::v1::*;
use tonic::{Request, Response, Status, Streaming};

use super::Admitted;

/// A service whose calls are checked. Every method is written out, so that none is let through unseen.
pub(crate) struct Guarded<S>(pub(crate) S);

/// Whether the call may be about this model.
fn check<T>(request: &Request<T>, model: impl FnOnce(&T) -> &str) -> Result<(), Status> {
    Ok(Admitted::of(request)?.for_model(model(request.get_ref()))?)
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl<S: GrpcInferenceService> GrpcInferenceService for Guarded<S> {
    async fn server_live(&self, request: Request<ServerLiveRequest>) -> Reply<ServerLiveResponse> {
        self.0.server_live(request).await
    }

    async fn server_ready(&self, request: Request<ServerReadyRequest>) -> Reply<ServerReadyResponse> {
        self.0.server_ready(request).await
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Reply<ModelReadyResponse> {
        check(&request, |request| &request.name)?;
        self.0.model_ready(request).await
    }

    async fn server_metadata(
        &self,
        request: Request<ServerMetadataRequest>,
    ) -> Reply<ServerMetadataResponse> {
        self.0.server_metadata(request).await
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Reply<ModelMetadataResponse> {
        check(&request, |request| &request.name)?;
        self.0.model_metadata(request).await
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Reply<ModelInferResponse> {
        check(&request, |request| &request.model_name)?;
        self.0.model_infer(request).await
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Reply<ModelConfigResponse> {
        check(&request, |request| &request.name)?;
        self.0.model_config(request).await
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Reply<RepositoryModelLoadResponse> {
        check(&request, |request| &request.model_name)?;
        self.0.repository_model_load(request).await
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Reply<RepositoryModelUnloadResponse> {
        check(&request, |request| &request.model_name)?;
        self.0.repository_model_unload(request).await
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Reply<SystemSharedMemoryStatusResponse> {
        self.0.system_shared_memory_status(request).await
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Reply<SystemSharedMemoryRegisterResponse> {
        self.0.system_shared_memory_register(request).await
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Reply<SystemSharedMemoryUnregisterResponse> {
        self.0.system_shared_memory_unregister(request).await
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<CudaSharedMemoryStatusRequest>,
    ) -> Reply<CudaSharedMemoryStatusResponse> {
        self.0.cuda_shared_memory_status(request).await
    }

    async fn cuda_shared_memory_register(
        &self,
        request: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Reply<CudaSharedMemoryRegisterResponse> {
        self.0.cuda_shared_memory_register(request).await
    }

    async fn cuda_shared_memory_unregister(
        &self,
        request: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Reply<CudaSharedMemoryUnregisterResponse> {
        self.0.cuda_shared_memory_unregister(request).await
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Reply<TraceSettingResponse> {
        self.0.trace_setting(request).await
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Reply<LogSettingsResponse> {
        self.0.log_settings(request).await
    }

    type ModelStreamInferStream = S::ModelStreamInferStream;

    /// Each message names a model: the service checks each as it comes.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Reply<Self::ModelStreamInferStream> {
        self.0.model_stream_infer(request).await
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Reply<ModelStatisticsResponse> {
        let admitted = Admitted::of(&request)?.clone();
        if !request.get_ref().name.is_empty() {
            admitted.for_model(&request.get_ref().name)?;
        }
        let mut response = self.0.model_statistics(request).await?;
        response.get_mut().model_stats.retain(|model| admitted.caller.sees(&model.name));
        Ok(response)
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Reply<RepositoryIndexResponse> {
        let caller = Admitted::of(&request)?.caller.clone();
        let mut response = self.0.repository_index(request).await?;
        response.get_mut().models.retain(|model| caller.sees(&model.name));
        Ok(response)
    }
}

#[tonic::async_trait]
impl<S: ModelService> ModelService for Guarded<S> {
    /// The first message names the model: the service checks it.
    async fn upload_model(
        &self,
        request: Request<Streaming<UploadModelRequest>>,
    ) -> Reply<UploadModelResponse> {
        self.0.upload_model(request).await
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Reply<ListModelsResponse> {
        let caller = Admitted::of(&request)?.caller.clone();
        let mut response = self.0.list_models(request).await?;
        response.get_mut().models.retain(|model| caller.sees(&model.name));
        Ok(response)
    }

    async fn delete_model(&self, request: Request<DeleteModelRequest>) -> Reply<DeleteModelResponse> {
        check(&request, |request| &request.name)?;
        self.0.delete_model(request).await
    }

    async fn set_label(&self, request: Request<SetLabelRequest>) -> Reply<SetLabelResponse> {
        check(&request, |request| &request.name)?;
        self.0.set_label(request).await
    }

    async fn delete_label(&self, request: Request<DeleteLabelRequest>) -> Reply<DeleteLabelResponse> {
        check(&request, |request| &request.name)?;
        self.0.delete_label(request).await
    }
}

#[tonic::async_trait]
impl<S: CompileService> CompileService for Guarded<S> {
    type CompileStream = S::CompileStream;

    async fn compile(&self, request: Request<CompileRequest>) -> Reply<Self::CompileStream> {
        check(&request, |request| named(request.model.as_ref()))?;
        self.0.compile(request).await
    }

    type GetModuleStream = S::GetModuleStream;

    async fn get_module(&self, request: Request<GetModuleRequest>) -> Reply<Self::GetModuleStream> {
        check(&request, |request| named(request.model.as_ref()))?;
        self.0.get_module(request).await
    }
}

/// A call about no model is its service's to refuse.
fn named(model: Option<&ModelRef>) -> &str {
    model.map_or("", |model| &model.name)
}

#[tonic::async_trait]
impl<S: DeviceService> DeviceService for Guarded<S> {
    async fn list_devices(&self, request: Request<ListDevicesRequest>) -> Reply<ListDevicesResponse> {
        let caller = Admitted::of(&request)?.caller.clone();
        let mut response = self.0.list_devices(request).await?;
        for device in &mut response.get_mut().devices {
            // They are `name/version`, and no name has a slash.
            let name = |model: &String| model.split('/').next().unwrap_or_default().to_owned();
            device.models.retain(|model| caller.sees(&name(model)));
        }
        Ok(response)
    }
}

/// Which model a trace is of is known once it is found: the service shows only what the caller may see.
#[tonic::async_trait]
impl<S: TraceService> TraceService for Guarded<S> {
    async fn list_traces(&self, request: Request<ListTracesRequest>) -> Reply<ListTracesResponse> {
        self.0.list_traces(request).await
    }

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Reply<GetTraceResponse> {
        self.0.get_trace(request).await
    }

    async fn profile_model(&self, request: Request<ProfileModelRequest>) -> Reply<ProfileModelResponse> {
        check(&request, |request| &request.model)?;
        self.0.profile_model(request).await
    }
}

#[tonic::async_trait]
impl<S: ActivityService> ActivityService for Guarded<S> {
    async fn get_activity(&self, request: Request<GetActivityRequest>) -> Reply<GetActivityResponse> {
        let caller = Admitted::of(&request)?.caller.clone();
        let mut response = self.0.get_activity(request).await?;
        response.get_mut().models.retain(|model| caller.sees(&model.name));
        Ok(response)
    }
}
