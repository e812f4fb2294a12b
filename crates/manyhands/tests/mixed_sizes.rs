//! A service that runs for long and sends messages of all sizes: how much memory it takes for what it holds.
//!
//! `MANYHANDS_MIXED=1000000 cargo test --release -p manyhands --test mixed_sizes -- --nocapture` is the long version: so
//! many messages of 1 byte to 16 MiB (log-uniform), of which up to 200 MB are held at once, each for a random time.
#![allow(clippy::unwrap_used)]

use manyhands::family::Family;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

const MOST_HELD: u64 = 200_000_000;

/// Small, seeded random numbers (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Between 0 and 1.
    fn part(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 53) as f64
    }
}

fn messages() -> u64 {
    std::env::var("MANYHANDS_MIXED").map_or(20_000, |text| text.parse().unwrap())
}

#[test]
fn memory_for_mixed_sizes_is_a_small_multiple_of_what_is_held() {
    let family = Family::current().unwrap();
    let arena = family.arena();
    let memory = File::from(family.descriptor().unwrap().get().unwrap().try_clone_to_owned().unwrap());
    let resident = || memory.metadata().unwrap().blocks() * 512;
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut live: Vec<(_, u64)> = Vec::new();
    let (mut held, mut most_held, mut most_taken, mut most_resident) = (0, 0, 0, 0);
    let began = std::time::Instant::now();
    let mut bound = MOST_HELD;
    for message in 0..messages() {
        if message % 4_000 == 0 {
            // Sometimes little is held for a while.
            bound = [MOST_HELD, MOST_HELD / 10, MOST_HELD / 2][random.below(3) as usize];
        }
        let bytes = ((16u64 << 20) as f64).powf(random.part()) as u64;
        while held + bytes > bound || live.len() > 2 && random.below(40) == 0 {
            let (handle, bytes) = live.swap_remove(random.below(live.len() as u64) as usize);
            arena.free(handle);
            held -= bytes;
        }
        live.push((arena.allocate_exactly(bytes).unwrap(), bytes));
        held += bytes;
        most_held = most_held.max(held);
        if message % 16 == 0 {
            most_taken = most_taken.max(arena.extent_bytes());
            most_resident = most_resident.max(resident());
        }
    }
    let (taken, pages) = (most_taken as f64 / most_held as f64, most_resident as f64 / most_held as f64);
    println!(
        "{} messages, {} s: at most {} MB held, {} MB taken ({taken:.2} times), {} MB of pages ({pages:.2} times)",
        messages(),
        began.elapsed().as_secs(),
        most_held / 1_000_000,
        most_taken / 1_000_000,
        most_resident / 1_000_000,
    );
    live.into_iter().for_each(|(handle, _)| arena.free(handle));
    // The last extent is a chunk at least.
    assert!(taken < 3.0, "{taken}");
    assert!(pages < 2.5, "{pages}");
    // Empty, it is empty: all of it serves the next one. The pages go back.
    let all = arena.extent_bytes();
    let large: Vec<_> = (0..all / (64 << 20)).map(|_| arena.allocate_exactly(50 << 20).unwrap()).collect();
    assert!(arena.extent_bytes() <= all + (64 << 20));
    large.into_iter().for_each(|handle| arena.free(handle));
    arena.trim(0);
    assert!(resident() < 64 << 20, "{} bytes of pages are left", resident());
}
