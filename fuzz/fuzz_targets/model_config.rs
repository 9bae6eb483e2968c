//! Any text as a model's configuration: refused, or what follows from it can be said, and it survives being written.
#![no_main]

use ired::model_config::{from_json, from_text, samples, scheduling, to_json};
use ired_fuzz::entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for config in [from_text(text), from_json(text)].into_iter().flatten() {
        let _ = scheduling("m", &config, 64, &entry());
        let _ = samples("m", &config, &entry());
        if let Ok(json) = to_json(&config) {
            let again = from_json(&json.to_string()).expect("what was written can be read");
            // No number is equal to one that is none.
            assert!(again == config || json.to_string().contains("NaN"), "{config:?} became {again:?}");
        }
    }
});
