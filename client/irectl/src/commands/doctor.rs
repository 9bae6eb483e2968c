//! `irectl doctor`: what holds on this machine.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Result;
use ired_worker::{LayerState, Probe, ProbeOutcome, Role, executable, probe, sandbox_report};
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
        let mut findings = vec![cpu(), program(Role::Compile), program(Role::Runtime)];
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

/// The program that plays a role, and which build it is.
fn program(role: Role) -> Finding {
    let subject = role.executable_name().to_owned();
    match executable::beside_current_exe(role).and_then(|path| executable::identity(&path)) {
        Ok(identity) => Finding {
            subject,
            state: State::Good,
            detail: format!("build {}", &identity[..identity.len().min(16)]),
        },
        Err(error) => Finding { subject, state: State::Bad, detail: error.to_string() },
    }
}

/// What compiled code uses of this CPU.
#[cfg(target_arch = "x86_64")]
fn cpu() -> Finding {
    macro_rules! detected {
        ($($feature:tt)*) => { [$(($feature, std::arch::is_x86_feature_detected!($feature))),*] };
    }
    let needed = detected!("avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe");
    let faster = detected!("avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16");
    let missing: Vec<_> = needed.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    let extra: Vec<_> = faster.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    let subject = "CPU".to_owned();
    match (missing.is_empty(), extra.is_empty()) {
        (false, _) => {
            let detail = format!("x86-64-v3 is needed; missing: {}", missing.join(" "));
            Finding { subject, state: State::Bad, detail }
        }
        (true, false) => {
            let detail = format!("x86-64-v3 and {}", extra.join(" "));
            Finding { subject, state: State::Good, detail }
        }
        (true, true) => {
            let detail = "x86-64-v3; no AVX-512, which is faster".to_owned();
            Finding { subject, state: State::Good, detail }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu() -> Finding {
    let arch = std::env::consts::ARCH;
    let (state, detail) = match arch {
        "aarch64" | "riscv64" => (State::Good, format!("{arch}; modules say which features they need")),
        _ => (State::Bad, format!("models are compiled for x86-64, AArch64 and RISC-V; this is {arch}")),
    };
    Finding { subject: "CPU".to_owned(), state, detail }
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
