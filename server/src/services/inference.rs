//! `inference.GRPCInferenceService`: KServe v2 and Triton's extensions over gRPC.

mod decode;

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};
use ired_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use ired_proto::inference::*;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::auth::Admitted;
use crate::describe;
use crate::error::Error;
use crate::infer::Answer;
use crate::inline::Inline;
use crate::tensors::datatype;

/// Requests of one stream that run at once; their answers keep the order of the requests.
const STREAM_CONCURRENCY: usize = 16;

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
        Ok(Response::new(describe::server()))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Reply<ModelMetadataResponse> {
        let request = request.into_inner();
        let served = self.0.registry.find(&request.name, &request.version)?;
        Ok(Response::new(describe::metadata(&self.0.registry, &served)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Reply<ModelInferResponse> {
        let deadline = decode::deadline(request.metadata())?;
        let response = infer(&self.0, request.into_inner(), deadline).await?;
        Ok(Response::new(response))
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Reply<Self::ModelStreamInferStream> {
        let app = self.0.clone();
        let admitted = request.extensions().get::<Admitted>().cloned();
        let admitted = admitted.ok_or_else(|| Status::internal("the call passed no gate"))?;
        let answers = request.into_inner().map(move |request| {
            let (app, admitted) = (app.clone(), admitted.clone());
            async move {
                // What breaks the stream ends it; what is wrong with one request is its answer.
                let request = request?;
                let answer = match admitted.for_model(&request.model_name) {
                    Ok(()) => infer(&app, request, None).await,
                    Err(error) => Err(error),
                };
                Ok(match answer {
                    Ok(response) => ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(response),
                    },
                    Err(error) => {
                        ModelStreamInferResponse { error_message: error.to_string(), infer_response: None }
                    }
                })
            }
        });
        Ok(Response::new(answers.buffered(STREAM_CONCURRENCY).boxed()))
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
        inline.upload(&self.0, &request.model_name).await?;
        self.0.load(&request.model_name).await?;
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

    // A client that reads the status before or after its work finds no regions.
    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Reply<SystemSharedMemoryStatusResponse> {
        Ok(Response::new(SystemSharedMemoryStatusResponse::default()))
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Reply<SystemSharedMemoryRegisterResponse> {
        Err(no_shared_memory())
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Reply<SystemSharedMemoryUnregisterResponse> {
        Ok(Response::new(SystemSharedMemoryUnregisterResponse {}))
    }

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
        Err(no_shared_memory())
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Reply<CudaSharedMemoryUnregisterResponse> {
        Ok(Response::new(CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(&self, _: Request<TraceSettingRequest>) -> Reply<TraceSettingResponse> {
        Err(Status::unimplemented("trace settings cannot be read or changed at run time"))
    }

    async fn log_settings(&self, _: Request<LogSettingsRequest>) -> Reply<LogSettingsResponse> {
        Err(Status::unimplemented(
            "log settings cannot be changed at run time; use `--log` when starting ired",
        ))
    }
}

async fn infer(
    app: &App,
    request: ModelInferRequest,
    deadline: Option<std::time::Instant>,
) -> Result<ModelInferResponse, Error> {
    let call = decode::call(request, deadline)?;
    let id = call.id.clone();
    Ok(encode(app.inference.infer(call).await?, id))
}

fn encode(answer: Answer, id: String) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: answer.served.name.clone(),
        model_version: answer.served.version.to_string(),
        id,
        ..Default::default()
    };
    for tensor in answer.outputs {
        response.outputs.push(model_infer_response::InferOutputTensor {
            name: tensor.name,
            datatype: datatype(tensor.dtype).to_owned(),
            shape: tensor.dims.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
            ..Default::default()
        });
        response.raw_output_contents.push(tensor.data.into());
    }
    response
}

fn check_repository(name: &str) -> Result<(), Error> {
    // Clients send either for "the" repository.
    if name.is_empty() || name == "default" {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::invalid(format!("there is one repository, the default one; found `{}`", shown.escape_debug())))
}

fn no_shared_memory() -> Status {
    Status::unimplemented("shared memory regions are not supported; send tensors in the request")
}
