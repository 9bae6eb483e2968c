//! Giving up every capability, those of a user namespace included.
#![allow(unsafe_code, reason = "prctl and capset have no safe wrappers that cover unknown capabilities")]

use std::io;

use super::Layer;

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the bounding, ambient, effective, permitted and inheritable sets.
pub(super) fn drop_all() -> Layer {
    // Numbers beyond the kernel's last capability give EINVAL; without CAP_SETPCAP the set stays, which matters only
    // to programs executed later, and there are none.
    for capability in 0..64 as libc::c_ulong {
        // SAFETY: takes a number, touches no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    // SAFETY: takes numbers, touches no memory. Kernels without ambient capabilities have none to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0) };
    let mut header = Header { version: VERSION_3, pid: 0 };
    let empty = [Sets::default(); 2];
    // SAFETY: version 3 reads one header and two sets; both live until the call returns.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, empty.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    let mut found = [Sets { effective: !0, permitted: !0, inheritable: !0 }; 2];
    // SAFETY: version 3 reads one header and writes two sets; both live until the call returns.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    if found == empty { Ok("none left".to_owned()) } else { Err("some are left".to_owned()) }
}
