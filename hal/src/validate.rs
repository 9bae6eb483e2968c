//! A device that checks every rule of the interface before the device it wraps sees a call.

mod violation;

pub use violation::Violation;
