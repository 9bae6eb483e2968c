//! Rules of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Case, Context, bytes_of};
use crate::{AllocateError, Buffer, HostAccessError, HostMemory, Memory, Operation};

pub(super) const CASES: &[Case] = &[
    ("buffer_keeps_what_the_host_writes", keeps_writes),
    ("buffer_refuses_host_access_out_of_range", refuses_out_of_range),
    ("buffer_of_no_bytes_is_a_buffer", no_bytes),
    ("buffer_above_the_limit_is_refused", above_limit),
    ("buffer_maps_only_for_its_only_holder", maps_when_unique),
    ("buffer_freezes_only_for_its_last_holder", freezes_when_unique),
    ("buffer_import_is_used_in_place_and_keeps_its_owner", import_in_place),
    ("buffer_import_of_read_only_memory_refuses_writes", import_read_only),
    ("buffer_reserved_has_no_memory_until_alloca", reserved),
];

fn keeps_writes(context: &Context) {
    for len in [1, 63, 64, 65, 4096, (3 << 20) + 5] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let buffer = context.buffer_of(&bytes);
        assert_eq!(buffer.len_bytes(), len as u64);
        assert!(buffer.is_writable());
        assert!(bytes_of(&buffer) == bytes, "{len} bytes come back");
        let mut one = [0];
        buffer.read(len as u64 - 1, &mut one).expect("the last byte");
        assert_eq!(one[0], bytes[len - 1]);
    }
}

fn refuses_out_of_range(context: &Context) {
    let buffer = context.allocate(16);
    for (offset, len) in [(16, 1), (0, 17), (17, 0), (u64::MAX, 1), (u64::MAX, 0)] {
        let mut bytes = vec![0; len];
        let read = buffer.read(offset, &mut bytes);
        assert!(matches!(read, Err(HostAccessError::OutOfRange { .. })), "read {len} at {offset}: {read:?}");
        let write = buffer.write(offset, &bytes);
        assert!(
            matches!(write, Err(HostAccessError::OutOfRange { .. })),
            "write {len} at {offset}: {write:?}"
        );
    }
    buffer.read(16, &mut []).expect("nothing at the end is inside");
}

fn no_bytes(context: &Context) {
    let buffer = context.allocate(0);
    buffer.read(0, &mut []).expect("nothing can be read");
    assert!(buffer.freeze().expect("the last holder").is_empty());
}

fn above_limit(context: &Context) {
    let limit = context.device.info().limits.buffer_bytes;
    for bytes in [limit.saturating_add(1), u64::MAX] {
        let refused = context.device.allocate(bytes, Memory::Host);
        assert!(matches!(refused, Err(AllocateError::TooLarge { .. })), "{refused:?}");
        let refused = context.device.reserve(bytes, Memory::Device);
        assert!(matches!(refused, Err(AllocateError::TooLarge { .. })), "{refused:?}");
    }
}

fn maps_when_unique(context: &Context) {
    let mut buffer = context.buffer_of(&[1, 2, 3]);
    let unique = Arc::get_mut(&mut buffer).expect("nobody else holds it");
    unique.map().expect("host memory")[1] = 9;
    assert_eq!(bytes_of(&buffer), [1, 9, 3]);
}

fn freezes_when_unique(context: &Context) {
    let buffer = context.buffer_of(&[1, 2, 3]);
    let other = buffer.clone();
    let refused = buffer.freeze();
    assert!(matches!(refused, Err(HostAccessError::Shared)), "{refused:?}");
    let frozen = other.freeze().expect("the last holder");
    let also = frozen.clone();
    drop(frozen);
    assert_eq!(&*also, [1, 2, 3]);
}

struct Owner {
    bytes: Vec<u8>,
    dropped: Arc<AtomicBool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Owner {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

fn import_in_place(context: &Context) {
    let dropped = Arc::new(AtomicBool::new(false));
    let owner = Owner { bytes: vec![5; 100], dropped: dropped.clone() };
    let imported = match context.device.import(HostMemory::writable(owner)) {
        Err(AllocateError::CannotImport { .. }) if !context.device.info().unified_memory => return,
        imported => imported.expect("a device of unified memory imports"),
    };
    assert_eq!((imported.len_bytes(), imported.is_writable()), (100, true));
    imported.write(99, &[6]).expect("writable");
    let mut ends = [0; 2];
    imported.read(98, &mut ends).expect("in range");
    assert_eq!(ends, [5, 6]);
    let frozen = imported.freeze().expect("the last holder");
    assert_eq!(frozen[99], 6);
    drop(frozen);
    assert!(dropped.load(Ordering::SeqCst), "the owner goes with the last reference");
}

fn import_read_only(context: &Context) {
    let dropped = Arc::new(AtomicBool::new(false));
    let owner = Owner { bytes: vec![5; 100], dropped: dropped.clone() };
    let Ok(mut imported) = context.device.import(HostMemory::read_only(owner)) else {
        return assert!(!context.device.info().unified_memory, "a device of unified memory imports");
    };
    assert!(!imported.is_writable());
    assert_eq!(imported.write(0, &[1]), Err(HostAccessError::ReadOnly));
    let mapped = Arc::get_mut(&mut imported).expect("nobody else holds it").map();
    assert!(matches!(mapped, Err(HostAccessError::ReadOnly)));
    assert_eq!(bytes_of(&imported), [5; 100]);
    assert!(!dropped.load(Ordering::SeqCst));
    drop(imported);
    assert!(dropped.load(Ordering::SeqCst), "the owner goes with the last reference");
}

fn reserved(context: &Context) {
    let buffer: Arc<dyn Buffer> = context.device.reserve(300_000, Memory::Host).expect("only a handle");
    let mut bytes = vec![0; 300_000];
    assert_eq!(buffer.read(0, &mut bytes), Err(HostAccessError::NotAllocated));
    for round in 1..4 {
        context.complete(Operation::Alloca { buffer: &buffer }).expect("memory for a test");
        buffer.write(0, &vec![round; 300_000]).expect("it has memory now");
        buffer.read(0, &mut bytes).expect("it has memory now");
        assert!(bytes.iter().all(|byte| *byte == round));
        context.complete(Operation::Dealloca { buffer: &buffer }).expect("memory is taken back");
        assert_eq!(buffer.write(0, &bytes), Err(HostAccessError::NotAllocated));
    }
}
