//! `irectl` as users run it, on a daemon and without one.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use ired_tests::Daemon;
use ired_tests::daemon::{executable, free_address};
use ired_tests::{counter, digits};
use serde_json::{Value, json};

/// What it exits with when what was asked for did not work, and when no daemon answers.
const FAILED: i32 = 1;
const UNREACHABLE: i32 = 3;

/// `irectl` for one daemon.
struct Irectl(String);

impl Irectl {
    fn of(daemon: &Daemon) -> Self {
        Self(format!("http://{}", daemon.grpc))
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(executable("irectl")?);
        command.args(arguments).env("IRED_SERVER", &self.0);
        Ok(command.output()?)
    }

    /// What it prints when it does what it should.
    fn prints(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.prints(arguments)?)?)
    }

    /// What it comes to where nobody reads what it prints.
    fn unread(&self, arguments: &[&str]) -> Result<Output> {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = Command::new(executable("irectl")?);
        command.args(arguments).env("IRED_SERVER", &self.0).stdout(writer).stderr(Stdio::piped());
        Ok(command.spawn()?.wait_with_output()?)
    }

    /// Why it does not.
    fn fails(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.code() == Some(code) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stderr)?)
    }
}

/// A request of all samples as images of so many channels.
fn request(folder: &Path, channels: usize) -> Result<PathBuf> {
    let (pixels, labels) = digits::samples()?;
    let shape = [labels.len(), channels, 8, 8];
    let request = json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": shape, "data": pixels}]});
    let path = folder.join(format!("{channels}.json"));
    std::fs::write(&path, request.to_string())?;
    Ok(path)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

#[test]
fn a_model_is_pushed_called_named_and_deleted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path(), &[])?;
    let (irectl, model) = (Irectl::of(&daemon), digits::model());
    let (model, request) = (text(&model)?, request(folder.path(), 1)?);
    let request = text(&request)?;

    let pushed = irectl.json(&["push", model, "--name", "digits", "--json"])?;
    assert_eq!((&pushed["cache"], &pushed["version"]), (&json!("miss"), &json!(1)));
    let again = irectl.prints(&["push", model, "--name", "other"])?;
    assert!(again.contains("other/1 is ready") && again.contains("cache hit"), "{again}");

    let asked: [&[&str]; 4] =
        [&["push", model, "--name", "other"], &["models"], &["top", "--once"], &["completions", "bash"]];
    for arguments in asked {
        let unread = irectl.unread(arguments)?;
        ensure!(unread.status.success() && unread.stderr.is_empty(), "{arguments:?}: {unread:?}");
    }

    let labels = digits::samples()?.1;
    assert_eq!(irectl.prints(&["label", "digits", "stable", "1"])?, "digits version 1 is stable\n");
    let answer = irectl.json(&["infer", "digits", "--version", "stable", "--request", request, "--json"])?;
    let values = answer["outputs"][0]["data"].as_array().context("no data")?;
    let values: Vec<f32> = values.iter().filter_map(Value::as_f64).map(|value| value as f32).collect();
    let found: Vec<usize> = values.chunks(digits::CLASSES).map(digits::most_probable).collect();
    assert_eq!(found, labels);

    let models = irectl.json(&["models", "--json"])?;
    let models = models["models"].as_array().context("no list")?;
    let digits = models.iter().find(|model| model["name"] == "digits").context("it is not listed")?;
    assert_eq!((&digits["state"], &digits["labels"]), (&json!("ready"), &json!(["stable"])));
    let top = irectl.prints(&["top", "--once"])?;
    assert!(top.lines().any(|line| line.starts_with("digits ") && line.contains("ready")), "{top}");

    irectl.prints(&["unload", "digits"])?;
    let refused = irectl.fails(FAILED, &["infer", "digits", "--request", request])?;
    assert!(refused.contains("model `digits` version 1 is not ready: unloaded"), "{refused}");
    irectl.prints(&["load", "digits"])?;
    irectl.prints(&["infer", "digits", "--request", request])?;
    assert_eq!(irectl.prints(&["delete", "digits"])?, "digits version 1 is deleted\n");
    assert!(!irectl.prints(&["models"])?.contains("digits"));
    Ok(())
}

