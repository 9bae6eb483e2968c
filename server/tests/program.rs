//! The program `ired` as a shell, an operator and a service manager see it.

#![allow(clippy::unwrap_used, reason = "a test that finds something else than it expects fails")]

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

fn ired(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ired"));
    command.args(arguments).current_dir(dir).env_clear();
    command
}

fn run(dir: &Path, arguments: &[&str]) -> (Output, String, String) {
    let output = ired(dir, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[test]
fn settings_are_checked_with_all_that_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ired.toml");
    std::fs::write(&file, "queue_limit = 3\nlgo = \"info\"\ndrain_s = true\n").unwrap();
    let (output, _, err) = run(dir.path(), &["config", "check", "ired.toml"]);
    assert!(!output.status.success());
    assert!(err.contains("ired.toml:2:1: `lgo` is no setting; is it `log`?"), "{err}");
    assert!(err.contains("ired.toml:3:11: setting `drain_s`: invalid type: boolean"), "{err}");

    std::fs::write(&file, "queue_limit = 3\n[auth]\naccess = \"access.toml\"\n").unwrap();
    let (output, _, err) = run(dir.path(), &["config", "check", "ired.toml"]);
    assert!(!output.status.success() && err.contains("cannot read `access.toml`"), "{err}");
    std::fs::write(dir.path().join("access.toml"), "[[role]]\nname = \"r\"\n").unwrap();
    let (output, out, err) = run(dir.path(), &["config", "check", "ired.toml"]);
    assert!(output.status.success(), "{err}");
    assert_eq!(out, "the settings are sound\n");

    let (_, out, _) = run(dir.path(), &["--config", "ired.toml", "--set", "drain_s=5", "config", "show"]);
    let line = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("queue_limit = 3").ends_with("# ired.toml:1:15"), "{out}");
    assert!(line("drain_s = 5").ends_with("# --set drain_s=5"), "{out}");
    let strict = ["--strict-readiness", "false", "config", "show"];
    assert!(
        run(dir.path(), &strict).1.contains("\nstrict_readiness = false "),
        "a flag of its own, as Triton has it"
    );
    let (output, _, err) = run(dir.path(), &["--set", "nonsense", "config", "show"]);
    assert!(!output.status.success() && err.contains("expected NAME=VALUE"), "{err}");
}

#[test]
fn the_examples_are_sound() {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let dir = tempfile::tempdir().unwrap();
    let (output, shown, err) =
        run(dir.path(), &["--config", &format!("{deploy}/ired.toml"), "config", "show"]);
    assert!(output.status.success(), "{err}");
    assert!(shown.contains("tls.certificate = \"/etc/ired/tls/tls.crt\""), "{shown}");
    let access = format!("auth.access={deploy}/access.toml");
    let (output, _, err) = run(dir.path(), &["--set", &access, "config", "check"]);
    assert!(output.status.success(), "{err}");
}

#[test]
fn a_token_is_shown_once_and_its_entry_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let (output, token, entry) = run(dir.path(), &["token", "a \"ci\"", "--role", "r"]);
    assert!(output.status.success());
    assert!(token.starts_with("ired_") && token.trim().len() == 86, "{token}");
    assert!(!entry.contains(token.trim()));
    std::fs::write(dir.path().join("access.toml"), format!("[[role]]\nname = \"r\"\n{entry}")).unwrap();
    let (output, _, err) = run(dir.path(), &["--set", "auth.access=access.toml", "config", "check"]);
    assert!(output.status.success(), "{err}");
}

