//! Rules of command buffers.

use std::sync::Arc;
use std::thread;

use super::{
    ADD_F32, COPY_BYTES, COUNT_IDS, Case, Context, SCALE_BY_CONSTANT, bytes_of, dispatch, f32s_of, table,
    u32s_of, whole,
};
use crate::{
    Access, Binding, BufferRange, CommandBuffer, Dispatch, Memory, Operation, Pattern, RecordError, Recorder,
    SlotUse,
};

pub(super) const CASES: &[Case] = &[
    ("commands_none_is_a_command_buffer", empty),
    ("commands_run_each_workgroup_of_a_grid_once", grid_once),
    ("commands_with_an_empty_grid_run_nothing", empty_grid),
    ("commands_use_the_slots_of_each_execution", slots_rebind),
    ("commands_add_offsets_of_slot_and_binding", offsets_add),
    ("commands_name_buffers_directly", direct_buffers),
    ("commands_name_reserved_buffers_directly", direct_reserved),
    ("commands_after_a_barrier_see_what_came_before", barriers_order),
    ("commands_copy_and_fill", copy_and_fill),
    ("commands_run_at_once_with_different_tables", run_at_once),
    ("commands_report_what_slots_need", report_slots),
    ("commands_are_checked_when_recorded", checked_when_recorded),
];

fn execute(context: &Context, commands: &Arc<dyn CommandBuffer>, bindings: &[BufferRange]) {
    context.complete(Operation::Execute { commands, bindings }).expect("a valid command buffer runs");
}

fn empty(context: &Context) {
    execute(context, &context.commands(|_| ()), &[]);
    let barriers = context.commands(|recorder| {
        recorder.barrier();
        recorder.barrier();
    });
    execute(context, &barriers, &[]);
}

fn grid_once(context: &Context) {
    let executable = context.executable();
    for grid in [[1, 1, 1], [7, 1, 1], [1, 5, 1], [1, 1, 3], [13, 5, 3], [1000, 2, 1]] {
        let count = grid.iter().product::<u32>();
        let buffer = context.buffer_of(&vec![0; count as usize * 4]);
        let commands = context.commands(|recorder| {
            let bindings = vec![whole(&buffer, Access::ReadWrite)];
            let constants = vec![grid[0].into(), grid[1].into()];
            let executable = executable.clone();
            let dispatch = Dispatch { executable, entry: COUNT_IDS, grid, bindings, constants, tag: 0 };
            recorder.dispatch(dispatch).expect("a valid dispatch");
        });
        execute(context, &commands, &[]);
        execute(context, &commands, &[]);
        assert!(u32s_of(&buffer).into_iter().eq((1..=count).map(|id| 2 * id)), "{grid:?}");
    }
}

fn empty_grid(context: &Context) {
    let buffer = context.buffer_of(&[0; 4]);
    let commands = context.commands(|recorder| {
        for grid in [[0, 1, 1], [u32::MAX, 0, u32::MAX], [3, 3, 0]] {
            let (executable, bindings) = (context.executable(), vec![whole(&buffer, Access::Write)]);
            let dispatch =
                Dispatch { executable, entry: COUNT_IDS, grid, bindings, constants: vec![1, 1], tag: 0 };
            recorder.dispatch(dispatch).expect("a valid dispatch");
            recorder.barrier();
        }
    });
    execute(context, &commands, &[]);
    assert_eq!(bytes_of(&buffer), [0; 4]);
}

fn slots_rebind(context: &Context) {
    let executable = context.executable();
    let commands = context.commands(|recorder| {
        let access = [Access::Read, Access::Read, Access::Write];
        let bindings = access.into_iter().zip(0..).map(|(access, slot)| Binding::slot(slot, 0, 40, access));
        let add = dispatch(&executable, ADD_F32, 4, bindings.collect(), vec![10, 3]);
        recorder.dispatch(add).expect("a valid dispatch");
    });
    for round in 0..5 {
        let lhs: Vec<f32> = (0..10).map(|i| (i * round) as f32).collect();
        let rhs: Vec<f32> = (0..10).map(|i| (i + 100) as f32).collect();
        let out = context.allocate(40);
        let bindings = table(&[&context.buffer_of_f32(&lhs), &context.buffer_of_f32(&rhs), &out]);
        execute(context, &commands, &bindings);
        let sums: Vec<f32> = lhs.iter().zip(&rhs).map(|(l, r)| l + r).collect();
        assert_eq!(f32s_of(&out), sums);
    }
}

