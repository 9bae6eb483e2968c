//! Random operators on random operands: what is imported verifies, gives values of the types that shape inference
//! said, and gives the same after every pass.
#![no_main]

use arbitrary::Unstructured;
use ired_fuzz::{judge_model, random_model};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(model) = random_model(&mut Unstructured::new(data)) {
        judge_model(&model);
    }
});