#[test]
fn the_responses_of_a_decoupled_model_are_printed_as_they_come() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let repository = folder.path().join("models");
    counter::write(&repository.join("counter"), true)?;
    let daemon = Daemon::start(folder.path(), &["--model-repository", text(&repository)?])?;
    let irectl = Irectl::of(&daemon);
    let number =
        |name: &str, value: u64| json!({"name": name, "datatype": "INT64", "shape": [1], "data": [value]});
    let request = folder.path().join("request.json");
    std::fs::write(&request, json!({"inputs": [number("n", 5), number("limit", 100)]}).to_string())?;
    let request = text(&request)?;
    let ask = ["infer", "counter", "--request", request, "--stream", "--max-responses", "3"];
    let lines = irectl.prints(&[&ask[..], &["--json"]].concat())?;
    let lines = lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let history: Vec<_> = lines.iter().map(|line| line["outputs"][1]["data"].clone()).collect();
    assert_eq!(history, [json!([6]), json!([6, 7]), json!([6, 7, 8])]);
    let told = irectl.prints(&ask)?;
    assert_eq!(told.lines().filter(|line| line.starts_with("next: ")).count(), 3, "{told}");
    let refused = irectl.fails(FAILED, &["infer", "nobody", "--request", request, "--stream"])?;
    assert!(refused.contains("`nobody`"), "{refused}");
    Ok(())
}

#[test]
fn requests_that_failed_are_looked_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path(), &[])?;
    let irectl = Irectl::of(&daemon);
    irectl.prints(&["push", text(&digits::model())?, "--name", "digits"])?;
    let url = format!("http://{}/v2/models/digits/infer", daemon.rest);
    let body = json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [0]}]});
    let sent = ureq::post(url).config().http_status_as_error(false).build();
    assert_eq!(sent.header("x-request-id", "the-wrong-one").send_json(&body)?.status(), 400);

    let list = irectl.prints(&["trace", "--model", "digits"])?;
    let row = list.lines().find(|line| line.starts_with("the-wrong-one ")).context(list.clone())?;
    assert!(row.contains("digits"), "{row}");
    let tree = irectl.prints(&["trace", "the-wrong-one"])?;
    assert!(tree.contains("image"), "it says what was wrong: {tree}");
    let file = folder.path().join("perfetto.json");
    irectl.prints(&["trace", "the-wrong-one", "--perfetto", text(&file)?])?;
    let events: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    assert!(events["traceEvents"].as_array().is_some_and(|events| !events.is_empty()), "{events}");
    let unknown = irectl.fails(FAILED, &["trace", "another"])?;
    assert!(unknown.contains("`another`"), "{unknown}");
    Ok(())
}

#[test]
fn what_cannot_be_done_is_said_once_and_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nowhere = Irectl(format!("http://{}", free_address()?));
    let refused = nowhere.fails(UNREACHABLE, &["models"])?;
    assert!(refused.contains(&nowhere.0), "{refused}");
    let lines: Vec<&str> = refused.lines().collect();
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "{refused}");

    // Something listens there that is no daemon.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?;
    let closing = std::thread::spawn(move || silent.accept().map(drop));
    let refused = Irectl(format!("http://{address}")).run(&["models"])?;
    assert!(!refused.status.success(), "{refused:?}");
    closing.join().expect("it only closes")?;

    // What `ired` does is asked of it, arguments, exit code and all.
    let settings = folder.path().join("ired.toml");
    std::fs::write(&settings, "connections = 9\nmetrics = 7\n")?;
    let refused = nowhere.fails(FAILED, &["config", "check", text(&settings)?])?;
    assert!(refused.contains("ired.toml:2:11") && refused.contains("`metrics`"), "{refused}");
    let made = nowhere.run(&["token", "somebody", "--role", "infer"])?;
    let (token, entry) = (String::from_utf8(made.stdout)?, String::from_utf8(made.stderr)?);
    assert!(token.starts_with("ired_") && token.lines().count() == 1, "{token}");
    assert!(entry.contains("name = \"somebody\"") && !entry.contains(token.trim()), "{entry}");
    Ok(())
}
