//! Generators: from a fuzzer's bytes to models and graphs. What is right of them, the targets say.

mod graph;
mod model;

pub use graph::{inputs_of, random_graph};
pub use model::random_model;
