//! Wrapped objects: the device's own, with the ledger they belong to.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Violation;
use super::ledger::Ledger;
use crate::{
    Buffer, CommandBuffer, Executable, Failure, FrozenBuffer, HostAccessError, Recording, Semaphore,
    SignalError, SlotUse, WaitError,
};

#[derive(Debug)]
pub(super) struct CheckedBuffer {
    ledger: Arc<Ledger>,
    pub(super) number: u64,
    pub(super) inner: Arc<dyn Buffer>,
    /// Of a reserved buffer: whether the last submission about its memory gave it some.
    pub(super) allocated: Option<AtomicBool>,
}

impl CheckedBuffer {
    pub(super) fn new(ledger: &Arc<Ledger>, inner: Arc<dyn Buffer>, allocated: Option<bool>) -> Arc<Self> {
        let (ledger, number) = (ledger.clone(), ledger.next_number());
        Arc::new(Self { ledger, number, inner, allocated: allocated.map(AtomicBool::new) })
    }

    pub(super) fn of<'a>(ledger: &Arc<Ledger>, buffer: &'a dyn Buffer) -> Result<&'a Self, Violation> {
        let buffer: Option<&Self> = (buffer as &dyn Any).downcast_ref();
        buffer.filter(|b| Arc::ptr_eq(&b.ledger, ledger)).ok_or(Violation::Foreign { what: "a buffer" })
    }

    /// Whether work submitted now finds memory.
    pub(super) fn has_memory(&self) -> bool {
        self.allocated.as_ref().is_none_or(|allocated| allocated.load(Ordering::SeqCst))
    }

    fn check_host_access(&self, offset: u64, len: usize, writes: bool) -> Result<(), HostAccessError> {
        let end = offset.saturating_add(len as u64);
        if len > 0 && self.ledger.is_busy(self.number, offset..end, writes) {
            return Err(HostAccessError::InUse);
        }
        Ok(())
    }
}

impl Buffer for CheckedBuffer {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn is_writable(&self) -> bool {
        self.inner.is_writable()
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), HostAccessError> {
        self.check_host_access(offset_bytes, into.len(), false)?;
        self.inner.read(offset_bytes, into)
    }

    fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), HostAccessError> {
        self.check_host_access(offset_bytes, from.len(), true)?;
        self.inner.write(offset_bytes, from)
    }

    fn map(&mut self) -> Result<&mut [u8], HostAccessError> {
        if self.ledger.is_busy(self.number, 0..u64::MAX, true) {
            return Err(HostAccessError::InUse);
        }
        Arc::get_mut(&mut self.inner).ok_or(HostAccessError::Shared)?.map()
    }

    fn freeze(self: Arc<Self>) -> Result<FrozenBuffer, HostAccessError> {
        let buffer = Arc::try_unwrap(self).map_err(|_| HostAccessError::Shared)?;
        if buffer.ledger.is_busy(buffer.number, 0..u64::MAX, true) {
            return Err(HostAccessError::InUse);
        }
        buffer.inner.freeze()
    }
}

#[derive(Debug)]
pub(super) struct CheckedSemaphore {
    ledger: Arc<Ledger>,
    pub(super) number: u64,
    pub(super) inner: Arc<dyn Semaphore>,
}

impl CheckedSemaphore {
    pub(super) fn new(ledger: &Arc<Ledger>, inner: Arc<dyn Semaphore>) -> Arc<Self> {
        Arc::new(Self { ledger: ledger.clone(), number: ledger.next_number(), inner })
    }

    pub(super) fn of<'a>(ledger: &Arc<Ledger>, semaphore: &'a dyn Semaphore) -> Result<&'a Self, Violation> {
        let semaphore: Option<&Self> = (semaphore as &dyn Any).downcast_ref();
        let own = semaphore.filter(|s| Arc::ptr_eq(&s.ledger, ledger));
        own.ok_or(Violation::Foreign { what: "a semaphore" })
    }
}

impl Semaphore for CheckedSemaphore {
    fn value(&self) -> Result<u64, Failure> {
        self.inner.value()
    }

    fn signal(&self, value: u64) -> Result<(), SignalError> {
        self.inner.signal(value)
    }

    fn fail(&self, failure: Failure) {
        self.inner.fail(failure);
    }

    fn wait(&self, value: u64, deadline: Option<Instant>) -> Result<(), WaitError> {
        self.inner.wait(value, deadline)
    }

    fn when_reached(&self, value: u64, callback: Box<dyn FnOnce(Result<(), Failure>) + Send>) {
        self.inner.when_reached(value, callback);
    }
}

#[derive(Debug)]
pub(super) struct CheckedExecutable {
    pub(super) ledger: Arc<Ledger>,
    pub(super) inner: Arc<dyn Executable>,
}

impl CheckedExecutable {
    pub(super) fn of<'a>(
        ledger: &Arc<Ledger>,
        executable: &'a dyn Executable,
    ) -> Result<&'a Self, Violation> {
        let executable: Option<&Self> = (executable as &dyn Any).downcast_ref();
        let own = executable.filter(|e| Arc::ptr_eq(&e.ledger, ledger));
        own.ok_or(Violation::Foreign { what: "an executable" })
    }
}

impl Executable for CheckedExecutable {
    fn entries(&self) -> &[String] {
        self.inner.entries()
    }
}

#[derive(Debug)]
pub(super) struct CheckedCommandBuffer {
    pub(super) ledger: Arc<Ledger>,
    pub(super) inner: Arc<dyn CommandBuffer>,
    /// As the caller made it, over wrapped objects.
    pub(super) recording: Recording,
}

impl CheckedCommandBuffer {
    pub(super) fn of<'a>(
        ledger: &Arc<Ledger>,
        commands: &'a dyn CommandBuffer,
    ) -> Result<&'a Self, Violation> {
        let commands: Option<&Self> = (commands as &dyn Any).downcast_ref();
        let own = commands.filter(|c| Arc::ptr_eq(&c.ledger, ledger));
        own.ok_or(Violation::Foreign { what: "a command buffer" })
    }
}

impl CommandBuffer for CheckedCommandBuffer {
    fn slots(&self) -> &[SlotUse] {
        self.recording.slots()
    }
}
