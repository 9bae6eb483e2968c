//! The access file: roles, and who has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::caller::{Caller, Role, RoleEntry};
use super::jwt::{Jwt, JwtEntry};
use super::token;
use crate::config::at_its_place;
use crate::reload::{Files, Source};

/// Where the access file is.
#[derive(Debug)]
pub(crate) struct AccessFile(pub(crate) PathBuf);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    #[serde(default)]
    role: Vec<RoleEntry>,
    #[serde(default)]
    token: Vec<TokenEntry>,
    #[serde(default)]
    certificate: Vec<CertificateEntry>,
    jwt: Option<JwtEntry>,
}

/// A token that this server's operator handed out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    id: String,
    hash: String,
    roles: Vec<String>,
    expires: Option<toml::value::Datetime>,
}

/// Clients whose certificate has a name like this.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    roles: Vec<String>,
}

/// Who has which roles.
pub(crate) struct Access {
    roles: BTreeMap<String, Arc<Role>>,
    /// By the part that is no secret.
    tokens: BTreeMap<String, KnownToken>,
    certificates: Vec<(GlobMatcher, Vec<Arc<Role>>)>,
    jwt: Option<Jwt>,
}

struct KnownToken {
    hash: blake3::Hash,
    expires: Option<OffsetDateTime>,
    caller: Caller,
}

impl Source for AccessFile {
    type Value = Access;
    const NAME: &'static str = "the access file";

    fn read(&self, files: &mut Files) -> anyhow::Result<Access> {
        let Self(path) = self;
        let text = files.read(path)?;
        let text = std::str::from_utf8(&text).with_context(|| format!("`{}` is no text", path.display()))?;
        let entries: Entries =
            toml::from_str(text).map_err(|error| anyhow::anyhow!(at_its_place(path, text, &error)))?;
        let jwks = entries.jwt.as_ref().map(|jwt| beside(path, &jwt.keys));
        let jwks = jwks.map(|file| Ok::<_, anyhow::Error>((files.read(&file)?, file))).transpose()?;
        Access::new(entries, jwks).with_context(|| format!("`{}` cannot be used", path.display()))
    }
}

/// A path in a file is relative to that file.
fn beside(file: &Path, named: &Path) -> PathBuf {
    file.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named))
}

impl Access {
    fn new(entries: Entries, jwks: Option<(Vec<u8>, PathBuf)>) -> anyhow::Result<Self> {
        let mut roles = BTreeMap::new();
        for entry in &entries.role {
            let role = entry.role().with_context(|| format!("role `{}`", entry.name))?;
            let twice = roles.insert(entry.name.clone(), Arc::new(role)).is_some();
            ensure!(!twice, "role `{}` is there twice", entry.name);
        }
        let mut tokens = BTreeMap::new();
        for entry in entries.token {
            let (id, name) = (entry.id.clone(), entry.name.clone());
            let known = known_token(entry, &roles).with_context(|| format!("token `{name}`"))?;
            ensure!(tokens.insert(id.clone(), known).is_none(), "token `{name}`: id `{id}` is there twice");
        }
        let certificates = entries.certificate.into_iter().map(|entry| {
            let of = || format!("certificate `{}`", entry.name);
            let pattern = Glob::new(&entry.name).with_context(of)?.compile_matcher();
            Ok((pattern, named(&entry.roles, &roles).with_context(of)?))
        });
        let certificates = certificates.collect::<anyhow::Result<_>>()?;
        let jwt = match (entries.jwt, jwks) {
            (Some(entry), Some((content, file))) => {
                Some(Jwt::new(entry, &content).with_context(|| format!("`{}`", file.display()))?)
            }
            _ => None,
        };
        Ok(Self { roles, tokens, certificates, jwt })
    }

    /// The bearer of a token.
    ///
    /// # Errors
    /// Why the token is not accepted, for its bearer.
    pub(super) fn bearer(&self, token: &str) -> Result<Caller, String> {
        if let Some(id) = token::id(token) {
            // Unknown and wrong are told apart by nobody.
            let refused = || "the token is not known here".to_owned();
            let known = self.tokens.get(id).ok_or_else(refused)?;
            if token::hash(token) != known.hash {
                return Err(refused());
            }
            return match known.expires {
                Some(expires) if expires <= OffsetDateTime::now_utc() => {
                    Err("the token has expired".to_owned())
                }
                _ => Ok(known.caller.clone()),
            };
        }
        match &self.jwt {
            Some(jwt) => jwt.caller(token, &self.roles),
            None => Err("the token is not known here".to_owned()),
        }
    }

    /// The holder of a certificate with these names, if any of them has a role.
    pub(super) fn holder(&self, names: &[String]) -> Option<Caller> {
        let matching = self
            .certificates
            .iter()
            .filter_map(|(pattern, roles)| Some((names.iter().find(|name| pattern.is_match(name))?, roles)));
        let matching: Vec<_> = matching.collect();
        let (name, _) = matching.first()?;
        Some(Caller::new(name, matching.iter().flat_map(|(_, roles)| roles.iter().cloned()).collect()))
    }
}

fn known_token(entry: TokenEntry, roles: &BTreeMap<String, Arc<Role>>) -> anyhow::Result<KnownToken> {
    let hash = entry.hash.strip_prefix("blake3:").and_then(|hex| blake3::Hash::from_hex(hex).ok());
    let hash = hash.context("`hash` is not `blake3:` and 64 hexadecimal digits")?;
    let expires = match entry.expires {
        None => None,
        Some(stated) => match OffsetDateTime::parse(&stated.to_string(), &Rfc3339) {
            Ok(expires) => Some(expires),
            Err(_) => bail!("`expires` is `{stated}`, expected a time such as 2027-01-01T00:00:00Z"),
        },
    };
    Ok(KnownToken { hash, expires, caller: Caller::new(&entry.name, named(&entry.roles, roles)?) })
}

fn named(names: &[String], roles: &BTreeMap<String, Arc<Role>>) -> anyhow::Result<Vec<Arc<Role>>> {
    let find = |name: &String| roles.get(name).cloned().with_context(|| format!("there is no role `{name}`"));
    names.iter().map(find).collect()
}
