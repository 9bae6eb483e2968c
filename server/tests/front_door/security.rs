//! The doors with locks: TLS, tokens, certificates, roles, and the record of what was refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ired::Daemon;
use ired::auth::Token;
use ired::config::{AuditSettings, AuthSettings, Open, TlsSettings};
use ired_client::{Client, Credentials, Upload, UploadFile};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::scripted::{Place, Reply, World, http, request, split};

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

/// Writes a file that appears at once, as tools that renew certificates do.
fn put(path: &Path, content: &str) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content).unwrap();
    std::fs::rename(temporary, path).unwrap();
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

/// A place whose access file has this text.
pub(crate) fn with_access(place: &mut Place, text: &str) -> PathBuf {
    let path = place.dir.path().join("access.toml");
    put(&path, text);
    place.settings.auth = AuthSettings { access: Some(path.clone()), ..AuthSettings::default() };
    path
}

pub(crate) fn token(name: &str, role: &str) -> (String, String) {
    let token = Token::generate().unwrap();
    (token.to_string(), token.entry(name, &[role.to_owned()]))
}

pub(crate) const ROLES: &str = r#"
[[role]]
name = "reader"
infer = ["m*"]

[[role]]
name = "deployer"
load = ["m*"]

[[role]]
name = "admin"
admin = ["*"]

[[role]]
name = "monitor"
see = ["*"]
"#;

async fn client(daemon: &Daemon, token: &str) -> Client {
    let credentials = Credentials { token: Some(token.to_owned()), ..Credentials::default() };
    Client::connect_with(&daemon.grpc.to_string(), &credentials).await.unwrap()
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
async fn roles_decide_over_grpc_and_rest_alike() {
    let mut place = Place::new(&[("m1.onnx", ""), ("m2.onnx", ""), ("other.onnx", "")]);
    let people =
        ["reader", "deployer", "admin", "monitor"].map(|role| (role, token(&format!("a {role}"), role)));
    let entries: String = people.iter().map(|(_, (_, entry))| entry.as_str()).collect();
    with_access(&mut place, &format!("{ROLES}{entries}"));
    let world = World::new();
    let daemon = place.start(&world).await;
    let token_of = |role: &str| people.iter().find(|(known, _)| *known == role).unwrap().1.0.clone();
    let denied = Some(Code::PermissionDenied);

    let reader = client(&daemon, &token_of("reader")).await;
    reader.infer(request("m1")).await.unwrap();
    reader.model_metadata("m1", None).await.unwrap();
    assert_eq!(reader.infer(request("other")).await.unwrap_err().code(), denied);
    assert_eq!(reader.infer(request("nobody")).await.unwrap_err().code(), denied, "as if it were there");
    assert_eq!(reader.load("m1").await.unwrap_err().code(), denied);
    assert_eq!(reader.delete("m1", None).await.unwrap_err().code(), denied);
    let seen =
        |models: Vec<ired_client::proto::Model>| models.into_iter().map(|m| m.name).collect::<Vec<_>>();
    assert_eq!(seen(reader.models().await.unwrap()), ["m1", "m2"]);
    assert_eq!(reader.devices().await.unwrap()[0].models.len(), 2);

    let deployer = client(&daemon, &token_of("deployer")).await;
    deployer.load("m1").await.unwrap();
    assert_eq!(deployer.infer(request("m1")).await.unwrap_err().code(), denied);
    let source = place.dir.path().join("x");
    std::fs::write(&source, "").unwrap();
    let upload = |name: &str| Upload {
        name: name.to_owned(),
        version: None,
        files: vec![UploadFile { path: "model.onnx".to_owned(), source: source.clone() }],
    };
    deployer.upload(upload("m3"), |_| {}).await.unwrap();
    assert_eq!(deployer.upload(upload("x"), |_| {}).await.unwrap_err().code(), denied);
    assert_eq!(reader.upload(upload("m3"), |_| {}).await.unwrap_err().code(), denied);

    let admin = client(&daemon, &token_of("admin")).await;
    admin.infer(request("other")).await.unwrap();
    assert_eq!(admin.delete("m3", None).await.unwrap(), [1]);

    let get = |path: &'static str, role: &'static str| {
        let bearer = format!("bearer {}", token_of(role));
        async move { http(daemon.http, "GET", path, &[("Authorization", &bearer)], b"").await }
    };
    assert_eq!(get("/v2/models/m1", "reader").await.status, 200);
    assert_eq!(get("/v2/models/other", "reader").await.status, 403);
    assert_eq!(get("/v2/models/%6fther", "reader").await.status, 403, "the name is what the path decodes to");
    assert_eq!(get("/v2/models/other/versions/1/config", "monitor").await.status, 200);
    assert_eq!(get("/v2/systemsharedmemory/status", "reader").await.status, 403);
    assert_eq!(get("/v2/systemsharedmemory/status", "admin").await.status, 200);
    let stats = get("/v2/models/stats", "reader").await.json();
    assert_eq!(stats["model_stats"].as_array().unwrap().len(), 2);
    let bearer = format!("Bearer {}", token_of("reader"));
    let index = http(daemon.http, "POST", "/v2/repository/index", &[("Authorization", &bearer)], b"").await;
    assert_eq!(index.json().as_array().unwrap().len(), 2);
    let unload = "/v2/repository/models/m1/unload";
    let reply = http(daemon.http, "POST", unload, &[("Authorization", &bearer)], b"").await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.error(), "`a reader` has no role with permission `load` for model `m1`");
    let metrics = |role: &'static str| {
        let bearer = format!("Bearer {}", token_of(role));
        async move { http(daemon.metrics, "GET", "/metrics", &[("Authorization", &bearer)], b"").await.status }
    };
    assert_eq!((metrics("reader").await, metrics("monitor").await), (403, 200));
    daemon.stop().await;
}

