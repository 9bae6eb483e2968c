//! Places allocations in one range of memory by when they live, which is known in the order of the schedule.

/// Alignment of allocations within the arena.
pub(super) const ALIGNMENT: u64 = 64;

/// Free ranges remembered, at most: schedules that leave more are made to cost time, and get more memory instead.
const MAX_FREE: usize = 1024;

/// Ranges of the arena, first fit.
#[derive(Debug, Default)]
pub(super) struct Arena {
    /// What it takes: the furthest byte that was given.
    pub(super) bytes: u64,
    /// Where ranges that were never given start.
    end: u64,
    /// Offset and bytes, ascending, never touching.
    free: Vec<(u64, u64)>,
    /// Released since the last barrier.
    released: Vec<(u64, u64)>,
}

impl Arena {
    /// A place for `bytes`, the lowest that fits.
    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let offset = self.find(bytes);
        self.bytes = self.bytes.max(offset.saturating_add(bytes));
        offset
    }

    /// Where `bytes` fit.
    fn find(&mut self, bytes: u64) -> u64 {
        let Some(bytes) = bytes.checked_next_multiple_of(ALIGNMENT) else {
            self.end = u64::MAX;
            return 0;
        };
        if let Some(at) = self.free.iter().position(|&(_, room)| room >= bytes) {
            let (offset, room) = self.free[at];
            if room == bytes {
                self.free.remove(at);
            } else {
                self.free[at] = (offset + bytes, room - bytes);
            }
            return offset;
        }
        // Room at the very end grows instead of being left behind.
        let offset = match self.free.last() {
            Some(&(offset, room)) if offset + room == self.end => {
                self.free.pop();
                offset
            }
            _ => self.end,
        };
        self.end = offset.saturating_add(bytes);
        offset
    }

    /// Gives a place back, for use behind the next barrier.
    pub(super) fn release(&mut self, offset: u64, bytes: u64) {
        let bytes = bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(0);
        if bytes > 0 {
            self.released.push((offset, bytes));
        }
    }

    /// Makes what was released free.
    pub(super) fn barrier(&mut self) {
        if self.released.is_empty() {
            return;
        }
        self.free.append(&mut self.released);
        self.free.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.free.len());
        for (offset, bytes) in self.free.drain(..) {
            match merged.last_mut() {
                Some((start, room)) if *start + *room == offset => *room += bytes,
                _ => merged.push((offset, bytes)),
            }
        }
        merged.truncate(MAX_FREE);
        self.free = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_ranges_are_used_again_only_behind_a_barrier() {
        let mut arena = Arena::default();
        let a = arena.take(100);
        let b = arena.take(64);
        assert_eq!((a, b), (0, 128));
        arena.release(a, 100);
        assert_eq!(arena.take(64), 192);
        arena.barrier();
        assert_eq!(arena.take(64), 0);
        assert_eq!(arena.take(60), 64);
        assert_eq!(arena.bytes, 256);
    }

    #[test]
    fn neighbours_merge_and_the_end_grows() {
        let mut arena = Arena::default();
        let (a, b) = (arena.take(64), arena.take(64));
        arena.release(b, 64);
        arena.release(a, 64);
        arena.barrier();
        assert_eq!(arena.take(190), 0);
        assert_eq!(arena.bytes, 190);
    }

    #[test]
    fn a_size_beyond_counting_fills_the_arena() {
        let mut arena = Arena::default();
        arena.take(64);
        arena.take(u64::MAX - 100);
        assert!(arena.bytes > u64::MAX / 2);
        arena.take(u64::MAX);
        arena.take(1 << 60);
        assert_eq!(arena.bytes, u64::MAX);
    }
}
