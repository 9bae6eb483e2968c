//! What this process has used, told from inside the sandbox.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::messages::runtime::ProcessUsage;

/// Kept open, as `/proc` cannot be reached later.
static STATUS: OnceLock<Option<File>> = OnceLock::new();

/// Opens what [`usage`] reads; before the process confines itself.
pub(super) fn prepare() {
    STATUS.get_or_init(|| File::open("/proc/self/status").ok());
}

/// CPU time and memory of this process so far; memory is 0 where the system does not tell.
pub fn usage() -> ProcessUsage {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    let cpu = seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default());
    let status = status().unwrap_or_default();
    let rss_bytes = field(&status, "VmRSS:");
    ProcessUsage {
        cpu,
        rss_bytes,
        private_bytes: rss_bytes.saturating_sub(field(&status, "RssFile:")),
        peak_rss_bytes: field(&status, "VmHWM:"),
    }
}

fn status() -> Option<String> {
    let mut text = [0; 4096];
    let count = STATUS.get()?.as_ref()?.read_at(&mut text, 0).ok()?;
    Some(String::from_utf8_lossy(&text[..count]).into_owned())
}

/// A field in bytes; the kernel writes `VmRSS:   1234 kB`.
fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default().saturating_mul(1024)
}
