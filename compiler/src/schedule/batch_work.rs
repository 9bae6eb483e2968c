//! Brings independent work together, so that fewer barriers separate it: a launch moves ahead of the few before it
//! when it depends on none of them.

use ired_mlir::{Block, Op};

use super::hazards::Pending;
use super::{accesses, all_blocks, entry_block};

/// How many launches one may overtake. Moving far would keep results in memory for long.
const MAX_OVERTAKEN: usize = 8;

pub(super) fn batch_work(function: Op<'_>) {
    for block in entry_block(function).into_iter().flat_map(all_blocks) {
        batch_in(block);
    }
}

fn batch_in(block: Block<'_>) {
    let mut run: Vec<Op<'_>> = Vec::new();
    for op in block.ops().collect::<Vec<_>>() {
        if accesses(op).is_empty() {
            order(std::mem::take(&mut run), op);
        } else {
            run.push(op);
        }
    }
}

/// Puts consecutive launches, which end right before `end`, into waves of work that may overlap.
fn order<'m>(mut left: Vec<Op<'m>>, end: Op<'m>) {
    while !left.is_empty() {
        let (mut wave, mut overtaken) = (Pending::default(), Pending::default());
        let mut later = Vec::new();
        for (i, &op) in left.iter().enumerate() {
            if later.len() >= MAX_OVERTAKEN {
                later.extend(&left[i..]);
                break;
            }
            let touched = accesses(op);
            if wave.conflicts(&touched) || overtaken.conflicts(&touched) {
                overtaken.add(touched);
                later.push(op);
            } else {
                wave.add(touched);
                op.move_before(end);
            }
        }
        left = later;
    }
}
