//! What the whole-system tests share: a daemon of their own, a browser, the digit classifier of the demo and models that are
//! written here; and the programs behind `cargo xtask chaos`, `soak`, `overload` and `conformance cache`.

pub mod browser;
pub mod chaos;
pub mod counter;
pub mod daemon;
pub mod dense;
pub mod digits;
pub mod load;
pub mod moto;
pub mod network;
pub mod onnx;
pub mod overload;
pub mod replicas;
pub mod soak;
pub mod vitals;

pub use daemon::Daemon;
