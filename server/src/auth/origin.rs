//! Whether a call comes from a page of another site. Browsers let any page send such calls to a server that their user
//! reaches, this machine included, and only keep the answers from it; they say so in headers that no page can set.

use axum::extract::Request;
use axum::http::{Method, header};

use crate::error::Error;

/// Refuses calls of other sites' pages that may change something.
///
/// # Errors
/// [`Error::OtherSite`].
pub(super) fn check(request: &Request) -> Result<(), Error> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let text =
        |name: &str| request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let ours = match (text("sec-fetch-site"), text(header::ORIGIN.as_str())) {
        // `none` is a person's doing, not a page's.
        (Some(site), _) => matches!(&*site, "same-origin" | "none"),
        // Browsers that do not say it, or not to servers without TLS.
        (None, Some(origin)) => {
            let host = text(header::HOST.as_str()).map(|host| host.into_owned());
            let host = host.or_else(|| request.uri().authority().map(|authority| authority.to_string()));
            let origin = origin.split_once("://").map(|(_, authority)| authority);
            origin.is_some() && origin == host.as_deref()
        }
        (None, None) => true,
    };
    if ours { Ok(()) } else { Err(Error::OtherSite) }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn checked(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/v2/models/m/infer");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(Body::empty()).unwrap()).is_ok()
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let host = ("host", "127.0.0.1:8000");
        assert!(checked("POST", &[host]), "a client that is no browser");
        assert!(checked("POST", &[host, ("origin", "http://127.0.0.1:8000")]));
        assert!(checked("POST", &[host, ("sec-fetch-site", "same-origin"), ("origin", "https://proxy")]));
        assert!(checked("GET", &[host, ("origin", "http://elsewhere"), ("sec-fetch-site", "cross-site")]));
        for headers in [
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("origin", "http://elsewhere")],
            &[host, ("origin", "http://127.0.0.1:9000")],
            &[host, ("origin", "null")],
        ] {
            assert!(!checked("POST", headers), "{headers:?}");
            assert!(!checked("DELETE", headers), "{headers:?}");
        }
    }
}
