//! What a daemon holds: descriptors, processes, memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::Daemon;

/// One look at a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vitals {
    /// Without those of memory that is kept to be used again, which counts as memory.
    pub descriptors: usize,
    /// Processes below it.
    pub workers: usize,
    pub resident_bytes: u64,
    /// What its own ledger says that models and requests take.
    pub ledger_bytes: u64,
}

impl Vitals {
    pub fn of(daemon: &Daemon) -> Result<Self> {
        let pid = daemon.pid();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).context("the daemon is gone")?;
        let is_kept = |path: &Path| path.to_string_lossy().contains("memfd:ired-tensors");
        let others = |entry: &fs::DirEntry| !fs::read_link(entry.path()).is_ok_and(|path| is_kept(&path));
        let descriptors = descriptors.flatten().filter(others).count();
        let ledger = daemon.metric("ired_memory_in_use_bytes")?.unwrap_or(0.0);
        Ok(Self {
            descriptors,
            workers: workers(pid, "").len(),
            resident_bytes: resident_bytes(pid)?,
            ledger_bytes: ledger as u64,
        })
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.resident_bytes as f64 / f64::from(1 << 20);
        let Self { descriptors, workers, ledger_bytes, .. } = self;
        write!(
            f,
            "{descriptors} descriptors, {workers} workers, {mib:.1} MiB resident, {ledger_bytes} bytes in the ledger"
        )
    }
}

/// Memory that a process has now.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("no VmRSS")? << 10)
}

/// The cores that each thread of a process may run on, as the kernel writes them; `None`: of this one.
pub fn allowed_cores(pid: Option<u32>) -> Result<Vec<String>> {
    let process = pid.map_or("self".to_owned(), |pid| pid.to_string());
    let threads = fs::read_dir(format!("/proc/{process}/task")).context("the process is gone")?;
    let cores = |thread: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Ok(line.context("no Cpus_allowed_list")?.trim().to_owned())
    };
    threads.map(cores).collect()
}

/// Processes below `ancestor` whose names begin so.
pub fn workers(ancestor: u32, name: &str) -> Vec<u32> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let stat = fs::read_to_string(entry.path().join("stat"));
        if let (Some(pid), Ok(stat)) = (pid, stat)
            && let Some((parent, command, state)) = parse(&stat)
            // What has ended and waits to be looked at holds nothing.
            && state != 'Z'
        {
            processes.insert(pid, (parent, command));
        }
    }
    let is_below = |mut pid: u32| {
        while let Some((parent, _)) = processes.get(&pid) {
            if *parent == ancestor {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let found = processes.iter().filter(|(pid, (_, command))| command.starts_with(name) && is_below(**pid));
    found.map(|(pid, _)| *pid).collect()
}

/// Parent, name and state in `PID (NAME) STATE PARENT ...`.
fn parse(stat: &str) -> Option<(u32, String, char)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, head.split_once('(')?.1.to_owned(), state))
}
