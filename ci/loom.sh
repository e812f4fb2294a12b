#!/usr/bin/env bash
# Model checks of what lives in shared memory: loom runs every interleaving of the tests in loom_*.rs, up to a bound
# on preemptions. The bound keeps the run to minutes; raise it with LOOM_MAX_PREEMPTIONS=3 ci/loom.sh after a change
# to a protocol.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! compgen -G 'crates/manyhands-sync/tests/loom_*.rs' >/dev/null; then
    echo "loom: no crates/manyhands-sync/tests/loom_*.rs yet, nothing to check"
    exit 0
fi

export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom"
# Its own target directory: another RUSTFLAGS in the usual one would rebuild every crate, twice per `make test`.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
exec cargo test --release --quiet -p manyhands-sync --test 'loom_*' "$@"
