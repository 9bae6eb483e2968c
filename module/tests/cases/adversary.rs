//! Damaged and hostile files: an error each, never a panic.

use ired_module::{Module, ParseError, SectionKind, Verify, VerifyError};
use proptest::prelude::*;

use crate::sample::{draft, fat};

fn check(bytes: &[u8]) -> Result<(), String> {
    let module = Module::parse(bytes).map_err(|error| error.to_string())?;
    module.verify(Verify::All).map_err(|error| error.to_string())
}

/// Looks at everything a reader can ask for, verified or not.
fn look_everywhere(module: &Module<'_>) {
    module.variants().for_each(|variant| look_at(&variant));
}

fn look_at(module: &Module<'_>) {
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
    // Of the larger file one bit a byte, another each time.
    for (mut bytes, step) in [(draft().to_bytes().unwrap(), 1), (fat(), 9)] {
        check(&bytes).unwrap();
        for bit in (0..bytes.len() * 8).step_by(step) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_truncation_and_extension_is_noticed() {
    for mut bytes in [draft().to_bytes().unwrap(), fat()] {
        for length in 0..bytes.len() {
            assert!(Module::parse(&bytes[..length]).is_err(), "{length} bytes");
        }
        bytes.push(0);
        assert!(matches!(Module::parse(&bytes), Err(ParseError::Size { .. })));
    }
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

/// A row of the table and what it stands for.
#[derive(Clone)]
struct Row {
    kind: u32,
    variant: u32,
    section: Vec<u8>,
}

/// What all variants share.
const SHARED: u32 = u32::MAX;

/// The rows of a sound module.
fn rows(bytes: &[u8]) -> Vec<Row> {
    let first = Module::parse(bytes).expect("the sample is sound");
    let mut rows = Vec::new();
    for (variant, module) in (0..).zip(first.variants()) {
        let own = SectionKind::ALL.into_iter().filter(|kind| *kind != SectionKind::Params);
        rows.extend(own.map(|kind| Row {
            kind: kind as u32,
            variant,
            section: module.section(kind).to_vec(),
        }));
    }
    let section = first.section(SectionKind::Params).to_vec();
    rows.push(Row { kind: SectionKind::Params as u32, variant: SHARED, section });
    rows
}

/// A file with sound hashes whatever is in it: what malice looks like.
fn file(rows: &[Row]) -> Vec<u8> {
    let mut file = vec![0u8; 64 + 64 * rows.len()];
    let mut table = Vec::new();
    for Row { kind, variant, section } in rows {
        let alignment = if *kind == SectionKind::Params as u32 { 4096 } else { 64 };
        file.resize(file.len().next_multiple_of(alignment), 0);
        table.extend(kind.to_le_bytes());
        table.extend(variant.to_le_bytes());
        table.extend((file.len() as u64).to_le_bytes());
        table.extend((section.len() as u64).to_le_bytes());
        table.extend([0; 8]);
        table.extend(blake3::hash(section).as_bytes());
        file.extend(section);
    }
    let length = file.len() as u64;
    file[..12].copy_from_slice(&draft().to_bytes().expect("the sample is sound")[..12]);
    file[12..16].copy_from_slice(&(rows.len() as u32).to_le_bytes());
    file[16..24].copy_from_slice(&length.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..32]);
    hasher.update(&table);
    file[32..64].copy_from_slice(hasher.finalize().as_bytes());
    file[64..64 + table.len()].copy_from_slice(&table);
    file
}

/// The sample with damaged sections.
fn forge(change: impl FnOnce(&mut [Vec<u8>; SectionKind::ALL.len()])) -> Vec<u8> {
    let mut rows = rows(&draft().to_bytes().expect("the sample is sound"));
    let mut sections = std::array::from_fn(|index| rows[index].section.clone());
    change(&mut sections);
    rows.iter_mut().zip(sections).for_each(|(row, section)| row.section = section);
    file(&rows)
}

#[test]
fn variants_in_disorder_are_refused() {
    let sound = rows(&fat());
    assert_eq!(file(&sound), fat());
    // Sections of one variant, but for the parameters.
    let count = SectionKind::ALL.len() - 1;
    let refused = |change: &dyn Fn(&mut Vec<Row>), expected: ParseError| {
        let mut rows = sound.clone();
        change(&mut rows);
        assert_eq!(Module::parse(&file(&rows)).unwrap_err(), expected);
    };
    let with = |from: u32, to: u32| {
        move |rows: &mut Vec<Row>| {
            rows.iter_mut().filter(|row| row.variant == from).for_each(|row| row.variant = to);
        }
    };
    refused(&with(1, 2), ParseError::Variant { found: 2 });
    refused(&with(0, 1), ParseError::Missing { section: SectionKind::Strings });
    refused(&with(1, 0), ParseError::SectionKind { found: 1 });
    refused(&with(SHARED, 1), ParseError::SectionKind { found: 13 });
    refused(&with(1, SHARED), ParseError::SectionKind { found: 1 });
    refused(&|rows| rows.rotate_left(count), ParseError::Missing { section: SectionKind::Strings });
    refused(&|rows| drop(rows.remove(count + 3)), ParseError::Missing { section: SectionKind::Signature });
    refused(&|rows| drop(rows.pop()), ParseError::Missing { section: SectionKind::Params });
    refused(&|rows| drop(rows.drain(..2 * count)), ParseError::Missing { section: SectionKind::Strings });
    let many = |rows: &mut Vec<Row>| {
        let (first, params) = (rows[..count].to_vec(), rows.pop().unwrap());
        let more = (2..5).flat_map(|variant| first.iter().map(move |row| Row { variant, ..row.clone() }));
        rows.extend(more.chain([params]));
    };
    refused(&many, ParseError::Variant { found: 4 });
}

#[test]
fn every_variant_is_verified() {
    let sound = rows(&fat());
    let code = sound.iter().position(|row| (row.kind, row.variant) == (SectionKind::Code as u32, 1)).unwrap();
    let mut bytes = file(&sound);
    let offset = u64::from_le_bytes(bytes[64 + code * 64 + 8..][..8].try_into().unwrap()) as usize;
    bytes[offset] ^= 1;
    let module = Module::parse(&bytes).unwrap();
    assert_eq!(module.verify(Verify::All), Err(VerifyError::Hash { section: SectionKind::Code }));
    let mut changed = sound.clone();
    changed[code].section.fill(0xff);
    let bytes = file(&changed);
    let found = Module::parse(&bytes).unwrap().verify(Verify::All).unwrap_err();
    assert!(matches!(found, VerifyError::Code { .. } | VerifyError::Function { .. }), "{found}");
    // Another name of an input, which is a string of the second variant only.
    let mut changed = sound;
    let strings = code - 5;
    assert_eq!(changed[strings].kind, SectionKind::Strings as u32);
    let name = changed[strings].section.windows(5).rposition(|text| text == b"batch").unwrap();
    changed[strings].section[name] = b'B';
    let bytes = file(&changed);
    let found = Module::parse(&bytes).unwrap().verify(Verify::All);
    assert_eq!(found, Err(VerifyError::Variant { variant: 1 }));
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
        changes in proptest::collection::vec((0usize..24, any::<u16>(), word()), 1..4),
    ) {
        let mut rows = rows(&fat());
        for (section, at, value) in changes {
            let section = &mut rows[section].section;
            let words = section.len() / 4;
            if words > 0 {
                let at = usize::from(at) % words * 4;
                section[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        let forged = file(&rows);
        let module = Module::parse(&forged).unwrap();
        let sound = module.verify(Verify::All).is_ok();
        look_everywhere(&module);
        let variants = module.variants().filter(|_| sound);
        for module in variants {
            for index in 0..module.functions() {
                module.function(index).unwrap().to_owned().unwrap();
            }
        }
    }

    /// Rows of any kind and variant in any order.
    #[test]
    fn tables_in_any_order_are_refused_or_sound(
        order in proptest::collection::vec((0usize..25, 0u32..15, 0u32..4), 0..8),
    ) {
        let sound = rows(&fat());
        let row = |&(at, kind, variant): &(usize, u32, u32)| match variant {
            3 => sound[at].clone(),
            variant => Row { kind, variant, ..sound[at].clone() },
        };
        let changed: Vec<Row> = order.iter().map(row).collect();
        for rows in [&changed, &[&sound[..], &changed].concat()] {
            let bytes = file(rows);
            if let Ok(module) = Module::parse(&bytes) {
                let _ = module.verify(Verify::All);
                look_everywhere(&module);
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
