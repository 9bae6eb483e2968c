//! What an interpreted schedule asks for: queue work over regions, and the lives of allocations, in order.
//!
//! A tape names no memory. [`crate::plan`] places a whole tape at once, [`crate::live`] piece by piece.

use std::ops::Range;

use ired_hal::Pattern;

/// Whose bytes a region is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Input(u16),
    /// The module's parameters, which are one buffer.
    Params,
    /// An index into [`Tape::allocations`].
    Allocation(u32),
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) space: Space,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// One thing to do. Ranges are of [`Tape::regions`] and [`Tape::constants`].
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Allocate(u32),
    Release(u32),
    /// `instruction` is the one that asked for it.
    Dispatch {
        instruction: u32,
        entry: u32,
        grid: [u32; 3],
        bindings: Range<u32>,
        constants: Range<u32>,
    },
    Copy {
        src: Region,
        dst: Region,
    },
    Fill {
        dst: Region,
        pattern: Pattern,
    },
    Barrier,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    pub(crate) bytes: u64,
    pub(crate) released: bool,
    /// Read by an output, so that a release must wait for the end.
    pub(crate) pinned: bool,
    /// The last piece that used it; what a piece does is known only after its end.
    pub(crate) piece: u32,
    /// Counts the allocations that have borne this number.
    pub(crate) generation: u32,
}

/// An output as the schedule gave it.
#[derive(Clone, Debug)]
pub(crate) struct OutputRegion {
    pub(crate) region: Region,
    pub(crate) dims: Vec<u64>,
}

/// Items that one tape may hold, regions and constants of dispatches included: some tens of megabytes.
pub(crate) const MAX_ITEMS: usize = 1 << 20;

/// Allocations that a call may hold at once where each takes a buffer.
pub(crate) const MAX_HELD: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct Tape {
    pub(crate) items: Vec<Item>,
    pub(crate) regions: Vec<Region>,
    pub(crate) constants: Vec<i64>,
    /// Of the whole run; items go with their piece, allocations stay until their number is free.
    pub(crate) allocations: Vec<Allocation>,
    pub(crate) outputs: Vec<Option<OutputRegion>>,
    /// The piece that is being recorded.
    pub(crate) piece: u32,
    /// Released by earlier pieces.
    pub(crate) released: Vec<u32>,
    /// Numbers of allocations whose memory nobody uses any more.
    pub(crate) free: Vec<u32>,
    /// Allocations that have not been released.
    pub(crate) held: usize,
}

impl Tape {
    /// True when there is no room for `more`.
    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.items.len() + self.regions.len() + self.constants.len() + self.allocations.len() + more
            > MAX_ITEMS
    }

    /// Records a new allocation, under a number that is free if there is one.
    pub(crate) fn allocate(&mut self, bytes: u64) -> u32 {
        let mut allocation =
            Allocation { bytes, released: false, pinned: false, piece: self.piece, generation: 0 };
        let index = match self.free.pop() {
            Some(index) => {
                let old = &mut self.allocations[index as usize];
                allocation.generation = old.generation.wrapping_add(1);
                *old = allocation;
                index
            }
            None => {
                self.allocations.push(allocation);
                self.allocations.len() as u32 - 1
            }
        };
        self.items.push(Item::Allocate(index));
        self.held += 1;
        index
    }

    /// A new allocation whose memory is there already; nothing of it is recorded.
    pub(crate) fn adopt(&mut self, bytes: u64) -> u32 {
        let index = self.allocate(bytes);
        self.items.pop();
        // No piece uses it yet, so that it may be looked at at once.
        self.allocations[index as usize].piece = u32::MAX;
        index
    }

    pub(crate) fn bindings(&self, range: &Range<u32>) -> &[Region] {
        &self.regions[range.start as usize..range.end as usize]
    }

    pub(crate) fn constants(&self, range: &Range<u32>) -> &[i64] {
        &self.constants[range.start as usize..range.end as usize]
    }

    /// Notes that the piece being recorded uses `region`.
    pub(crate) fn touch(&mut self, region: Region) {
        if let Space::Allocation(index) = region.space {
            self.allocations[index as usize].piece = self.piece;
        }
    }

    /// Whether the piece being recorded uses `region`.
    pub(crate) fn is_pending(&self, region: Region) -> bool {
        match region.space {
            Space::Allocation(index) => self.allocations[index as usize].piece == self.piece,
            Space::Input(_) | Space::Params => false,
        }
    }

    /// Forgets the items, which have been submitted.
    pub(crate) fn end_piece(&mut self) {
        let released = self.items.iter().filter_map(|item| match item {
            Item::Release(index) => Some(*index),
            _ => None,
        });
        self.released.extend(released);
        self.items.clear();
        self.regions.clear();
        self.constants.clear();
        self.piece = self.piece.saturating_add(1);
    }

    /// The allocations that ended pieces have released. Their numbers are free from now on.
    pub(crate) fn take_released(&mut self) -> Vec<u32> {
        self.free.extend(&self.released);
        std::mem::take(&mut self.released)
    }
}