#[tokio::test]
async fn strangers_are_told_to_say_who_they_are() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let (good, entry) = token("somebody", "reader");
    let (expired, expired_entry) = token("late", "reader");
    with_access(&mut place, &format!("{ROLES}{entry}{expired_entry}expires = 2020-01-01T00:00:00Z\n"));
    let daemon = place.start(&World::new()).await;
    let infer = "/v2/models/m/infer";
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    for (headers, why) in [
        (vec![], "there are no credentials"),
        (vec![("Authorization", "Basic YTpi".to_owned())], "is not `Bearer`"),
        (vec![("Authorization", "Bearer".to_owned())], "is not `Bearer`"),
        (vec![("Authorization", "Bearer x.y.z".to_owned())], "not known here"),
        (vec![("Authorization", format!("Bearer {flipped}"))], "not known here"),
        (vec![("Authorization", format!("Bearer {expired}"))], "has expired"),
        (
            vec![("Authorization", format!("Bearer {good}")), ("Authorization", format!("Bearer {expired}"))],
            "several",
        ),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = http(daemon.http, "POST", infer, &headers, b"{}").await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{why}");
        assert!(reply.error().contains(why), "{why}: {}", reply.error());
        assert_eq!(http(daemon.http, "GET", "/v2/nothing", &headers, b"").await.status, 401);
    }
    let client = Client::connect(&daemon.grpc.to_string()).await.unwrap();
    assert_eq!(client.infer(request("m")).await.unwrap_err().code(), Some(Code::Unauthenticated));
    assert_eq!(client.server_metadata().await.unwrap_err().code(), Some(Code::Unauthenticated));
    // Load balancers have no credentials.
    assert!(client.live().await.unwrap() && client.ready().await.unwrap());
    assert_eq!(http(daemon.http, "GET", "/v2/health/ready", &[], b"").await.status, 200);
    assert_eq!(http(daemon.metrics, "GET", "/metrics", &[], b"").await.status, 401);
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_open_is_a_setting() {
    let mut place = Place::new(&[]);
    with_access(&mut place, ROLES);
    place.settings.auth.open = vec![Open::Metrics];
    let daemon = place.start(&World::new()).await;
    assert_eq!(http(daemon.metrics, "GET", "/metrics", &[], b"").await.status, 200);
    assert_eq!(http(daemon.http, "GET", "/v2/health/live", &[], b"").await.status, 401);
    daemon.stop().await;
}

#[tokio::test]
async fn the_access_file_is_read_again() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let (text, entry) = token("somebody", "reader");
    let file = with_access(&mut place, &format!("{ROLES}{entry}"));
    let daemon = place.start(&World::new()).await;
    let client = client(&daemon, &text).await;
    client.infer(request("m")).await.unwrap();
    put(&file, "[[role]]\nnmae = \"reader\"\n");
    daemon.reload();
    for _ in 0..20 {
        client.infer(request("m")).await.unwrap();
    }
    put(&file, ROLES);
    daemon.reload();
    let revoked = async {
        while client.infer(request("m")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), revoked).await.expect("the token is revoked");
    assert_eq!(client.infer(request("m")).await.unwrap_err().code(), Some(Code::Unauthenticated));
    daemon.stop().await;
}

