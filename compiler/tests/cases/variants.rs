//! One module for several targets: a device takes the first that it can run, and equal weights are stored once.

use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;

use ired_compiler::targets::CpuTarget;
use ired_compiler::{CompileError, Options, Outcome, Unobserved, compile_graph};
use ired_driver_cpu::features::host_features;
use ired_driver_cpu::{CpuConfig, CpuDevice};
use ired_graph::{Graph, parse};
use ired_hal::Device;
use ired_module::{Module, SectionKind, write_variants};
use ired_runtime::LoadError;

use crate::harness::{self, Compiled};

const V3: &str = "x86-64-v3";
const V4: &str = "x86-64-v4";

/// A product whose matrix each target packs as wide as its vectors, and a sum with what none packs.
fn layer() -> Graph {
    let numbers = |count: usize| {
        (0..count).fold(String::new(), |mut hex, i| {
            let bytes = ((i * 37 % 17) as f32 / 4.0 - 2.0).to_le_bytes();
            bytes.iter().for_each(|byte| _ = write!(hex, "{byte:02x}"));
            hex
        })
    };
    let text = format!(
        "graph layer {{
  symbol n min 1 max 64
  param @w : f32[24, 40] = hex\"{}\"
  param @b : f32[1000] = hex\"{}\"
  body(%0 : f32[n, 24], %1 : f32[1000]) {{
    %2 = param @w : f32[24, 40]
    %3 = matmul %0, %2 : f32[n, 40]
    %4 = param @b : f32[1000]
    %5 = add %1, %4 : f32[1000]
    yield %3, %5
  }}
}}",
        numbers(24 * 40),
        numbers(1000)
    );
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn compile(targets: &[&str]) -> Result<Vec<u8>, CompileError> {
    let mut targets = targets.iter().map(|target| CpuTarget::parse(target).unwrap());
    let first = Options::new(targets.next().unwrap());
    let options = Options { fallbacks: targets.collect(), ..first };
    match compile_graph(layer(), [0; 32], &options, harness::cache(), &mut Unobserved)? {
        Outcome::Module(variants) => {
            let mut file = Cursor::new(Vec::new());
            write_variants(&variants, &mut file).unwrap();
            Ok(file.into_inner())
        }
        _ => panic!("no module"),
    }
}

fn without(features: &[&str]) -> Arc<dyn Device> {
    let left = host_features().into_iter().filter(|feature| !features.contains(&feature.as_str()));
    let config = CpuConfig { features: Some(left.collect()), ..CpuConfig::default() };
    Arc::new(CpuDevice::new(&config).expect("a device"))
}

#[test]
fn a_device_runs_the_first_variant_that_it_can() {
    let module = compile(&[V4, V3]).unwrap();
    let graph = layer();
    let inputs = harness::inputs(&graph, 7);
    let expected = harness::reference(&graph, &inputs).unwrap();
    let narrow = without(&["avx512f"]);
    let wide = without(&[]);
    let best = if wide.info().features.iter().any(|feature| feature == "avx512f") { 0 } else { 1 };
    for (device, chosen, target) in [(wide, best, [V4, V3][best]), (narrow, 1, V3)] {
        let compiled = Compiled::load_on(device, module.clone()).unwrap();
        assert_eq!(compiled.module().variant(), (chosen, 2));
        assert_eq!(compiled.module().target().features, CpuTarget::parse(target).unwrap().features);
        harness::compare(&expected, &compiled.run(&inputs).unwrap(), 1e-5).unwrap();
    }
}

#[test]
fn what_no_variant_can_do_without_is_named() {
    let module = compile(&[V4, V3]).unwrap();
    match Compiled::load_on(without(&["avx512f", "fma"]), module).map(drop) {
        Err(error @ LoadError::NoVariant { .. }) => {
            let text = error.to_string();
            let variants: Vec<&str> = text.split("; ").collect();
            assert!(variants[0].contains("variant 1: ") && variants[0].contains("avx512f"), "{text}");
            assert!(variants[1].starts_with("variant 2: ") && variants[1].ends_with("lacks: fma"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn weights_that_targets_pack_alike_are_stored_once() {
    let bytes = |targets: &[&str]| {
        let file = compile(targets).unwrap();
        let module = Module::parse(&file).unwrap();
        assert_eq!(module.variants().len(), targets.len());
        module.section(SectionKind::Params).len()
    };
    let (both, wide, narrow) = (bytes(&[V4, V3]), bytes(&[V4]), bytes(&[V3]));
    // But for what is added, which is 1000 numbers.
    assert!(both < wide + narrow - 3900 && both > wide.max(narrow), "{both} of {wide} and {narrow}");
}

#[test]
fn targets_that_come_to_the_same_are_one_and_useless_ones_are_refused() {
    let file = compile(&[V3, "x86_64-linux,+avx2", V3]).unwrap();
    assert_eq!(Module::parse(&file).unwrap().variants().len(), 1);
    assert_eq!(file, compile(&[V3]).unwrap());
    let refused = |targets: &[&str]| compile(targets).unwrap_err().to_string();
    assert!(refused(&[V3, V4]).contains("would never run"));
    let many = ["avx512bf16", "avx512vbmi", "avx512vnni", "avxvnni"].map(|name| format!("{V4},+{name}"));
    let many: Vec<&str> = many.iter().map(String::as_str).chain([V3]).collect();
    assert!(refused(&many).contains("5 targets; a module has at most 4"));
}
