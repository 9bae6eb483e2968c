//! Every claim about the compile worker's sandbox, tried from inside the real process.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::path::PathBuf;

use ired_worker::{Probe, ProbeOutcome, Role, probe, sandbox_report};

fn executable() -> Option<PathBuf> {
    Some(PathBuf::from(env!("CARGO_BIN_EXE_ired-compiler-worker")))
}

async fn attempt(attempted: Probe) -> ProbeOutcome {
    probe(Role::Compile, executable(), attempted).await.expect("the worker starts and answers")
}

#[tokio::test]
async fn nothing_gets_out() {
    assert_eq!(attempt(Probe::Nothing).await, ProbeOutcome::Succeeded);
    for &forbidden in Probe::ALL.iter().filter(|&&probe| probe != Probe::Nothing) {
        let outcome = attempt(forbidden).await;
        assert_ne!(outcome, ProbeOutcome::Succeeded, "it can {}", forbidden.describe());
    }
}

/// A forbidden call ends the process; a forbidden path is an error, as libraries look for optional files.
#[tokio::test]
async fn attempts_end_as_the_policy_says() {
    for deadly in [Probe::OpenSocket, Probe::Execute, Probe::Fork, Probe::Ptrace, Probe::MapExecutable] {
        let ProbeOutcome::Killed(how) = attempt(deadly).await else { panic!("it survives to {deadly:?}") };
        assert!(how.contains("SIGSYS"), "{deadly:?}: {how}");
    }
    for refused in [Probe::ReadPasswd, Probe::ListRoot, Probe::WriteOutside] {
        let ProbeOutcome::Refused(error) = attempt(refused).await else {
            panic!("{refused:?} is not refused")
        };
        assert!(error.contains("Permission denied"), "{refused:?}: {error}");
    }
    let outcome = attempt(Probe::AllocatePastLimit).await;
    let ProbeOutcome::Refused(error) = &outcome else { panic!("{outcome:?}") };
    assert!(error.contains("Cannot allocate memory"), "{error}");
    let ProbeOutcome::Killed(how) = attempt(Probe::BurnCpuPastLimit).await else { panic!("no limit") };
    assert!(how.contains("SIGXCPU"), "{how}");
    let ProbeOutcome::Killed(how) = attempt(Probe::WriteLargeFile).await else { panic!("no limit") };
    assert!(how.contains("SIGXFSZ"), "{how}");
}

#[tokio::test]
async fn the_layers_are_reported() {
    let report = sandbox_report(Role::Compile, executable()).await.expect("the worker starts");
    for layer in ["no_new_privs", "capabilities", "rlimits", "landlock", "seccomp"] {
        assert!(report.is_active(layer), "{layer}: {:?}", report.layer(layer));
    }
    assert!(report.layer("user_namespace").is_some());
}