#[tokio::test]
async fn an_access_file_with_a_mistake_is_refused_with_its_place() {
    for (text, expected) in [
        ("[[role]]\nnmae = \"x\"\n", "access.toml:2:1: unknown field `nmae`"),
        (
            "[[token]]\nname = \"t\"\nid = \"1\"\nhash = \"x\"\nroles = []\n",
            "token `t`: `hash` is not `blake3:`",
        ),
        ("[[certificate]]\nname = \"*\"\nroles = [\"r\"]\n", "certificate `*`: there is no role `r`"),
        ("[[role]]\nname = \"r\"\n[[role]]\nname = \"r\"\n", "role `r` is there twice"),
        ("[[role]]\nname = \"r\"\ninfer = [\"[\"]\n", "role `r`"),
        ("[jwt]\nkeys = \"none.json\"\nissuer = \"i\"\naudience = \"a\"\n", "cannot read"),
    ] {
        let mut place = Place::new(&[]);
        with_access(&mut place, text);
        let error = place.try_start(&World::new()).await.err().unwrap();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

#[tokio::test]
async fn other_machines_are_not_served_unless_somebody_decides_who() {
    let mut place = Place::new(&[]);
    place.settings.grpc = "0.0.0.0:0".to_owned();
    let error = place.try_start(&World::new()).await.err().unwrap().to_string();
    assert!(error.contains("gRPC would listen on 0.0.0.0") && error.contains("`auth.access`"), "{error}");
    place.settings.auth.anonymous_network = true;
    place.start(&World::new()).await.stop().await;
    place.settings.auth.anonymous_network = false;
    with_access(&mut place, ROLES);
    place.start(&World::new()).await.stop().await;
}

/// A provider's keys, and what signs for them.
struct Provider {
    jwks: String,
    keys: Vec<(Algorithm, Option<&'static str>, EncodingKey)>,
}

impl Provider {
    fn new() -> Self {
        use rustls::pki_types::PrivatePkcs8KeyDer;
        let pkcs8 = |key: &KeyPair| PrivatePkcs8KeyDer::from(key.serialize_der());
        let base64 =
            |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
        let ec = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let point = ec.public_key_raw();
        let (modulus, exponent) = rsa_numbers(rsa.public_key_raw());
        let secret = [7; 32];
        let jwks = serde_json::json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "ec", "x": base64(&point[1..33]), "y": base64(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "x": base64(ed.public_key_raw()) },
            { "kty": "RSA", "kid": "rsa", "alg": "RS256", "n": base64(modulus), "e": base64(exponent) },
            { "kty": "oct", "kid": "hs", "k": base64(&secret) },
        ] });
        let rsa_der = rsa_private(pkcs8(&rsa).secret_pkcs8_der()).to_vec();
        let keys = vec![
            (Algorithm::ES256, Some("ec"), EncodingKey::from_ec_der(pkcs8(&ec).secret_pkcs8_der())),
            (Algorithm::EdDSA, Some("ed"), EncodingKey::from_ed_der(pkcs8(&ed).secret_pkcs8_der())),
            (Algorithm::RS256, None, EncodingKey::from_rsa_der(&rsa_der)),
            (Algorithm::HS256, Some("hs"), EncodingKey::from_secret(&secret)),
        ];
        Self { jwks: jwks.to_string(), keys }
    }

    fn sign(&self, at: usize, claims: &serde_json::Value) -> String {
        let (algorithm, id, key) = &self.keys[at];
        let header = Header { kid: id.map(str::to_owned), ..Header::new(*algorithm) };
        jsonwebtoken::encode(&header, claims, key).unwrap()
    }
}

/// One element of DER: its content and what follows.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..=127 => (short as usize, 2),
        long => {
            let count = (long & 127) as usize;
            (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | *byte as usize), 2 + count)
        }
    };
    (&der[start..start + length], &der[start + length..])
}

/// Modulus and exponent of an RSA public key.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let (modulus, rest) = element(element(der).0);
    (modulus.strip_prefix(&[0]).unwrap_or(modulus), element(rest).0)
}

/// The RSA key within PKCS #8.
fn rsa_private(der: &[u8]) -> &[u8] {
    let (_version, rest) = element(element(der).0);
    let (_algorithm, rest) = element(rest);
    element(rest).0
}

