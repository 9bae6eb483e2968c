//! What the names in a policy stand for on this architecture.

use libc::c_long;

use crate::confine::PolicyError;

/// Calls of every architecture that policies may name.
const EVERYWHERE: &[(&str, c_long)] = &[
    ("brk", libc::SYS_brk),
    ("capget", libc::SYS_capget),
    ("clock_getres", libc::SYS_clock_getres),
    ("clock_gettime", libc::SYS_clock_gettime),
    ("clock_nanosleep", libc::SYS_clock_nanosleep),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("close", libc::SYS_close),
    ("dup", libc::SYS_dup),
    ("exit", libc::SYS_exit),
    ("exit_group", libc::SYS_exit_group),
    ("faccessat", libc::SYS_faccessat),
    ("faccessat2", libc::SYS_faccessat2),
    ("fadvise64", libc::SYS_fadvise64),
    ("fallocate", libc::SYS_fallocate),
    ("fchmod", libc::SYS_fchmod),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchown", libc::SYS_fchown),
    ("fcntl", libc::SYS_fcntl),
    ("flock", libc::SYS_flock),
    ("fstat", libc::SYS_fstat),
    ("ftruncate", libc::SYS_ftruncate),
    ("futex", libc::SYS_futex),
    ("futex_waitv", libc::SYS_futex_waitv),
    ("get_mempolicy", libc::SYS_get_mempolicy),
    ("get_robust_list", libc::SYS_get_robust_list),
    ("getcpu", libc::SYS_getcpu),
    ("getcwd", libc::SYS_getcwd),
    ("getdents64", libc::SYS_getdents64),
    ("getegid", libc::SYS_getegid),
    ("geteuid", libc::SYS_geteuid),
    ("getgid", libc::SYS_getgid),
    ("getpid", libc::SYS_getpid),
    ("getppid", libc::SYS_getppid),
    ("getpriority", libc::SYS_getpriority),
    ("getrandom", libc::SYS_getrandom),
    ("getrusage", libc::SYS_getrusage),
    ("gettid", libc::SYS_gettid),
    ("gettimeofday", libc::SYS_gettimeofday),
    ("getuid", libc::SYS_getuid),
    ("ioctl", libc::SYS_ioctl),
    ("lseek", libc::SYS_lseek),
    ("madvise", libc::SYS_madvise),
    ("mbind", libc::SYS_mbind),
    ("membarrier", libc::SYS_membarrier),
    ("memfd_create", libc::SYS_memfd_create),
    ("mincore", libc::SYS_mincore),
    ("mkdirat", libc::SYS_mkdirat),
    ("mmap", libc::SYS_mmap),
    ("mprotect", libc::SYS_mprotect),
    ("mremap", libc::SYS_mremap),
    ("msync", libc::SYS_msync),
    ("munmap", libc::SYS_munmap),
    ("nanosleep", libc::SYS_nanosleep),
    ("newfstatat", libc::SYS_newfstatat),
    ("openat", libc::SYS_openat),
    ("pipe2", libc::SYS_pipe2),
    ("ppoll", libc::SYS_ppoll),
    ("prctl", libc::SYS_prctl),
    ("pread64", libc::SYS_pread64),
    ("prlimit64", libc::SYS_prlimit64),
    ("pwrite64", libc::SYS_pwrite64),
    ("read", libc::SYS_read),
    ("readlinkat", libc::SYS_readlinkat),
    ("readv", libc::SYS_readv),
    ("recvmsg", libc::SYS_recvmsg),
    ("renameat2", libc::SYS_renameat2),
    ("restart_syscall", libc::SYS_restart_syscall),
    ("rseq", libc::SYS_rseq),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("rt_sigreturn", libc::SYS_rt_sigreturn),
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("sched_getparam", libc::SYS_sched_getparam),
    ("sched_getscheduler", libc::SYS_sched_getscheduler),
    ("sched_setaffinity", libc::SYS_sched_setaffinity),
    ("sched_yield", libc::SYS_sched_yield),
    ("seccomp", libc::SYS_seccomp),
    ("sendmsg", libc::SYS_sendmsg),
    ("set_robust_list", libc::SYS_set_robust_list),
    ("set_tid_address", libc::SYS_set_tid_address),
    ("setpriority", libc::SYS_setpriority),
    ("sigaltstack", libc::SYS_sigaltstack),
    ("statx", libc::SYS_statx),
    ("sysinfo", libc::SYS_sysinfo),
    ("tgkill", libc::SYS_tgkill),
    ("times", libc::SYS_times),
    ("uname", libc::SYS_uname),
    ("unlinkat", libc::SYS_unlinkat),
    ("utimensat", libc::SYS_utimensat),
    ("write", libc::SYS_write),
    ("writev", libc::SYS_writev),
];

