//! The model repository: a directory that its owner fills and the daemon only reads.
//!
//! `NAME/VERSION/model.onnx`, `NAME/model.onnx` (version 1) or `NAME.onnx` (version 1); `.irm` in place of
//! `.onnx` is a compiled module. Files beside the model in its folder are its external data; beside `NAME.onnx`
//! those whose names begin with `NAME.`. `NAME/config.pbtxt`, one in a version's own folder, or
//! `NAME.config.pbtxt` says how the model is to be run. Below `NAME/warmup` and `NAME/golden`, or folders of these names in
//! a version's own, is what a version is tried with before it answers.
//!
//! Links are followed as long as they stay in the repository directory; one that leaves it is passed over and
//! logged: what a model can read, its answers can show. Names that begin with `..`, as Kubernetes' mounts have
//! them, are reached through links only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::models::{
    ModelSource, Origin, SourceFile, TEXT_CONFIG, TRIAL_FOLDERS, check_name, check_path, take_config,
    take_trials,
};

/// Endings of model files, in the order they are looked for.
const ENDINGS: &[&str] = &["onnx", "irm"];
/// How deep external data may lie below its model.
const DEPTH: usize = 8;

/// A directory of models.
#[derive(Clone, Debug)]
pub struct Repository {
    pub dir: PathBuf,
    /// Files of one model at most.
    pub model_files: usize,
}

impl Repository {
    /// Every version of every model. What is not a model is passed over; what looks like one and cannot be
    /// read is logged. Blocks.
    pub fn scan(&self) -> io::Result<Vec<ModelSource>> {
        let mut found = Vec::new();
        for name in self.names()? {
            match self.scan_model(&name) {
                Ok(versions) => found.extend(versions),
                Err(error) => tracing::warn!(model = name, %error, "model of the repository is not readable"),
            }
        }
        Ok(found)
    }

    /// What is named as a model is, in order. Blocks.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let part = if path.is_dir() { path.file_name() } else { path.file_stem() };
            let is_model = path.is_dir() || has_ending(&path);
            match part.and_then(|name| name.to_str()) {
                Some(name) if is_model && !name.starts_with('.') => names.push(name.to_owned()),
                _ => {}
            }
        }
        names.sort();
        names.dedup();
        names.retain(|name| match check_name(name) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "entry of the model repository is passed over");
                false
            }
        });
        Ok(names)
    }

    /// The versions of one model, ascending; empty when it is not there. Blocks.
    pub fn scan_model(&self, name: &str) -> io::Result<Vec<ModelSource>> {
        let folder = self.dir.join(name);
        let root = self.dir.canonicalize()?;
        let mut found = Vec::new();
        if folder.is_dir() && stays(&root, &folder) {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let number = path.file_name().and_then(|n| n.to_str()).and_then(parse_version);
                if let Some(version) = number.filter(|_| path.is_dir() && stays(&root, &path)) {
                    found.extend(self.in_folder(&root, name, version, &path)?);
                }
            }
            if found.is_empty() {
                found.extend(self.in_folder(&root, name, 1, &folder)?);
            }
        }
        if found.is_empty() {
            found.extend(self.alone(&root, name)?);
        }
        found.sort_by_key(|source| source.version);
        Ok(found)
    }

    /// A file of a model's folder, by its name there; `None` where there is none, and for what leads out of the
    /// repository. Blocks.
    pub fn shared_file(&self, model: &str, name: &str) -> io::Result<Option<SourceFile>> {
        let root = self.dir.canonicalize()?;
        let found = first_file(&root, std::iter::once(self.dir.join(model).join(name)));
        found.map(|path| SourceFile::at(name.to_owned(), path)).transpose()
    }

    /// `FOLDER/model.onnx` and what lies beside it.
    fn in_folder(
        &self,
        root: &Path,
        name: &str,
        version: u64,
        folder: &Path,
    ) -> io::Result<Option<ModelSource>> {
        let candidates = ENDINGS.iter().map(|ending| folder.join(format!("model.{ending}")));
        let Some(main) = first_file(root, candidates) else {
            return Ok(None);
        };
        let main = named(main)?;
        let mut others = Vec::new();
        self.collect(root, folder, "", 0, &mut others)?;
        others.retain(|file: &SourceFile| file.name != main.name);
        let config = match take_config(&mut others) {
            None => first_file(root, [self.dir.join(name).join(TEXT_CONFIG)].into_iter())
                .map(named)
                .transpose()?,
            own => own,
        };
        let mut trials = take_trials(&mut others);
        for kind in TRIAL_FOLDERS {
            let shared = self.dir.join(name).join(kind);
            let has_own = trials.iter().any(|file| file.name.starts_with(kind));
            if !has_own && shared.is_dir() && stays(root, &shared) {
                self.collect(root, &shared, kind, 1, &mut trials)?;
            }
        }
        Ok(Some(ModelSource {
            name: name.to_owned(),
            version,
            origin: Origin::Repository,
            main,
            others,
            config,
            trials,
            digest: Arc::default(),
        }))
    }

    /// `NAME.onnx` and its siblings `NAME.*`.
    fn alone(&self, root: &Path, name: &str) -> io::Result<Option<ModelSource>> {
        let candidates = ENDINGS.iter().map(|ending| self.dir.join(format!("{name}.{ending}")));
        let Some(main) = first_file(root, candidates) else {
            return Ok(None);
        };
        let main = named(main)?;
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let sibling =
                path.file_name().and_then(|n| n.to_str()).filter(|n| n.starts_with(&format!("{name}.")));
            if let Some(sibling) = sibling
                && sibling != main.name
                && path.is_file()
                && !has_ending(&path)
                && stays(root, &path)
            {
                others.push(SourceFile::at(sibling.to_owned(), path.clone())?);
            }
        }
        others.sort_by(|a, b| a.name.cmp(&b.name));
        let config = others.iter().position(|file| file.name == format!("{name}.{TEXT_CONFIG}"));
        let config = config.map(|at| others.remove(at));
        Ok(Some(ModelSource {
            name: name.to_owned(),
            version: 1,
            origin: Origin::Repository,
            main,
            others,
            config,
            trials: Vec::new(),
            digest: Arc::default(),
        }))
    }

    /// Regular files below `folder`.
    fn collect(
        &self,
        root: &Path,
        folder: &Path,
        prefix: &str,
        depth: usize,
        into: &mut Vec<SourceFile>,
    ) -> io::Result<()> {
        let mut paths = fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            if name.starts_with("..") {
                continue;
            }
            let Ok(name) = check_path(&format!("{prefix}{name}")) else { continue };
            if !stays(root, &path) {
                continue;
            }
            if path.is_dir() {
                if depth < DEPTH {
                    self.collect(root, &path, &format!("{name}/"), depth + 1, into)?;
                }
            } else if path.is_file() {
                if into.len() >= self.model_files {
                    let message = format!("`{}` has more than {} files", root.display(), self.model_files);
                    return Err(io::Error::other(message));
                }
                into.push(SourceFile::at(name, path)?);
            }
        }
        Ok(())
    }
}

