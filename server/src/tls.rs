//! TLS on the doors: certificates from files, read again when they change, and who a client's certificate names.

mod names;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsSettings;
use crate::reload::{Files, Reloaded, Source};
use crate::serve::Protocol;

/// Where certificates and keys come from.
#[derive(Debug)]
pub(crate) struct TlsFiles(TlsSettings);

/// What a handshake needs, for each protocol.
pub(crate) struct Handshakes {
    grpc: Arc<ServerConfig>,
    rest: Arc<ServerConfig>,
}

/// TLS as the settings say.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) files: Arc<Reloaded<TlsFiles>>,
}

impl Tls {
    /// `None` where the settings name no certificate.
    ///
    /// # Errors
    /// Files that cannot be read or do not belong together.
    pub(crate) fn open(settings: &TlsSettings) -> anyhow::Result<Option<Self>> {
        if settings.certificate.is_none() {
            return Ok(None);
        }
        let files = Reloaded::open(TlsFiles(settings.clone())).context("TLS cannot be set up")?;
        Ok(Some(Self { files: Arc::new(files) }))
    }

    /// Shakes hands; gives the names in the client's certificate, if it showed one.
    pub(crate) async fn accept(
        &self,
        protocol: Protocol,
        stream: TcpStream,
        patience: Duration,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Arc<[String]>>)> {
        let handshakes = self.files.current();
        let config = match protocol {
            Protocol::Grpc => &handshakes.grpc,
            Protocol::Rest => &handshakes.rest,
        };
        let handshake = TlsAcceptor::from(config.clone()).accept(stream);
        let stream =
            tokio::time::timeout(patience, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = certificate.map(|certificate| names::of(certificate).into());
        Ok((stream, names))
    }
}

impl Source for TlsFiles {
    type Value = Handshakes;
    const NAME: &'static str = "the certificates for TLS";

    fn read(&self, files: &mut Files) -> anyhow::Result<Handshakes> {
        let Self(settings) = self;
        let (Some(certificate_file), Some(key_file)) = (&settings.certificate, &settings.key) else {
            bail!("there is no certificate or no key");
        };
        // All of them before any is judged: each change of one is seen.
        let (certificate, key) = (files.read(certificate_file), files.read(key_file));
        let client_ca = settings.client_ca.as_ref().map(|path| (path, files.read(path)));
        let chain = certificates(&certificate?)
            .with_context(|| format!("`{}` has no certificate in PEM", certificate_file.display()))?;
        let key = PrivateKeyDer::from_pem_slice(&key?).map_err(|error| {
            anyhow::anyhow!("`{}` has no private key in PEM: {error}", key_file.display())
        })?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("no version of TLS is offered")?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some((path, content)) => {
                let unusable = || format!("`{}` has no usable certificate of an authority", path.display());
                let mut roots = RootCertStore::empty();
                for certificate in certificates(&content?).with_context(unusable)? {
                    roots.add(certificate).with_context(unusable)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match settings.require_client_certificate {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().with_context(unusable)?)
            }
        };
        let config = builder.with_single_cert(chain, key).with_context(|| {
            format!("`{}` is not the key of `{}`", key_file.display(), certificate_file.display())
        })?;
        let speaking = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Handshakes { grpc: speaking(&[b"h2"]), rest: speaking(&[b"h2", b"http/1.1"]) })
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!("not PEM: {error}"))?;
    ensure!(!found.is_empty(), "found none");
    Ok(found)
}
