//! What calls give: values, dimensions, outputs from every kind of place.

use ired_hal::{Buffer, BufferRange, Memory};
use ired_module::DType;
use ired_module::code::{ArithOp, Inst};
use ired_runtime::{InvokeError, InvokeOptions, OutputMemory, OutputRequest};
use std::sync::Arc;

use crate::harness::*;

on_each_device!(
    one_module_serves_every_length,
    more_lengths_than_plans_are_kept,
    parameters_are_inputs_that_stay,
    outputs_may_come_from_anywhere,
    fills_and_copies_do_what_they_say,
    outputs_go_where_the_caller_says,
    empty_grids_run_nothing,
    transients_may_be_empty,
);

fn one_module_serves_every_length() {
    let instance = instance(&two_steps());
    for length in [1u64, 4, 3, 0, 4, 100] {
        let x: Vec<i32> = (0..length as i32).collect();
        let expected: Vec<i32> = x.iter().map(|x| 2 * x + 5).collect();
        assert_eq!(call(&instance, &[(&[length], &x)]).unwrap(), (vec![length], expected));
    }
}

fn more_lengths_than_plans_are_kept() {
    let module = load(&two_steps());
    let options = ired_runtime::InstanceOptions { cached_plans: 2, ..Default::default() };
    let instance = module.instantiate(options);
    for length in [1u64, 2, 3, 1, 2, 3, 3, 1] {
        let x = vec![1; length as usize];
        assert_eq!(call(&instance, &[(&[length], &x)]).unwrap().1, vec![7; length as usize]);
    }
}

fn parameters_are_inputs_that_stay() {
    let four = [ired_module::signature::DimSpec::Static(4)];
    let mut draft = draft(
        vec![spec("x", DType::I32, &four)],
        vec![spec("y", DType::I32, &four)],
        vec![
            constant(0, 16),
            constant(1, 4),
            input(0, 0),
            Inst::Param { dst: b(1), param: 1 },
            allocate(2, 0),
            dispatch(ADD, 1, &[0, 1, 2], &[]),
            output(0, 2, &[1]),
            Inst::Return,
        ],
    );
    draft.params = vec![param(&[9; 40]), param(&[10, 20, 30, 40])];
    draft.params[0].name = "unused".into();
    let instance = instance(&draft);
    let (_, y) = call(&instance, &[(&[4], &[1, 2, 3, 4])]).unwrap();
    assert_eq!(y, [11, 22, 33, 44]);
    assert_eq!(instance.module().param_bytes(), 192 + 16);
}

/// Outputs that are an input, a parameter, a slice, and the same allocation twice are buffers of their own.
fn outputs_may_come_from_anywhere() {
    let n = [dynamic("n")];
    let out = |name| spec(name, DType::I32, &n);
    let mut draft = draft(
        vec![spec("x", DType::I32, &n)],
        vec![out("input"), out("param"), out("slice"), out("whole"), out("again")],
        vec![
            dim(0, 0, 0),
            constant(1, 8),
            constant(2, 4),
            constant(3, 7),
            input(0, 0),
            Inst::Param { dst: b(1), param: 0 },
            allocate(2, 1),
            dispatch(ADD_CONSTANT, 0, &[0, 2], &[3]),
            Inst::Slice { dst: b(3), src: b(2), offset: s(2), bytes: s(2) },
            output(0, 0, &[0]),
            output(1, 1, &[0]),
            output(2, 3, &[ONE]),
            output(3, 2, &[0]),
            output(4, 2, &[0]),
            // The end of its life waits for the outputs.
            Inst::Release { buffer: b(2) },
            Inst::Return,
        ],
    );
    draft.signature.entries[0].outputs[2].dims = vec![ired_module::signature::DimSpec::Static(1)];
    draft.params = vec![param(&[3, 4])];
    let instance = instance(&draft);
    let outputs = instance.run("main", vec![tensor(&instance, &[2], &[1, 2])], None).unwrap();
    let found: Vec<Vec<i32>> = outputs.iter().map(values).collect();
    assert_eq!(found, [vec![1, 2], vec![3, 4], vec![9], vec![8, 9], vec![8, 9]]);
    for output in outputs {
        assert!(output.buffer.buffer.freeze().is_ok(), "nobody else has it");
    }
}

