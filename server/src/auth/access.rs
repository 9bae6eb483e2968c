//! The access file: roles, and who has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Spanned;

use super::caller::{Caller, Role, RoleEntry};
use super::jwt::{Jwt, JwtEntry};
use super::tenants::{self, Misplaced, TenantEntry};
use super::token;
use crate::config::{at_its_place, at_place};
use crate::reload::{Files, Source};
use crate::tenants::{Listed, Tenant, Tenants};

/// Where the access file is.
#[derive(Debug)]
pub(crate) struct AccessFile {
    path: PathBuf,
    /// What tenants have inside, whatever the file says.
    tenants: Arc<Tenants>,
}

impl AccessFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, tenants: Arc::default() }
    }
}

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
    #[serde(default)]
    tenant: Vec<TenantEntry>,
}

/// A token that this server's operator handed out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    id: String,
    hash: String,
    roles: Vec<String>,
    tenant: Option<Spanned<String>>,
    expires: Option<toml::value::Datetime>,
}

/// Clients whose certificate has a name like this.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    roles: Vec<String>,
    tenant: Option<Spanned<String>>,
}

/// Who has which roles.
pub(crate) struct Access {
    roles: BTreeMap<String, Arc<Role>>,
    /// By the part that is no secret.
    tokens: BTreeMap<String, KnownToken>,
    certificates: Vec<KnownCertificates>,
    jwt: Option<Jwt>,
    /// `None` where callers are not told apart by tenants.
    tenants: Option<Listed>,
}

struct KnownCertificates {
    pattern: GlobMatcher,
    roles: Vec<Arc<Role>>,
    /// Where it says one.
    tenant: Option<Arc<Tenant>>,
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
        let Self { path, tenants } = self;
        let text = files.read(path)?;
        let text = std::str::from_utf8(&text).with_context(|| format!("`{}` is no text", path.display()))?;
        let mut entries: Entries =
            toml::from_str(text).map_err(|error| anyhow::anyhow!(at_its_place(path, text, &error)))?;
        let jwks = entries.jwt.as_ref().map(|jwt| beside(path, &jwt.keys));
        let jwks = jwks.map(|file| Ok::<_, anyhow::Error>((files.read(&file)?, file))).transpose()?;
        let wrong = |(offset, wrong): Misplaced| anyhow::anyhow!(at_place(path, text, offset, wrong));
        let tells_apart =
            !entries.tenant.is_empty() || entries.jwt.as_ref().is_some_and(JwtEntry::has_tenants);
        let listed = tenants::list(std::mem::take(&mut entries.tenant), tenants).map_err(wrong)?;
        let listed = Some(listed).filter(|_| tells_apart);
        Access::new(entries, jwks, listed, &wrong)
            .with_context(|| format!("`{}` cannot be used", path.display()))
    }
}

/// A path in a file is relative to that file.
fn beside(file: &Path, named: &Path) -> PathBuf {
    file.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named))
}

impl Access {
    fn new(
        entries: Entries,
        jwks: Option<(Vec<u8>, PathBuf)>,
        tenants: Option<Listed>,
        wrong: &dyn Fn(Misplaced) -> anyhow::Error,
    ) -> anyhow::Result<Self> {
        let tenant =
            |name: &Option<Spanned<String>>| tenants::named(name.as_ref(), tenants.as_ref()).map_err(wrong);
        let mut roles = BTreeMap::new();
        for entry in &entries.role {
            let role = entry.role().with_context(|| format!("role `{}`", entry.name))?;
            let twice = roles.insert(entry.name.clone(), Arc::new(role)).is_some();
            ensure!(!twice, "role `{}` is there twice", entry.name);
        }
        let mut tokens = BTreeMap::new();
        for entry in entries.token {
            let (id, name) = (entry.id.clone(), entry.name.clone());
            let of = || format!("token `{name}`");
            let tenant = tenant(&entry.tenant).with_context(of)?;
            let known = known_token(entry, tenant, &roles).with_context(of)?;
            ensure!(tokens.insert(id.clone(), known).is_none(), "token `{name}`: id `{id}` is there twice");
        }
        let certificates = entries.certificate.into_iter().map(|entry| {
            let of = || format!("certificate `{}`", entry.name);
            let pattern = Glob::new(&entry.name).with_context(of)?.compile_matcher();
            let roles = named(&entry.roles, &roles).with_context(of)?;
            let is_named = entry.tenant.is_some();
            let tenant = tenant(&entry.tenant).with_context(of)?.filter(|_| is_named);
            Ok(KnownCertificates { pattern, roles, tenant })
        });
        let certificates = certificates.collect::<anyhow::Result<_>>()?;
        let jwt = match (entries.jwt, jwks) {
            (Some(entry), Some((content, file))) => {
                Some(Jwt::new(entry, &content).with_context(|| format!("`{}`", file.display()))?)
            }
            _ => None,
        };
        Ok(Self { roles, tokens, certificates, jwt, tenants })
    }

