//! What a model is before it is compiled: a name, a version, a main file and the files that it may refer to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ired_worker::ModelFiles;
use tokio::sync::OnceCell;

use crate::digest::Digest;
use crate::error::Error;
use crate::store::{Stamp, StoreError, blocking};

/// The longest model name; it becomes a file name and a metric label.
const NAME_BYTES: usize = 128;
/// The longest name of a file within a model.
const PATH_BYTES: usize = 1024;
/// Part of every model digest; a change of how digests are made changes it.
const DIGEST_DOMAIN: &str = "ired 2026 model source";

/// Checks a model's name: letters, digits, `-`, `_`, `.`, not first a dot.
pub fn check_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_BYTES || name.starts_with('.') || !name.chars().all(plain) {
        return Err(Error::invalid(format!(
            "`{}` is not a model name: letters, digits, `-`, `_` and `.`, at most {NAME_BYTES}, not first a dot",
            name.chars().take(NAME_BYTES).collect::<String>().escape_debug()
        )));
    }
    Ok(())
}

/// Checks and normalises the name of a file within a model: relative, inside, no empty parts.
pub fn check_path(path: &str) -> Result<String, Error> {
    let refuse = || {
        let shown: String = path.chars().take(PATH_BYTES).collect();
        Error::invalid(format!("`{}` is not the name of a file within a model", shown.escape_debug()))
    };
    if path.is_empty() || path.len() > PATH_BYTES || path.contains('\0') {
        return Err(refuse());
    }
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(refuse)?),
            Component::CurDir => {}
            _ => return Err(refuse()),
        }
    }
    if parts.is_empty() { Err(refuse()) } else { Ok(parts.join("/")) }
}

/// Where a version came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Repository,
    Upload,
}

/// One version of a model as it was given to the daemon.
#[derive(Clone, Debug)]
pub struct ModelSource {
    pub name: String,
    pub version: u64,
    pub origin: Origin,
    pub main: SourceFile,
    /// What the main file may refer to; nothing else of the file system can be reached from a model.
    pub others: Vec<SourceFile>,
    /// How it is to be run, as its owner says; no part of the digest.
    pub config: Option<SourceFile>,
    /// What it is tried with before it answers: below `warmup/` and `golden/`; no part of the digest.
    pub trials: Vec<SourceFile>,
    /// Known once it was asked for; clones share it.
    pub digest: Arc<OnceCell<Digest>>,
}

/// One file of a model.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As the model refers to it, relative to the main file's folder.
    pub name: String,
    pub path: PathBuf,
    pub stamp: Stamp,
}

impl SourceFile {
    /// Notes a file as it is now. Blocks.
    pub fn at(name: String, path: PathBuf) -> io::Result<Self> {
        let stamp = Stamp::of(&File::open(&path)?)?;
        Ok(Self { name, path, stamp })
    }

    /// Opens the file, provided that it is still the one that was noted. Blocks.
    pub fn open(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        if Stamp::of(&file)? == self.stamp {
            Ok(file)
        } else {
            Err(io::Error::other(format!("`{}` changed since the model was read", self.name)))
        }
    }

    /// All of a file of at most so many bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and [`Error::Store`] for a file that cannot be read or is not the one that was noted.
    pub async fn read(&self, limit: u64) -> Result<Vec<u8>, Error> {
        let found = self.stamp.bytes;
        if found > limit {
            return Err(Error::TooLarge { what: format!("`{}`", self.name), found, limit });
        }
        let file = self.clone();
        let read = move || {
            let cannot_read = StoreError::io("read a file of a model", &file.path);
            let mut content = Vec::new();
            // No more than that also where it has grown.
            file.open().and_then(|open| open.take(limit).read_to_end(&mut content)).map_err(cannot_read)?;
            Ok(content)
        };
        Ok(blocking(read).await?)
    }

    /// True while the file is the one that was noted. Blocks.
    pub fn is_unchanged(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|meta| Stamp::from(&meta) == self.stamp)
    }
}

impl ModelSource {
    /// All files, main first.
    pub fn all_files(&self) -> impl Iterator<Item = &SourceFile> {
        std::iter::once(&self.main).chain(&self.others)
    }

    pub fn bytes(&self) -> u64 {
        self.all_files().map(|file| file.stamp.bytes).sum()
    }

    /// True for a compiled module, which needs no compiler.
    pub fn is_module(&self) -> bool {
        is_module_name(&self.main.name)
    }

    /// The digest of everything that a compilation can read. Reads all of it the first time.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not the one that was noted.
    pub async fn digest(&self) -> io::Result<Digest> {
        let read = || async {
            let source = self.clone();
            let hash = move || {
                let files = source.all_files().map(|file| {
                    let digest = Digest::of_file(&file.path)?;
                    file.open()?;
                    Ok((file.name.as_str(), digest))
                });
                digest(&source.main.name, files)
            };
            tokio::task::spawn_blocking(hash).await.map_err(io::Error::other)?
        };
        self.digest.get_or_try_init(read).await.copied()
    }

