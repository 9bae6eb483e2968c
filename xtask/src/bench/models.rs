//! What is measured: models with inputs, those of the command line or some that are made here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{folder, python, text};
use crate::process::{root, run as command};

/// A model and one set of inputs.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// `model`, or `model/case` where there are several.
    pub(super) name: String,
    pub(super) model: PathBuf,
    pub(super) inputs: PathBuf,
}

/// The cases of `paths`, or those that `benches/models.py` writes as `kind`.
///
/// A path is a model, or a folder with `model.onnx`, with `CASE.inputs.npz` beside; or a folder of such folders. `all`
/// takes every case of a model, not only the first.
pub(super) fn cases(paths: &[PathBuf], kind: &str, all: bool) -> Result<Vec<Case>> {
    if paths.is_empty() {
        return cases(&[made(kind)?], kind, all);
    }
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        collect(path, all, &mut found)?;
        if found.len() == before && path.is_dir() {
            for inner in listing(path)? {
                collect(&inner, all, &mut found)?;
            }
        }
        ensure!(
            found.len() > before,
            "`{}`: expected a model with `*.inputs.npz` beside it, or a folder of those",
            path.display()
        );
    }
    Ok(found)
}

fn collect(path: &Path, all: bool, found: &mut Vec<Case>) -> Result<()> {
    let (model, folder) = match path.is_dir() {
        true => (path.join("model.onnx"), path.to_owned()),
        false => (path.to_owned(), path.parent().map(Path::to_owned).unwrap_or_default()),
    };
    if !model.is_file() || model.extension().is_none_or(|extension| extension != "onnx") {
        return Ok(());
    }
    let named = if path.is_dir() { &folder } else { &model };
    let name = named.file_stem().unwrap_or_default().to_string_lossy();
    let inputs = listing(&folder)?.into_iter().filter_map(|file| {
        let case = file.file_name()?.to_string_lossy().strip_suffix(".inputs.npz")?.to_owned();
        Some((case, file))
    });
    for (case, inputs) in inputs.take(if all { usize::MAX } else { 1 }) {
        let name = if case == "default" { name.to_string() } else { format!("{name}/{case}") };
        found.push(Case { name, model: model.clone(), inputs });
    }
    Ok(())
}

/// What is in a folder, by name.
fn listing(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Models written anew, as the script may have changed.
fn made(kind: &str) -> Result<PathBuf> {
    let models = folder()?.join(kind);
    let script = root().join("benches/models.py");
    command(&text(&python()?), &[&text(&script), kind, &text(&models)])?;
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    fn names(paths: &[PathBuf], all: bool) -> Vec<String> {
        cases(paths, "models", all).unwrap().into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn folders_of_models_models_and_folders_are_told_apart() {
        let temporary = tempfile::tempdir().unwrap();
        let zoo = temporary.path();
        for file in
            ["a/model.onnx", "a/x.inputs.npz", "a/y.inputs.npz", "b/model.onnx", "b/default.inputs.npz"]
        {
            touch(&zoo.join(file));
        }
        touch(&zoo.join("notes/readme.md"));
        assert_eq!(names(&[zoo.to_owned()], false), ["a/x", "b"]);
        assert_eq!(names(&[zoo.join("a")], true), ["a/x", "a/y"]);
        assert_eq!(names(&[zoo.join("b/model.onnx")], true), ["model"]);
        assert!(cases(&[zoo.join("notes")], "models", false).is_err());
    }
}
