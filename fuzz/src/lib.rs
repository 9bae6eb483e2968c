//! Generators, and judges of what they make: from a fuzzer's bytes to models and graphs, and what must hold of these; and the
//! daemon's services for a fuzzer to ask.

mod door;
mod graph;
mod inputs;
mod judge;
mod model;
mod mutate;
mod schema;
mod values;

pub use door::{Door, entry};
pub use graph::random_graph;

pub use judge::{judge_graph, judge_model};
pub use model::random_model;
pub use mutate::{cross_models, mutate_model, noise};
