//! The loader takes what the linker makes for a kernel library, and names what is wrong with anything else.

#![allow(clippy::unwrap_used, reason = "a test")]

use ired_driver_cpu::loader::{LoadError, LoadedImage};
use ired_driver_cpu::test_support::{kernels, link};
use proptest::prelude::*;

const KERNEL: &str = "__attribute__((visibility(\"default\"))) void kernel(void) {}\n";

fn error_for(source: &str, arguments: &[&str]) -> LoadError {
    match LoadedImage::load(&link(&format!("{KERNEL}{source}"), arguments)) {
        Err(error) => error,
        Ok(_) => panic!("an image that must not load was loaded"),
    }
}

#[test]
fn finds_exported_functions_only() {
    let source = "__attribute__((visibility(\"default\"))) int data = 1; void hidden(void) {}";
    let image = LoadedImage::load(&link(&format!("{KERNEL}{source}"), &[])).unwrap();
    assert!(image.function("kernel").is_some());
    for name in ["data", "hidden", "", "kerne", "kernel2"] {
        assert!(image.function(name).is_none(), "{name}");
    }
}

#[test]
fn finds_functions_by_either_hash_table() {
    for style in ["sysv", "gnu", "both"] {
        let image = link(KERNEL, &[&format!("-Wl,--hash-style={style}")]);
        assert!(LoadedImage::load(&image).unwrap().function("kernel").is_some(), "{style}");
    }
}

#[test]
fn refuses_what_needs_others() {
    let error = error_for(
        "void other(void); __attribute__((visibility(\"default\"))) void call(void) { other(); }",
        &[],
    );
    assert!(matches!(&error, LoadError::UndefinedSymbol { name } if name == "other"), "{error}");
    let error = error_for("", &["-Wl,--no-as-needed", "-lc"]);
    assert!(matches!(error, LoadError::Unsupported { tag: "DT_NEEDED", .. }), "{error}");
    // Linkers write this header into programs only.
    let mut image = link(KERNEL, &[]);
    let (stack, _) = program_headers(&image, 0x6474_e551)[0];
    image[stack..stack + 4].copy_from_slice(&3_u32.to_le_bytes());
    let error = LoadedImage::load(&image).unwrap_err();
    assert!(matches!(error, LoadError::Interpreter), "{error}");
}

#[test]
fn refuses_what_runs_before_it_is_called() {
    let error = error_for(
        "__attribute__((constructor)) static void start(void) { static volatile int x; x = 1; }",
        &[],
    );
    assert!(matches!(error, LoadError::Unsupported { tag: "DT_INIT_ARRAY", .. }), "{error}");
    let error = error_for("__attribute__((destructor)) static void stop(void) { kernel(); }", &[]);
    assert!(matches!(error, LoadError::Unsupported { tag: "DT_FINI_ARRAY", .. }), "{error}");
    let error = error_for("void start(void) {}", &["-Wl,-init=kernel"]);
    assert!(matches!(error, LoadError::Unsupported { tag: "DT_INIT", .. }), "{error}");
}

#[test]
fn refuses_thread_local_storage() {
    let error = error_for("__attribute__((visibility(\"default\"))) _Thread_local int x = 1;", &[]);
    assert!(matches!(error, LoadError::ThreadLocalStorage), "{error}");
}

#[test]
fn refuses_functions_chosen_at_load_time() {
    let source = "typedef void f(void); static f *choose(void) { return kernel; }\n\
        __attribute__((ifunc(\"choose\"), visibility(\"default\"))) void chosen(void);";
    let error = error_for(source, &[]);
    assert!(matches!(&error, LoadError::UnsupportedSymbol { name, kind: 10 } if name == "chosen"), "{error}");
}

#[test]
fn refuses_memory_that_is_written_and_executed() {
    let error = error_for("__attribute__((visibility(\"default\"))) int data = 1;", &["-Wl,--omagic"]);
    let misaligned = matches!(error, LoadError::WritableAndExecutable { .. } | LoadError::Misaligned { .. });
    assert!(misaligned, "{error}");
    // The flag itself, whatever the linker would do.
    let mut image = link(KERNEL, &[]);
    for (at, flags) in program_headers(&image, 1) {
        image[at + 4] = flags as u8 | 3;
    }
    let error = LoadedImage::load(&image).unwrap_err();
    assert!(matches!(error, LoadError::WritableAndExecutable { .. }), "{error}");
}