fn offsets_add(context: &Context) {
    let executable = context.executable();
    let commands = context.commands(|recorder| {
        let bindings = vec![Binding::slot(1, 3, 7, Access::Read), Binding::slot(0, 1, 7, Access::Write)];
        let copy = dispatch(&executable, COPY_BYTES, 1, bindings, vec![7, 7]);
        recorder.dispatch(copy).expect("a valid dispatch");
    });
    let src = context.buffer_of(&(0..100).collect::<Vec<u8>>());
    let dst = context.buffer_of(&[0; 20]);
    let bindings = [BufferRange::new(&dst, 10, 10), BufferRange::new(&src, 50, 20)];
    execute(context, &commands, &bindings);
    let expected = [&[0; 11][..], &[53, 54, 55, 56, 57, 58, 59], &[0; 2]].concat();
    assert_eq!(bytes_of(&dst), expected);
}

fn direct_buffers(context: &Context) {
    let executable = context.executable();
    let (weights, out) = (context.buffer_of_f32(&[1.0, 2.0, 3.0]), context.allocate(12));
    let commands = context.commands(|recorder| {
        let bindings = vec![
            whole(&weights, Access::Read),
            Binding::slot(0, 0, 12, Access::Read),
            whole(&out, Access::Write),
        ];
        recorder.dispatch(dispatch(&executable, ADD_F32, 1, bindings, vec![3, 3])).expect("a valid dispatch");
    });
    drop((executable, weights));
    let input = context.buffer_of_f32(&[10.0, 20.0, 30.0]);
    execute(context, &commands, &table(&[&input]));
    assert_eq!(f32s_of(&out), [11.0, 22.0, 33.0]);
}

fn direct_reserved(context: &Context) {
    let scratch = context.device.reserve(64, Memory::Device).expect("only a handle");
    let out = context.allocate(64);
    let commands = context.commands(|recorder| {
        recorder.fill(whole(&scratch, Access::Write), Pattern::byte(6)).expect("a valid fill");
        recorder.barrier();
        recorder.copy(whole(&scratch, Access::Read), whole(&out, Access::Write)).expect("a valid copy");
    });
    for _ in 0..3 {
        out.write(0, &[0; 64]).expect("host memory");
        context.complete(Operation::Alloca { buffer: &scratch }).expect("memory for a test");
        execute(context, &commands, &[]);
        context.complete(Operation::Dealloca { buffer: &scratch }).expect("memory is taken back");
        assert_eq!(bytes_of(&out), [6; 64]);
    }
}

fn barriers_order(context: &Context) {
    const COUNT: i64 = 1000;
    let executable = context.executable();
    let (a, b) = (context.buffer_of_f32(&[1.0; COUNT as usize]), context.allocate(COUNT as u64 * 4));
    let commands = context.commands(|recorder| {
        // Blocks differ, so that each workgroup reads what several others wrote.
        for (step, block) in [7, 31, 3, 64, 11, 5, 128, 9].into_iter().enumerate() {
            let (from, to) = if step % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let bindings = vec![whole(from, Access::Read), whole(to, Access::Write)];
            let workgroups = (COUNT as u32).div_ceil(block as u32);
            let scale =
                dispatch(&executable, SCALE_BY_CONSTANT, workgroups, bindings, vec![COUNT, block, -3]);
            recorder.dispatch(scale).expect("a valid dispatch");
            recorder.barrier();
        }
    });
    for round in 1..=20 {
        a.write(0, &1_f32.to_le_bytes().repeat(COUNT as usize)).expect("host memory");
        execute(context, &commands, &[]);
        assert!(f32s_of(&a).into_iter().all(|value| value == 6561.0), "round {round}");
    }
}

