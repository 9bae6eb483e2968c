//! Rules of executables.

use super::{Case, Context, ENTRIES, Kernels};
use crate::{Dispatch, ExecutableSource, PrepareError, RecordError, Recorder};

pub(super) const CASES: &[Case] = &[
    ("executable_lists_its_entries_in_order", lists_entries),
    ("executable_for_another_target_is_refused", refuses_other_target),
    ("executable_names_every_missing_feature", names_missing_features),
    ("executable_without_a_named_kernel_is_refused", refuses_missing_entry),
    ("executable_entries_are_checked_when_recorded", entries_checked),
];

fn prepare(
    context: &Context,
    triple: &str,
    features: &[&str],
    entries: &[&str],
) -> Result<Vec<String>, PrepareError> {
    let own = |names: &[&str]| names.iter().map(|&name| String::from(name)).collect::<Vec<_>>();
    let (features, entries) = (own(features), own(entries));
    let Kernels { image, .. } = &context.kernels;
    let source =
        ExecutableSource { name: "conformance", triple, features: &features, image, entries: &entries };
    Ok(context.device.prepare_executable(&source)?.entries().to_vec())
}

fn lists_entries(context: &Context) {
    let triple = context.kernels.triple.clone();
    let backwards: Vec<&str> = ENTRIES.into_iter().rev().collect();
    assert_eq!(prepare(context, &triple, &[], &backwards).expect("loads"), backwards);
    assert!(prepare(context, &triple, &[], &[]).expect("loads").is_empty());
}

fn refuses_other_target(context: &Context) {
    let refused = prepare(context, "pdp11-unix", &[], &ENTRIES);
    assert!(
        matches!(&refused, Err(PrepareError::WrongTarget { found, .. }) if found == "pdp11-unix"),
        "{refused:?}"
    );
}

fn names_missing_features(context: &Context) {
    let triple = context.kernels.triple.clone();
    let refused = prepare(context, &triple, &["warp-drive", "tea"], &ENTRIES);
    let Err(PrepareError::MissingFeatures { missing }) = &refused else { panic!("{refused:?}") };
    assert_eq!(missing, &["warp-drive", "tea"]);
}

fn refuses_missing_entry(context: &Context) {
    let triple = context.kernels.triple.clone();
    let refused = prepare(context, &triple, &[], &["add_f32", "divide_by_zero"]);
    assert!(
        matches!(&refused, Err(PrepareError::MissingEntry { name }) if name == "divide_by_zero"),
        "{refused:?}"
    );
}

fn entries_checked(context: &Context) {
    let executable = context.executable();
    let dispatch =
        Dispatch { executable, entry: 4, grid: [1; 3], bindings: vec![], constants: vec![], tag: 0 };
    let refused = Recorder::new().dispatch(dispatch);
    assert_eq!(refused, Err(RecordError::NoSuchEntry { command: 0, entry: 4, entries: 4 }));
}
