//! What this machine is, read from the kernel; the daemon itself opens no device.

use std::fs;

/// The machine as a place to run models.
#[derive(Clone, Debug)]
pub struct Host {
    /// What the vendor calls the CPU.
    pub name: String,
    /// `x86_64-linux`, `aarch64-linux`…
    pub triple: String,
    /// The kernel's names of CPU features, sorted.
    pub features: Vec<String>,
    /// Logical CPUs this process may use.
    pub units: u32,
}

/// Memory of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub total_bytes: u64,
    pub used_bytes: u64,
}

impl Host {
    /// Blocks shortly. What cannot be read is empty.
    pub fn detect() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |names: &[&str]| {
            let lines = info.lines().filter_map(|line| line.split_once(':'));
            lines
                .map(|(key, value)| (key.trim(), value.trim()))
                .find(|(key, _)| names.contains(key))
                .map(|(_, v)| v)
        };
        let mut features: Vec<String> = field(&["flags", "Features", "isa"])
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        features.sort();
        Self {
            name: field(&["model name", "Model", "uarch"]).unwrap_or("CPU").to_owned(),
            triple: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            features,
            units: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        }
    }

    /// One line that differs between machines that code for "the host" may differ on.
    pub fn identity(&self) -> String {
        format!("{} {} {}", self.triple, self.name, self.features.join(","))
    }

    pub fn memory() -> Memory {
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            kib.unwrap_or(0) * 1024
        };
        let total_bytes = field("MemTotal");
        Memory { total_bytes, used_bytes: total_bytes.saturating_sub(field("MemAvailable")) }
    }

    pub fn own_resident_bytes() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}
