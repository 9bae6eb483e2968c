//! Real models with something changed, and pieces of them put together: as `onnx_shapes`, from the other side.
#![no_main]

use arbitrary::Unstructured;
use ired_frontends::onnx::proto::ModelProto;
use ired_fuzz::{cross_models, judge_model, mutate_model, noise};
use libfuzzer_sys::{fuzz_crossover, fuzz_mutator, fuzz_target};
use prost::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(model) = ModelProto::decode(data) {
        judge_model(&model);
    }
});

// A model stays a model, which changed bytes rarely are: those are for `onnx_decoder`.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let Ok(mut model) = ModelProto::decode(&data[..size]) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    };
    let bytes = noise(seed);
    let _ = mutate_model(&mut model, &mut Unstructured::new(&bytes));
    put(&model, data, max_size).unwrap_or(size)
});

fuzz_crossover!(|data1: &[u8], data2: &[u8], out: &mut [u8], seed: u32| {
    let models = ModelProto::decode(data1).and_then(|one| Ok((one, ModelProto::decode(data2)?)));
    let Ok((mut model, other)) = models else { return 0 };
    let bytes = noise(seed);
    let _ = cross_models(&mut model, &other, &mut Unstructured::new(&bytes));
    let most = out.len();
    put(&model, out, most).unwrap_or(0)
});

/// Writes the model; `None` when it is larger than there is room for.
fn put(model: &ModelProto, data: &mut [u8], most: usize) -> Option<usize> {
    let bytes = model.encode_to_vec();
    data.get_mut(..bytes.len()).filter(|_| bytes.len() <= most)?.copy_from_slice(&bytes);
    Some(bytes.len())
}