/// A version as a directory or a request names it: a positive decimal number.
pub fn parse_version(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&version| digits && version > 0)
}

fn has_ending(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
}

fn first_file(root: &Path, mut candidates: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    candidates.find(|path| path.is_file() && stays(root, path))
}

fn named(path: PathBuf) -> io::Result<SourceFile> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("model").to_owned();
    SourceFile::at(name, path)
}

/// False, and logged, for what leads out of the repository at `root`.
fn stays(root: &Path, path: &Path) -> bool {
    match path.canonicalize() {
        Ok(real) if real.starts_with(root) => return true,
        Ok(_) => {
            tracing::warn!(path = %path.display(), "link leads out of the model repository; passed over");
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "link leads nowhere; passed over"),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[&str]) {
        for file in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
    }

    #[test]
    fn every_layout_is_read() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                "a/1/model.onnx",
                "a/12/model.onnx",
                "a/12/w/part.bin",
                "a/notes.txt",
                "b/model.onnx",
                "c.onnx",
                "c.onnx.data",
                "c2.onnx",
                "c2.config.pbtxt",
                "a/config.pbtxt",
                "a/12/config.pbtxt",
                "d/3/model.irm",
                "d/golden/one.json",
                "d/4/model.irm",
                "d/4/golden/own.json",
                "d/4/w.bin",
                "readme.md",
                "empty/1/nothing.txt",
                ".git/1/model.onnx",
            ],
        );
        let found = Repository { dir: dir.path().to_path_buf(), model_files: 10 }.scan().unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|m| {
                let others: Vec<&str> = m.others.iter().map(|f| f.name.as_str()).collect();
                let config =
                    m.config.as_ref().map(|file| file.path.strip_prefix(dir.path()).unwrap().display());
                let config = config.map(|path| path.to_string()).unwrap_or_default();
                let trials: String = m.trials.iter().map(|file| format!(" {}", file.name)).collect();
                format!("{m} {} {} {config}{trials}", m.main.name, others.join(","))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a/1 model.onnx  a/config.pbtxt",
                "a/12 model.onnx w/part.bin a/12/config.pbtxt",
                "b/1 model.onnx  ",
                "c/1 c.onnx c.onnx.data ",
                "c2/1 c2.onnx  c2.config.pbtxt",
                "d/3 model.irm   golden/one.json",
                "d/4 model.irm w.bin  golden/own.json",
            ]
        );
    }

    #[test]
    fn links_stay_in_the_repository() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["secret", "repo/a/1/model.onnx", "repo/a/1/real.bin"]);
        let folder = dir.path().join("repo/a/1");
        std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("weights.bin")).unwrap();
        std::os::unix::fs::symlink(folder.join("real.bin"), folder.join("alias.bin")).unwrap();
        std::os::unix::fs::symlink(&folder, folder.join("loop")).unwrap();
        let repository = Repository { dir: dir.path().join("repo"), model_files: 100 };
        let found = repository.scan_model("a").unwrap();
        let names: Vec<&str> = found[0].others.iter().map(|f| f.name.as_str()).collect();
        assert!(names.contains(&"alias.bin") && names.contains(&"real.bin"), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("weights")), "{names:?}");

        let outside = dir.path().join("outside");
        write(&outside, &["model.onnx", "1/model.onnx"]);
        let link = |target: PathBuf, name: &str| {
            let name = dir.path().join("repo").join(name);
            fs::create_dir_all(name.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, name).unwrap();
        };
        link(outside.clone(), "b");
        link(outside.join("1"), "c/1");
        link(outside.join("model.onnx"), "d/model.onnx");
        link(outside.join("model.onnx"), "e.onnx");
        link(folder.join("model.onnx"), "f.onnx");
        // As Kubernetes mounts a volume.
        write(dir.path(), &["repo/g/..2026/model.onnx", "repo/g/..2026/w.bin"]);
        link("..2026".into(), "g/..data");
        link("..data/model.onnx".into(), "g/model.onnx");
        link("..data/w.bin".into(), "g/w.bin");
        let found = repository.scan().unwrap();
        let names: Vec<&str> = found.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["a", "f", "g"]);
        let names: Vec<&str> = found[2].all_files().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["model.onnx", "w.bin"]);
    }
}
