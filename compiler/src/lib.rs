//! The compiler: a model in, a module out, through named phases.

pub mod dispatch;
pub mod passes;
