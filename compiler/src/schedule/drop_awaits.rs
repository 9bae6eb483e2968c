//! Takes out waits where nothing was recorded since the one before.

use ired_mlir::{Block, Op};

use super::{accesses, all_blocks, entry_block};

pub(super) fn drop_awaits(function: Op<'_>) {
    let Some(entry) = entry_block(function) else { return };
    for block in all_blocks(entry) {
        drop_in(block, block == entry);
    }
}

/// `idle`: nothing is recorded where the block starts.
fn drop_in(block: Block<'_>, mut idle: bool) {
    for op in block.ops().collect::<Vec<_>>() {
        if !op.is("ired.await") {
            idle &= op.region_count() == 0 && accesses(op).is_empty();
        } else if idle {
            op.erase();
        } else {
            idle = true;
        }
    }
}
