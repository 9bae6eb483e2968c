//! Any bytes as a module: refused or sound.
#![no_main]

use ired_module::{Module, Verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(module) = Module::parse(data) {
        let _ = module.verify(Verify::All);
        let _ = module.describe();
    }
});
