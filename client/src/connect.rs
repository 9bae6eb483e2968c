//! The connection: one HTTP/2 channel that every call of a [`Client`] shares.

use std::time::Duration;

use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::{
    ServerLiveRequest, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
};
use ired_proto::ired::v1::compile_service_client::CompileServiceClient;
use ired_proto::ired::v1::device_service_client::DeviceServiceClient;
use ired_proto::ired::v1::model_service_client::ModelServiceClient;
use ired_proto::ired::v1::{Device, ListDevicesRequest};
use tonic::transport::{Channel, Endpoint};

use crate::ClientError;

/// How long a connection may take; a daemon on the other side of the world answers in less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer taken: outputs of one inference.
const MAX_ANSWER_BYTES: usize = 2 << 30;

/// A connection to a daemon. Cheap to clone; calls run concurrently.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inference: GrpcInferenceServiceClient<Channel>,
    pub(crate) models: ModelServiceClient<Channel>,
    pub(crate) compiler: CompileServiceClient<Channel>,
    devices: DeviceServiceClient<Channel>,
}

impl Client {
    /// Connects to the daemon's gRPC address: `host:port`, or a URL.
    ///
    /// # Errors
    /// [`ClientError::Address`] for what is no address, [`ClientError::Encrypted`] for `https://`,
    /// [`ClientError::Connect`] when nobody answers there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        // Nothing here encrypts: plain text must not go where the caller asked for TLS.
        if address.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")) {
            return Err(ClientError::Encrypted { address: address.to_owned() });
        }
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url)
            .map_err(|_| ClientError::Address { address: address.to_owned() })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let channel = endpoint
            .connect()
            .await
            .map_err(|cause| ClientError::Connect { address: address.to_owned(), cause })?;
        Ok(Self::over(channel))
    }

    /// Speaks over a channel that the caller made: TLS, a Unix socket, a balanced set of replicas.
    pub fn over(channel: Channel) -> Self {
        Self {
            inference: GrpcInferenceServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            models: ModelServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES),
            compiler: CompileServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES),
            devices: DeviceServiceClient::new(channel),
        }
    }

    /// Is the daemon up?
    pub async fn live(&self) -> Result<bool, ClientError> {
        Ok(self.inference.clone().server_live(ServerLiveRequest {}).await?.into_inner().live)
    }

    /// Has the daemon ended its start-up loads, and is it not stopping?
    pub async fn ready(&self) -> Result<bool, ClientError> {
        Ok(self.inference.clone().server_ready(ServerReadyRequest {}).await?.into_inner().ready)
    }

    /// Name, version and protocol extensions of the daemon.
    pub async fn server_metadata(&self) -> Result<ServerMetadataResponse, ClientError> {
        Ok(self.inference.clone().server_metadata(ServerMetadataRequest {}).await?.into_inner())
    }

    /// What the daemon can run models on.
    pub async fn devices(&self) -> Result<Vec<Device>, ClientError> {
        Ok(self.devices.clone().list_devices(ListDevicesRequest {}).await?.into_inner().devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_text_does_not_go_where_tls_is_asked_for() {
        for address in ["https://127.0.0.1:9", "HTTPS://127.0.0.1:9"] {
            let error = Client::connect(address).await.unwrap_err();
            assert!(matches!(error, ClientError::Encrypted { .. }), "{error:?}");
        }
    }
}