fn copy_and_fill(context: &Context) {
    const LEN: u64 = 300_000;
    let (a, b) = (context.allocate(LEN), context.allocate(LEN));
    let commands = context.commands(|recorder| {
        recorder.fill(Binding::slot(0, 0, LEN, Access::Write), Pattern::byte(1)).expect("a valid fill");
        let two = Pattern::new(0x0202, 2).expect("a valid width");
        recorder.fill(Binding::slot(1, 0, LEN, Access::Write), two).expect("a valid fill");
        recorder.barrier();
        let src = Binding::slot(0, 100, 200_000, Access::Read);
        recorder.copy(src, Binding::slot(1, 50, 200_000, Access::Write)).expect("a valid copy");
    });
    execute(context, &commands, &table(&[&a, &b]));
    assert!(bytes_of(&a).iter().all(|byte| *byte == 1));
    let expected = |index| if (50..200_050).contains(&index) { 1 } else { 2 };
    assert!(bytes_of(&b).into_iter().enumerate().all(|(index, byte)| byte == expected(index)));
}

fn run_at_once(context: &Context) {
    const COUNT: usize = 4096;
    let executable = context.executable();
    let commands = context.commands(|recorder| {
        for _ in 0..4 {
            let all = Binding::slot(0, 0, COUNT as u64 * 4, Access::ReadWrite);
            let in_place = vec![all.clone(), all];
            let constants = vec![COUNT as i64, 16, 2];
            let scale = dispatch(&executable, SCALE_BY_CONSTANT, COUNT as u32 / 16, in_place, constants);
            recorder.dispatch(scale).expect("a valid dispatch");
            recorder.barrier();
        }
    });
    thread::scope(|scope| {
        for thread in 0..4 {
            let commands = &commands;
            scope.spawn(move || {
                for round in 0..20 {
                    let start = (thread * 100 + round) as f32;
                    let buffer = context.buffer_of_f32(&[start; COUNT]);
                    execute(context, commands, &table(&[&buffer]));
                    assert!(f32s_of(&buffer).into_iter().all(|value| value == start * 16.0));
                }
            });
        }
    });
}

fn report_slots(context: &Context) {
    let commands = context.commands(|recorder| {
        recorder.fill(Binding::slot(2, 8, 8, Access::Write), Pattern::byte(0)).expect("a valid fill");
        let (src, dst) = (Binding::slot(2, 0, 4, Access::Read), Binding::slot(0, 4, 4, Access::Write));
        recorder.copy(src, dst).expect("a valid copy");
    });
    let used = |len_bytes, access| SlotUse { len_bytes, access };
    let expected = [used(8, Access::Write), used(0, Access::Unknown), used(16, Access::ReadWrite)];
    assert_eq!(commands.slots(), expected);
}

fn checked_when_recorded(context: &Context) {
    let buffer = context.allocate(16);
    let mut recorder = Recorder::new();
    let pattern = Pattern::new(0, 4).expect("a valid width");
    let outside = recorder.fill(Binding::buffer(&buffer, 8, 12, Access::Write), pattern);
    assert_eq!(
        outside,
        Err(RecordError::BindingOutOfRange { command: 0, binding: 0, end_bytes: 20, buffer_bytes: 16 })
    );
    let huge = recorder.fill(Binding::slot(0, u64::MAX - 3, 8, Access::Write), pattern);
    assert_eq!(huge, Err(RecordError::BindingOverflows { command: 0, binding: 0 }));
    let odd = recorder.fill(Binding::slot(0, 2, 8, Access::Write), pattern);
    assert_eq!(odd, Err(RecordError::UnalignedFill { command: 0, width: 4 }));
    let (src, dst) = (Binding::slot(0, 0, 8, Access::Read), Binding::slot(0, 4, 8, Access::Write));
    assert_eq!(recorder.copy(src, dst), Err(RecordError::OverlappingCopy { command: 0 }));
    let (src, dst) = (Binding::slot(0, 0, 8, Access::Read), Binding::slot(1, 0, 4, Access::Write));
    let unequal = RecordError::UnequalCopy { command: 0, src_bytes: 8, dst_bytes: 4 };
    assert_eq!(recorder.copy(src, dst), Err(unequal));
    assert!(recorder.finish().commands().is_empty(), "what is refused is not recorded");
}
