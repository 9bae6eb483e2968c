//! Code for machines that this one is not, on an emulator: every kernel test, and whole modules.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{self, target_dir};
use crate::setup;

/// What it takes besides what building takes.
const PACKAGES: &[(&str, &str)] = &[
    ("qemu-user", "runs programs of other architectures"),
    ("gcc-aarch64-linux-gnu", "compiles C and links for AArch64"),
    ("libc6-dev-arm64-cross", "the C library there"),
    ("gcc-riscv64-linux-gnu", "compiles C and links for RISC-V"),
    ("libc6-dev-riscv64-cross", "the C library there"),
];

/// A machine that is emulated.
struct Machine {
    name: &'static str,
    /// What kernels are compiled for, separated by spaces.
    targets: &'static str,
    rust_target: &'static str,
    linker: &'static str,
    emulator: &'static str,
}

const MACHINES: &[Machine] = &[
    Machine {
        name: "aarch64",
        targets: "aarch64-linux aarch64-linux,+bf16,+dotprod,+i8mm",
        rust_target: "aarch64-unknown-linux-gnu",
        linker: "aarch64-linux-gnu-gcc",
        emulator: "qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max",
    },
    Machine {
        name: "aarch64-sve",
        targets: "aarch64-linux,+bf16,+dotprod,+i8mm,+sve2,+sve256",
        rust_target: "aarch64-unknown-linux-gnu",
        linker: "aarch64-linux-gnu-gcc",
        emulator: "qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max,sve256=on",
    },
    Machine {
        name: "riscv64",
        targets: "riscv64-linux",
        rust_target: "riscv64gc-unknown-linux-gnu",
        linker: "riscv64-linux-gnu-gcc",
        emulator: "qemu-riscv64 -L /usr/riscv64-linux-gnu \
                   -cpu rv64,v=true,vext_spec=v1.0,vlen=128,zba=true,zbb=true,zbs=true,Zfh=true",
    },
    Machine {
        name: "riscv64-256",
        targets: "riscv64-linux,+zvl256b",
        rust_target: "riscv64gc-unknown-linux-gnu",
        linker: "riscv64-linux-gnu-gcc",
        emulator: "qemu-riscv64 -L /usr/riscv64-linux-gnu \
                   -cpu rv64,v=true,vext_spec=v1.0,vlen=256,zba=true,zbb=true,zbs=true,Zfh=true",
    },
];

/// Tests that QEMU before version 8 ends in: it fails on vectors of floats that are rounded to integers, and on selections
/// by masks behind them (<https://gitlab.com/qemu-project/qemu/-/issues/1441>).
const BEYOND_OLD_RISCV_EMULATORS: &[&str] = &[
    "element_types::casts_between_all_types",
    "element_types::out_of_range_floats_saturate_as_integers",
    "element_types::packed_results_of_any_size",
    "elementwise::arithmetic_on_floats",
];

/// Tests that run whole modules.
const MODULE_TESTS: &[&str] = &[
    "end_to_end::compiled_programs_compute_what_the_interpreter_does",
    "random::compiled_graphs_compute_what_the_interpreter_does",
];

#[derive(clap::Args)]
pub(crate) struct Cross {
    /// Only these machines: aarch64, aarch64-sve, riscv64, riscv64-256
    #[arg(value_parser = MACHINES.iter().map(|machine| machine.name).collect::<Vec<_>>())]
    machines: Vec<String>,
    /// Only tests whose names have this in them
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

impl Cross {
    pub(super) fn run(&self) -> Result<()> {
        setup::install(PACKAGES)?;
        for machine in MACHINES {
            if self.machines.is_empty() || self.machines.iter().any(|name| name == machine.name) {
                machine.test_kernels(&self.filter)?;
                machine.test_modules(&self.filter)?;
            }
        }
        Ok(())
    }
}

impl Machine {
    /// The command that runs what is compiled for it.
    fn build_runner(&self, package: &str, example: &str) -> Result<String> {
        process::run("rustup", &["target", "add", self.rust_target])?;
        let linker = format!("target.{}.linker='{}'", self.rust_target, self.linker);
        let example_of = ["-p", package, "--example", example, "--target", self.rust_target];
        process::run("cargo", &[&["build", "--release", "--config", &linker], &example_of[..]].concat())?;
        let program = target_dir(self.rust_target)?.join("release/examples").join(example);
        Ok(format!("{} {}", self.emulator, program.display()))
    }

    fn test_kernels(&self, filter: &str) -> Result<()> {
        let runner = self.build_runner("ired-driver-cpu", "run_kernel")?;
        let mut arguments = vec!["--test", "kernels", "--", filter];
        if self.name.starts_with("riscv64") && emulator_version()? < 8 {
            eprintln!("this emulator is too old for: {}", BEYOND_OLD_RISCV_EMULATORS.join(", "));
            arguments.extend(BEYOND_OLD_RISCV_EMULATORS.iter().flat_map(|test| ["--skip", test]));
        }
        self.test(&runner, &arguments)
    }

    /// Loading, threads, the host's schedule: what kernels alone do not try.
    fn test_modules(&self, filter: &str) -> Result<()> {
        let mut runner = self.build_runner("ired-runtime", "run_module")?;
        if self.name.starts_with("riscv64") && emulator_version()? < 8 {
            // It does not answer the question what there is.
            runner.extend(["zba", "zbb", "zbs", "zfhmin"].map(|feature| format!(" {feature}")));
        }
        let tests = MODULE_TESTS.iter().filter(|test| test.contains(filter)).copied().collect::<Vec<_>>();
        if tests.is_empty() {
            return Ok(());
        }
        self.test(&runner, &[&["--test", "cases", "--", "--exact"], &tests[..]].concat())
    }

    fn test(&self, runner: &str, arguments: &[&str]) -> Result<()> {
        let environment = [("IRED_TEST_TARGETS", self.targets), ("IRED_TEST_RUNNER", runner)];
        process::run_with("cargo", &[&["test", "-p", "ired-compiler"], arguments].concat(), &environment)
    }
}

/// The first number of QEMU's version.
fn emulator_version() -> Result<u32> {
    let output =
        Command::new("qemu-riscv64").arg("--version").output().context("cannot run `qemu-riscv64`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
    number.with_context(|| format!("`qemu-riscv64 --version` says no version: {text}"))
}
