//! Leaving the namespaces that a worker shares with its parent.
#![allow(unsafe_code, reason = "unshare has no safe wrapper for all of its flags")]

use std::io;

use super::Layer;

/// Leaves the named namespaces, the user's first: inside a user namespace of its own a process may leave the others
/// without privileges. Returns each layer's name and state.
pub(super) fn enter(names: &[String]) -> Vec<(String, Layer)> {
    names.iter().map(|name| (format!("{name}_namespace"), enter_one(name))).collect()
}

fn enter_one(name: &str) -> Layer {
    let flag = match name {
        "user" => libc::CLONE_NEWUSER,
        "network" => libc::CLONE_NEWNET,
        "ipc" => libc::CLONE_NEWIPC,
        "uts" => libc::CLONE_NEWUTS,
        "cgroup" => libc::CLONE_NEWCGROUP,
        other => return Err(format!("no namespace is called `{other}`")),
    };
    // SAFETY: these flags change what the kernel shows to this process; they touch none of its memory, descriptors or
    // current directory.
    match unsafe { libc::unshare(flag) } {
        0 => Ok(String::new()),
        _ => Err(io::Error::last_os_error().to_string()),
    }
}
