//! Host functions in schedules: what they are given and give, what bounds them, and when they end early.

use std::time::{Duration, Instant};

use ired_hal::{BufferRange, HostMemory};
use ired_host::{Attributes, HostCall, RegexFullMatch, StringConcat};
use ired_module::code::{ArithOp, Inst, Label};
use ired_module::{DType, HostCallDraft, ModuleDraft, TensorKind, texts};
use ired_runtime::{
    BoundTensor, CallStrings, Instance, InstanceOptions, InvokeError, InvokeOptions, MemoryBudget,
};

use crate::harness::*;

on_each_device!(
    strings_go_in_and_out_by_handle,
    a_loop_makes_strings_of_its_own,
    a_branch_calls_what_it_needs,
    strings_count_towards_the_budget,
    a_function_ends_when_the_deadline_passes,
    what_is_no_handle_is_an_error_of_the_call,
);

const NONE: &[&str] = &[];

const STRINGS: TensorKind = TensorKind { dtype: DType::String, rank: 1 };

fn host_call(
    attributes: &impl Attributes,
    operands: Vec<TensorKind>,
    results: Vec<TensorKind>,
) -> HostCallDraft {
    let HostCall { function, attributes } = HostCall::new(attributes);
    HostCallDraft { function, origin: "/text".into(), attributes, operands, results }
}

fn concat() -> HostCallDraft {
    host_call(&StringConcat, vec![STRINGS; 2], vec![STRINGS])
}

/// Call 0 on two buffers of as many strings as scalar 0 says; the result's size goes to scalar `dim`.
fn join(lhs: u16, rhs: u16, result: u16, dim: u16) -> ired_module::code::OwnedInst {
    Inst::HostCall {
        call: 0,
        operands: vec![b(lhs), b(rhs)],
        operand_dims: vec![s(0), s(0)],
        results: vec![b(result)],
        dims: vec![s(dim)],
    }
}

/// A module of strings, `x` and `y` to `z`; `texts` are its constants.
fn module(
    texts: &[&str],
    calls: Vec<HostCallDraft>,
    result: DType,
    body: Vec<ired_module::code::OwnedInst>,
) -> ModuleDraft {
    let n = [dynamic("n")];
    let inputs = vec![spec("x", DType::String, &n), spec("y", DType::String, &n)];
    let mut draft = draft(inputs, vec![spec("z", result, &n)], body);
    draft.texts = laid_out(texts);
    draft.host_calls = calls;
    draft
}

