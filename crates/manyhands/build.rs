//! Names this build, so that members of a family built from other sources are refused.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../manyhands-sync/src");
    println!("cargo::rerun-if-changed=src");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    let target = std::env::var("TARGET").unwrap_or_default();
    let sources = fingerprint("../manyhands-sync/src");
    println!("cargo::rustc-env=MANYHANDS_BUILD={target}/{version}/{sources:016x}");
}

/// A hash over the sources whose types are placed in shared memory.
fn fingerprint(folder: &str) -> u64 {
    let mut files = Vec::new();
    collect(folder.as_ref(), &mut files);
    files.sort();
    let bytes = files.iter().filter_map(|f| std::fs::read(f).ok()).flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn collect(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}