/// Calls that newer architectures replaced or never had; naming them elsewhere says nothing.
#[cfg(target_arch = "x86_64")]
const SUPERSEDED: &[(&str, Option<c_long>)] = &[
    ("access", Some(libc::SYS_access)),
    ("arch_prctl", Some(libc::SYS_arch_prctl)),
    ("chmod", Some(libc::SYS_chmod)),
    ("getrlimit", Some(libc::SYS_getrlimit)),
    ("mkdir", Some(libc::SYS_mkdir)),
    ("open", Some(libc::SYS_open)),
    ("poll", Some(libc::SYS_poll)),
    ("readlink", Some(libc::SYS_readlink)),
    ("rename", Some(libc::SYS_rename)),
    ("renameat", Some(libc::SYS_renameat)),
    ("rmdir", Some(libc::SYS_rmdir)),
    ("time", Some(libc::SYS_time)),
    ("unlink", Some(libc::SYS_unlink)),
];
#[cfg(not(target_arch = "x86_64"))]
const SUPERSEDED: &[(&str, Option<c_long>)] = &[
    ("access", None),
    ("arch_prctl", None),
    ("chmod", None),
    ("getrlimit", None),
    ("mkdir", None),
    ("open", None),
    ("poll", None),
    ("readlink", None),
    ("rename", None),
    ("renameat", None),
    ("rmdir", None),
    ("time", None),
    ("unlink", None),
];

/// Flag words that conditions may name.
const CONSTANTS: &[(&str, u64)] = &[
    ("ARCH_REQ_XCOMP_PERM", ARCH_REQ_XCOMP_PERM),
    ("CLONE_NAMESPACES", CLONE_NAMESPACES),
    ("CLONE_THREAD", libc::CLONE_THREAD as u64),
    ("PROT_EXEC", libc::PROT_EXEC as u64),
    ("PROT_WRITE", libc::PROT_WRITE as u64),
    ("PR_GET_AUXV", PR_GET_AUXV),
    ("PR_SET_NAME", libc::PR_SET_NAME as u64),
    ("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS as u64),
    ("PR_SET_VMA", libc::PR_SET_VMA as u64),
];

/// Not in every libc's headers yet.
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
const PR_GET_AUXV: u64 = 0x4155_5856;

/// Every flag of `clone` that makes a namespace.
const CLONE_NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// The number of a call; `None` when this architecture does not have it.
pub(super) fn call_here(name: &str) -> Result<Option<i64>, PolicyError> {
    let everywhere = EVERYWHERE.iter().find(|(known, _)| *known == name).map(|(_, number)| Some(*number));
    let superseded = || SUPERSEDED.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    everywhere.or_else(superseded).ok_or_else(|| unknown("system call", name))
}

/// The number of a call that every architecture has.
pub(super) fn call(name: &str) -> Result<i64, PolicyError> {
    call_here(name)?.ok_or_else(|| unknown("system call", name))
}

pub(super) fn errno(name: &str) -> Result<i32, PolicyError> {
    match name {
        "EACCES" => Ok(libc::EACCES),
        "ENOSYS" => Ok(libc::ENOSYS),
        "ENOTTY" => Ok(libc::ENOTTY),
        _ => Err(unknown("error", name)),
    }
}

/// The bits of a flag; `SELF` is this process.
pub(super) fn constant(name: &str) -> Result<u64, PolicyError> {
    if name == "SELF" {
        return Ok(u64::from(std::process::id()));
    }
    let known = CONSTANTS.iter().find(|(known, _)| *known == name).map(|(_, bits)| *bits);
    known.ok_or_else(|| unknown("constant", name))
}

fn unknown(kind: &'static str, name: &str) -> PolicyError {
    PolicyError::Unknown { kind, name: name.to_owned() }
}
