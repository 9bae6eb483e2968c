//! What commands took, for whoever looks for where the time goes.

use std::sync::Arc;
use std::time::Duration;

/// Workgroups of one command that one thread ran without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The entry of an executable, or `copy` or `fill`.
    pub work: Arc<str>,
    /// [`Dispatch::tag`](crate::Dispatch::tag) of a dispatch.
    pub tag: Option<u32>,
    /// Threads are counted in the order in which they first worked.
    pub thread: u32,
    /// From the call of [`Device::start_profile`](crate::Device::start_profile) on.
    pub start: Duration,
    pub took: Duration,
    pub workgroups: u32,
    /// Workgroups of the whole command.
    pub of_workgroups: u32,
}

/// What a device does at most, with all that works at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Of f32, where a multiply-add counts two.
    pub operations_per_second: u64,
    /// Read one after the other from memory that no cache holds.
    pub bytes_per_second: u64,
}
