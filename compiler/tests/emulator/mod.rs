//! Machines that this one is not, played by an emulator: `IRED_TEST_TARGETS`, separated by spaces, are what is compiled for
//! instead of this machine, and the program, with arguments, that `IRED_TEST_RUNNER` names runs it.

use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use ired_compiler::targets::CpuTarget;

/// `None` where this machine itself is tested.
pub(crate) fn targets() -> Option<Vec<CpuTarget>> {
    let targets = variable("IRED_TEST_TARGETS")?;
    Some(targets.split_whitespace().map(|text| CpuTarget::parse(text).unwrap()).collect())
}

/// What the runner makes of a job on its standard input.
pub(crate) fn run(job: &[u8]) -> Result<Vec<u8>, String> {
    let runner = variable("IRED_TEST_RUNNER").expect("foreign targets have a runner");
    let mut words = runner.split_whitespace();
    let mut runner = Command::new(words.next().expect("a runner has a name"));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(job).unwrap();
    file.rewind().unwrap();
    let answer = runner.args(words).stdin(file).stderr(Stdio::inherit()).output().unwrap();
    if answer.status.success() {
        Ok(answer.stdout)
    } else {
        Err(format!("the runner ended with {}", answer.status))
    }
}

#[allow(clippy::disallowed_methods, reason = "what tests run on, not a setting")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
