//! What a client shows the daemon, and how it knows the daemon.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};

use crate::ClientError;

/// Credentials for [`Client::connect_with`](crate::Client::connect_with).
#[derive(Clone, Default)]
pub struct Credentials {
    /// Certificates (PEM) of the authorities that vouch for the daemon; `None`: those that this system trusts.
    pub ca: Option<String>,
    /// This client's certificate and its key (PEM).
    pub identity: Option<(String, String)>,
    /// Sent with every call: one that the daemon's operator made, or a provider's (JWT).
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("token", &self.token.is_some())
            .finish()
    }
}

impl Credentials {
    /// Whether only TLS can carry them.
    pub(crate) fn need_tls(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    pub(crate) fn tls(&self) -> ClientTlsConfig {
        let config = match &self.ca {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }

    pub(crate) fn bearer(&self) -> Result<Bearer, ClientError> {
        let header = |token: &String| {
            let mut value: MetadataValue<Ascii> =
                format!("Bearer {}", token.trim()).parse().map_err(|_| ClientError::Token)?;
            value.set_sensitive(true);
            Ok::<_, ClientError>(value)
        };
        Ok(Bearer(self.token.as_ref().map(header).transpose()?))
    }
}

/// Adds the token, if there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
