//! Semaphores: the host timeline. A device with native ones implements [`ired_hal::Semaphore`] here.

pub(crate) use ired_hal::timeline::{Timeline, when_all_reached};
