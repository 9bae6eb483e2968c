//! What the device noted while a request ran, as the parent is told it.

use std::cmp::Reverse;

use ired_hal::Span;
use ired_module::notes::KnownDispatch;
use ired_worker::messages::runtime::{MAX_PROFILE_NOTES, MAX_PROFILE_SPANS, MAX_PROFILE_TEXT};
use ired_worker::{WorkNote, WorkProfile, WorkSpan};

pub(crate) fn message(span: Span) -> WorkSpan {
    WorkSpan {
        work: span.work.to_string(),
        instruction: span.tag,
        thread: span.thread,
        start: span.start,
        took: span.took,
        workgroups: span.workgroups,
        of_workgroups: span.of_workgroups,
    }
}

/// A profile that fits into a message; `known` is of the function that ran.
pub(crate) fn profile(mut spans: Vec<Span>, known: &[KnownDispatch<'_>]) -> WorkProfile {
    let left_out = spans.len().saturating_sub(MAX_PROFILE_SPANS) as u64;
    if left_out > 0 {
        spans.sort_unstable_by_key(|span| Reverse(span.took));
        spans.truncate(MAX_PROFILE_SPANS);
    }
    spans.sort_unstable_by_key(|span| span.start);
    let ran = |dispatch: &&KnownDispatch<'_>| spans.iter().any(|span| span.tag == Some(dispatch.instruction));
    let note = |dispatch: &KnownDispatch<'_>| WorkNote {
        instruction: dispatch.instruction,
        nodes: shortened(dispatch.nodes),
        result: shortened(&dispatch.result),
        operations: dispatch.operations,
        bytes: dispatch.bytes,
    };
    let notes = known.iter().filter(ran).take(MAX_PROFILE_NOTES).map(note).collect();
    let spans = spans.into_iter().map(|span| {
        let span = message(span);
        WorkSpan { work: shortened(&span.work), ..span }
    });
    WorkProfile { spans: spans.collect(), notes, left_out }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_PROFILE_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_too_many_spans_the_longest_stay_in_their_order() {
        let span = |at: u32| Span {
            work: "w".repeat(2 * MAX_PROFILE_TEXT).into(),
            tag: Some(at),
            thread: 0,
            start: Duration::from_micros(at.into()),
            took: Duration::from_micros(u64::from(at % 2) + 1),
            workgroups: 1,
            of_workgroups: 1,
        };
        let count = MAX_PROFILE_SPANS as u32 * 2;
        let known = |instruction| KnownDispatch {
            function: 0,
            instruction,
            nodes: "n",
            problem: "",
            result: String::new(),
            operations: None,
            bytes: None,
        };
        let profile = profile((0..count).rev().map(span).collect(), &[known(0), known(1)]);
        assert_eq!((profile.spans.len(), profile.left_out), (MAX_PROFILE_SPANS, MAX_PROFILE_SPANS as u64));
        let kept: Vec<_> = profile.spans.iter().filter_map(|span| span.instruction).collect();
        assert!(kept.iter().copied().eq((0..count).filter(|at| at % 2 == 1)));
        assert_eq!(profile.spans[0].work.len(), MAX_PROFILE_TEXT);
        assert_eq!(profile.notes.iter().map(|note| note.instruction).collect::<Vec<_>>(), [1]);
    }
}
