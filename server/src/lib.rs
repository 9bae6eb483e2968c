//! The daemon: a front door that takes models and requests, and processes behind it that do the work.
//!
//! [`Daemon`] ties the rooms together: [`services`] decode and encode, [`registry`] knows which models answer,
//! [`cache`] which modules are compiled, [`uploads`] and [`repository`] where models come from, [`infer`] runs a
//! request. Compilers and loaded models are behind the traits of [`engine`]; this crate maps no weights, links
//! no compiler and no runtime, and never parses a module.

pub mod config;
pub mod daemon;
pub mod engine;

pub mod activity;
pub mod app;
mod audit;
pub mod auth;
pub mod budget;
pub mod cache;
pub mod course;
pub mod describe;
pub mod devices;
pub mod digest;
pub mod error;
pub mod infer;
pub mod inline;
pub mod ledger;
pub mod logging;
pub mod metrics;
pub mod model_config;
pub mod models;
pub mod peaks;
pub mod profiling;
pub mod registry;
mod reload;
pub mod repository;
pub mod schedule;
pub mod serve;
pub mod services;
pub mod shared_memory;
pub mod stats;
pub mod status;
pub mod store;
pub mod tenants;
pub mod tensors;
mod tls;
pub mod trace;
pub mod trial;
pub mod trust;
pub mod uploads;

pub use config::{Arguments, Settings};
pub use daemon::Daemon;
