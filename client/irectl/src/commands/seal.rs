//! `irectl key` and `irectl sign`: keys of those who vouch for modules, and their signatures.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use ired_module::seal::{PublicKey, SealingKey, seal};

/// Keys that sign modules.
#[derive(clap::Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Makes a key: NAME.key, which signs, and NAME.pub, for the daemon's `trusted_keys`
    Generate {
        /// Path of both files, without their endings.
        name: PathBuf,
    },
}

impl Key {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let KeyCommand::Generate { name } = self.command;
        let mut seed = [0; 32];
        let mut filled = 0;
        while filled < seed.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut seed[filled..], flags).context("no random numbers")?;
        }
        let key = SealingKey::from_seed(seed);
        let ending = |ending: &str| {
            let mut path = name.clone().into_os_string();
            path.push(ending);
            PathBuf::from(path)
        };
        let (secret, public) = (ending(".key"), ending(".pub"));
        create(&secret, 0o600, &key.to_pem()?)?;
        create(&public, 0o644, &key.public().to_pem()?)?;
        println!("{} signs; {} is {}", secret.display(), public.display(), key.public().fingerprint());
        Ok(ExitCode::SUCCESS)
    }
}

/// Never over a file that is there: it may be the only copy of a key.
fn create(path: &Path, mode: u32, content: &str) -> Result<()> {
    let file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path);
    let mut file = file.with_context(|| format!("cannot create `{}`", path.display()))?;
    file.write_all(content.as_bytes()).with_context(|| format!("cannot write `{}`", path.display()))
}

/// `irectl sign`.
#[derive(clap::Args)]
pub(crate) struct Sign {
    /// A compiled module (`.irm`).
    module: PathBuf,
    /// The key that signs, as `irectl key generate` makes it (PKCS #8 in PEM).
    #[arg(long = "with", value_name = "FILE")]
    key: PathBuf,
    /// Where to write the signed module; by default it replaces the module.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Sign {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let text = fs::read_to_string(&self.key);
        let text = text.with_context(|| format!("cannot read the key `{}`", self.key.display()))?;
        let of_key = || format!("`{}` is no key that signs", self.key.display());
        let key = SealingKey::from_pem(&text).with_context(of_key)?;
        let path = self.module.display();
        let bytes = fs::read(&self.module).with_context(|| format!("cannot read `{path}`"))?;

        let output = self.output.as_ref().unwrap_or(&self.module);
        let mut temporary = output.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let written = File::create(&temporary).map_err(anyhow::Error::from).and_then(|mut file| {
            seal(&bytes, &key, &mut file)?;
            file.sync_all()?;
            Ok(fs::rename(&temporary, output)?)
        });
        if let Err(error) = written {
            // What is half written helps nobody.
            let _ = fs::remove_file(&temporary);
            return Err(error.context(format!("cannot sign `{path}`")));
        }
        println!("{} is signed by {}", output.display(), key.public().fingerprint());
        Ok(ExitCode::SUCCESS)
    }
}

/// What the seals of a module come to, a line for each; `trusted` are files of public keys.
pub(super) fn describe(module: &[u8], trusted: &[PathBuf]) -> Result<String> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        PublicKey::from_pem(&text).with_context(|| format!("`{}` is no public key", path.display()))
    };
    let trusted = trusted.iter().map(read).collect::<Result<Vec<_>>>()?;
    let seals = ired_module::seal::seals(&mut std::io::Cursor::new(module))?;
    let mut found_trusted = false;
    let lines = seals.iter().map(|seal| match seal.signer() {
        None => "signature: not for this content\n".to_owned(),
        Some(key) => {
            let is_trusted = trusted.contains(&key);
            found_trusted |= is_trusted;
            format!("signature: by {}{}\n", key.fingerprint(), if is_trusted { ", trusted" } else { "" })
        }
    });
    let text: String = lines.collect();
    if !trusted.is_empty() && !found_trusted {
        bail!("no key that is trusted signed the module\n{text}");
    }
    Ok(text)
}
