#!/usr/bin/env bash
# need.sh TOOL...: one clear sentence instead of a strange error when a tool of the machine is missing.
set -euo pipefail
missing=0
for tool in "$@"; do
    case "$tool" in
        cargo)
            hint="install Rust 1.87 or later, for example with https://rustup.rs"
            command -v cargo >/dev/null || { echo "make: cargo is missing: $hint" >&2; missing=1; } ;;
        cc)
            command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || {
                echo "make: a C compiler is missing (rustc links with it): on Debian and Ubuntu: apt install gcc" >&2
                missing=1
            } ;;
        rustfmt)
            cargo fmt --version >/dev/null 2>&1 || {
                echo "make: cargo fmt is missing: rustup component add rustfmt (Debian and Ubuntu: apt install rustfmt)" >&2
                missing=1
            } ;;
        clippy)
            cargo clippy --version >/dev/null 2>&1 || {
                echo "make: cargo clippy is missing: rustup component add clippy (Debian and Ubuntu: apt install rust-clippy)" >&2
                missing=1
            } ;;
        *) echo "need.sh: nothing known of $tool" >&2; missing=1 ;;
    esac
done
exit "$missing"
