//! Damaged and hostile files: an error each, never a panic.

use ired_module::{Module, ParseError, SectionKind, Verify, VerifyError};
use proptest::prelude::*;

use crate::sample::draft;

fn check(bytes: &[u8]) -> Result<(), String> {
    let module = Module::parse(bytes).map_err(|error| error.to_string())?;
    module.verify(Verify::All).map_err(|error| error.to_string())
}

/// Looks at everything a reader can ask for, verified or not.
fn look_everywhere(module: &Module<'_>) {
    let _ = module.describe().to_string();
    let _ = (module.signature(), module.target(), module.provenance());
    for index in 0..module.functions().min(100) {
        let _ = module.function(index).map(|function| function.to_owned());
    }
    for index in 0..module.params().min(100) {
        let _ = module.param(index);
    }
    for kernel in module.entries().take(100) {
        let _ = kernel.bindings.iter().count();
    }
    let _ = module.string(u32::MAX);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut bytes = draft().to_bytes().unwrap();
    check(&bytes).unwrap();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn every_truncation_and_extension_is_noticed() {
    let mut bytes = draft().to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert!(Module::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
    bytes.push(0);
    assert!(matches!(Module::parse(&bytes), Err(ParseError::Size { .. })));
}

#[test]
fn damaged_parameters_are_found_only_when_asked_for() {
    let mut bytes = draft().to_bytes().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let module = Module::parse(&bytes).unwrap();
    module.verify(Verify::WithoutParams).unwrap();
    assert_eq!(module.verify(Verify::All), Err(VerifyError::Hash { section: SectionKind::Params }));
}

#[test]
fn the_frame_errors_have_names() {
    let good = draft().to_bytes().unwrap();
    assert_eq!(Module::parse(&[]).unwrap_err(), ParseError::TooShort { found: 0 });
    assert_eq!(Module::parse(&[0; 64]).unwrap_err(), ParseError::NotAModule);
    let mut other = good.clone();
    other[8] = 9;
    assert_eq!(Module::parse(&other).unwrap_err(), ParseError::Version { found: 9 });
    let mut other = good.clone();
    other[13] = 0xff;
    assert!(matches!(Module::parse(&other), Err(ParseError::SectionCount { .. })));
    let mut other = good;
    other[70] ^= 1;
    assert_eq!(Module::parse(&other).unwrap_err(), ParseError::TableHash);
}

/// A file with sound hashes whose sections are damaged: what malice looks like.
fn forge(change: impl FnOnce(&mut [Vec<u8>; SectionKind::ALL.len()])) -> Vec<u8> {
    let bytes = draft().to_bytes().expect("the sample is sound");
    let module = Module::parse(&bytes).expect("the sample is sound");
    let mut sections = SectionKind::ALL.map(|kind| module.section(kind).to_vec());
    change(&mut sections);
    let mut file = vec![0u8; 64 + 64 * sections.len()];
    let mut table = Vec::new();
    for (kind, section) in SectionKind::ALL.into_iter().zip(&sections) {
        file.resize(file.len().next_multiple_of(kind.alignment() as usize), 0);
        table.extend((kind as u32).to_le_bytes());
        table.extend([0; 4]);
        table.extend((file.len() as u64).to_le_bytes());
        table.extend((section.len() as u64).to_le_bytes());
        table.extend([0; 8]);
        table.extend(blake3::hash(section).as_bytes());
        file.extend(section);
    }
    let length = file.len() as u64;
    file[..24].copy_from_slice(&bytes[..24]);
    file[16..24].copy_from_slice(&length.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..32]);
    hasher.update(&table);
    file[32..64].copy_from_slice(hasher.finalize().as_bytes());
    file[64..64 + table.len()].copy_from_slice(&table);
    file
}

#[test]
fn a_forged_module_without_changes_is_sound() {
    let forged = forge(|_| {});
    check(&forged).unwrap();
    assert_eq!(forged, draft().to_bytes().unwrap());
}

#[test]
fn claims_beyond_the_file_are_refused() {
    // Counts in the strings, target, signature, functions, kernels and parameters that no file could hold.
    for (section, word) in [
        (0, 0),
        (1, 1),
        (3, 0),
        (3, 5),
        (3, 6),
        (4, 3),
        (4, 5),
        (4, 6),
        (4, 7),
        (6, 0),
        (6, 3),
        (6, 4),
        (6, 5),
        (6, 6),
        (8, 2),
        (8, 4),
    ] {
        let forged = forge(|sections| sections[section][word * 4..word * 4 + 4].fill(0xff));
        let module = Module::parse(&forged).unwrap();
        assert!(module.verify(Verify::All).is_err(), "section {section}, word {word}");
        look_everywhere(&module);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(check(&bytes).is_err());
        let start = bytes.len().min(12);
        bytes[..start].copy_from_slice(&b"\x89IRM\r\n\x1a\n\x01\0\0\0"[..start]);
        prop_assert!(check(&bytes).is_err());
    }

    /// Changed words behind sound hashes: refused or sound, and never a panic, verified or not.
    #[test]
    fn changed_content_is_refused_or_sound(
        changes in proptest::collection::vec((0usize..10, any::<u16>(), word()), 1..4),
    ) {
        let forged = forge(|sections| {
            for (section, at, value) in changes {
                let words = sections[section].len() / 4;
                if words > 0 {
                    let at = usize::from(at) % words * 4;
                    sections[section][at..at + 4].copy_from_slice(&value.to_le_bytes());
                }
            }
        });
        let module = Module::parse(&forged).unwrap();
        let sound = module.verify(Verify::All).is_ok();
        look_everywhere(&module);
        if sound {
            for index in 0..module.functions() {
                module.function(index).unwrap().to_owned().unwrap();
            }
        }
    }

    /// Sections of other lengths and random content behind sound hashes.
    #[test]
    fn random_sections_never_panic(section in 0usize..10, content in proptest::collection::vec(any::<u8>(), 0..600)) {
        let forged = forge(|sections| sections[section] = content);
        let module = Module::parse(&forged).unwrap();
        let _ = module.verify(Verify::All);
        look_everywhere(&module);
    }
}

/// Words that are interesting where counts, indices and instructions stand.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..32,
        any::<u32>(),
        Just(u32::MAX),
        (0u32..24, 0u32..256, 0u32..8).prop_map(|(op, small, register)| op | small << 8 | register << 16)
    ]
}
