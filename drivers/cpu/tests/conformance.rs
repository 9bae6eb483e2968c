//! The CPU device obeys the device interface, at several thread counts.

use std::sync::Arc;

use ired_driver_cpu::{CpuConfig, CpuDevice, test_support};
use ired_hal::conformance;
use ired_hal::validate::Validated;

fn run_with(threads: u32) {
    let config = CpuConfig { threads: Some(threads), ..CpuConfig::default() };
    let make = || Arc::new(CpuDevice::new(&config).expect("threads start")) as Arc<dyn ired_hal::Device>;
    conformance::run(&make, &test_support::kernels());
}

#[test]
fn obeys_the_interface_with_one_thread() {
    run_with(1);
}

#[test]
fn obeys_the_interface_with_two_threads() {
    run_with(2);
}

#[test]
fn obeys_the_interface_with_eight_threads() {
    run_with(8);
}

#[test]
fn obeys_the_interface_under_validation() {
    let config = CpuConfig { threads: Some(2), ..CpuConfig::default() };
    let make = || {
        let device = CpuDevice::new(&config).expect("threads start");
        Arc::new(Validated::new(Arc::new(device))) as Arc<dyn ired_hal::Device>
    };
    conformance::run(&make, &test_support::kernels());
}
