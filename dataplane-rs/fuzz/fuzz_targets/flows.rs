//! Sequences of packets of several flows, in both directions, against a simple model.
//!
//! Input: a byte for the direction, then what the model's generator makes packets of.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tunnel/tests/model/mod.rs"]
mod model;

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((direction, rest)) if direction % 2 == 0 => model::inbound::check(rest),
        Some((_, rest)) => model::outbound::check(rest),
        None => {}
    }
});
