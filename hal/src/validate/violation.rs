//! The rules, as the errors for breaking them.

/// A rule of the device interface that a caller broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    #[error("{what} belongs to another device")]
    Foreign { what: &'static str },
    #[error("queue {queue} is not one of the device's {queues}")]
    NoSuchQueue { queue: u32, queues: u32 },
    #[error("range {offset_bytes}..+{len_bytes} is outside of a buffer of {buffer_bytes} bytes")]
    OutOfRange { offset_bytes: u64, len_bytes: u64, buffer_bytes: u64 },
    #[error("buffer is read-only and would be written to")]
    WritesReadOnly,
    #[error("source of {src_bytes} bytes does not match a destination of {dst_bytes}")]
    UnequalLengths { src_bytes: u64, dst_bytes: u64 },
    #[error("source and destination of a copy overlap")]
    OverlappingCopy,
    #[error("range to fill is not a multiple of the pattern's {width} bytes")]
    UnalignedFill { width: u8 },
    #[error("buffer is not one that `reserve` made")]
    NotReserved,
    #[error("buffer has been given memory already")]
    AllocatedTwice,
    #[error("buffer has no memory: it has not been given any, or it has been taken back")]
    NotAllocated,
    #[error("buffer is still used by work that has not completed and does not come before this")]
    InUse,
    #[error(
        "bytes {offset_bytes}..+{len_bytes} of a buffer are written while other work in flight uses them, in no order"
    )]
    Unordered { offset_bytes: u64, len_bytes: u64 },
    #[error("binding table has {found} slots; the command buffer uses {expected}")]
    TooFewBindings { found: usize, expected: usize },
    #[error("slot {slot} is bound to {found_bytes} bytes; the command buffer uses {expected_bytes}")]
    BindingTooShort { slot: usize, found_bytes: u64, expected_bytes: u64 },
    #[error(
        "command {command}, binding {binding} starts at byte {offset_bytes}, not a multiple of {alignment_bytes}"
    )]
    MisalignedBinding { command: usize, binding: usize, offset_bytes: u64, alignment_bytes: u64 },
    #[error(
        "commands {first} and {second} touch the same bytes without a barrier between them, and one writes"
    )]
    MissingBarrier { first: usize, second: usize },
    #[error("command {command} reads and writes the same bytes through bindings {first} and {second}")]
    AliasedBindings { command: usize, first: usize, second: usize },
    #[error("command {command}: {what} is {found}; this device takes at most {limit}")]
    AboveLimit { command: usize, what: &'static str, found: u64, limit: u64 },
    #[error("signal to {value}: the semaphore has reached {current}, or other work signals the same value")]
    SignalNotIncreasing { value: u64, current: u64 },
    #[error("one submission signals a semaphore twice")]
    SignalsTwice,
    #[error("waits for {value} of a semaphore that it signals to {signalled} itself")]
    WaitsForItself { value: u64, signalled: u64 },
}
