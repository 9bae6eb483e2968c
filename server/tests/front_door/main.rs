//! The front door over real sockets, with a scripted compiler and scripted models behind it.

#![allow(clippy::unwrap_used, reason = "a test that finds something else than it expects fails")]

mod apart;
mod compile;
mod console;
mod drain;
mod every_method;
mod extensions;
mod generations;
mod groups;
mod infer;
mod jwt;
mod lifecycle;
mod limits;
mod malformed;
mod memory;
mod metrics;
mod models_over_rest;
mod modules;
mod object_server;
mod otlp;
mod plain;
mod profile;
mod rest;
mod schedule;
mod scripted;
mod security;
mod sequences;
mod settings;
mod shared_cache;
mod shared_cache_faults;
mod shared_memory;
mod states;
mod tenants;
mod throttle;
mod tls;
mod traces;
mod trials;
mod versions;
