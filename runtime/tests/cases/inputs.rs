//! Inputs that do not fit: an error each, with the tensor's name, what was found and what was expected.

use ired_hal::BufferRange;
use ired_module::DType;
use ired_module::signature::DimSpec;
use ired_runtime::{BoundTensor, Instance};

use crate::harness::*;

/// `a: i32[n, 3]`, `b: i32[n]` with `n` from 1 to 8, of which `a` is given back.
fn two_inputs() -> Instance {
    let n = DimSpec::Symbolic { name: "n".into(), min: 1, max: 8 };
    let a = [n.clone(), DimSpec::Static(3)];
    let draft = draft(
        vec![spec("a", DType::I32, &a), spec("b", DType::I32, &[n])],
        vec![spec("y", DType::I32, &a)],
        vec![dim(0, 0, 0), dim(1, 0, 1), input(0, 0), output(0, 0, &[0, 1]), ired_module::code::Inst::Return],
    );
    instance(&draft)
}

fn message(instance: &Instance, inputs: Vec<BoundTensor>) -> String {
    instance.invoke("main", inputs).expect_err("the inputs do not fit").to_string()
}

#[test]
fn each_mismatch_has_its_error() {
    let instance = two_inputs();
    let of = |dims: &[u64]| tensor(&instance, dims, &vec![0; dims.iter().product::<u64>() as usize]);
    let a = || of(&[2, 3]);
    let b = || of(&[2]);
    assert!(instance.invoke("main", vec![a(), b()]).is_ok());

    assert_eq!(message(&instance, vec![a()]), "found 1 inputs, expected 2: `a`, `b`");
    assert_eq!(
        message(&instance, vec![BoundTensor { dtype: DType::F32, ..a() }, b()]),
        "input `a` has element type f32, expected i32"
    );
    assert_eq!(message(&instance, vec![a(), of(&[2, 1])]), "input `b` has 2 dimensions, expected 1");
    assert_eq!(message(&instance, vec![of(&[2, 4]), b()]), "input `a`: dimension 1 is 4, expected 3");
    assert_eq!(
        message(&instance, vec![of(&[9, 3]), b()]),
        "input `a`: dimension 0 (`n`) is 9, expected 1 to 8"
    );
    assert_eq!(
        message(&instance, vec![of(&[0, 3]), b()]),
        "input `a`: dimension 0 (`n`) is 0, expected 1 to 8"
    );
    assert_eq!(
        message(&instance, vec![a(), of(&[3])]),
        "input `b`: dimension 0 (`n`) is 3, but `n` is 2 in input `a`"
    );
    let mut short = a();
    short.buffer.len_bytes = 23;
    assert_eq!(message(&instance, vec![short, b()]), "input `a` is bound to 23 bytes, expected 24");
    let mut outside = a();
    outside.buffer = BufferRange { offset_bytes: u64::MAX, ..outside.buffer };
    assert_eq!(message(&instance, vec![outside, b()]), "input `a` is bound to 0 bytes, expected 24");
    let error = instance.invoke("other", vec![]).unwrap_err().to_string();
    assert_eq!(error, "there is no entry point `other`; there is `main`");
}

/// Element types and buffers are checked again for dimensions that have been seen.
#[test]
fn dimensions_seen_before_excuse_nothing() {
    let instance = two_inputs();
    let (a, b) = (tensor(&instance, &[1, 3], &[0; 3]), tensor(&instance, &[1], &[0]));
    instance.run("main", vec![a.clone(), b.clone()], None).unwrap();
    let wrong = BoundTensor { dtype: DType::U32, ..a.clone() };
    assert!(message(&instance, vec![wrong, b.clone()]).contains("element type u32"));
    let mut short = a;
    short.buffer.len_bytes = 11;
    assert!(message(&instance, vec![short, b]).contains("11 bytes"));
}

#[test]
fn sizes_that_cannot_be_counted_are_refused() {
    let huge = DimSpec::Symbolic { name: "n".into(), min: 0, max: u64::MAX };
    let draft = draft(
        vec![spec("x", DType::I32, &[huge.clone(), huge])],
        vec![spec("y", DType::I32, &[])],
        vec![input(0, 0), output(0, 0, &[]), ired_module::code::Inst::Return],
    );
    let instance = instance(&draft);
    let x = tensor(&instance, &[1 << 40, 1 << 40], &[]);
    // One symbol for both axes, so equal sizes pass that check.
    assert_eq!(message(&instance, vec![x]), "input `x` takes more bytes than can be counted");
    let x = tensor(&instance, &[1 << 29, 1 << 29], &[]);
    assert_eq!(message(&instance, vec![x]), "input `x` is bound to 0 bytes, expected 1152921504606846976");
}

#[test]
fn names_put_inputs_in_order() {
    let instance = two_inputs();
    let (a, b) = (tensor(&instance, &[1, 3], &[1, 2, 3]), tensor(&instance, &[1], &[0]));
    let named = |names: [&str; 2]| vec![(names[0].to_owned(), b.clone()), (names[1].to_owned(), a.clone())];
    let ordered = instance.order_inputs("main", named(["b", "a"])).unwrap();
    assert_eq!(values(&instance.run("main", ordered, None).unwrap()[0]), [1, 2, 3]);
    let message = |names| instance.order_inputs("main", named(names)).unwrap_err().to_string();
    assert_eq!(message(["b", "c"]), "there is no input `c`; expected `a`, `b`");
    assert_eq!(message(["b", "b"]), "input `b` is given twice");
    let one = vec![("b".to_owned(), b.clone())];
    assert_eq!(instance.order_inputs("main", one).unwrap_err().to_string(), "input `a` is missing");
}
