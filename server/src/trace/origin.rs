//! What the head of a request says of who asks: its id, and the trace that it belongs to (W3C Trace Context).

use std::fmt;
use std::time::Instant;

use axum::http::HeaderMap;

/// The header that names a request, in both directions.
pub const REQUEST_ID: &str = "x-request-id";
/// Longer names are none, and neither are those that are not plain text.
pub(super) const ID_CHARS: usize = 128;
/// As much as the standard wants carried on.
const STATE_BYTES: usize = 512;

/// Who asks, and when.
#[derive(Clone, Debug)]
pub struct Origin {
    /// When the request's head was here.
    pub at: Instant,
    pub request_id: Option<String>,
    pub parent: Option<Parent>,
}

/// The caller's span, from `traceparent` and `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace: u128,
    pub span: u64,
    /// The caller traces this request.
    pub sampled: bool,
    /// What other tracing systems want carried on; only of a request that is traced.
    pub state: String,
}

impl Default for Origin {
    /// Somebody who says nothing, now.
    fn default() -> Self {
        Self { at: Instant::now(), request_id: None, parent: None }
    }
}

impl Origin {
    /// What is not well formed counts as not there, as the standards have it.
    pub fn of(headers: &HeaderMap) -> Self {
        let id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let id = id.filter(|id| !id.is_empty() && id.len() <= ID_CHARS);
        Self { request_id: id.map(str::to_owned), parent: parent(headers), ..Self::default() }
    }
}

fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut parents = headers.get_all("traceparent").iter();
    let mut parent = Parent::parse(parents.next()?.to_str().ok()?)?;
    if parents.next().is_some() {
        return None;
    }
    if parent.sampled {
        let states: Vec<&str> =
            headers.get_all("tracestate").iter().filter_map(|value| value.to_str().ok()).collect();
        parent.state = Some(states.join(",")).filter(|state| state.len() <= STATE_BYTES).unwrap_or_default();
    }
    Some(parent)
}

impl Parent {
    /// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`; later versions may have more after that.
    fn parse(text: &str) -> Option<Self> {
        let hex = |text: &str, digits: usize| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let fits = text.len() == digits && text.bytes().all(lower);
            fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
        };
        let mut parts = text.splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32).filter(|&trace| trace != 0)?;
        let span =
            hex(parts.next()?, 16).and_then(|span| u64::try_from(span).ok()).filter(|&span| span != 0)?;
        let flags = hex(parts.next()?, 2)?;
        let known = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        known.then_some(Self { trace, span, sampled: flags & 1 == 1, state: String::new() })
    }
}

/// As `traceparent` has it.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_caller_says_which_trace_a_request_belongs_to() {
        let lines =
            [("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2"), ("x-request-id", "r")];
        let origin = Origin::of(&headers(&lines));
        assert_eq!(origin.request_id.as_deref(), Some("r"));
        let parent = origin.parent.unwrap();
        assert_eq!(
            (parent.trace, parent.span),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)
        );
        assert_eq!((parent.sampled, parent.state.as_str()), (true, "a=1,b=2"));
        let unsampled = Parent::parse(&GOOD.replace("-01", "-00")).unwrap();
        assert!(!unsampled.sampled);
        assert!(Parent::parse(&format!("01{}-later", &GOOD[2..])).unwrap().sampled);
    }

    #[test]
    fn what_is_not_well_formed_counts_as_not_there() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("ff{}", &GOOD[2..]),
            &GOOD.replace("4bf9", "4BF9"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros),
            &GOOD.replace("00f067aa0ba902b7", &zeros[..16]),
            &GOOD.replace("00f0", "+0f0"),
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Origin::of(&headers(&[("traceparent", GOOD), ("traceparent", GOOD)])).parent, None);
        let long = "r".repeat(ID_CHARS + 1);
        assert_eq!(Origin::of(&headers(&[("x-request-id", &long)])).request_id, None);
    }
}
