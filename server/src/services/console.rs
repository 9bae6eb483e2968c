//! The web console: a page and its files, part of the program. What they show and do goes through REST like anybody's
//! calls, so that nothing here needs to know who is asking.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::error::Error;

/// Nothing but our own files, nothing inline, no frames around or inside: a name that is markup stays a name.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const PAGE: &str = "index.html";

struct File {
    name: &'static str,
    bytes: &'static [u8],
    /// Of the content, so that a browser asks again only for what another version changed.
    tag: HeaderValue,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../console/", $name)) as &[u8])),*]
    };
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let files = files![
        "api.js",
        "app.js",
        "charts.js",
        "compile.js",
        "dom.js",
        "format.js",
        "icon.svg",
        "image.js",
        "index.html",
        "machine.js",
        "model.js",
        "models.js",
        "npz.js",
        "profile.js",
        "requests.js",
        "results.js",
        "style.css",
        "tensors.js",
        "timeline.js",
        "try.js",
        "upload.js",
    ];
    let file = |(name, bytes): (&'static str, &'static [u8])| {
        let digest = blake3::hash(bytes).to_hex();
        let tag = HeaderValue::from_str(&format!("\"{}\"", &digest[..32]));
        File { name, bytes, tag: tag.expect("hex digits are a header's text") }
    };
    files.map(file).into()
});

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/", get(page)).route("/console/{file}", get(file))
}

async fn page(headers: HeaderMap) -> Response {
    answer(PAGE, &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

async fn file(uri: Uri, Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Error> {
    let found = Some(name).filter(|name| name != PAGE).and_then(|name| answer(&name, &headers));
    found.ok_or_else(|| Error::NoSuchMethod(uri.path().chars().take(200).collect()))
}

fn answer(name: &str, headers: &HeaderMap) -> Option<Response> {
    let file = FILES.iter().find(|file| file.name == name)?;
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut known = known.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let mut response = match known.any(|tag| file.tag == tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, content_type(name))], file.bytes).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, file.tag.clone());
    for (name, value) in [
        // Kept, and asked for again each time: a page and a script of two versions do not fit together.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_console_is_part_of_the_program() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/console")).unwrap();
        let mut there: Vec<_> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        there.sort();
        let known: Vec<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(known, there);
    }
}
