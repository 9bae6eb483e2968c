//! What is loaded, and what is refused.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ired_hal::PrepareError;
use ired_module::{ParseError, Verify, VerifyError};
use ired_runtime::{InstanceOptions, LoadError, LoadOptions, LoadedModule};

use crate::harness::*;

fn with_params() -> ired_module::ModuleDraft {
    let mut draft = two_steps();
    draft.params = vec![param(&[1, 2, 3])];
    draft
}

#[test]
fn a_loaded_module_says_what_it_is() {
    let draft = with_params();
    let module = load(&draft);
    assert_eq!(module.signature(), &draft.signature);
    assert_eq!(module.target(), &draft.target);
    assert_eq!(module.provenance(), &draft.provenance);
    assert_eq!(module.param_bytes(), 12);
    assert_eq!(module.device().info().name, "template");
}

#[test]
fn what_is_not_a_sound_module_is_refused() {
    let good = with_params().to_bytes().unwrap();
    let refused = |bytes: Vec<u8>| LoadedModule::load(device(), bytes).expect_err("not a sound module");
    assert!(matches!(refused(vec![]), LoadError::Parse(ParseError::TooShort { .. })));
    assert!(matches!(refused(good[..good.len() - 1].to_vec()), LoadError::Parse(ParseError::Size { .. })));
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(refused(damaged.clone()), LoadError::Verify(VerifyError::Hash { .. })));
    let options = LoadOptions { verify: Verify::WithoutParams };
    assert!(LoadedModule::load_with(device(), damaged, options).is_ok());
}

#[test]
fn what_the_machine_lacks_is_named() {
    let mut draft = two_steps();
    draft.target.features = vec!["avx9000".into()];
    let error = LoadedModule::load(device(), draft.to_bytes().unwrap()).unwrap_err();
    let LoadError::Prepare { cause: PrepareError::MissingFeatures { missing }, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(missing, &["avx9000"]);
    assert!(error.source().unwrap().to_string().contains("avx9000"));

    let mut draft = two_steps();
    draft.executable.entries[0].symbol = "gone".into();
    let error = LoadedModule::load(device(), draft.to_bytes().unwrap()).unwrap_err();
    assert!(
        matches!(error, LoadError::Prepare { cause: PrepareError::MissingEntry { .. }, .. }),
        "{error:?}"
    );
}

/// Bytes that tell when they are dropped, at any alignment.
struct Watched(Vec<u8>, usize, Arc<AtomicBool>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.2.store(true, Ordering::Relaxed);
    }
}

/// `file` in memory at an address that is `misalignment` above a multiple of 64.
fn watched(file: &[u8], misalignment: usize) -> (Watched, Arc<AtomicBool>) {
    let mut bytes = vec![0; file.len() + 128];
    let start = bytes.as_ptr().addr().next_multiple_of(64) - bytes.as_ptr().addr() + misalignment;
    bytes[start..start + file.len()].copy_from_slice(file);
    bytes.truncate(start + file.len());
    let dropped = Arc::new(AtomicBool::new(false));
    (Watched(bytes, start, dropped.clone()), dropped)
}

#[test]
fn parameters_stay_in_the_file_where_they_are_aligned() {
    let file = with_params().to_bytes().unwrap();
    for (misalignment, stays) in [(0, true), (8, false)] {
        let (bytes, dropped) = watched(&file, misalignment);
        let module = LoadedModule::load(device(), bytes).unwrap();
        let instance = module.instantiate(InstanceOptions::default());
        drop(module);
        assert_eq!(dropped.load(Ordering::Relaxed), !stays);
        assert_eq!(call(&instance, &[(&[1], &[1])]).unwrap().1, [7]);
        drop(instance);
        assert!(dropped.load(Ordering::Relaxed));
    }
}
