//! TLS on every door: handshakes, certificates that are renewed, clients that show theirs.

use std::sync::Arc;
use std::time::Duration;

use ired::Daemon;
use ired::config::TlsSettings;
use ired_client::{Client, Credentials};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::scripted::{Place, Reply, World, request, split};
use crate::security::{ROLES, put, with_access};

/// An authority, and certificates that it made.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for a name, in PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A place with TLS from an authority.
fn with_tls(place: &mut Place, authority: &Authority) -> TlsSettings {
    let file = |name: &str| place.dir.path().join(name);
    let (certificate, key) = authority.issue("localhost");
    put(&file("server.pem"), &certificate);
    put(&file("server.key"), &key);
    put(&file("ca.pem"), &authority.pem());
    place.settings.tls = TlsSettings {
        certificate: Some(file("server.pem")),
        key: Some(file("server.key")),
        ..TlsSettings::default()
    };
    place.settings.tls.clone()
}

fn tls_client(authority: &Authority, identity: Option<&(String, String)>) -> Credentials {
    Credentials { ca: Some(authority.pem()), identity: identity.cloned(), ..Credentials::default() }
}

async fn connect(daemon: &Daemon, credentials: &Credentials) -> Result<Client, ired_client::ClientError> {
    Client::connect_with(&format!("https://localhost:{}", daemon.grpc.port()), credentials).await
}

fn rustls_client(
    authority: &Authority,
    identity: Option<&(String, String)>,
    alpn: &[&[u8]],
) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// One HTTP/1.1 request over TLS.
async fn https(
    address: std::net::SocketAddr,
    config: rustls::ClientConfig,
    path: &str,
) -> std::io::Result<Reply> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    split(&answer).ok_or_else(|| std::io::Error::other("no answer"))
}

#[tokio::test]
async fn both_doors_speak_tls_and_nothing_else() {
    let (mut place, authority) = (Place::new(&[("m.onnx", "")]), Authority::new());
    with_tls(&mut place, &authority);
    let daemon = place.start(&World::new()).await;
    let client = connect(&daemon, &tls_client(&authority, None)).await.unwrap();
    client.infer(request("m")).await.unwrap();
    let offers: [&[&[u8]]; 2] = [&[], &[b"http/1.1"]];
    for alpn in offers {
        let reply = https(daemon.http, rustls_client(&authority, None, alpn), "/v2/models/m").await.unwrap();
        assert_eq!((reply.status, reply.json()["name"].as_str()), (200, Some("m")));
    }
    let metrics = https(daemon.metrics, rustls_client(&authority, None, &[]), "/metrics").await.unwrap();
    assert_eq!(metrics.status, 200);
    // A gRPC client that offers no HTTP/2 is told so in the handshake.
    let refused = https(daemon.grpc, rustls_client(&authority, None, &[b"http/1.1"]), "/").await;
    assert!(refused.unwrap_err().to_string().contains("NoApplicationProtocol"));

    let stranger = Authority::new();
    assert!(connect(&daemon, &tls_client(&stranger, None)).await.is_err());
    let plain = Client::connect(&daemon.grpc.to_string()).await;
    assert!(plain.is_err() || plain.unwrap().live().await.is_err());
    daemon.stop().await;
}

