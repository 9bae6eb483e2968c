//! Any bytes as a request of REST or gRPC: answered or refused, and never by an error of the server's own.
#![no_main]

use ired_fuzz::Door;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static DOOR: Door = Door::open();
}

fuzz_target!(|data: &[u8]| DOOR.with(|door| door.ask(data)));