#[test]
fn a_tokens_entry_has_its_tenant_and_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let make = |expires: &str| {
        let token = ["token", "a", "--role", "r", "--tenant", "two words", "--expires", expires];
        let (output, _, err) = run(dir.path(), &token);
        output.status.success().then_some(err.clone()).ok_or(err)
    };
    let entry = make("2999-01-01t00:00:00+01:00").unwrap();
    let check = |tenant: &str| {
        let text = format!("[[role]]\nname = \"r\"\n[[tenant]]\nname = '{tenant}'\n{entry}");
        std::fs::write(dir.path().join("access.toml"), text).unwrap();
        run(dir.path(), &["--set", "auth.access=access.toml", "config", "check"])
    };
    let (output, _, err) = check("two words");
    assert!(output.status.success(), "{err}");
    // It is read, and not only passed over.
    let (output, _, err) = check("other");
    assert!(!output.status.success() && err.contains("two words"), "{err}");
    assert!(entry.lines().any(|line| line.starts_with("expires = 2999-01-01")), "{entry}");
    for (expires, why) in [
        ("2999-01-01", "expected a time such as 2027-01-01T00:00:00Z"),
        ("2020-01-01T00:00:00Z", "it has passed already"),
    ] {
        let err = make(expires).unwrap_err();
        assert!(err.contains(why) && !err.contains("[[token]]"), "{err}");
    }
}

/// A daemon that a service manager started, and what it told it.
struct Service {
    process: Child,
    manager: UnixDatagram,
    log: BufReader<std::process::ChildStderr>,
}

impl Service {
    fn start(dir: &Path, arguments: &[&str], watchdog: Duration) -> Self {
        let socket = dir.join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let ports = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        // No model is there to need them.
        let workers = ["--set", "compiler_worker=/bin/true", "--set", "runtime_worker=/bin/true"];
        // Whom the watchdog is for is told by number, which only the process itself knows before it becomes the daemon.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ired")])
            .args([&ports[..], &workers, arguments].concat())
            .current_dir(dir)
            .env_clear()
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        Self { process, manager, log }
    }

    fn told(&self) -> String {
        let mut message = [0; 4096];
        let length = loop {
            match self.manager.recv(&mut message) {
                // Whoever stops and continues this process for a while.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8(message[..length].to_vec()).unwrap().trim().to_owned()
    }

    fn told_until(&self, what: &str) -> Vec<String> {
        let mut all = Vec::new();
        while all.last().map(String::as_str) != Some(what) {
            all.push(self.told());
        }
        all
    }

    fn logged(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the log ends without `{what}`");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn end(mut self) -> String {
        self.signal(Signal::TERM);
        self.told_until("STOPPING=1");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {rest}");
        rest
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Ended already, mostly.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_service_manager_hears_of_start_life_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), &[], Duration::from_millis(200));
    service.told_until("READY=1");
    // It goes on saying so.
    assert!(service.told_until("WATCHDOG=1").len() < 10);
    service.told_until("WATCHDOG=1");
    assert!(service.end().contains("stopped"));
}

#[test]
fn a_hangup_reads_files_again_and_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let access = dir.path().join("access.toml");
    std::fs::write(&access, "[[role]]\nname = \"r\"\n").unwrap();
    let arguments = ["--set", "auth.access=access.toml"];
    let mut service = Service::start(dir.path(), &arguments, Duration::from_secs(600));
    service.told_until("READY=1");
    std::fs::write(&access, "[[role]]\nname = 7\n").unwrap();
    service.signal(Signal::HUP);
    service.logged("access.toml:2:8: invalid type");
    std::fs::write(&access, "[[role]]\nname = \"s\"\n").unwrap();
    service.signal(Signal::HUP);
    service.logged("the access file read again");
    service.end();
}

#[test]
fn a_log_for_programs_is_an_object_each_line() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--set", "log_format=json", "--log", "ired=debug"];
    let service = Service::start(dir.path(), &arguments, Duration::from_secs(600));
    service.told_until("READY=1");
    let log = service.end();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |message: &str| lines.iter().find(|line| line["message"] == message);
    let listening = line("listening").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&listening["level"], &listening["target"]), (&"INFO".into(), &"ired".into()));
    assert!(listening["grpc"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(line("stopped").is_some(), "{log}");
}
