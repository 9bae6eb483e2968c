//! What the CPU device adds to the work itself: `cargo run --release -p ired-driver-cpu --example overheads
//! --features test-support`. Medians, on a machine that does nothing else.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ired_driver_cpu::{CpuConfig, CpuDevice, test_support};
use ired_hal::{
    Access, Binding, BufferRange, CommandBuffer, Device, Dispatch, ExecutableSource, Inline, Memory,
    Operation, Recorder, Submission, Timepoint,
};

const ADD_F32: u32 = 0;

fn main() {
    for threads in [1, 2] {
        let config = CpuConfig { threads: Some(threads), ..CpuConfig::default() };
        let device = CpuDevice::new(&config).expect("threads start");
        println!("{threads} threads");
        if let Some(peak) = device.measure_peak() {
            let giga = |n: u64| n as f64 / 1e9;
            println!(
                "  peak                               {:>8.1} GFLOP/s",
                giga(peak.operations_per_second)
            );
            println!("  streaming read                     {:>8.1} GB/s", giga(peak.bytes_per_second));
        }
        println!(
            "  empty command buffer, inline       {:>8.3} µs",
            submit(&device, &commands(&device, 0, 1, 1))
        );
        println!(
            "  one dispatch of 1, inline          {:>8.3} µs",
            submit(&device, &commands(&device, 1, 1, 1))
        );
        println!(
            "  one dispatch of 8, inline          {:>8.3} µs",
            submit(&device, &commands(&device, 1, 8, 1))
        );
        println!(
            "  100 dispatches of 1, inline        {:>8.3} µs",
            submit(&device, &commands(&device, 100, 1, 1))
        );
        let short = submit(&device, &commands(&device, 200, 2, 1));
        let long = submit(&device, &commands(&device, 2200, 2, 1));
        println!("  barrier, epochs of 2 x 16 ns       {:>8.3} µs", (long - short) / 2000.0);
        let short = submit(&device, &commands(&device, 100, 16, 4096));
        let long = submit(&device, &commands(&device, 1100, 16, 4096));
        println!("  epoch of 16 x 4096 sums            {:>8.3} µs", (long - short) / 1000.0);
        println!("  wake a sleeping worker             {:>8.3} µs", wake(&device, Duration::from_millis(2)));
        println!("  wake a worker that still looks     {:>8.3} µs", wake(&device, Duration::ZERO));
    }
}

/// `epochs` dispatches of `workgroups` groups of `block` sums each, a barrier after each.
fn commands(device: &CpuDevice, epochs: usize, workgroups: u32, block: i64) -> Arc<dyn CommandBuffer> {
    let kernels = test_support::kernels();
    let entries = ired_hal::conformance::ENTRIES.map(String::from);
    let (triple, features, image) = (&*kernels.triple, &*kernels.features, &*kernels.image);
    let source = ExecutableSource { name: "overheads", triple, features, image, entries: &entries };
    let executable = device.prepare_executable(&source).expect("the test kernels load");
    let count = i64::from(workgroups) * block;
    let mut recorder = Recorder::new();
    for _ in 0..epochs {
        let accesses = [Access::Read, Access::Read, Access::Write];
        let bindings =
            accesses.into_iter().zip(0..).map(|(a, slot)| Binding::slot(slot, 0, count as u64 * 4, a));
        let (bindings, constants) = (bindings.collect(), vec![count, block]);
        let (executable, grid) = (executable.clone(), [workgroups, 1, 1]);
        let dispatch = Dispatch { executable, entry: ADD_F32, grid, bindings, constants, tag: 0 };
        recorder.dispatch(dispatch).expect("valid");
        recorder.barrier();
    }
    device.create_command_buffer(recorder.finish()).expect("valid")
}

/// Median time from submission to the end of the wait for it.
fn submit(device: &CpuDevice, commands: &Arc<dyn CommandBuffer>) -> f64 {
    let buffers = [(); 3].map(|()| device.allocate(1 << 20, Memory::Device).expect("memory"));
    let bindings: Vec<BufferRange> = buffers.iter().map(BufferRange::whole).collect();
    let semaphore = device.create_semaphore(0);
    let mut done = [Timepoint::new(&semaphore, 0)];
    // Many in a row where one is shorter than the clock is fine.
    let batch = 100;
    median(30, || {
        let start = Instant::now();
        for _ in 0..batch {
            done[0].value += 1;
            let operation = Operation::Execute { commands, bindings: &bindings };
            device.submit(Submission::new(operation).signals(&done).inline(Inline::Allowed)).expect("valid");
            done[0].wait(None).expect("runs");
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(batch)
    })
}

/// Median time from submission of a host call to its start, when the device was idle for `pause`.
fn wake(device: &CpuDevice, pause: Duration) -> f64 {
    let (sender, started) = mpsc::sync_channel(1);
    median(200, || {
        std::thread::sleep(pause);
        let sender = sender.clone();
        let submitted = Instant::now();
        let call = Box::new(move || Ok(sender.send(submitted.elapsed())?));
        device.submit(Submission::new(Operation::HostCall(call))).expect("valid");
        started.recv().expect("it ran").as_secs_f64() * 1e6
    })
}

fn median(times: usize, mut measure: impl FnMut() -> f64) -> f64 {
    let mut found: Vec<f64> = (0..times).map(|_| measure()).collect();
    found.sort_by(f64::total_cmp);
    found[times / 2]
}
