//! Tokens that a server hands to its callers: long random texts, of which only a hash is kept.

use std::fmt;

/// First in a token, so that scanners find one that leaked.
const PREFIX: &str = "ired_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A new token. It is shown once; what stays is its [entry](Token::entry).
pub struct Token {
    id: String,
    text: String,
}

impl Token {
    /// # Errors
    /// A system without random numbers.
    pub fn generate() -> std::io::Result<Self> {
        let mut random = [0; ID_BYTES + SECRET_BYTES];
        let mut filled = 0;
        while filled < random.len() {
            filled += rustix::rand::getrandom(&mut random[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (id, secret) = (hex(&random[..ID_BYTES]), hex(&random[ID_BYTES..]));
        Ok(Self { text: format!("{PREFIX}{id}_{secret}"), id })
    }

    /// The lines for the access file; `expires` is a time as RFC 3339 writes it.
    pub fn entry(&self, name: &str, roles: &[String], tenant: Option<&str>, expires: Option<&str>) -> String {
        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let roles: Vec<String> = roles.iter().map(|role| text(role)).collect();
        let mut lines = format!(
            "[[token]]\nname = {}\nid = \"{}\"\nhash = \"blake3:{}\"\nroles = [{}]\n",
            text(name),
            self.id,
            hash(&self.text).to_hex(),
            roles.join(", ")
        );
        if let Some(tenant) = tenant {
            lines.push_str(&format!("tenant = {}\n", text(tenant)));
        }
        if let Some(expires) = expires {
            lines.push_str(&format!("expires = {expires}\n"));
        }
        lines
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The part of a token that is no secret, which finds its hash; `None` for what is no token.
pub(super) fn id(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES).then_some(id)
}

/// What is kept of a token. A fast hash is enough, as a secret of 256 random bits cannot be guessed; a slow one, made
/// for passwords, would let strangers keep the server busy. Comparing hashes takes the same time however they differ.
pub(super) fn hash(token: &str) -> blake3::Hash {
    blake3::derive_key("ired token 1", token.as_bytes()).into()
}
