//! The web console with real workers: a model goes up, is compiled while one watches, and answers a picture.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ired_tests::browser::Browser;
use ired_tests::{Daemon, digits};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_uploaded_compiled_and_tried_in_a_browser() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path(), &[])?;
    let browser = Browser::start().await?;
    let page = browser.page().await?;
    page.goto(&format!("http://{}/", daemon.rest)).await?;
    page.shows("No models yet").await?;
    page.file("#model-file", &digits::model()).await?;
    page.click("button", "Upload, compile and load").await?;
    page.shows("Stored as version 1 of digits.").await?;
    page.shows("Ready: try digits").await?;
    page.click("summary", "What it took").await?;
    let phases = page.texts(".compilation tbody th").await?;
    assert_eq!(phases, ["input", "graph", "program", "schedule", "executables", "module"]);
    page.shot("digits-uploaded").await?;

    page.click("a", "try digits").await?;
    let (pixels, labels) = digits::samples()?;
    page.choose(".try select", "image").await?;
    // It was trained on shades from 0 to 16.
    page.choose("#input-0-scale", "own").await?;
    page.write("#input-0-deviation", "0.0625").await?;
    for (pixels, label) in pixels.chunks(64).zip(&labels).take(3) {
        page.file("#input-0-file", &bitmap(folder.path(), pixels)?).await?;
        page.click(".try button", "Run").await?;
        let best = format!("document.querySelector('.ranking .best th')?.textContent === '{label}'");
        page.until(&format!("it reads a {label}"), &best).await?;
    }
    let answers = daemon.metric("nv_inference_request_success")?;
    assert_eq!(answers, Some(3.0));

    page.click("a", "Where the time went").await?;
    page.until("there are spans", "document.querySelectorAll('.timeline .span').length > 3").await?;
    page.shot("digits-request").await?;

    let damaged = folder.path().join("damaged.onnx");
    let whole = std::fs::read(digits::model())?;
    std::fs::write(&damaged, &whole[..whole.len() / 2])?;
    page.goto(&format!("http://{}/#/", daemon.rest)).await?;
    page.file("#model-file", &damaged).await?;
    page.click("button", "Upload, compile and load").await?;
    page.shows("Not compiled: invalid-model.").await?;
    page.shot("digits-damaged").await?;
    let troubles = page.troubles(&daemon.rest, &[]);
    ensure!(troubles.is_empty(), "{troubles:#?}");
    assert!(daemon.stop()?.success());
    Ok(())
}

/// A picture of 8 x 8 shades of grey from 0 to 16, as an uncompressed bitmap of Windows: rows from the bottom up.
fn bitmap(folder: &Path, pixels: &[f32]) -> Result<PathBuf> {
    let mut bytes = b"BM".to_vec();
    let size = 54 + 8 * 8 * 3u32;
    for field in [size, 0, 54, 40, 8, 8, 1 | 24 << 16, 0, 0, 0, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    for row in pixels.chunks(8).rev() {
        bytes.extend(row.iter().flat_map(|value| [(value / 16.0 * 255.0).round() as u8; 3]));
    }
    let path = folder.join("digit.bmp");
    std::fs::write(&path, bytes).context("cannot write the picture")?;
    Ok(path)
}
