//! Tokens of an identity provider: every algorithm, every claim, and every way to forge one.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use tonic::Code;

use crate::scripted::{Place, World, request};
use crate::security::{ROLES, client, put, with_access};

/// A provider's keys, and what signs for them.
pub(crate) struct Provider {
    pub(crate) jwks: String,
    keys: Vec<(Algorithm, Option<&'static str>, EncodingKey)>,
}

impl Provider {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn sign(&self, at: usize, claims: &serde_json::Value) -> String {
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
async fn the_keys_of_a_provider_are_replaced_without_a_restart() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let jwt = "[jwt]\nkeys = \"jwks.json\"\nissuer = \"i\"\naudience = \"a\"\n";
    with_access(&mut place, &format!("{ROLES}{jwt}"));
    let (before, after) = (Provider::new(), Provider::new());
    let file = place.dir.path().join("jwks.json");
    put(&file, &before.jwks);
    let daemon = place.start(&World::new()).await;
    let expires = jsonwebtoken::get_current_timestamp() + 600;
    let claims = serde_json::json!({"iss": "i", "aud": "a", "sub": "s", "exp": expires, "roles": "reader"});
    let old = client(&daemon, &before.sign(0, &claims)).await;
    let new = client(&daemon, &after.sign(0, &claims)).await;
    old.infer(request("m")).await.unwrap();
    assert_eq!(new.infer(request("m")).await.unwrap_err().code(), Some(Code::Unauthenticated));
    put(&file, &after.jwks);
    daemon.reload();
    let replaced = async {
        while new.infer(request("m")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), replaced).await.expect("the new keys are taken");
    // One that was remembered is looked at again.
    assert_eq!(old.infer(request("m")).await.unwrap_err().code(), Some(Code::Unauthenticated));
    daemon.stop().await;
}