#[tokio::test]
async fn a_handshake_that_is_not_made_ends() {
    let (mut place, authority) = (Place::new(&[]), Authority::new());
    with_tls(&mut place, &authority);
    place.settings.header_timeout_s = 1;
    place.settings.connections = 1;
    let daemon = place.start(&World::new()).await;
    let mut silent = TcpStream::connect(daemon.http).await.unwrap();
    let reply = https(daemon.http, rustls_client(&authority, None, &[]), "/v2/health/live").await.unwrap();
    assert_eq!(reply.status, 200, "the only place is free again");
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart_and_a_bad_one_changes_nothing() {
    let (mut place, authority) = (Place::new(&[("m.onnx", "")]), Authority::new());
    let files = with_tls(&mut place, &authority);
    let (certificate, key) = (files.certificate.unwrap(), files.key.unwrap());
    let daemon = place.start(&World::new()).await;
    let kept = connect(&daemon, &tls_client(&authority, None)).await.unwrap();

    put(&certificate, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
    daemon.reload();
    // There is nothing to wait for: what is unusable shows no effect.
    for _ in 0..20 {
        connect(&daemon, &tls_client(&authority, None)).await.unwrap();
    }

    let next = Authority::new();
    let (new_certificate, new_key) = next.issue("localhost");
    put(&key, &new_key);
    put(&certificate, &new_certificate);
    daemon.reload();
    let renewed = async {
        while connect(&daemon, &tls_client(&next, None)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("the new certificate is shown");
    assert!(connect(&daemon, &tls_client(&authority, None)).await.is_err());
    kept.infer(request("m")).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_refused_at_the_start() {
    let (mut place, authority) = (Place::new(&[]), Authority::new());
    let files = with_tls(&mut place, &authority);
    put(files.key.as_ref().unwrap(), &KeyPair::generate().unwrap().serialize_pem());
    let error = place.try_start(&World::new()).await.err().unwrap();
    assert!(format!("{error:#}").contains("server.key` is not the key of"), "{error:#}");
    std::fs::remove_file(files.key.unwrap()).unwrap();
    let error = place.try_start(&World::new()).await.err().unwrap();
    assert!(
        format!("{error:#}").contains("cannot read") && format!("{error:#}").contains("server.key"),
        "{error:#}"
    );
}

#[tokio::test]
async fn clients_are_known_by_their_certificates() {
    let (mut place, authority) = (Place::new(&[("m.onnx", ""), ("n.onnx", "")]), Authority::new());
    with_tls(&mut place, &authority);
    let access = "[[certificate]]\nname = \"*.batch.test\"\nroles = [\"reader\"]\n";
    with_access(&mut place, &format!("{ROLES}{access}"));
    let clients = Authority::new();
    let ca = place.dir.path().join("clients.pem");
    put(&ca, &clients.pem());
    place.settings.tls.client_ca = Some(ca);
    let daemon = place.start(&World::new()).await;

    let known = clients.issue("one.batch.test");
    let client = connect(&daemon, &tls_client(&authority, Some(&known))).await.unwrap();
    client.infer(request("m")).await.unwrap();
    assert_eq!(client.infer(request("n")).await.unwrap_err().code(), Some(Code::PermissionDenied));
    let at = |path: &'static str, identity: Option<(String, String)>| {
        let config = rustls_client(&authority, identity.as_ref(), &[]);
        https(daemon.http, config, path)
    };
    assert_eq!(at("/v2/models/m", Some(known.clone())).await.unwrap().status, 200);
    assert_eq!(at("/v2/models/n", Some(known)).await.unwrap().status, 403);

    let unknown = clients.issue("other.test");
    let client = connect(&daemon, &tls_client(&authority, Some(&unknown))).await.unwrap();
    assert_eq!(client.infer(request("m")).await.unwrap_err().code(), Some(Code::Unauthenticated));
    let without = connect(&daemon, &tls_client(&authority, None)).await.unwrap();
    assert_eq!(without.infer(request("m")).await.unwrap_err().code(), Some(Code::Unauthenticated));
    // Somebody else's authority is told in the handshake.
    let forged = Authority::new().issue("one.batch.test");
    let forged = connect(&daemon, &tls_client(&authority, Some(&forged))).await;
    assert!(forged.is_err() || forged.unwrap().live().await.is_err());
    daemon.stop().await;
}

#[tokio::test]
async fn without_a_certificate_nobody_is_let_in_where_one_is_required() {
    let (mut place, authority) = (Place::new(&[("m.onnx", "")]), Authority::new());
    with_tls(&mut place, &authority);
    let clients = Authority::new();
    let ca = place.dir.path().join("clients.pem");
    put(&ca, &clients.pem());
    place.settings.tls.client_ca = Some(ca);
    place.settings.tls.require_client_certificate = true;
    let daemon = place.start(&World::new()).await;
    let known = clients.issue("one.batch.test");
    let forged = Authority::new().issue("one.batch.test");

    let client = connect(&daemon, &tls_client(&authority, Some(&known))).await.unwrap();
    client.infer(request("m")).await.unwrap();
    for door in [daemon.http, daemon.metrics] {
        let path = if door == daemon.http { "/v2/models/m" } else { "/metrics" };
        let with = https(door, rustls_client(&authority, Some(&known), &[]), path).await.unwrap();
        assert_eq!(with.status, 200);
        let without = https(door, rustls_client(&authority, None, &[]), path).await.unwrap_err();
        assert!(without.to_string().contains("CertificateRequired"), "{without}");
        let wrong = https(door, rustls_client(&authority, Some(&forged), &[]), path).await;
        assert!(wrong.is_err(), "{wrong:?}");
    }
    // Health is open to everybody who is let in, so that it is the handshake which fails.
    for identity in [None, Some(&forged)] {
        let client = connect(&daemon, &tls_client(&authority, identity)).await;
        assert!(client.is_err() || client.unwrap().live().await.is_err());
        let grpc = https(daemon.grpc, rustls_client(&authority, identity, &[b"h2"]), "/").await;
        assert!(grpc.unwrap_err().to_string().contains("alert"));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_authority_of_clients_is_replaced_without_a_restart() {
    let (mut place, authority) = (Place::new(&[]), Authority::new());
    with_tls(&mut place, &authority);
    let (before, after) = (Authority::new(), Authority::new());
    let ca = place.dir.path().join("clients.pem");
    put(&ca, &before.pem());
    place.settings.tls.client_ca = Some(ca.clone());
    place.settings.tls.require_client_certificate = true;
    let daemon = place.start(&World::new()).await;
    // One configuration for all connections, which resume each other's sessions where they may.
    let old = rustls_client(&authority, Some(&before.issue("client.test")), &[]);
    let new = rustls_client(&authority, Some(&after.issue("client.test")), &[]);
    let ask = async |config: &rustls::ClientConfig| {
        https(daemon.http, config.clone(), "/v2/health/live").await.map(|reply| reply.status)
    };
    assert_eq!(ask(&old).await.unwrap(), 200);
    assert!(ask(&new).await.is_err());
    put(&ca, &after.pem());
    daemon.reload();
    let replaced = async {
        while ask(&new).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), replaced).await.expect("the new authority is taken");
    assert!(ask(&old).await.is_err(), "a session from before is worth nothing");
    daemon.stop().await;
}