fn fills_and_copies_do_what_they_say() {
    let n = [dynamic("n")];
    let draft = draft(
        vec![spec("x", DType::I32, &n)],
        vec![spec("y", DType::I32, &[dynamic("m")])],
        vec![
            dim(0, 0, 0),
            constant(1, 4),
            constant(2, 24),
            constant(3, 0x0102_0304_0506),
            constant(4, 6),
            arith(ArithOp::Mul, 5, 0, 1),
            input(0, 0),
            allocate(1, 2),
            Inst::Fill { dst: b(1), pattern: s(3), width: 4 },
            Inst::Barrier,
            Inst::Slice { dst: b(2), src: b(1), offset: s(1), bytes: s(5) },
            Inst::Copy { src: b(0), dst: b(2) },
            output(0, 1, &[4]),
            Inst::Return,
        ],
    );
    let instance = instance(&draft);
    let (dims, y) = call(&instance, &[(&[2], &[-1, -2])]).unwrap();
    let fill = 0x0304_0506;
    assert_eq!((dims, y), (vec![6], vec![fill, -1, -2, fill, fill, fill]));
}

/// One region for all outputs, as for memory that is shared with another process.
struct Region(Arc<dyn Buffer>);

impl OutputMemory for Region {
    fn allocate(&self, request: OutputRequest<'_>) -> Result<Option<BufferRange>, ired_hal::AllocateError> {
        assert_eq!((request.name, request.index), ("y", 0));
        Ok(Some(BufferRange::new(&self.0, 8, request.bytes)))
    }
}

fn outputs_go_where_the_caller_says() {
    let instance = instance(&two_steps());
    let region = instance.module().device().allocate(100, Memory::Host).unwrap();
    let options =
        InvokeOptions { outputs: Some(Arc::new(Region(region.clone()))), ..InvokeOptions::default() };
    let x = tensor(&instance, &[2], &[1, 2]);
    let invocation = instance.invoke_with("main", vec![x.clone()], &options).unwrap();
    let outputs = invocation.take_outputs(None).unwrap();
    assert_eq!(outputs[0].buffer.offset_bytes, 8);
    assert_eq!(values(&outputs[0]), [7, 9]);
    assert!(matches!(invocation.take_outputs(None), Err(InvokeError::OutputsTaken)));

    let small = instance.module().device().allocate(9, Memory::Host).unwrap();
    let options = InvokeOptions { outputs: Some(Arc::new(Region(small))), ..InvokeOptions::default() };
    let error = instance.invoke_with("main", vec![x], &options).unwrap_err();
    assert!(matches!(error, InvokeError::OutputMemory { .. }), "{error:?}");
}

fn empty_grids_run_nothing() {
    let instance = instance(&two_steps());
    assert_eq!(call(&instance, &[(&[0], &[])]).unwrap(), (vec![0], vec![]));
}

fn transients_may_be_empty() {
    let n = [dynamic("n")];
    let draft = draft(
        vec![spec("x", DType::I32, &n)],
        vec![spec("y", DType::I32, &n)],
        vec![
            dim(0, 0, 0),
            constant(1, 4),
            arith(ArithOp::Mul, 2, 0, 1),
            input(0, 0),
            allocate(1, 2),
            allocate(2, 2),
            dispatch(NOTHING, ONE, &[1], &[]),
            dispatch(ADD_CONSTANT, 0, &[0, 2], &[1]),
            output(0, 2, &[0]),
            Inst::Return,
        ],
    );
    let instance = instance(&draft);
    for length in [0u64, 2, 0] {
        let x = vec![1; length as usize];
        assert_eq!(call(&instance, &[(&[length], &x)]).unwrap(), (vec![length], vec![5; length as usize]));
    }
}
