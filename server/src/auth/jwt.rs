//! Tokens that an identity provider signed: JWTs, checked against a set of its public keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::Value;

use super::caller::{Caller, Role};
use super::tenants::wrong_name;
use crate::tenants::Listed;

/// Verified tokens that are remembered: a signature takes longer to check than a small model to run.
const REMEMBERED: u64 = 4096;
/// The longest token, in bytes.
const LONGEST: usize = 8 << 10;
/// The shortest secret of HS256, as its standard demands.
const SECRET_BYTES: usize = 32;

/// Where tokens come from, as the access file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtEntry {
    /// File with the provider's keys (JWKS).
    pub(super) keys: std::path::PathBuf,
    /// What `iss` has to be.
    issuer: String,
    /// What `aud` has to be, or to contain.
    audience: String,
    /// The claim with the roles: a list, or words in a text.
    #[serde(default = "roles_claim")]
    roles_claim: String,
    /// The claim with the tenant, a text; none: callers belong to the default one.
    tenant_claim: Option<String>,
    /// How far clocks may differ, in seconds.
    #[serde(default = "leeway")]
    leeway_s: u64,
}

impl JwtEntry {
    pub(super) fn has_tenants(&self) -> bool {
        self.tenant_claim.is_some()
    }
}

fn roles_claim() -> String {
    "roles".to_owned()
}

fn leeway() -> u64 {
    60
}

/// Checks tokens.
pub(super) struct Jwt {
    keys: Vec<Key>,
    entry: JwtEntry,
    known: Cache<[u8; 32], Known>,
}

#[derive(Clone)]
struct Known {
    caller: Caller,
    until_s: u64,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Jwt {
    pub(super) fn new(entry: JwtEntry, jwks: &[u8]) -> anyhow::Result<Self> {
        ensure!(!entry.issuer.is_empty(), "`jwt.issuer` is empty");
        ensure!(!entry.audience.is_empty(), "`jwt.audience` is empty");
        let set: JwkSet = serde_json::from_slice(jwks).context("not a set of keys (JWKS)")?;
        let keys = set.keys.iter().enumerate().map(|(at, jwk)| {
            let named = jwk.common.key_id.clone().map_or(format!("{at}"), |id| format!("`{id}`"));
            key(jwk).with_context(|| format!("key {named}"))
        });
        let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(!keys.is_empty(), "the set of keys is empty");
        // What a tenant used of its rate is known as long as a token of its is.
        let known = Cache::builder().max_capacity(REMEMBERED).eviction_policy(EvictionPolicy::lru()).build();
        Ok(Self { keys, entry, known })
    }

    /// Who the token says it is, or what is wrong with it, for its bearer; `None` before it was verified.
    pub(super) fn recall(&self, token: &str) -> Option<Result<Caller, String>> {
        if token.len() > LONGEST {
            return Some(Err(format!("the token has {} bytes; at most {LONGEST} are read", token.len())));
        }
        let known = self.known.get(&fingerprint(token))?;
        (jsonwebtoken::get_current_timestamp() < known.until_s).then_some(Ok(known.caller))
    }

    /// Who the token says it is, if it is sound.
    ///
    /// # Errors
    /// What is wrong with it, for its bearer.
    pub(super) fn verify(
        &self,
        token: &str,
        roles: &BTreeMap<String, Arc<Role>>,
        tenants: Option<&Listed>,
    ) -> Result<Caller, String> {
        let (caller, until_s) = self.read(&self.claims(token)?, roles, tenants)?;
        self.known.insert(fingerprint(token), Known { caller: caller.clone(), until_s });
        Ok(caller)
    }

    /// What a token says whose signature is good.
    fn claims(&self, token: &str) -> Result<serde_json::Map<String, Value>, String> {
        let told = |error: jsonwebtoken::errors::Error| format!("the token is not accepted: {error}");
        let header = decode_header(token).map_err(told)?;
        // The key says which algorithm it is for, never the token alone.
        let fits = |key: &&Key| {
            key.algorithm == header.alg && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
        };
        let mut last = "the token is not accepted: it is of no key that is known here".to_owned();
        for key in self.keys.iter().filter(fits) {
            let mut validation = Validation::new(key.algorithm);
            validation.set_issuer(&[&self.entry.issuer]);
            validation.set_audience(&[&self.entry.audience]);
            validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            validation.validate_nbf = true;
            validation.leeway = self.entry.leeway_s;
            match decode::<serde_json::Map<String, Value>>(token, &key.key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => last = told(error),
            }
        }
        Err(last)
    }

    fn read(
        &self,
        claims: &serde_json::Map<String, Value>,
        roles: &BTreeMap<String, Arc<Role>>,
        tenants: Option<&Listed>,
    ) -> Result<(Caller, u64), String> {
        let subject = claims.get("sub").and_then(Value::as_str).ok_or("the token's `sub` is no text")?;
        let expires = claims.get("exp").and_then(Value::as_f64).ok_or("the token's `exp` is no number")?;
        let named: Vec<&str> = match claims.get(&self.entry.roles_claim) {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(names)) => names.split_whitespace().collect(),
            _ => Vec::new(),
        };
        // A provider may well know roles that mean nothing here.
        let granted = named.iter().filter_map(|name| roles.get(*name).cloned()).collect();
        let tenant = match self.entry.tenant_claim.as_ref().and_then(|claim| claims.get(claim)) {
            None | Some(Value::Null) => tenants.map(|tenants| tenants.default_tenant().clone()),
            Some(Value::String(name)) => {
                if let Some(wrong) = wrong_name(name) {
                    return Err(format!("the token is not accepted: {wrong}"));
                }
                tenants.map(|tenants| tenants.find(name))
            }
            Some(_) => return Err("the token's claim of its tenant is no text".to_owned()),
        };
        let until_s = (expires.max(0.0) as u64).saturating_add(self.entry.leeway_s);
        Ok((Caller::new(subject, tenant, granted), until_s))
    }
}

fn fingerprint(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

fn key(jwk: &Jwk) -> anyhow::Result<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        _ => bail!("the curve is not supported; P-256 and Ed25519 are"),
    };
    if let Some(stated) = jwk.common.key_algorithm
        && stated.to_string() != format!("{algorithm:?}")
    {
        bail!("`alg` is {stated}; supported are RS256, ES256, EdDSA and HS256");
    }
    let decoding = DecodingKey::from_jwk(jwk).context("unusable")?;
    if algorithm == Algorithm::HS256 {
        let found = decoding.try_get_hmac_secret().context("unusable")?.len();
        ensure!(found >= SECRET_BYTES, "a secret of {found} bytes; HS256 needs {SECRET_BYTES}");
    }
    Ok(Key { id: jwk.common.key_id.clone(), algorithm, key: decoding })
}
