//! What is told by those who may not be trusted, and who is not known.

use serde_json::json;

use super::Console;
use crate::scripted::{MARKUP, Place, World};
use crate::security::{ROLES, token, with_access};

#[tokio::test(flavor = "multi_thread")]
async fn names_and_errors_that_are_markup_stay_text() {
    let models = [("m.onnx", "hostile"), ("bad.onnx", "hostile unsupported")];
    let (place, world) = (Place::new(&models), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "").await;
    let page = &console.page;
    // Characters that would turn the text around are written out.
    let shown = MARKUP.replace('\u{1b}', "\\u{1b}").replace('\u{202e}', "\\u{202e}");
    let has = |selector: &str| {
        let all = format!("Array.from(document.querySelectorAll('{selector}'))");
        format!("{all}.some((node) => node.textContent.includes({}))", json!(shown))
    };
    page.until("the reason", &has(".reason")).await.unwrap();
    console.goto("#/models/bad").await;
    page.click("button", "Compile").await.unwrap();
    page.until("the diagnostics", &has(".diagnostics code")).await.unwrap();
    assert_eq!(page.eval("document.body.textContent.includes('\u{202e}')").await.unwrap(), false);
    page.shot("scripted-hostile").await.unwrap();
    console.goto("#/models/m").await;
    page.write(".try textarea", "1 2 3").await.unwrap();
    page.click(".try button", "Run").await.unwrap();
    page.until("the output", &has(".output code")).await.unwrap();
    page.until("the signature", &has("tbody code")).await.unwrap();
    for at in ["#/models/<img src=x onerror=alert(1)>", "#/requests/%3Cscript%3E", "#/<b>", "#/models/%ff"] {
        console.goto(at).await;
        page.until("it is refused", "document.querySelector('.failure, .page p:last-child')").await.unwrap();
    }
    assert_eq!(
        page.eval("document.querySelectorAll('main img, main script, main b').length").await.unwrap(),
        0
    );
    assert_ne!(page.eval("document.title").await.unwrap(), "taken");
    console.is_well(&[404]);

    // What would be run if a text ever became markup.
    let taken = "new Promise((resolve) => {
        document.addEventListener('securitypolicyviolation', () => resolve('refused'));
        try { document.body.innerHTML = '<b>'; resolve('taken'); } catch { resolve('refused'); }
    })";
    assert_eq!(page.eval(taken).await.unwrap(), "refused");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_known_is_asked_once_and_refusals_are_shown() {
    let mut place = Place::new(&[("m1.onnx", ""), ("other.onnx", "")]);
    let people = ["reader", "admin"].map(|role| token(role, role));
    let entries: String = people.iter().map(|(_, entry)| entry.as_str()).collect();
    with_access(&mut place, &format!("{ROLES}{entries}"));
    let world = World::new();
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "").await;
    let page = &console.page;
    page.shows("Who are you?").await.unwrap();
    page.shot("scripted-sign-in").await.unwrap();
    page.write("#token", "wrong").await.unwrap();
    page.press("Enter").await.unwrap();
    page.until("it is asked again", "document.querySelector('#token')?.value === ''").await.unwrap();
    page.write("#token", &people[0].0).await.unwrap();
    page.press("Enter").await.unwrap();
    page.shows("1 model, 1 version").await.unwrap();
    assert_eq!(page.eval("document.querySelectorAll('dialog').length").await.unwrap(), 0);
    page.shows("ired 0.").await.unwrap();

    page.click("button", "Reload").await.unwrap();
    page.shows("`reader` has no role with permission `load` for model `m1`").await.unwrap();
    console.goto("#/machine").await;
    page.shows("has no role with permission `see` for all models").await.unwrap();
    page.shows("Queues and processes").await.unwrap();
    console.goto("#/models/other").await;
    page.shows("There is no model “other”.").await.unwrap();

    page.click("button", "Sign out").await.unwrap();
    page.shows("Who are you?").await.unwrap();
    page.write("#token", &people[1].0).await.unwrap();
    page.press("Enter").await.unwrap();
    page.until("the model is shown", "document.querySelector('.try')").await.unwrap();
    let kept = page.eval("[localStorage.length, document.cookie, sessionStorage.length]").await.unwrap();
    assert_eq!(kept, json!([0, "", 1]));
    console.is_well(&[401, 403]);
    daemon.stop().await;
}
