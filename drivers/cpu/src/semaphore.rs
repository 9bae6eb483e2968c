//! Semaphores: the host timeline, as a CPU has nothing better.

pub(crate) use ired_hal::timeline::{Timeline, when_all_reached};
