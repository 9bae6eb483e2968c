//! Links objects into one shared ELF image, inside this process and without a file system.

use std::ffi::{CString, c_char, c_void};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd as _};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use mlir_sys as sys;

use crate::context::append;
use crate::error::Error;

unsafe extern "C" {
    fn iredLink(
        arguments: *const *const c_char,
        count: isize,
        report: sys::MlirStringCallback,
        user_data: *mut c_void,
    ) -> i32;
}

/// lld keeps global state, and resets LLVM's options, which code generation reads: a link excludes both.
static LLVM_OPTIONS: RwLock<()> = RwLock::new(());

/// Held while LLVM's options are read.
pub(crate) fn while_not_linking() -> RwLockReadGuard<'static, ()> {
    LLVM_OPTIONS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Links `objects` into an ELF64 shared image that exports `exported` and nothing else, and needs no library.
///
/// Input and output are memory files and a pipe, reached through `/proc/self/fd`; nothing is executed. A link
/// waits for other links and for code generation on other threads.
///
/// # Errors
/// [`Error::Link`] with lld's messages, in particular for a symbol that no object defines.
pub fn link(objects: &[Vec<u8>], exported: &[String]) -> Result<Vec<u8>, Error> {
    let inputs = objects.iter().map(|o| memory_file(o)).collect::<Result<Vec<_>, _>>()?;
    let mut script = "{ global:".to_owned();
    for symbol in exported {
        script.push_str(&format!(" {symbol};"));
    }
    script.push_str(" local: *; };");
    let script = if exported.is_empty() { "{ local: *; };".to_owned() } else { script };
    let script = memory_file(script.as_bytes())?;
    // A pipe: to replace a regular file, lld makes a temporary one beside it first.
    let (mut reader, writer) = std::io::pipe().map_err(Error::MemoryFile)?;

    let mut arguments = vec![
        "ld.lld".to_owned(),
        "-shared".to_owned(),
        "--no-undefined".to_owned(),
        "--threads=1".to_owned(),
        "--no-mmap-output-file".to_owned(),
        "--hash-style=sysv".to_owned(),
        "--build-id=none".to_owned(),
        "--gc-sections".to_owned(),
        "--icf=none".to_owned(),
        "-Bsymbolic".to_owned(),
        "-znoexecstack".to_owned(),
        "-znow".to_owned(),
        "--strip-all".to_owned(),
        format!("--version-script={}", path(&script)),
        "-o".to_owned(),
        path(&writer),
    ];
    arguments.extend(inputs.iter().map(path));
    let arguments: Vec<CString> = arguments
        .into_iter()
        .map(|a| CString::new(a).map_err(|e| Error::Link(e.to_string())))
        .collect::<Result<_, _>>()?;
    let pointers: Vec<*const c_char> = arguments.iter().map(|a| a.as_ptr()).collect();

    let mut messages = Vec::<u8>::new();
    let (code, image) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut image = Vec::new();
            reader.read_to_end(&mut image).map(|_| image)
        });
        let code = {
            let _guard = LLVM_OPTIONS.write().unwrap_or_else(PoisonError::into_inner);
            let user_data = (&raw mut messages).cast::<c_void>();
            // SAFETY: the argument texts live during the call; `messages` is touched only by `append` meanwhile.
            unsafe { iredLink(pointers.as_ptr(), pointers.len() as isize, Some(append), user_data) }
        };
        // lld has closed its own end: with ours gone, the reader sees the end.
        drop(writer);
        (code, reading.join())
    });
    if code != 0 {
        return Err(Error::Link(String::from_utf8_lossy(&messages).trim().to_owned()));
    }
    match image {
        Ok(image) => image.map_err(Error::MemoryFile),
        Err(_) => Err(Error::Link("the thread that collects the image ended early".to_owned())),
    }
}

fn path(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn memory_file(contents: &[u8]) -> Result<File, Error> {
    // SAFETY: the name is a C string, and the new descriptor is owned by the file at once.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"ired-link".as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(Error::MemoryFile(std::io::Error::last_os_error()));
        }
        File::from_raw_fd(descriptor)
    };
    file.write_all(contents).map_err(Error::MemoryFile)?;
    Ok(file)
}
