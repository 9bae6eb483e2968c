//! Who may do what: tokens, roles, what is open, and the record of what was refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ired::Daemon;
use ired::auth::Token;
use ired::config::{AuditSettings, AuthSettings, Open};
use ired_client::{Client, Credentials, Upload, UploadFile};
use tonic::Code;

use crate::scripted::{Place, World, http, request};

/// Writes a file that appears at once, as tools that renew certificates do.
pub(crate) fn put(path: &Path, content: &str) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content).unwrap();
    std::fs::rename(temporary, path).unwrap();
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
    (token.to_string(), token.entry(name, &[role.to_owned()], None, None))
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

pub(crate) async fn client(daemon: &Daemon, token: &str) -> Client {
    let credentials = Credentials { token: Some(token.to_owned()), ..Credentials::default() };
    Client::connect_with(&daemon.grpc.to_string(), &credentials).await.unwrap()
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

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let (place, world) = (Place::new(&[("m.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let ours = format!("http://{}", daemon.http);
    let unload = async |headers: &[(&str, &str)]| {
        http(daemon.http, "POST", "/v2/repository/models/m/unload", headers, b"").await
    };
    let refused = unload(&[("origin", "http://elsewhere.example"), ("sec-fetch-site", "cross-site")]).await;
    assert_eq!((refused.status, refused.error().contains("page of another site")), (403, true));
    assert_eq!(unload(&[("origin", &ours)]).await.status, 403, "the host is another in this request");
    assert_eq!(unload(&[("origin", "http://test"), ("sec-fetch-site", "same-origin")]).await.status, 200);
    assert_eq!(unload(&[]).await.status, 200, "a client that is no browser");
    daemon.stop().await;
}
