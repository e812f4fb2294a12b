//! There is one park loop, and no wait gives its processor away: what the sources of all crates say.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The Rust sources of all crates, without tests: name and text up to the first test module.
fn sources() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let each = fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let mut folders: Vec<PathBuf> = each.filter(|folder| folder.is_dir()).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(crates).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
                found.push((name, text[..end].to_owned()));
            }
        }
    }
    assert!(found.len() > 100, "{} sources", found.len());
    found
}

/// The files that have the word outside of comments, except those in that folder.
fn users_of(word: &str, but: &str) -> Vec<String> {
    let has = |text: &str| text.lines().any(|line| line.split("//").next().unwrap().contains(word));
    let mut users: Vec<_> = sources()
        .into_iter()
        .filter(|(name, text)| !name.starts_with(but) && has(text))
        .map(|(name, _)| name)
        .collect();
    users.sort();
    users
}

const DOOR: &str = "manyhands-sync/src/primitive/";

#[test]
fn only_the_park_loop_sleeps_on_a_futex() {
    assert_eq!(users_of("futex_wait", DOOR), ["manyhands-sync/src/park.rs"]);
    assert_eq!(users_of("SYS_futex", "none"), Vec::<String>::new());
}

#[test]
fn only_the_blocking_loop_and_the_pools_leader_have_waits_of_their_own() {
    // A wait that is begun is one that somebody loops over.
    let begun = users_of("Waiting::new(", "manyhands-sync/");
    let known = [
        // The leaders of pools, who do other work between two sleeps.
        "manyhands-python/src/pool/leading.rs",
        // A request to the fork server, which is sent between two sleeps.
        "manyhands/src/launch/zygote/client.rs",
        "manyhands/src/pool/worker.rs",
        "manyhands/src/process_pool/mod.rs",
        // A look that does not wait.
        "manyhands/src/sys/sentinel.rs",
        "manyhands/src/waiting.rs",
    ];
    assert_eq!(begun, known);
    // Callers that follow a leader, and the drivers of pools.
    assert_eq!(
        users_of("Waiting::without_spin(", "manyhands-sync/"),
        ["manyhands-python/src/pool/leading.rs"]
    );
    assert_eq!(
        users_of("Waiting::undisturbed(", "manyhands-sync/"),
        ["manyhands-python/src/pool/leadership.rs"]
    );
}

#[test]
fn nothing_yields_its_processor() {
    for word in ["yield_now", "sched_yield"] {
        // The double of the robust mutex is a model's.
        let users: Vec<_> = users_of(word, DOOR)
            .into_iter()
            .filter(|name| name != "manyhands-sync/src/mutex/double.rs")
            .collect();
        assert_eq!(users, Vec::<String>::new(), "{word}");
    }
}
