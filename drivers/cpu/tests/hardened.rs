//! Kernels load and run where the system forbids memory from becoming executable, and no memory is ever writable and
//! executable. Alone in its process, because the prohibition is for good.

#![allow(unsafe_code, reason = "asks the system to forbid something")]

use std::sync::Arc;

use ired_driver_cpu::{CpuConfig, CpuDevice, test_support};
use ired_hal::{Device, conformance};

#[test]
fn works_where_memory_cannot_become_executable() {
    // SAFETY: PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN takes two numbers and touches no memory.
    let forbidden = unsafe { libc::prctl(libc::PR_SET_MDWE, libc::PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) };
    if forbidden != 0 {
        // Kernels before 6.3 cannot forbid it; then there is nothing to show but the maps below.
        eprintln!("this kernel has no PR_SET_MDWE");
    }
    // Made before, so that the compiler runs only once; the prohibition passes to it too.
    let kernels = test_support::kernels();
    let config = CpuConfig { threads: Some(2), ..CpuConfig::default() };
    let device: Arc<dyn Device> = Arc::new(CpuDevice::new(&config).unwrap());
    let entries = conformance::ENTRIES.map(String::from);
    let (triple, features, image) = (&*kernels.triple, &*kernels.features, &*kernels.image);
    let source = ired_hal::ExecutableSource { name: "hardened", triple, features, image, entries: &entries };
    let _executable = device.prepare_executable(&source).unwrap();

    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rights = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let ours: Vec<String> =
        maps.lines().filter(|line| line.contains("memfd:ired-code")).map(rights).collect();
    assert!(ours.iter().any(|rights| rights == "r-xp"), "code is mapped from the memfd: {ours:?}");
    assert!(ours.iter().any(|rights| rights == "r--p"), "constants are mapped from the memfd: {ours:?}");
    let both = |line: &&str| rights(line).contains('w') && rights(line).contains('x');
    assert_eq!(maps.lines().find(both), None, "nothing is writable and executable");

    conformance::run(&|| device.clone(), &kernels);
}
