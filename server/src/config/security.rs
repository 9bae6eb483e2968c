//! Settings of who is let in, and how: the tables `tls`, `auth` and `audit`, and two levels.

use std::path::PathBuf;

use anyhow::bail;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// TLS on every door, from files in PEM that are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The server's certificate, with those between it and the root; none: no TLS.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key.
    pub key: Option<PathBuf>,
    /// Certificates of the authorities that vouch for clients; none: clients show no certificate.
    pub client_ca: Option<PathBuf>,
    /// Refuse clients without a certificate. Off: a client may show a token instead.
    pub require_client_certificate: bool,
}

impl TlsSettings {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => bail!("setting `tls.certificate` is there, and its `tls.key` is missing"),
            (None, Some(_)) => bail!("setting `tls.key` is there, and its `tls.certificate` is missing"),
            (None, None) if self.client_ca.is_some() => {
                bail!("setting `tls.client_ca` is there, and `tls.certificate` is missing")
            }
            _ => {}
        }
        if self.require_client_certificate && self.client_ca.is_none() {
            bail!("setting `tls.require_client_certificate` is true, and `tls.client_ca` is missing");
        }
        Ok(())
    }
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The file that names roles and who has them, read again when it changes; none: anybody may do anything.
    pub access: Option<PathBuf>,
    /// What needs no credentials. Health, as those who ask for it, load balancers, commonly have none.
    pub open: Vec<Open>,
    /// Listen for other machines without `access`. Off: whoever reaches a door could do anything.
    pub anonymous_network: bool,
    /// Tokens that are not accepted, from one address within `failures_window_s`, before what comes from there is
    /// refused unless it is known to be good already; 0: any number. Enough for people's mistakes, few enough that
    /// guessing and broken clients cost no signature checks and no lines of the audit log.
    pub failures: u32,
    /// How long such tokens count, and how long an address is refused at most, in seconds.
    pub failures_window_s: u64,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            access: None,
            open: vec![Open::Health],
            anonymous_network: false,
            failures: 30,
            failures_window_s: 60,
        }
    }
}

impl AuthSettings {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.failures > 0 && !(1..=86400).contains(&self.failures_window_s) {
            bail!(
                "setting `auth.failures_window_s` is {}; it is from 1 to 86400, or `auth.failures` is 0",
                self.failures_window_s
            );
        }
        Ok(())
    }
}

/// What can be open to those without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Open {
    /// Is the server live, is it ready, and `grpc.health.v1`.
    Health,
    /// The Prometheus metrics, which name models.
    Metrics,
    /// The descriptions of the gRPC services.
    Reflection,
}

/// The record of what was refused, and of what changed the server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Where to write it, a line of JSON for each call; `-` is the standard error; none: nowhere.
    pub file: Option<PathBuf>,
    /// From this size on the file is renamed and a new one begins.
    pub file_bytes: u64,
    /// Renamed files that are kept.
    pub files: usize,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { file: None, file_bytes: 64 << 20, files: 8 }
    }
}

impl AuditSettings {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.file_bytes == 0 {
            bail!("setting `audit.file_bytes` is 0; it is at least 1");
        }
        Ok(())
    }
}

/// Layers of the sandbox without which no worker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RequireSandbox {
    /// Whatever the machine offers.
    #[default]
    None,
    /// What an ordinary container offers: system calls, file system, limits, no new privileges.
    Baseline,
    /// Every layer.
    Strict,
}

impl<'de> Deserialize<'de> for RequireSandbox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [("none", Self::None), ("baseline", Self::Baseline), ("strict", Self::Strict)];
        level(deserializer, words, [Self::None, Self::Strict])
    }
}

/// Which compiled modules are accepted as uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptModules {
    None,
    /// Those that a trusted key signed.
    #[default]
    Signed,
    /// All of them.
    Unsigned,
}

impl<'de> Deserialize<'de> for AcceptModules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [("none", Self::None), ("signed", Self::Signed), ("unsigned", Self::Unsigned)];
        level(deserializer, words, [Self::None, Self::Unsigned])
    }
}

/// A level, or the yes or no that stood for it in earlier settings files.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a word, or true or false")]
enum Word {
    Flag(bool),
    Text(String),
}

/// The level of a word; `flags` are those of no and yes.
fn level<'de, D: Deserializer<'de>, L: Copy>(
    deserializer: D,
    words: [(&str, L); 3],
    flags: [L; 2],
) -> Result<L, D::Error> {
    let text = match Word::deserialize(deserializer)? {
        Word::Flag(flag) => return Ok(flags[usize::from(flag)]),
        Word::Text(text) => text,
    };
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, level)| *level).ok_or_else(|| {
        let ([one, two, three], found) = (words.map(|(word, _)| word), text.escape_debug());
        D::Error::custom(format_args!("found `{found}`, expected `{one}`, `{two}` or `{three}`"))
    })
}
