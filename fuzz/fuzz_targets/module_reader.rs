//! Any bytes as a module: refused or sound; and what it says of its dispatches.
#![no_main]

use ired_module::notes::DispatchNotes;
use ired_module::{Module, Verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(module) = Module::parse(data) {
        let _ = module.verify(Verify::All);
        let _ = module.describe();
        if let Some(notes) = DispatchNotes::decode(module.debug()) {
            let _ = notes.at(&[vec![2, 3], vec![4]]);
        }
    }
    let _ = DispatchNotes::decode(data);
});
