//! The front door over real sockets, with a scripted compiler and scripted models behind it.

#![allow(clippy::unwrap_used, reason = "a test that finds something else than it expects fails")]

mod compile;
mod drain;
mod every_method;
mod infer;
mod jwt;
mod lifecycle;
mod limits;
mod malformed;
mod modules;
mod rest;
mod scripted;
mod security;
mod tls;
