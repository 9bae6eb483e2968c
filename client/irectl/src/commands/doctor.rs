//! `irectl doctor`: what holds on this machine.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Result;
use ired_worker::{CompileWorkers, LayerState, Probe, ProbeOutcome, Role, probe, sandbox_report};
use serde_json::json;

use crate::exit::FAILED;

/// Ports that the daemon listens on by default, and what for.
const PORTS: &[(u16, &str)] = &[(8000, "REST"), (8001, "gRPC"), (8002, "metrics")];

#[derive(clap::Args)]
pub(crate) struct Doctor {
    /// Also have a confined compile worker try to break out, in every way there is.
    #[arg(long)]
    probe: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
struct Finding {
    subject: String,
    state: State,
    detail: String,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Good,
    /// Works, but weaker or with something to know.
    Weaker,
    /// ired does not work like this.
    Bad,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Weaker => "weaker",
            Self::Bad => "missing",
        }
    }
}

impl Doctor {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let mut findings = vec![compiler()];
        for role in [Role::Compile, Role::Runtime] {
            sandbox(role, &mut findings).await;
        }
        if self.probe {
            probes(&mut findings).await;
        }
        findings.extend(PORTS.iter().map(|&(port, purpose)| port_finding(port, purpose)));
        let good = findings.iter().all(|f| f.state != State::Bad);
        if self.json {
            let rows: Vec<_> = findings
                .iter()
                .map(|f| json!({"subject": f.subject, "state": f.state.word(), "detail": f.detail}))
                .collect();
            println!("{}", json!({"ok": good, "findings": rows}));
        } else {
            for f in &findings {
                println!("{:<8} {:<40} {}", f.state.word(), f.subject, f.detail);
            }
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }
}

fn compiler() -> Finding {
    let subject = "compile worker".to_owned();
    let identity = CompileWorkers::beside_current_exe().and_then(|workers| workers.compiler_identity());
    match identity {
        Ok(identity) => Finding {
            subject,
            state: State::Good,
            detail: format!("build {}", &identity[..identity.len().min(16)]),
        },
        Err(error) => Finding { subject, state: State::Bad, detail: error.to_string() },
    }
}

async fn sandbox(role: Role, findings: &mut Vec<Finding>) {
    match sandbox_report(role, None).await {
        Ok(report) => findings.extend(report.layers.into_iter().map(|(layer, state)| {
            let subject = format!("{role} sandbox: {layer}");
            match state {
                LayerState::Active(detail) => Finding { subject, state: State::Good, detail },
                LayerState::Unavailable(reason) => Finding { subject, state: State::Weaker, detail: reason },
            }
        })),
        Err(error) => findings.push(Finding {
            subject: format!("{role} sandbox"),
            state: State::Bad,
            detail: error.to_string(),
        }),
    }
}

async fn probes(findings: &mut Vec<Finding>) {
    for &attempt in Probe::ALL {
        let subject = format!("attempt: {}", attempt.describe());
        let (state, detail) = match probe(Role::Compile, None, attempt).await {
            Ok(ProbeOutcome::Succeeded) if attempt == Probe::Nothing => (State::Good, "works".to_owned()),
            Ok(ProbeOutcome::Succeeded) => (State::Bad, "worked: the sandbox does not hold".to_owned()),
            Ok(ProbeOutcome::Refused(how)) => (State::Good, format!("refused: {how}")),
            Ok(ProbeOutcome::Killed(how)) => (State::Good, format!("killed: {how}")),
            Err(error) => (State::Bad, error.to_string()),
        };
        findings.push(Finding { subject, state, detail });
    }
}

fn port_finding(port: u16, purpose: &str) -> Finding {
    let subject = format!("port {port} ({purpose})");
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Finding { subject, state: State::Good, detail: "free".to_owned() },
        Err(error) => {
            Finding { subject, state: State::Weaker, detail: format!("a daemon may run already: {error}") }
        }
    }
}
