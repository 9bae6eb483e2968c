//! Where the worker executables are: beside the running executable unless a caller says otherwise.

use std::path::{Path, PathBuf};
use std::{env, io, thread};

use crate::Role;

/// The worker executable in the folder of the running executable.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] naming the path when there is none.
pub fn beside_current_exe(role: Role) -> io::Result<PathBuf> {
    let folder = env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    let candidates = [folder.join(role.executable_name()), folder.join("..").join(role.executable_name())];
    // Test executables stand in `deps/`, one folder below the workers.
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let message = format!("no {role} worker at {}", candidates[0].display());
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// A text that differs between different worker executables: the BLAKE3 of the file, in hex.
///
/// Reads the whole file; a caller that asks often keeps the answer.
pub fn identity(executable: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(executable)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Cores that a worker may use. Looks into several files.
pub(crate) fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}
