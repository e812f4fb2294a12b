#!/usr/bin/env bash
# The Rust tests: units, integration tests, the examples in the docs and the example programs.
# Without the binding crate: a test binary of it links against libpython, which many interpreters do not ship as a
# shared library. What the binding does is tested from Python, through the very module that users import.
set -euo pipefail
cd "$(dirname "$0")/.."
ci/need.sh cargo cc
cargo test --workspace --exclude manyhands-python --quiet "$@"
# A build of its own: in an ordinary one the numbered steps at which a process kills itself are not there.
cargo test --quiet -p manyhands-sync --features kill-points --test kill_points
cargo test --quiet -p manyhands --features kill-points --test kill_points
# The engine's examples check what they print.
for example in crates/manyhands/examples/*.rs; do
    cargo run --quiet -p manyhands --example "$(basename "$example" .rs)" > /dev/null
done
