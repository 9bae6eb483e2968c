//! The connection: one HTTP/2 channel that every call of a [`Client`] shares.

use std::time::Duration;

use ired_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use ired_proto::inference::{
    ServerLiveRequest, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
};
use ired_proto::ired::v1::activity_service_client::ActivityServiceClient;
use ired_proto::ired::v1::compile_service_client::CompileServiceClient;
use ired_proto::ired::v1::device_service_client::DeviceServiceClient;
use ired_proto::ired::v1::model_service_client::ModelServiceClient;
use ired_proto::ired::v1::trace_service_client::TraceServiceClient;
use ired_proto::ired::v1::{Device, ListDevicesRequest};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::ClientError;
use crate::credentials::{Bearer, Credentials};

/// How long a connection may take; a daemon on the other side of the world answers in less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer taken: outputs of one inference.
const MAX_ANSWER_BYTES: usize = 2 << 30;

/// How calls travel: over the channel, with the token.
type Road = InterceptedService<Channel, Bearer>;

/// A connection to a daemon. Cheap to clone; calls run concurrently.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inference: GrpcInferenceServiceClient<Road>,
    pub(crate) models: ModelServiceClient<Road>,
    pub(crate) compiler: CompileServiceClient<Road>,
    pub(crate) traces: TraceServiceClient<Road>,
    pub(crate) activity: ActivityServiceClient<Road>,
    devices: DeviceServiceClient<Road>,
}

impl Client {
    /// Connects to the daemon's gRPC address: `host:port`, or a URL, whose `https` is TLS.
    ///
    /// # Errors
    /// [`ClientError::Address`] for what is no address, [`ClientError::Connect`] when nobody answers there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(address, &Credentials::default()).await
    }

    /// Connects with credentials. An address that says neither `http` nor `https` is TLS where they need it.
    ///
    /// # Errors
    /// As [`Client::connect`], and [`ClientError::Plain`] where credentials need TLS and the address is without,
    /// [`ClientError::Tls`] for certificates that are none, [`ClientError::Token`].
    pub async fn connect_with(address: &str, credentials: &Credentials) -> Result<Self, ClientError> {
        let is_http =
            |scheme: &str| address.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
        let encrypted = is_http("https://") || credentials.need_tls();
        let url = match address.contains("://") {
            true => address.to_owned(),
            false => format!("{}://{address}", if encrypted { "https" } else { "http" }),
        };
        if is_http("http://") && credentials.need_tls() {
            return Err(ClientError::Plain { address: address.to_owned() });
        }
        let mut endpoint = Endpoint::from_shared(url)
            .map_err(|_| ClientError::Address { address: address.to_owned() })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        if encrypted {
            endpoint = endpoint.tls_config(credentials.tls()).map_err(|cause| ClientError::Tls { cause })?;
        }
        let channel = endpoint
            .connect()
            .await
            .map_err(|cause| ClientError::Connect { address: address.to_owned(), cause })?;
        Ok(Self::on(channel, credentials.bearer()?))
    }

    /// Speaks over a channel that the caller made: a Unix socket, a balanced set of replicas.
    pub fn over(channel: Channel) -> Self {
        Self::on(channel, Bearer::default())
    }

    fn on(channel: Channel, bearer: Bearer) -> Self {
        let road = InterceptedService::new(channel, bearer);
        Self {
            inference: GrpcInferenceServiceClient::new(road.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            models: ModelServiceClient::new(road.clone()).max_decoding_message_size(MAX_ANSWER_BYTES),
            compiler: CompileServiceClient::new(road.clone()).max_decoding_message_size(MAX_ANSWER_BYTES),
            traces: TraceServiceClient::new(road.clone()).max_decoding_message_size(MAX_ANSWER_BYTES),
            activity: ActivityServiceClient::new(road.clone()).max_decoding_message_size(MAX_ANSWER_BYTES),
            devices: DeviceServiceClient::new(road),
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

    /// The first byte that whoever listens at an address is sent.
    async fn first_byte(url: impl FnOnce(std::net::SocketAddr) -> String, credentials: Credentials) -> u8 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url(listener.local_addr().unwrap());
        let connecting =
            tokio::spawn(async move { Client::connect_with(&url, &credentials).await.map(drop) });
        let (mut stream, _) = listener.accept().await.unwrap();
        let byte = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
        drop(stream);
        assert!(connecting.await.unwrap().is_err(), "nobody answered");
        byte
    }

    #[tokio::test]
    async fn plain_text_does_not_go_where_tls_is_asked_for() {
        const HANDSHAKE: u8 = 22;
        for scheme in ["https://", "HTTPS://"] {
            let first = first_byte(|address| format!("{scheme}{address}"), Credentials::default()).await;
            assert_eq!(first, HANDSHAKE);
        }
    }

    #[tokio::test]
    async fn credentials_for_tls_are_not_dropped_on_plain_roads() {
        let credentials = Credentials { ca: Some(String::new()), ..Credentials::default() };
        let error = Client::connect_with("http://127.0.0.1:9", &credentials).await.unwrap_err();
        assert!(matches!(error, ClientError::Plain { .. }), "{error:?}");
        let token = Credentials { token: Some("two\nlines".to_owned()), ..Credentials::default() };
        assert!(!format!("{token:?}").contains("lines"));
        assert!(matches!(token.bearer(), Err(ClientError::Token)));
    }
}
