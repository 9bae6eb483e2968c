//! Files that a parent leaves open by accident.
#![allow(unsafe_code, reason = "descriptors are closed without an owner")]

/// Closes every descriptor but standard input, output and error.
pub(crate) fn close_inherited_files() {
    // SAFETY: this runs first in a fresh process, so nothing in it owns a descriptor above 2. Kernels without the call
    // leave the files open; the parent marks its own as close-on-exec anyway.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}