#[tokio::test]
async fn tokens_of_a_provider_are_taken_while_they_hold() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let jwt =
        "[jwt]\nkeys = \"jwks.json\"\nissuer = \"https://id.test\"\naudience = \"ired\"\nleeway_s = 0\n";
    with_access(&mut place, &format!("{ROLES}{jwt}"));
    let provider = Provider::new();
    put(&place.dir.path().join("jwks.json"), &provider.jwks);
    let daemon = place.start(&World::new()).await;
    let now = jsonwebtoken::get_current_timestamp();
    let sound = serde_json::json!({
        "iss": "https://id.test", "aud": ["ired", "x"], "sub": "eva", "exp": now + 600, "roles": ["reader", "unknown"],
    });
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = sound.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = sound.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    for at in 0..provider.keys.len() {
        let token = provider.sign(at, &sound);
        client(&daemon, &token).await.infer(request("m")).await.unwrap();
        client(&daemon, &token).await.infer(request("m")).await.unwrap();
        let load = client(&daemon, &token).await.load("m").await.unwrap_err();
        assert_eq!(load.code(), Some(Code::PermissionDenied));
        assert!(load.to_string().contains("`eva`"), "{load}");
    }
    let words = provider.sign(0, &with("roles", "x reader".into()));
    client(&daemon, &words).await.infer(request("m")).await.unwrap();
    let none = client(&daemon, &provider.sign(0, &without("roles"))).await.infer(request("m")).await;
    assert_eq!(none.unwrap_err().code(), Some(Code::PermissionDenied));

    let mut refused = vec![
        provider.sign(0, &with("exp", (now - 10).into())),
        provider.sign(0, &with("exp", "9999999999".into())),
        provider.sign(0, &with("nbf", (now + 500).into())),
        provider.sign(0, &with("iss", "https://other.test".into())),
        provider.sign(0, &with("aud", "other".into())),
        provider.sign(0, &with("sub", 7.into())),
    ];
    refused.extend(["exp", "iss", "aud", "sub"].map(|claim| provider.sign(0, &without(claim))));
    // Another key's signature, none at all, and a public key taken for a secret.
    refused.push(Provider::new().sign(0, &sound));
    let (_, payload) =
        provider.sign(0, &sound).split_once('.').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let payload = payload.split('.').next().unwrap().to_owned();
    refused.push(format!("eyJhbGciOiJub25lIn0.{payload}."));
    let header = Header { kid: Some("ed".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused = EncodingKey::from_secret(provider.jwks.as_bytes());
    refused.push(jsonwebtoken::encode(&header, &sound, &confused).unwrap());
    for token in refused {
        let error = client(&daemon, &token).await.infer(request("m")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Unauthenticated), "{token}: {error}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_token_that_was_remembered_expires_all_the_same() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let jwt = "[jwt]\nkeys = \"jwks.json\"\nissuer = \"i\"\naudience = \"a\"\nleeway_s = 0\n";
    with_access(&mut place, &format!("{ROLES}{jwt}"));
    let provider = Provider::new();
    put(&place.dir.path().join("jwks.json"), &provider.jwks);
    let daemon = place.start(&World::new()).await;
    let expires = jsonwebtoken::get_current_timestamp() + 3;
    let claims = serde_json::json!({"iss": "i", "aud": "a", "sub": "s", "exp": expires, "roles": "reader"});
    let client = client(&daemon, &provider.sign(1, &claims)).await;
    let expired = async {
        while client.infer(request("m")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), expired).await.expect("it expires");
    assert!(jsonwebtoken::get_current_timestamp() >= expires);
    daemon.stop().await;
}

#[tokio::test]
async fn what_was_refused_and_what_changed_is_on_record() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let (reader, reader_entry) = token("ann", "reader");
    let (admin, admin_entry) = token("bob", "admin");
    with_access(&mut place, &format!("{ROLES}{reader_entry}{admin_entry}"));
    let log = place.dir.path().join("audit.log");
    place.settings.audit = AuditSettings { file: Some(log.clone()), ..AuditSettings::default() };
    let daemon = place.start(&World::new()).await;
    let (ann, bob) = (client(&daemon, &reader).await, client(&daemon, &admin).await);
    ann.infer(request("m")).await.unwrap();
    ann.infer(request("secret")).await.unwrap_err();
    bob.load("m").await.unwrap();
    bob.load("missing").await.unwrap_err();
    let model = |name: &str| ired_client::proto::ModelRef { name: name.to_owned(), version: 0 };
    bob.compile(model("m"), &[]).await.unwrap().finish(|_| {}).await.unwrap();
    http(daemon.http, "GET", "/v2/models/m", &[], b"").await;
    let bearer = format!("Bearer {admin}");
    http(daemon.http, "POST", "/v2/repository/models/m/unload", &[("Authorization", &bearer)], b"").await;
    daemon.stop().await;

    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            let call = text("call");
            (text("caller"), call.rsplit('/').next().unwrap().to_owned(), text("model"), text("outcome"))
        })
        .collect();
    let told: Vec<_> =
        told.iter().map(|(a, b, c, d)| (a.as_str(), b.as_str(), c.as_str(), d.as_str())).collect();
    assert_eq!(
        told,
        [
            ("ann", "ModelInfer", "secret", "PermissionDenied"),
            ("bob", "RepositoryModelLoad", "m", "ok"),
            ("bob", "RepositoryModelLoad", "missing", "NotFound"),
            ("bob", "Compile", "m", "ok"),
            ("-", "m", "-", "Unauthenticated"),
            ("bob", "unload", "m", "ok"),
        ]
    );
    assert!(lines.iter().all(|line| line["address"].as_str().unwrap().starts_with("127.0.0.1:")));
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'), "{text}");
    assert!(!text.contains(&reader) && !text.contains(&admin));
}
