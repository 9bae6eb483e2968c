//! Digests this crate's sources, so that parents and workers from different builds notice.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src");
    let mut digest = Digest(0xcbf2_9ce4_8422_2325);
    digest.folder(&Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("src"))?;
    println!("cargo::rustc-env=IRED_WORKER_SOURCES={:016x}", digest.0);
    Ok(())
}

/// FNV-1a, 64 bits: enough to tell builds apart, no dependency.
struct Digest(u64);

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        let mut paths: Vec<_> =
            fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths {
            if path.is_dir() {
                self.folder(&path)?;
            } else {
                self.bytes(path.file_name().unwrap_or_default().as_encoded_bytes());
                self.bytes(&fs::read(&path)?);
            }
        }
        Ok(())
    }
}
