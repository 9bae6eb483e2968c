//! Any text as `ired.toml` and as the access file: refused with a reason, or sound.
#![no_main]

use std::cell::OnceCell;
use std::path::PathBuf;

use ired::config::Loaded;
use ired::{Arguments, Settings};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FILE: OnceCell<(tempfile::TempDir, PathBuf)> = const { OnceCell::new() };
}

fuzz_target!(|text: &str| {
    FILE.with(|file| {
        let (_, path) = file.get_or_init(|| {
            let folder = tempfile::tempdir_in("/dev/shm").expect("there is memory");
            let path = folder.path().join("file.toml");
            (folder, path)
        });
        std::fs::write(path, text).expect("there is memory");
        let arguments = Arguments { config: Some(path.clone()), ..Arguments::default() };
        match Loaded::from_process(arguments) {
            Ok(loaded) => drop(loaded.show()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let mut settings = Settings::default();
        settings.auth.access = Some(path.clone());
        if let Err(error) = ired::daemon::check_files(&settings) {
            assert!(!error.to_string().is_empty());
        }
    });
});
