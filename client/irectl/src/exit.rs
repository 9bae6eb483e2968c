//! Exit codes, and how an error is shown.

use std::process::ExitCode;

use ired_client::ClientError;
use ired_worker::CompileFailure;
pub(crate) use ired_worker::printable;

/// The thing asked for did not work: a model was refused, a result differs, a file is missing.
pub(crate) const FAILED: u8 = 1;
/// No daemon answers.
pub(crate) const UNREACHABLE: u8 = 3;
/// ired itself is at fault: a worker crashed or spoke nonsense.
pub(crate) const INTERNAL: u8 = 4;

/// Prints an error with its causes and every diagnostic it carries; gives the code to exit with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", printable(&error.to_string()));
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause_text = cause.to_string();
        // Diagnostics are listed in full below; some libraries say each thing twice.
        if cause.downcast_ref::<CompileFailure>().is_none() && cause_text != said {
            eprintln!("  because: {}", printable(&cause_text));
        }
        said = cause_text;
    }
    for line in diagnostics(error) {
        eprintln!("  {}", printable(&line));
    }
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    let in_chain = |f: &dyn Fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(f);
    if in_chain(&|e| matches!(e.downcast_ref(), Some(ClientError::Connect { .. }))) {
        return UNREACHABLE;
    }
    let crashed = |e: &(dyn std::error::Error + 'static)| {
        use CompileFailure::{Crashed, Killed, Protocol, Spawn};
        matches!(e.downcast_ref(), Some(Crashed { .. } | Killed { .. } | Spawn(_) | Protocol(_)))
    };
    if in_chain(&crashed) { INTERNAL } else { FAILED }
}

/// All problems of a refused model, one line each.
fn diagnostics(error: &anyhow::Error) -> Vec<String> {
    for cause in error.chain() {
        if let Some(CompileFailure::Failed { diagnostics, .. }) = cause.downcast_ref() {
            return diagnostics
                .iter()
                .map(|d| line(&d.message, d.location.as_deref(), d.hint.as_deref()))
                .collect();
        }
        if let Some(CompileFailure::Crashed { stderr, .. }) = cause.downcast_ref() {
            return stderr.lines().map(str::to_owned).collect();
        }
        if let Some(ClientError::Compile { diagnostics, .. }) = cause.downcast_ref() {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let lines = diagnostics
                .iter()
                .map(|d| line(&d.message, some(&d.location).as_deref(), some(&d.hint).as_deref()));
            return lines.collect();
        }
    }
    Vec::new()
}

fn line(message: &str, location: Option<&str>, hint: Option<&str>) -> String {
    let location = location.map(|l| format!("{l}: ")).unwrap_or_default();
    let hint = hint.map(|h| format!("\n      {h}")).unwrap_or_default();
    format!("- {location}{message}{hint}")
}
