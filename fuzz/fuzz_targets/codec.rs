//! Any bytes through the codec's reader; see `check`.
#![no_main]

#[path = "../../crates/manyhands/tests/codec/value.rs"]
mod value;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    value::check(bytes);
});
