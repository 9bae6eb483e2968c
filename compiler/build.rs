//! Digests the sources that decide what a compiled module is, so that modules say which build made them.

use std::path::Path;
use std::{env, fs, io};

/// The compiler room and the module format, from this crate's folder.
const SOURCES: [&str; 6] = ["src", "graph/src", "frontends/src", "mlir/src", "mlir/shim", "../module/src"];

fn main() -> io::Result<()> {
    let root = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let mut digest = Digest(0xcbf2_9ce4_8422_2325);
    for folder in SOURCES {
        println!("cargo::rerun-if-changed={folder}");
        digest.bytes(folder.as_bytes());
        digest.folder(&Path::new(&root).join(folder))?;
    }
    println!("cargo::rustc-env=IRED_COMPILER_SOURCES={:016x}", digest.0);
    Ok(())
}

/// FNV-1a, 64 bits: enough to tell builds apart, no dependency.
struct Digest(u64);

impl Digest {
    /// With their length, so that no two lists of pieces read the same.
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Names and contents of all files, in order of names, wherever the folder is.
    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        let mut paths: Vec<_> =
            fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths {
            self.bytes(path.file_name().unwrap_or_default().as_encoded_bytes());
            if path.is_dir() {
                self.folder(&path)?;
            } else {
                self.bytes(&fs::read(&path)?);
            }
        }
        Ok(())
    }
}