    pub fn is_unchanged(&self) -> bool {
        self.all_files().all(SourceFile::is_unchanged)
    }

    /// What answers a compiler that asks for a file by the name that stands in the model.
    pub fn files(&self) -> Arc<dyn ModelFiles> {
        let files = self.others.iter().map(|file| (file.name.clone(), file.clone())).collect();
        Arc::new(ListedFiles { files })
    }

    pub fn open_main(&self) -> io::Result<OwnedFd> {
        Ok(self.main.open()?.into())
    }
}

/// Two places with the same files are the same source.
impl PartialEq for ModelSource {
    fn eq(&self, other: &Self) -> bool {
        let files = |source: &Self| -> Vec<_> {
            source.all_files().map(|file| (file.name.clone(), file.path.clone(), file.stamp)).collect()
        };
        let beside = |source: &Self| -> Vec<_> {
            let files = source.config.iter().chain(&source.trials);
            files.map(|file| (file.path.clone(), file.stamp)).collect()
        };
        self.version == other.version
            && self.origin == other.origin
            && files(self) == files(other)
            && beside(self) == beside(other)
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// The name of a configuration in protobuf's text format.
pub const TEXT_CONFIG: &str = "config.pbtxt";
/// The name of one in its JSON.
pub const JSON_CONFIG: &str = "config.json";

/// Takes the configuration out of a model's files.
pub fn take_config(files: &mut Vec<SourceFile>) -> Option<SourceFile> {
    let at = [TEXT_CONFIG, JSON_CONFIG]
        .iter()
        .find_map(|name| files.iter().position(|file| file.name == *name))?;
    Some(files.remove(at))
}

/// Folders of files that a version is tried with before it answers.
pub const TRIAL_FOLDERS: [&str; 2] = ["warmup/", "golden/"];

/// Takes what a version is tried with out of a model's files.
pub fn take_trials(files: &mut Vec<SourceFile>) -> Vec<SourceFile> {
    let is_trial = |file: &mut SourceFile| TRIAL_FOLDERS.iter().any(|folder| file.name.starts_with(folder));
    files.extract_if(.., is_trial).collect()
}

/// True for the file name of a compiled module.
pub fn is_module_name(name: &str) -> bool {
    name.ends_with(".irm")
}

/// The digest of a model from those of its files, main file first. The main file's name does not count beyond
/// its ending, which says how to read it.
pub fn digest<'a>(
    main_name: &str,
    files: impl Iterator<Item = io::Result<(&'a str, Digest)>>,
) -> io::Result<Digest> {
    let ending = Path::new(main_name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    let mut files = files.collect::<io::Result<Vec<_>>>()?;
    if let Some(main) = files.first_mut() {
        main.0 = ending;
    }
    if let Some(others) = files.get_mut(1..) {
        others.sort();
    }
    let fields: Vec<&[u8]> =
        files.iter().flat_map(|(name, digest)| [name.as_bytes(), digest.0.as_slice()]).collect();
    Ok(Digest::of_fields(DIGEST_DOMAIN, &fields))
}

/// Opens only files that were listed when the model was read, so that its digest covers all it can reach.
#[derive(Debug)]
struct ListedFiles {
    files: BTreeMap<String, SourceFile>,
}

impl ModelFiles for ListedFiles {
    fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let name = check_path(name).map_err(|_| {
            io::Error::new(io::ErrorKind::PermissionDenied, "the name leaves the model's folder")
        })?;
        let file = self
            .files
            .get(&name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file came with the model"))?;
        Ok(file.open()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("resnet50-v1.5_int8").is_ok());
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a\0b", ".", "./"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert_eq!(check_path("./weights//part0.bin").unwrap(), "weights/part0.bin");
    }

    #[test]
    fn the_digest_covers_external_data_and_its_names_in_any_order() {
        let of = |files: &[(&str, &str)]| {
            digest("m.onnx", files.iter().map(|(name, data)| Ok((*name, Digest::of(data.as_bytes())))))
                .unwrap()
        };
        let one = of(&[("m.onnx", "m"), ("a", "1"), ("b", "2")]);
        assert_eq!(one, of(&[("other.onnx", "m"), ("b", "2"), ("a", "1")]));
        assert_ne!(one, of(&[("m.onnx", "m"), ("a", "2"), ("b", "1")]));
        assert_ne!(one, of(&[("m.onnx", "m"), ("a", "1")]));
    }

    #[test]
    fn a_file_that_changed_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.bin");
        std::fs::write(&path, "one").unwrap();
        let file = SourceFile::at("w.bin".to_owned(), path.clone()).unwrap();
        let files = ListedFiles { files: [("w.bin".to_owned(), file)].into() };
        assert!(files.open("./w.bin").is_ok());
        assert_eq!(files.open("../w.bin").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(files.open("x.bin").unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "other").unwrap();
        assert!(files.open("w.bin").is_err());
    }
}
