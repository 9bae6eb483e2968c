//! What the whole-system tests share: a daemon of their own, a browser, and the digit classifier of the demo.

pub mod browser;
pub mod daemon;
pub mod digits;

pub use daemon::Daemon;
