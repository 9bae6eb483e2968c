//! A page: going somewhere, looking, clicking, typing, and what went wrong meanwhile.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Line, shots, until};

/// A page of a browser.
pub struct Page {
    line: Arc<Line>,
    session: String,
}

impl Page {
    pub(super) async fn open(line: Arc<Line>, session: String) -> Result<Self> {
        let page = Self { line, session };
        for domain in ["Page", "Runtime", "Network", "Log", "DOM"] {
            page.call(&format!("{domain}.enable"), json!({})).await?;
        }
        page.size(1280, 860).await?;
        Ok(page)
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.line.call(Some(&self.session), method, parameters).await
    }

    /// The window's size; one of a phone's width is a phone.
    ///
    /// # Errors
    /// The browser's, here and below.
    pub async fn size(&self, width: u32, height: u32) -> Result<()> {
        let phone = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await.map(drop)
    }

    pub async fn dark(&self, dark: bool) -> Result<()> {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await.map(drop)
    }

    pub async fn goto(&self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({ "url": url })).await?;
        ensure!(gone["errorText"].is_null(), "{url}: {}", gone["errorText"]);
        self.until("the page is there", "document.readyState === 'complete'").await
    }

    /// The value of an expression in the page; a promise is waited for.
    pub async fn eval(&self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut found = self.call("Runtime.evaluate", asked).await?;
        if !found["exceptionDetails"].is_null() {
            bail!("{expression}: {}", found["exceptionDetails"]["exception"]["description"]);
        }
        Ok(found["result"]["value"].take())
    }

    /// Waits until an expression is true.
    pub async fn until(&self, what: &str, expression: &str) -> Result<()> {
        let holds = until(what, async || {
            let found = self.eval(&format!("Boolean({expression})")).await?;
            ensure!(found == true, "{expression}");
            Ok(())
        });
        let held = holds.await;
        if held.is_err() {
            let text = self.eval("document.body?.innerText").await.unwrap_or_default();
            return held.with_context(|| format!("the page shows: {}", text.as_str().unwrap_or_default()));
        }
        held
    }

    /// Waits until the page shows a text.
    pub async fn shows(&self, text: &str) -> Result<()> {
        self.until(
            &format!("the page shows `{text}`"),
            &format!("document.body.innerText.includes({})", json!(text)),
        )
        .await
    }

    /// The text of the page's elements that fit a selector, once there are some.
    pub async fn texts(&self, selector: &str) -> Result<Vec<String>> {
        let all = format!(
            "Array.from(document.querySelectorAll({}), (node) => node.innerText ?? node.textContent)",
            json!(selector)
        );
        self.until(&format!("there is a `{selector}`"), &format!("{all}.length > 0")).await?;
        Ok(serde_json::from_value(self.eval(&all).await?)?)
    }

    /// Focuses and clicks the element that fits a selector and has a text (empty: any), once it is there.
    pub async fn click(&self, selector: &str, text: &str) -> Result<()> {
        let (selector, text) = (json!(selector), json!(text));
        // In one go: between a look for its place and a press there, a page that is alive may have moved it.
        let click = format!(
            "(() => {{
                const fits = (node) => node.innerText.trim() === {text} || {text} === '';
                const seen = (node) => node.checkVisibility() && !node.disabled;
                const node = Array.from(document.querySelectorAll({selector})).find((node) => fits(node) && seen(node));
                if (!node) return false;
                node.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                const box = node.getBoundingClientRect();
                const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
                if (!node.contains(top)) return false;
                node.focus({{ preventScroll: true }});
                node.click();
                return true;
            }})()"
        );
        until(&format!("there is a {selector} {text} to click"), async || {
            ensure!(self.eval(&click).await? == true, "no {selector} {text}");
            Ok(())
        })
        .await
    }

    /// Clicks a field and writes into it, instead of what is there.
    pub async fn write(&self, selector: &str, text: &str) -> Result<()> {
        self.click(selector, "").await?;
        self.eval("document.activeElement.select?.()").await?;
        self.call("Input.insertText", json!({ "text": text })).await.map(drop)
    }

    /// Presses a key where the focus is.
    pub async fn press(&self, key: &str) -> Result<()> {
        let text = match key {
            "Enter" => Some("\r"),
            " " => Some(" "),
            _ => None,
        };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if let (Some(text), "keyDown") = (text, kind) {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// Chooses an option of a list.
    pub async fn choose(&self, selector: &str, value: &str) -> Result<()> {
        let (selector, value) = (json!(selector), json!(value));
        self.until("there is such a list", &format!("document.querySelector({selector})")).await?;
        let choose = format!(
            "(() => {{ const list = document.querySelector({selector}); list.value = {value};
                list.dispatchEvent(new Event('change', {{ bubbles: true }})); return list.value === {value}; }})()"
        );
        ensure!(self.eval(&choose).await? == true, "{selector} has no {value}");
        Ok(())
    }

    /// Gives a file to a file field.
    pub async fn file(&self, selector: &str, file: &Path) -> Result<()> {
        // The browser reads no file by a path with `..` in it.
        let file = file.canonicalize().with_context(|| format!("no file {}", file.display()))?;
        let selector = json!(selector);
        let find = json!({ "expression": format!("document.querySelector({selector})") });
        let object = until("there is such a file field", async || {
            let found = self.call("Runtime.evaluate", find.clone()).await?;
            let object = found["result"]["objectId"].as_str().context("there is none")?;
            Ok(object.to_owned())
        });
        let files = json!({ "files": [file], "objectId": object.await? });
        self.call("DOM.setFileInputFiles", files).await.map(drop)
    }

    /// Keeps a picture of the page, where the folder for them is named.
    pub async fn shot(&self, name: &str) -> Result<()> {
        let Some(folder) = shots() else { return Ok(()) };
        std::fs::create_dir_all(&folder)?;
        let picture = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await?;
        let picture = BASE64.decode(picture["data"].as_str().context("no picture")?)?;
        std::fs::write(folder.join(format!("{name}.png")), picture)?;
        Ok(())
    }

    /// Everything that went wrong: errors and warnings of the page and of the browser about it, and calls to hosts other
    /// than `host`. An answer that is an error is not one of the page, where its status is in `refused`.
    pub fn troubles(&self, host: &str, refused: &[u16]) -> Vec<String> {
        let refused: Vec<String> = refused.iter().map(|status| format!("status of {status} ")).collect();
        let trouble = |event: &Value| {
            let told = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(format!("exception: {}", told["exceptionDetails"])),
                "Runtime.consoleAPICalled" if matches!(told["type"].as_str(), Some("error" | "warning")) => {
                    Some(format!("console: {}", told["args"]))
                }
                "Log.entryAdded" if matches!(told["entry"]["level"].as_str(), Some("error" | "warning")) => {
                    let text = told["entry"]["text"].as_str()?;
                    let meant = refused.iter().any(|refused| text.contains(refused));
                    (!meant).then(|| format!("log: {}", told["entry"]))
                }
                "Network.requestWillBeSent" => {
                    let url = told["request"]["url"].as_str()?;
                    let ours = url.starts_with(&format!("http://{host}/"))
                        || url.starts_with("blob:")
                        || url == "about:blank";
                    (!ours).then(|| format!("a call to {url}"))
                }
                _ => None,
            }
        };
        self.line.events(&self.session).iter().filter_map(trouble).collect()
    }
}
