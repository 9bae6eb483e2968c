//! Compiled modules as uploads: native code, taken from those whom the operator trusts.

use std::io::Write;

use ired::config::AcceptModules;
use ired_client::{ClientError, Upload, UploadFile};
use ired_module::seal::{SealingKey, seal};
use ired_module::signature::{Provenance, Signature, Target};
use ired_module::{ExecutableDraft, ModuleDraft, ParamDraft};
use tonic::Code;

use crate::scripted::{Place, World, client};

fn key(fill: u8) -> SealingKey {
    SealingKey::from_seed([fill; 32])
}

/// A module with a parameter of some size.
fn module() -> Vec<u8> {
    let draft = ModuleDraft {
        signature: Signature { entries: Vec::new() },
        target: Target { triple: "x86_64-linux".to_owned(), features: Vec::new() },
        provenance: Provenance {
            model_digest: [0; 32],
            model_name: "hand".to_owned(),
            compiler: "hand".to_owned(),
            options: String::new(),
        },
        functions: Vec::new(),
        strings: Vec::new(),
        executable: ExecutableDraft::default(),
        params: vec![ParamDraft { name: "w".to_owned(), bytes: Box::new(vec![7; 3 << 20]) }],
        debug: Vec::new(),
        texts: Vec::new(),
        host_calls: Vec::new(),
    };
    draft.to_bytes().unwrap()
}

fn sealed(module: &[u8], key: &SealingKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    seal(module, key, &mut bytes).unwrap();
    bytes
}

/// A place that trusts the first of the keys.
fn trusting() -> Place {
    let mut place = Place::new(&[]);
    let file = place.dir.path().join("release.pub");
    std::fs::write(&file, key(1).public().to_pem().unwrap()).unwrap();
    place.settings.trusted_keys = vec![file];
    place
}

async fn push(place: &Place, daemon: &ired::Daemon, content: &[u8]) -> Result<(), ClientError> {
    let source = place.dir.path().join("m.irm");
    std::fs::File::create(&source).unwrap().write_all(content).unwrap();
    let files = vec![UploadFile { path: "model.irm".to_owned(), source }];
    let upload = Upload { name: "m".to_owned(), version: None, files };
    client(daemon).await.upload(upload, |_| {}).await.map(drop)
}

#[tokio::test]
async fn a_module_is_accepted_when_a_trusted_key_signed_it() {
    let place = trusting();
    let daemon = place.start(&World::new()).await;
    let plain = module();
    let error = push(&place, &daemon, &plain).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::PermissionDenied));
    assert!(error.to_string().contains("it is not signed"), "{error}");
    let error = push(&place, &daemon, &sealed(&plain, &key(2))).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::PermissionDenied));
    let stranger = key(2).public().fingerprint();
    assert!(error.to_string().contains(&format!("signed by {stranger}, which are not trusted")), "{error}");

    push(&place, &daemon, &sealed(&sealed(&plain, &key(1)), &key(2))).await.unwrap();
    let client = client(&daemon).await;
    client.load("m").await.unwrap();
    assert!(client.model_ready("m", None).await.unwrap());
    daemon.stop().await;
}

#[tokio::test]
async fn a_signed_module_that_was_changed_is_refused() {
    let place = trusting();
    let daemon = place.start(&World::new()).await;
    let signed = sealed(&module(), &key(1));
    // A weight, the seal, and the table.
    for at in [signed.len() / 2, signed.len() - 1, 200] {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        let error = push(&place, &daemon, &changed).await.unwrap_err();
        let code = error.code().unwrap();
        assert!(matches!(code, Code::InvalidArgument | Code::PermissionDenied), "{at}: {error}");
    }
    let error = push(&place, &daemon, b"no module").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument));
    assert!(client(&daemon).await.models().await.unwrap().is_empty());
    daemon.stop().await;
}

#[tokio::test]
async fn which_modules_are_accepted_is_a_setting() {
    let mut place = trusting();
    let signed = sealed(&module(), &key(1));
    place.settings.accept_modules = AcceptModules::None;
    let daemon = place.start(&World::new()).await;
    let error = push(&place, &daemon, &signed).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unimplemented));
    daemon.stop().await;
    place.settings.accept_modules = AcceptModules::Unsigned;
    let daemon = place.start(&World::new()).await;
    push(&place, &daemon, &module()).await.unwrap();
    client(&daemon).await.load("m").await.unwrap();
    daemon.stop().await;

    place.settings.accept_modules = AcceptModules::Signed;
    let daemon = place.start(&World::new()).await;
    let listed = client(&daemon).await.models().await.unwrap();
    assert!(listed[0].module.is_none() && listed[0].reason.contains("it is not signed"), "{listed:?}");
    daemon.stop().await;
    std::fs::write(&place.settings.trusted_keys[0], "no key").unwrap();
    let error = place.try_start(&World::new()).await.err().unwrap();
    assert!(format!("{error:#}").contains("release.pub` is no public key"), "{error:#}");
}
