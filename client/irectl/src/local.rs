//! Compiling and running on this machine, in worker processes, without a daemon.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ired_worker::{
    CompileEvent, CompileJob, CompileOptions, CompileReport, CompileWorkers, DirectoryFiles, Dump,
    RuntimeConfig, RuntimeOptions, RuntimeWorker, TargetRequest, Tensor,
};

use crate::compile_args::CompileArgs;
use crate::progress::Progress;
use crate::tensors::NamedTensor;

/// A module in a file that has no name, ready to be read from its start.
pub(crate) struct Module {
    pub(crate) file: File,
    /// Zero for a file that was compiled before.
    pub(crate) compile_time: Duration,
}

/// Compiles `model` into `output`, showing progress.
///
/// `on_dump` gets every phase's text when `options.dump` is set.
pub(crate) async fn compile(
    model: &Path,
    target: TargetRequest,
    options: CompileOptions,
    output: &File,
    mut on_dump: impl FnMut(Dump) + Send,
) -> Result<CompileReport> {
    let workers = CompileWorkers::beside_current_exe().context("cannot find the compile worker")?;
    let file = open_file(model)?;
    let job = CompileJob { model_name: stem(model), file_name: file_name(model), target, options };
    let folder = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = Arc::new(DirectoryFiles::new(folder)?);
    let progress = Progress::start("compiling");
    let report = workers
        .compile(job, OwnedFd::from(file), files, OwnedFd::from(output.try_clone()?), |event| match event {
            CompileEvent::Progress(p) => progress.step(&p.phase, p.done, p.total, &p.detail),
            CompileEvent::Dump(dump) => on_dump(dump),
            CompileEvent::Started { .. } => {}
        })
        .await;
    progress.finish();
    report.with_context(|| format!("cannot compile `{}`", model.display()))
}

/// Opens a compiled module, or compiles a model for this machine.
pub(crate) async fn module(path: &Path, args: &CompileArgs) -> Result<Module> {
    if is_module(path) {
        args.ensure_none(path)?;
        let file = open_file(path)?;
        return Ok(Module { file, compile_time: Duration::ZERO });
    }
    let file = tempfile::tempfile().context("cannot make a temporary file")?;
    let start = Instant::now();
    compile(path, TargetRequest::default(), args.options(), &file, |_| ()).await?;
    Ok(Module { file, compile_time: start.elapsed() })
}

/// Starts a runtime worker that holds `module`.
pub(crate) async fn load(module: &Module, threads: Option<u32>) -> Result<RuntimeWorker> {
    let config = RuntimeConfig::beside_current_exe().context("cannot find the runtime worker")?;
    let options = RuntimeOptions { threads, ..RuntimeOptions::default() };
    let worker = RuntimeWorker::start(config, OwnedFd::from(module.file.try_clone()?), options).await?;
    let (variant, variants) = worker.module().variant;
    if variants > 1 {
        let target = &worker.module().target;
        let features = target.features.join(",+");
        eprintln!("variant {} of {variants}: {},+{features}", variant + 1, target.triple);
    }
    Ok(worker)
}

/// The name of the module's first entry point, which `run`, `bench` and `verify` call.
pub(crate) fn first_entry(worker: &RuntimeWorker) -> Result<String> {
    let entry = worker.module().signature.entries.first().context("the module has no entry point")?;
    Ok(entry.name.clone())
}

/// The names of what [`first_entry`] takes.
pub(crate) fn input_names(worker: &RuntimeWorker) -> impl Iterator<Item = &str> {
    let entry = worker.module().signature.entries.first();
    entry.into_iter().flat_map(|entry| &entry.inputs).map(|input| input.name.as_str())
}

impl From<NamedTensor> for Tensor {
    fn from(tensor: NamedTensor) -> Self {
        Self { name: tensor.name, dtype: tensor.dtype, dims: tensor.dims, data: tensor.data.into() }
    }
}

impl From<Tensor> for NamedTensor {
    fn from(tensor: Tensor) -> Self {
        Self { name: tensor.name, dtype: tensor.dtype, dims: tensor.dims, data: tensor.data.into() }
    }
}

/// Opens a file for reading. Folders and devices are refused, and so are FIFOs, which would wait for a writer.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .with_context(|| format!("cannot open `{}`", path.display()))?;
    if !file.metadata()?.is_file() {
        bail!("`{}` is not a file", path.display());
    }
    Ok(file)
}

fn is_module(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "irm")
}

pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A file that becomes `path` when it is complete, so that no half-written one is ever seen.
///
/// It has no name until then where the file system knows such files: nothing stays behind, however this process ends.
pub(crate) struct Output {
    file: Unfinished,
    folder: PathBuf,
    path: PathBuf,
}

enum Unfinished {
    Nameless(File),
    Named(tempfile::NamedTempFile),
}

impl Output {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        // A complete file takes the place of what has its name: of a device, that would be the end.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            bail!("cannot write `{}`: it is there and not a file", path.display());
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = match nameless(folder) {
            Some(file) => Unfinished::Nameless(file),
            None => Unfinished::Named(
                temporary_name()
                    .tempfile_in(folder)
                    .with_context(|| format!("cannot write to `{}`", folder.display()))?,
            ),
        };
        Ok(Self { file, folder: folder.to_owned(), path: path.to_owned() })
    }

    pub(crate) fn file(&self) -> &File {
        match &self.file {
            Unfinished::Nameless(file) => file,
            Unfinished::Named(file) => file.as_file(),
        }
    }

    pub(crate) fn keep(self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;

        // A temporary file is its owner's alone; a module is a file like any other.
        self.file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        let Self { file, folder, path } = self;
        let placed = match file {
            Unfinished::Named(file) => file.persist(&path).map(drop).map_err(|error| error.error),
            // A link takes no other file's place, but a rename does; the name in between is there for a moment.
            Unfinished::Nameless(file) => temporary_name()
                .make_in(&folder, |name| link(&file, name))
                .and_then(|linked| linked.persist(&path).map_err(|error| error.error)),
        };
        placed.with_context(|| format!("cannot write `{}`", path.display()))
    }
}

fn temporary_name() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".irectl-");
    builder
}

/// A file in `folder` without a name that can be given one.
fn nameless(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};

    // Names are given by way of `/proc`.
    if !Path::new("/proc/self/fd").is_dir() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
}

fn link(file: &File, name: &Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD};

    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, nameless, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn fifo(folder: &Path) -> PathBuf {
        let path = folder.join("fifo");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::RUSR, 0).unwrap();
        path
    }

    #[test]
    fn only_files_are_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.onnx");
        std::fs::write(&file, b"model").unwrap();
        assert!(open_file(&file).is_ok());
        for path in [folder.path(), &fifo(folder.path()), Path::new("/dev/null")] {
            let error = open_file(path).unwrap_err().to_string();
            assert!(error.ends_with("is not a file"), "{error}");
        }
    }

    fn entries(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn an_output_replaces_files_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.irm");
        std::fs::write(&file, b"old").unwrap();
        let output = Output::create(&file).unwrap();
        output.file().write_all(b"new").unwrap();
        // A folder of tmpfs, ext4, xfs or btrfs takes files without names.
        assert!(matches!(output.file, Unfinished::Named(_)) || entries(folder.path()) == ["out.irm"]);
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        output.keep().unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(entries(folder.path()), ["out.irm"]);
        assert!(Output::create(&fifo(folder.path())).is_err());
        assert!(Output::create(folder.path()).is_err());
    }
}