    /// The tenants, where there are any.
    pub(crate) fn tenants(&self) -> Option<&Listed> {
        self.tenants.as_ref()
    }

    /// The bearer of a token, or why there is none; `None` where only [`Self::verify`] can tell.
    pub(super) fn recall(&self, token: &str) -> Option<Result<Caller, String>> {
        // Unknown and wrong are told apart by nobody.
        let refused = || Err("the token is not known here".to_owned());
        if let Some(id) = token::id(token) {
            return Some(match self.tokens.get(id) {
                Some(known) if token::hash(token) == known.hash => known.bearer(),
                _ => refused(),
            });
        }
        self.jwt.as_ref().map_or_else(|| Some(refused()), |jwt| jwt.recall(token))
    }

    /// The bearer of a token by its signature, which takes longer to check than anything else here.
    ///
    /// # Errors
    /// Why the token is not accepted, for its bearer.
    pub(super) fn verify(&self, token: &str) -> Result<Caller, String> {
        let jwt = self.jwt.as_ref().ok_or("the token is not known here")?;
        jwt.verify(token, &self.roles, self.tenants.as_ref())
    }

    /// The holder of a certificate with these names, if any of them has a role.
    pub(super) fn holder(&self, names: &[String]) -> Option<Caller> {
        let matching = self
            .certificates
            .iter()
            .filter_map(|known| Some((names.iter().find(|name| known.pattern.is_match(name))?, known)));
        let matching: Vec<_> = matching.collect();
        let (name, _) = matching.first()?;
        let tenant = matching.iter().find_map(|(_, known)| known.tenant.clone());
        let tenant = tenant.or_else(|| Some(self.tenants.as_ref()?.default_tenant().clone()));
        let roles = matching.iter().flat_map(|(_, known)| known.roles.iter().cloned());
        Some(Caller::new(name, tenant, roles.collect()))
    }
}

impl KnownToken {
    fn bearer(&self) -> Result<Caller, String> {
        match self.expires {
            Some(expires) if expires <= OffsetDateTime::now_utc() => Err("the token has expired".to_owned()),
            _ => Ok(self.caller.clone()),
        }
    }
}

fn known_token(
    entry: TokenEntry,
    tenant: Option<Arc<Tenant>>,
    roles: &BTreeMap<String, Arc<Role>>,
) -> anyhow::Result<KnownToken> {
    let hash = entry.hash.strip_prefix("blake3:").and_then(|hex| blake3::Hash::from_hex(hex).ok());
    let hash = hash.context("`hash` is not `blake3:` and 64 hexadecimal digits")?;
    let expires = match entry.expires {
        None => None,
        Some(stated) => match OffsetDateTime::parse(&stated.to_string(), &Rfc3339) {
            Ok(expires) => Some(expires),
            Err(_) => bail!("`expires` is `{stated}`, expected a time such as 2027-01-01T00:00:00Z"),
        },
    };
    Ok(KnownToken { hash, expires, caller: Caller::new(&entry.name, tenant, named(&entry.roles, roles)?) })
}

fn named(names: &[String], roles: &BTreeMap<String, Arc<Role>>) -> anyhow::Result<Vec<Arc<Role>>> {
    let find = |name: &String| roles.get(name).cloned().with_context(|| format!("there is no role `{name}`"));
    names.iter().map(find).collect()
}
