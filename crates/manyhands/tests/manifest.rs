//! The table of parcels in front of a message: damaged, random and fuzzed bytes are refused, or are a table.

#[path = "manifest/check.rs"]
mod check;

use check::check;
use manyhands::Handle;
use manyhands::shared::{Manifest, Part};
use std::path::Path;

fn manifest(parts: u64) -> Manifest {
    let part = |number| Part {
        handle: Handle { offset: 4096 + 64 * number, generation: 1 + number as u32 },
        at: 64 * number,
        len: 1u64 << (number % 60),
    };
    Manifest { parts: (0..parts).map(part).collect(), body_is_last: parts.is_multiple_of(2) }
}

/// The next of a row of numbers that look random (xorshift, Marsaglia 2003).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn the_seeds_of_the_fuzz_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/manifest");
    let mut seen = 0;
    for seed in std::fs::read_dir(seeds).expect("a seed") {
        let path = seed.expect("a seed").path();
        let good = !path.file_name().expect("a seed").to_str().expect("a seed").starts_with("bad_");
        assert_eq!(check(&std::fs::read(&path).expect("a seed")), good, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 6, "{seen} seeds");
}

#[test]
fn damaged_tables() {
    let mut state = 0x9E37_79B9_7F4A_7C15;
    let mut refused = 0;
    for round in 0..100_000 {
        let mut bytes = manifest(1 + round % 5).to_bytes();
        bytes.extend_from_slice(b"a message");
        for _ in 0..=next(&mut state) % 3 {
            let at = next(&mut state) as usize % bytes.len();
            bytes[at] ^= 1 << (next(&mut state) % 8);
        }
        bytes.truncate(bytes.len() - next(&mut state) as usize % 12);
        refused += u32::from(!check(&bytes));
    }
    assert!((10_000..90_000).contains(&refused), "{refused} of 100,000 were refused");
}
