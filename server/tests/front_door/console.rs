//! The web console in a headless browser: what it shows is what the server has, and nothing it is told can take it over.

mod strangers;
mod trying;

use std::path::PathBuf;

use ired::Daemon;
use ired_tests::browser::{Browser, Page};
use serde_json::json;

use crate::scripted::{Place, World, client, http, request};

/// The console of a daemon in a browser of its own.
struct Console {
    page: Page,
    host: String,
    _browser: Browser,
}

impl Console {
    async fn open(daemon: &Daemon, at: &str) -> Self {
        let browser = Browser::start().await.unwrap();
        let page = browser.page().await.unwrap();
        let host = daemon.http.to_string();
        page.goto(&format!("http://{host}/{at}")).await.unwrap();
        Self { page, host, _browser: browser }
    }

    async fn goto(&self, at: &str) {
        self.page.goto(&format!("http://{}/{at}", self.host)).await.unwrap();
    }

    /// Nothing went wrong but answers of these statuses.
    fn is_well(&self, refused: &[u16]) {
        let troubles = self.page.troubles(&self.host, refused);
        assert!(troubles.is_empty(), "{troubles:#?}");
    }
}

fn file(place: &Place, name: &str, content: &[u8]) -> PathBuf {
    let path = place.dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn its_files_are_kept_by_browsers_and_allow_nothing_else() {
    let (mut place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let get = async |path: &str, headers: &[(&str, &str)]| http(daemon.http, "GET", path, headers, b"").await;
    let page = get("/", &[]).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let script = get("/console/app.js", &[]).await;
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    for reply in [&page, &script] {
        let policy = reply.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
    }
    let tag = script.header("etag").unwrap();
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"x\", {tag}")] {
        let again = get("/console/app.js", &[("if-none-match", &known)]).await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)), "{known}");
    }
    assert_eq!(get("/console/app.js", &[("if-none-match", "\"other\"")]).await.status, 200);
    for nothing in
        ["/console/", "/console/x.js", "/console/index.html", "/console/../app.js", "/console/%2e%2e"]
    {
        assert_eq!(get(nothing, &[]).await.status, 404, "{nothing}");
    }
    assert_eq!(http(daemon.http, "POST", "/", &[], b"").await.status, 405);
    daemon.stop().await;

    place.settings.console = false;
    let daemon = place.start(&World::new()).await;
    for path in ["/", "/console/app.js"] {
        assert_eq!(http(daemon.http, "GET", path, &[], b"").await.status, 404);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_loaded_and_unloaded() {
    let (place, world) = (Place::new(&[("m/1/model.onnx", ""), ("bad.onnx", "unloadable")]), World::new());
    let daemon = place.start(&world).await;
    client(&daemon).await.infer(request("m")).await.unwrap();
    let console = Console::open(&daemon, "").await;
    let page = &console.page;
    page.shows("2 models, 2 versions").await.unwrap();
    let rows = page.texts("tbody tr").await.unwrap();
    assert!(
        rows[0].contains("bad") && rows[0].contains("unavailable") && rows[0].contains("scripted"),
        "{rows:?}"
    );
    let cells = page.texts("tbody tr:nth-child(2) > *").await.unwrap();
    assert_eq!(cells[..4], ["m", "1", "ready", "repository · model.onnx"]);
    assert_eq!(cells[5..8], ["1", "0", "0"]);

    page.click("button", "Unload").await.unwrap();
    page.shows("Requests that are inside end first").await.unwrap();
    page.press("Escape").await.unwrap();
    page.until("the question is gone", "!document.querySelector('dialog')").await.unwrap();
    assert_eq!(world.seen().shut_down, 0);
    page.click("button", "Unload").await.unwrap();
    page.click("dialog button", "Unload").await.unwrap();
    page.shows("m: unloaded.").await.unwrap();
    assert_eq!(world.seen().shut_down, 1);
    page.until("it is shown", "document.querySelectorAll('[data-state=unavailable]').length === 2")
        .await
        .unwrap();
    page.click("tr:nth-child(2) button", "Load").await.unwrap();
    page.until("it is ready", "document.querySelector('[data-state=ready]')").await.unwrap();
    page.click("tr:nth-child(1) button", "Load").await.unwrap();
    page.shows("failed to load `bad`: ").await.unwrap();
    console.is_well(&[409]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_watched_while_requests_wait() {
    let mut place = Place::new(&[("m.onnx", "block")]);
    place.settings.executions = 1;
    let world = World::new();
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "#/machine").await;
    let page = &console.page;
    page.shows("Queues and processes").await.unwrap();
    let client = client(&daemon).await;
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.infer(request("m")).await })
        })
        .collect();
    let cells = "Array.from(document.querySelectorAll('tbody tr > *'), (cell) => cell.innerText).join('|')";
    page.until("one runs and two wait", &format!("{cells}.startsWith('m 1|8|0|0 B|3|2|–|')")).await.unwrap();
    page.shot("scripted-machine").await.unwrap();
    world.release();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    page.until("nobody waits", &format!("{cells}.startsWith('m 1|8|0|0 B|0|0|0 ns|')")).await.unwrap();
    assert_eq!(page.texts(".cards .large").await.unwrap()[2], "0 of 2 running");
    console.is_well(&[]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_watched_to_its_end() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "").await;
    let page = &console.page;
    page.shows("No models yet").await.unwrap();
    page.file("#model-file", &file(&place, "my model.onnx", b"hold")).await.unwrap();
    page.until("it has a name", "document.querySelector('#model-name').value === 'my-model'").await.unwrap();
    page.click("button", "Upload, compile and load").await.unwrap();
    page.shows("Stored as version 1 of my-model.").await.unwrap();
    page.shows("Compiling: graph 1 of 2").await.unwrap();
    world.release();
    page.shows("Ready: try my-model").await.unwrap();
    page.until("it is listed", "document.querySelector('[data-state=ready]')").await.unwrap();
    client(&daemon).await.infer(request("my-model")).await.unwrap();

    page.file("#model-file", &file(&place, "bad.onnx", b"unsupported")).await.unwrap();
    page.write("#model-name", "bad").await.unwrap();
    page.press("Enter").await.unwrap();
    page.shows("Not compiled: unsupported.").await.unwrap();
    assert_eq!(page.texts(".diagnostics code").await.unwrap(), ["n1", "n2"]);
    page.shot("scripted-upload").await.unwrap();

    page.click("tr:nth-child(1) button", "Delete").await.unwrap();
    page.click("dialog button", "Delete").await.unwrap();
    page.until("it is gone", "document.querySelectorAll('.page > .scroll tbody tr').length === 1")
        .await
        .unwrap();
    let left = client(&daemon).await.models().await.unwrap();
    assert_eq!(left.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["my-model"]);
    console.is_well(&[]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_phone_and_works_without_a_mouse() {
    let (place, world) = (Place::new(&[("a-model-with-quite-a-long-name.onnx", "")]), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "").await;
    let page = &console.page;
    page.size(360, 740).await.unwrap();
    page.dark(true).await.unwrap();
    for at in ["", "#/models/a-model-with-quite-a-long-name", "#/machine", "#/requests"] {
        console.goto(at).await;
        page.until("there is something", "document.querySelector('main h1')").await.unwrap();
        let wider = page.eval("document.documentElement.scrollWidth - innerWidth").await.unwrap();
        assert!(wider.as_i64() <= Some(0), "{at} is {wider} pixels too wide");
    }
    page.size(1280, 860).await.unwrap();
    console.goto("").await;
    page.until("the list", "document.querySelector('tbody tr')").await.unwrap();
    page.eval("document.activeElement.blur()").await.unwrap();
    let focus = "document.activeElement.textContent";
    let mut met = Vec::new();
    for _ in 0..14 {
        page.press("Tab").await.unwrap();
        met.push(page.eval(focus).await.unwrap().as_str().unwrap().trim().to_owned());
    }
    for text in ["Machine", "Upload a model", "a-model-with-quite-a-long-name", "Unload"] {
        assert!(met.iter().any(|found| found == text), "no way by Tab to {text}: {met:?}");
    }
    let named = "Array.from(document.querySelectorAll('button, input, select, a')).filter((node) => \
        !node.hidden && !(node.ariaLabel || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML)";
    assert_eq!(page.eval(named).await.unwrap(), json!([]));
    page.eval("document.querySelector('tbody a').focus()").await.unwrap();
    page.press("Enter").await.unwrap();
    page.until("the model's page", "document.querySelector('.try')").await.unwrap();
    assert_eq!(page.eval(named).await.unwrap(), json!([]));
    console.is_well(&[]);
    daemon.stop().await;
}