#[test]
fn refuses_segments_that_overlap() {
    let image = link(KERNEL, &[]);
    let loads = program_headers(&image, 1);
    let mut broken = image.clone();
    let address = |at: usize| image[at + 16..at + 24].to_vec();
    let first = address(loads[0].0);
    broken[loads[1].0 + 16..loads[1].0 + 24].copy_from_slice(&first);
    let error = LoadedImage::load(&broken).unwrap_err();
    assert!(matches!(error, LoadError::Overlapping { .. }), "{error}");
}

#[test]
fn refuses_memory_out_of_proportion() {
    let error = error_for("__attribute__((visibility(\"default\"))) char big[1u << 30];", &[]);
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
}

#[test]
fn refuses_relocations_of_code_and_packed_ones() {
    let source = "extern char kernel_end; __asm__(\".text\\n.quad kernel\\n\");";
    let error = error_for(source, &["-Wl,-z,notext"]);
    assert!(matches!(error, LoadError::Unsupported { tag: "DT_TEXTREL" | "DF_TEXTREL", .. }), "{error}");
    let source = "static int x; int *volatile hidden[] = {&x};\
        __attribute__((visibility(\"default\"))) int get(void) { return *hidden[0]; }";
    let error = error_for(source, &["-Wl,-z,pack-relative-relocs"]);
    assert!(matches!(error, LoadError::Unsupported { tag: "DT_RELR", .. }), "{error}");
}

#[test]
fn refuses_other_files() {
    let image = link(KERNEL, &[]);
    let with = |at: usize, value: u8| {
        let mut image = image.clone();
        image[at] = value;
        LoadedImage::load(&image).unwrap_err()
    };
    assert!(matches!(with(0, 0), LoadError::NotElf64));
    assert!(matches!(with(4, 1), LoadError::NotElf64));
    assert!(matches!(with(5, 2), LoadError::NotElf64));
    assert!(matches!(with(16, 2), LoadError::NotSharedObject { found: 2 }));
    assert!(matches!(with(18, 40), LoadError::WrongMachine { found: 40, .. }));
    assert!(matches!(with(56, 0), LoadError::BadProgramHeaders { found: 0, .. }));
    assert!(matches!(with(39, 0x7f), LoadError::Truncated { .. }));
    assert!(matches!(LoadedImage::load(&[]), Err(LoadError::Truncated { .. })));
}

#[test]
fn every_truncation_is_an_error_or_loses_nothing() {
    let image = kernels().image;
    let needed = program_headers(&image, 1).into_iter().map(|(at, _)| {
        let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap()) as usize;
        word(at + 8) + word(at + 32)
    });
    let needed = needed.max().unwrap();
    for len in 0..image.len() {
        assert_eq!(LoadedImage::load(&image[..len]).is_ok(), len >= needed, "{len} bytes of {needed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Only loads: what a broken image's code would do is nobody's promise.
    #[test]
    fn mutated_images_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut image = kernels().image;
        for (at, value) in edits {
            // Half of the edits hit the headers and tables that the loader reads.
            let len = image.len();
            image[at.index(if value & 1 == 0 { len } else { len.min(0x600) })] = value;
        }
        let _ = LoadedImage::load(&image);
    }

    #[test]
    fn mutated_words_never_panic(at in any::<prop::sample::Index>(), value in any::<u64>(), shift in 0..64_u32) {
        let mut image = kernels().image;
        let at = at.index(image.len() / 8) * 8;
        image[at..at + 8].copy_from_slice(&(value >> shift).to_le_bytes());
        let _ = LoadedImage::load(&image);
    }
}

/// Offsets and flags of the program headers of one type.
fn program_headers(image: &[u8], kind: u32) -> Vec<(usize, u32)> {
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let start = word(32) as usize;
    let count = usize::from(image[56]);
    let all = (0..count).map(|index| start + index * 56);
    all.filter(|at| word(*at) == kind).map(|at| (at, word(at + 4))).collect()
}
