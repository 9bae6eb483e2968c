//! Attempts to break out, made from inside by a worker that was asked to. Each is one plain system call, so that what
//! stops it is the sandbox and nothing else.
#![allow(unsafe_code, reason = "the attempts are raw system calls, some of them without safe wrappers")]

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use crate::messages::sandbox::{Probe, ProbeOutcome};

/// Makes the attempt. May not return: then the kernel ended the process.
pub(crate) fn attempt(probe: Probe) -> ProbeOutcome {
    match try_it(probe) {
        Ok(()) => ProbeOutcome::Succeeded,
        Err(error) => ProbeOutcome::Refused(error.to_string()),
    }
}

fn try_it(probe: Probe) -> io::Result<()> {
    match probe {
        Probe::Nothing => Ok(()),
        Probe::OpenSocket => open_socket(),
        Probe::ReadPasswd => std::fs::read("/etc/passwd").map(drop),
        Probe::ReadMachine => std::fs::read("/sys/devices/system/cpu/online").map(drop),
        Probe::ListRoot => File::open("/").map(drop),
        Probe::WriteOutside => write_outside(),
        Probe::Execute => execute(),
        Probe::Fork => fork(),
        Probe::Ptrace => trace_parent(),
        Probe::ReadOtherMemory => read_parent(),
        Probe::SignalOther => signal_parent(),
        Probe::MapExecutable => map_executable(),
        Probe::AllocatePastLimit => allocate_without_end(),
        Probe::BurnCpuPastLimit => burn_cpu(),
        Probe::WriteLargeFile => write_without_end(),
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn parent() -> libc::pid_t {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getppid() }
}

fn open_socket() -> io::Result<()> {
    // SAFETY: takes numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    check(socket.into())?;
    // SAFETY: the call above returned a descriptor that nothing else owns.
    drop(unsafe { OwnedFd::from_raw_fd(socket) });
    Ok(())
}

fn write_outside() -> io::Result<()> {
    let path = format!("/tmp/ired-probe-{}", std::process::id());
    std::fs::write(&path, b"out")?;
    std::fs::remove_file(path)
}

fn execute() -> io::Result<()> {
    let arguments = [c"true".as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    // SAFETY: both lists end with null and live until the call returns, which it does only on failure.
    check(unsafe { libc::execve(c"/bin/true".as_ptr(), arguments.as_ptr(), environment.as_ptr()) }.into())
}

fn fork() -> io::Result<()> {
    // SAFETY: the child does nothing but end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the process without running anything of its parent.
        unsafe { libc::_exit(0) };
    }
    check(child.into())
}

fn trace_parent() -> io::Result<()> {
    // SAFETY: seizing stops nothing and reads no memory of this process.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, parent(), 0usize, 0usize) })
}

fn read_parent() -> io::Result<()> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: ptr::dangling_mut::<u8>().cast(), iov_len: 1 };
    // SAFETY: writes at most the one byte that `local` describes; `remote` is an address of another process.
    let read = unsafe { libc::process_vm_readv(parent(), &local, 1, &remote, 1, 0) };
    match check(read as libc::c_long) {
        // The address is wrong on purpose: getting that far means that the access was allowed.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other,
    }
}

fn signal_parent() -> io::Result<()> {
    // SAFETY: signal 0 only asks whether a signal could be sent.
    check(unsafe { libc::kill(parent(), 0) }.into())
}

fn map_executable() -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is the one mapped above; nothing points into it.
    check(unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) }.into())
}

/// Takes memory until it is refused. What was taken is given back.
fn allocate_without_end() -> io::Result<()> {
    const STEP: usize = 16 << 20;
    const FAR_PAST_ANY_PROBE_LIMIT: usize = 64 << 30;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while taken.len() * STEP < FAR_PAST_ANY_PROBE_LIMIT {
        let mut block: Vec<u8> = Vec::new();
        block.try_reserve_exact(STEP).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        block.push(1);
        taken.push(block);
    }
    Ok(())
}

fn burn_cpu() -> io::Result<()> {
    let mut state = 1u64;
    loop {
        state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        if state == 0 {
            return Ok(());
        }
    }
}

fn write_without_end() -> io::Result<()> {
    use std::io::Write;
    const FAR_PAST_ANY_PROBE_LIMIT: usize = 64 << 20;
    let memory = rustix::fs::memfd_create("probe", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    let block = vec![0; 1 << 20];
    for _ in 0..FAR_PAST_ANY_PROBE_LIMIT / block.len() {
        file.write_all(&block)?;
    }
    Ok(())
}
