//! Headless Chromium, driven by its DevTools protocol over a pipe: no port, no driver program, and it ends with its test.
//!
//! Messages are plain JSON here. Crates with a type for each of them belong to one version of the browser, and Debian's
//! is a new one every few weeks.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

mod page;

pub use page::Page;

/// How long the browser may take for anything: it is large, and machines are busy.
const PATIENCE: Duration = Duration::from_secs(300);
/// Names that the browser goes by.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// The browser's pipe is its file descriptors 3 and 4; a shell makes them of what we give it.
const PIPED: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// A browser of its own, without anything of earlier ones. Dropping it kills it.
pub struct Browser {
    line: Arc<Line>,
    _process: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts the browser.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub async fn start() -> Result<Self> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = std::env::split_paths(&folders).collect();
        let program = PROGRAMS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        let program = program.into_iter().find(|path| path.is_file());
        let program = program.context("no `chromium` on the path: `cargo xtask setup` installs it")?;
        let profile = tempfile::tempdir()?;
        let mut process = Command::new("sh")
            .args(["-c", PIPED])
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"])
            // It is shown our own pages only, and its sandbox needs rights that containers do not have.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-extensions", "--no-default-browser-check", "--password-store=basic"])
            // Nobody else is asked for anything.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // What it leaves behind when it is killed goes with its profile.
            .env("TMPDIR", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the browser")?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the browser has no pipes")
        };
        let line = Arc::new(Line::new(stdin));
        tokio::spawn(listen(line.clone(), stdout));
        line.call(None, "Browser.getVersion", json!({})).await.context("the browser does not answer")?;
        Ok(Self { line, _process: process, _profile: profile })
    }

    /// A new, empty page, with nothing stored.
    ///
    /// # Errors
    /// The browser's.
    pub async fn page(&self) -> Result<Page> {
        let context = self.line.call(None, "Target.createBrowserContext", json!({})).await?;
        let target = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = self.line.call(None, "Target.createTarget", target).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.line.call(None, "Target.attachToTarget", attach).await?;
        let session = attached["sessionId"].as_str().context("the page has no session")?.to_owned();
        Page::open(self.line.clone(), session).await
    }
}

/// The line to the browser.
struct Line {
    next: AtomicU64,
    stdin: tokio::sync::Mutex<ChildStdin>,
    calls: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    events: Mutex<Vec<Value>>,
}

impl Line {
    fn new(stdin: ChildStdin) -> Self {
        Self {
            next: AtomicU64::new(1),
            stdin: tokio::sync::Mutex::new(stdin),
            calls: Mutex::default(),
            events: Mutex::default(),
        }
    }

    async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let (sender, answer) = oneshot::channel();
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let mut text = message.to_string().into_bytes();
        text.push(0);
        self.stdin.lock().await.write_all(&text).await.context("the browser has ended")?;
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.with_context(|| format!("{method}: no answer after {PATIENCE:?}"))?;
        let mut answer = answer.with_context(|| format!("{method}: the browser has ended"))?;
        ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        Ok(answer["result"].take())
    }

    /// What a page has told so far.
    fn events(&self, session: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().filter(|event| event["sessionId"] == session).cloned().collect()
    }
}

/// Hands out what the browser says, until it ends.
async fn listen(line: Arc<Line>, stdout: ChildStdout) {
    let mut reader = BufReader::new(stdout);
    let mut text = Vec::new();
    loop {
        text.clear();
        if !matches!(reader.read_until(0, &mut text).await, Ok(1..)) {
            break;
        }
        let Ok(message) =
            serde_json::from_slice::<Value>(text.trim_ascii_end().strip_suffix(b"\0").unwrap_or(&text))
        else {
            continue;
        };
        match message["id"].as_u64() {
            None => line.events.lock().unwrap_or_else(PoisonError::into_inner).push(message),
            Some(id) => {
                let call = line.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                // Who gave up waiting does not listen.
                let _ = call.map(|call| call.send(message));
            }
        }
    }
    // Nobody will answer those who wait.
    line.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Where screenshots go, if they are wanted: the folder in `CONSOLE_SHOTS`.
fn shots() -> Option<std::path::PathBuf> {
    std::env::var_os("CONSOLE_SHOTS").map(|folder| Path::new(&folder).to_owned())
}

/// Waits until a check gives something; the last error says what it found instead.
async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match check().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("still not: {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
