//! Resource limits and process flags.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::policy::Limits;
use super::{Confinement, Layer};

/// No executed file can give this process or its children privileges.
pub(super) fn no_new_privileges() -> Layer {
    rustix::thread::set_no_new_privs(true).map(|()| String::new()).map_err(|errno| errno.to_string())
}

/// Other processes of the same user cannot read its memory, and there is no core file.
pub(super) fn not_dumpable() -> Layer {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map(|()| String::new()).map_err(|e| e.to_string())
}

/// Applies the policy's limits and those that the parent asked for.
pub(super) fn apply(policy: &Limits, asked: &Confinement, own_user_namespace: bool) -> Layer {
    let mut applied = Vec::new();
    let mut limit = |name: &str, resource, value: u64| {
        set_both(resource, value, value).map_err(|errno| format!("{name}: {errno}"))?;
        applied.push(format!("{name} {value}"));
        Ok::<(), String>(())
    };
    limit("core", Resource::Core, 0)?;
    limit("nofile", Resource::Nofile, policy.open_files)?;
    if let Some(bytes) = asked.memory_bytes {
        limit("data", Resource::Data, bytes)?;
        let space = bytes.saturating_add(asked.mapped_bytes).saturating_add(policy.reserved_bytes);
        limit("as", Resource::As, space)?;
    }
    if let Some(bytes) = asked.file_bytes {
        limit("fsize", Resource::Fsize, bytes)?;
    }
    if own_user_namespace {
        limit("nproc", Resource::Nproc, policy.threads)?;
    }
    if let Some(cpu) = asked.cpu {
        let seconds = whole_seconds(cpu);
        // The hard limit only kills; one second before it the process dies of a signal that names the reason.
        set_both(Resource::Cpu, seconds, seconds + 1).map_err(|errno| format!("cpu: {errno}"))?;
        applied.push(format!("cpu {seconds}"));
    }
    Ok(applied.join(", "))
}

/// Sets both limits, or what stands already where that is lower: a process cannot raise its hard limit.
fn set_both(resource: Resource, current: u64, maximum: u64) -> Result<(), Errno> {
    let standing = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (current, maximum) = (current.min(standing), maximum.min(standing));
    setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
}

/// The kernel counts whole seconds, and zero is no time at all.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}