fn laid_out(strings: &[impl AsRef<str>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    strings.iter().for_each(|text| assert!(texts::push(&mut bytes, text.as_ref().as_bytes())));
    bytes
}

fn bound(instance: &Instance, strings: &CallStrings, values: &[impl AsRef<str>]) -> BoundTensor {
    let handles = strings.intern(&laid_out(values), values.len() as u64).unwrap();
    let buffer = instance.module().device().import(HostMemory::read_only(handles)).unwrap();
    BoundTensor::new(DType::String, [values.len() as u64], BufferRange::whole(&buffer))
}

fn spelled(strings: &CallStrings, tensor: &BoundTensor) -> Vec<String> {
    let mut handles = vec![0; tensor.buffer.len_bytes as usize];
    tensor.buffer.buffer.read(tensor.buffer.offset_bytes, &mut handles).unwrap();
    let bytes = strings.spell(&handles).unwrap();
    texts::Texts::new(&bytes).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

fn run(
    instance: &Instance,
    x: &[impl AsRef<str>],
    y: &[impl AsRef<str>],
) -> Result<(Vec<u64>, Vec<String>), InvokeError> {
    let strings = instance.call_strings();
    let inputs = vec![bound(instance, &strings, x), bound(instance, &strings, y)];
    let options = InvokeOptions { strings: Some(strings.clone()), ..InvokeOptions::default() };
    let outputs = instance.invoke_with("main", inputs, &options)?.take_outputs(None)?;
    Ok((outputs[0].dims.clone(), spelled(&strings, &outputs[0])))
}

fn strings_go_in_and_out_by_handle() {
    let body =
        vec![dim(0, 0, 0), input(0, 0), input(1, 1), join(0, 1, 2, 1), output(0, 2, &[1]), Inst::Return];
    let instance = instance(&module(&[], vec![concat()], DType::String, body));
    let found = run(&instance, &["a", "", "c"], &["b", "b", ""]).unwrap();
    assert_eq!(found, (vec![3], vec!["ab".to_owned(), "b".to_owned(), "c".to_owned()]));
    assert_eq!(run(&instance, NONE, NONE).unwrap(), (vec![0], vec![]));
}

/// `z = x`, then three times `z = z ++ y`: what a round made is released when the next has used it.
fn a_loop_makes_strings_of_its_own() {
    let body = vec![
        dim(0, 0, 0),
        constant(2, 3),
        constant(3, 0),
        input(0, 0),
        input(1, 1),
        join(0, 1, 2, 1),
        // 6
        arith(ArithOp::Add, 3, 3, ONE),
        arith(ArithOp::Lt, 4, 3, 2),
        Inst::JumpIf { condition: s(4), to: Label(10) },
        Inst::Jump { to: Label(14) },
        join(2, 1, 3, 1),
        Inst::Release { buffer: b(2) },
        Inst::MoveBuffer { dst: b(2), src: b(3) },
        Inst::Jump { to: Label(6) },
        // 14
        output(0, 2, &[1]),
        Inst::Return,
    ];
    let instance = instance(&module(&[], vec![concat()], DType::String, body));
    let found = run(&instance, &["a", "b"], &["-", "+"]).unwrap();
    assert_eq!(found.1, ["a---", "b+++"]);
}

/// With strings, one branch joins and the other passes on: an odd number of strings joins.
fn a_branch_calls_what_it_needs() {
    let body = vec![
        dim(0, 0, 0),
        constant(2, 2),
        arith(ArithOp::Mod, 3, 0, 2),
        input(0, 0),
        input(1, 1),
        Inst::JumpIf { condition: s(3), to: Label(9) },
        // Handle 1 is the module's own constant: the branch gives what is in `y`.
        Inst::MoveBuffer { dst: b(2), src: b(1) },
        Inst::Move { dst: s(1), src: s(0) },
        Inst::Jump { to: Label(10) },
        join(0, 1, 2, 1),
        // 10
        output(0, 2, &[1]),
        Inst::Return,
    ];
    let instance = instance(&module(&["known"], vec![concat()], DType::String, body));
    assert_eq!(run(&instance, &["a"], &["known"]).unwrap().1, ["aknown"]);
    assert_eq!(run(&instance, &["a", "b"], &["known", "new"]).unwrap().1, ["known", "new"]);
}

fn strings_count_towards_the_budget() {
    let body =
        vec![dim(0, 0, 0), input(0, 0), input(1, 1), join(0, 1, 2, 1), output(0, 2, &[1]), Inst::Return];
    let draft = module(&[], vec![concat()], DType::String, body);
    let budget = MemoryBudget::new(256 << 10);
    let options = InstanceOptions { budget: Some(budget.clone()), ..InstanceOptions::default() };
    let instance = load(&draft).instantiate(options);
    let long = |c: &str| vec![c.repeat(50 << 10)];
    // Two strings of 50 KiB, and one of 100.
    assert_eq!(run(&instance, &long("a"), &long("b")).unwrap().1[0].len(), 100 << 10);
    assert_eq!(budget.used_bytes(), 0);
    // Two of 80: there is no room for one of 160.
    let long = |c: &str| vec![c.repeat(80 << 10)];
    let error = run(&instance, &long("a"), &long("b")).unwrap_err();
    let InvokeError::Host { origin, cause } = &error else { panic!("{error:?}") };
    assert_eq!(origin, "/text");
    assert!(cause.to_string().contains("over the memory budget"), "{cause}");
    assert_eq!(budget.used_bytes(), 0);
    // Inputs are strings of the call too.
    let strings = instance.call_strings();
    let error = strings.intern(&laid_out(&["c".repeat(300 << 10)]), 1).unwrap_err();
    assert!(error.to_string().contains("over the memory budget"), "{error}");
    assert!(strings.intern(&laid_out(&["c".repeat(100 << 10)]), 1).is_ok());
    assert!(budget.used_bytes() >= 100 << 10);
    drop(strings);
    assert_eq!(budget.used_bytes(), 0);
}

/// Matching so many strings takes a while, and the last one would be an error.
fn a_function_ends_when_the_deadline_passes() {
    let pattern = RegexFullMatch { pattern: "(?:(?:a?){200}b)*".to_owned() };
    let matched = Inst::HostCall {
        call: 0,
        operands: vec![b(0)],
        operand_dims: vec![s(0)],
        results: vec![b(1)],
        dims: vec![s(1)],
    };
    let body = vec![dim(0, 0, 0), input(0, 0), matched, output(0, 1, &[1]), Inst::Return];
    let kind = TensorKind { dtype: DType::Bool, rank: 1 };
    let draft = module(&[], vec![host_call(&pattern, vec![STRINGS], vec![kind])], DType::Bool, body);
    let instance = instance(&draft);
    let strings = instance.call_strings();
    let mut two = laid_out(&["a".repeat(1 << 10)]);
    assert!(texts::push(&mut two, b"\xff"));
    let handles = strings.intern(&two, 2).unwrap();
    let all = [handles[..8].repeat(1 << 20), handles[8..].to_vec()].concat();
    let count = all.len() as u64 / 8;
    let buffer = instance.module().device().import(HostMemory::read_only(all)).unwrap();
    let x = BoundTensor::new(DType::String, [count], BufferRange::whole(&buffer));
    let options = InvokeOptions {
        deadline: Some(Instant::now() + Duration::from_millis(20)),
        strings: Some(strings),
        ..InvokeOptions::default()
    };
    let ended = instance.invoke_with("main", vec![x.clone(), x], &options).and_then(|call| call.wait(None));
    assert!(matches!(ended, Err(InvokeError::DeadlinePassed)), "{ended:?}");
}

fn what_is_no_handle_is_an_error_of_the_call() {
    let body =
        vec![dim(0, 0, 0), input(0, 0), input(1, 1), join(0, 1, 2, 1), output(0, 2, &[1]), Inst::Return];
    let instance = instance(&module(&[], vec![concat()], DType::String, body));
    let strings = instance.call_strings();
    let memory = HostMemory::read_only(99u64.to_le_bytes().to_vec());
    let buffer = instance.module().device().import(memory).unwrap();
    let wrong = BoundTensor::new(DType::String, [1], BufferRange::whole(&buffer));
    let inputs = vec![bound(&instance, &strings, &["a"]), wrong];
    let options = InvokeOptions { strings: Some(strings), ..InvokeOptions::default() };
    let ended = instance.invoke_with("main", inputs, &options).and_then(|call| call.wait(None));
    let Err(InvokeError::Host { cause, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(cause.to_string(), "`string_concat.1`: 99 is no string of this call");
}
