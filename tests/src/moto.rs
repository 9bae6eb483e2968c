//! An S3 server of somebody else: moto, as a process that ends with its owner.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemon::free_address;

/// How long it may take to start: it is Python.
const START: Duration = Duration::from_secs(180);

/// The bucket that there is.
pub const BUCKET: &str = "bucket";

/// A running server with a bucket; killed on drop.
pub struct Moto {
    process: Child,
    pub address: String,
}

impl Moto {
    /// Starts `program`, a `moto_server`, and returns once it has its bucket. Blocks.
    pub fn start(program: &Path) -> Result<Self> {
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address without a port")?;
        let process = Command::new(program)
            .args(["-H", host, "-p", port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        let mut moto = Self { process, address };
        let bucket = format!("http://{}/{BUCKET}", moto.address);
        let deadline = Instant::now() + START;
        while ureq::put(&bucket).send_empty().is_err() {
            if let Some(status) = moto.process.try_wait()? {
                anyhow::bail!("`{}` ended: {status}", program.display());
            }
            ensure!(Instant::now() < deadline, "`{}` does not answer after {START:?}", program.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(moto)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Nothing is left to do when even this fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Settings of a daemon for a cache in the bucket of the server at `address`.
pub fn shared_cache(address: &str) -> [String; 2] {
    [
        format!("shared_cache.url=s3://{BUCKET}/ired"),
        format!(
            "shared_cache.options=[\"AWS_ENDPOINT=http://{address}\", \"AWS_ACCESS_KEY_ID=test\", \
             \"AWS_SECRET_ACCESS_KEY=test\"]"
        ),
    ]
}
