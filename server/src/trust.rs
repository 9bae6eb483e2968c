//! Which compiled modules are accepted from strangers: they are native code. What this daemon compiled itself, and what
//! stands in its model repository, nobody has to vouch for.

use std::fs::File;
use std::sync::Arc;

use anyhow::Context;
use ired_module::seal::{self, PublicKey, SealError};

use crate::config::{AcceptModules, Settings};
use crate::error::Error;

/// Whom modules are taken from. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    accept: AcceptModules,
    keys: Arc<[PublicKey]>,
}

impl Trust {
    /// # Errors
    /// A file of `trusted_keys` that is no public key.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let keys = settings.trusted_keys.iter().map(|path| {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the trusted key `{}`", path.display()))?;
            PublicKey::from_pem(&text).with_context(|| format!("`{}` is no public key", path.display()))
        });
        Ok(Self { accept: settings.accept_modules, keys: keys.collect::<anyhow::Result<_>>()? })
    }

    /// Whether this module may become a model. Reads the seals, and all of it only where one of them is good. Blocks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no module is accepted, [`Error::Untrusted`], [`Error::Invalid`].
    pub fn check(&self, mut module: File) -> Result<(), Error> {
        match self.accept {
            AcceptModules::Unsigned => return Ok(()),
            AcceptModules::None => {
                let refused = "compiled modules are not accepted as uploads here (setting `accept_modules`)";
                return Err(Error::Unsupported(refused.to_owned()));
            }
            AcceptModules::Signed if self.keys.is_empty() => {
                let refused = "compiled modules are not accepted as uploads here: no key is trusted (settings \
                               `trusted_keys` and `accept_modules`)";
                return Err(Error::Unsupported(refused.to_owned()));
            }
            AcceptModules::Signed => {}
        }
        let invalid = |error: SealError| Error::invalid(format!("the upload is no sound module: {error}"));
        let seals = seal::seals(&mut module).map_err(invalid)?;
        let signers: Vec<PublicKey> = seals.iter().filter_map(seal::Seal::signer).collect();
        if !signers.iter().any(|signer| self.keys.contains(signer)) {
            let signers: Vec<String> = signers.iter().map(PublicKey::fingerprint).collect();
            let found = match (seals.len(), signers.as_slice()) {
                (0, _) => "it is not signed".to_owned(),
                (_, []) => "its signature is not for its content".to_owned(),
                (_, signers) => format!("it is signed by {}, which are not trusted here", signers.join(", ")),
            };
            return Err(Error::Untrusted(format!(
                "a compiled module is native code, and accepted when a trusted key signed it (settings `trusted_keys` \
                 and `accept_modules`); {found}"
            )));
        }
        seal::check(&mut module).map_err(invalid)
    }
}
