//! Any bytes as the table of parcels in front of a message; see `check`.
#![no_main]

#[path = "../../crates/manyhands/tests/manifest/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::check(bytes);
});
