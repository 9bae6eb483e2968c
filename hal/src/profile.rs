//! What commands took, for whoever looks for where the time goes.

use std::sync::Arc;
use std::time::Duration;

/// Workgroups of one command that one thread ran without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The entry of an executable, or `copy` or `fill`.
    pub work: Arc<str>,
    /// Threads are counted in the order in which they first worked.
    pub thread: u32,
    /// From the call of [`Device::start_profile`](crate::Device::start_profile) on.
    pub start: Duration,
    pub took: Duration,
    pub workgroups: u32,
}
