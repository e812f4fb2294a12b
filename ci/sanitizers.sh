#!/usr/bin/env bash
# The shared-memory tests under tools that watch every access: valgrind's memcheck, the address sanitizer and the
# thread sanitizer. Threads of one process stand in for processes, since no tool looks across them; what each of the
# three can and cannot see is in docs/reliability.md.
#
#   ci/sanitizers.sh [memcheck|address|thread]...      all three without a name
#
# The sanitizers' runtimes come with the toolchain, but only a nightly one lets them be chosen; RUSTC_BOOTSTRAP says
# that we know. The standard library stays as it was compiled: not watched itself.
set -euo pipefail
cd "$(dirname "$0")/.."
ci/need.sh cargo cc
target="$(rustc -vV | sed -n 's/^host: //p')"
logs="target/sanitizers"
mkdir -p "$logs"

# Everything of the crate that runs as threads of one process, then whole processes that are killed.
sync_tests=(ring mutex wait_word seat process_table arena)

# build KIND RUSTFLAGS: compiles the tests, prints their names and where they are.
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $2" CARGO_TARGET_DIR="target/$1" RUSTC_BOOTSTRAP=1 \
        cargo test --release --target "$target" -p manyhands-sync -p manyhands --no-run --message-format=json \
        2>"$logs/$1-build.log" |
        sed -nE 's/.*"reason":"compiler-artifact".*"kind":\["(test|lib)"\].*"name":"([^"]+)".*"executable":"([^"]+)".*/\2 \3/p'
}

# run KIND NAME COMMAND...: one line for each test program; its output when it fails.
run() {
    local kind="$1" name="$2" started=$SECONDS
    shift 2
    if timeout 600 "$@" >"$logs/$kind-$name.log" 2>&1; then
        echo "$kind: $name: $(grep -oE '[0-9]+ passed' "$logs/$kind-$name.log" | head -1), no report," \
            "$((SECONDS - started)) s"
    else
        cat "$logs/$kind-$name.log" >&2
        echo "$kind: $name: FAILED" >&2
        exit 1
    fi
}

# each KIND RUSTFLAGS COMMAND...: the programs, each after COMMAND.
each() {
    local kind="$1" flags="$2" programs name
    shift 2
    programs="$(build "$kind" "$flags")" || { cat "$logs/$kind-build.log" >&2; exit 1; }
    for name in "${sync_tests[@]}" manyhands_sync manyhands ring_kill; do
        # One thread for the harness: the tests bring their own.
        run "$kind" "$name" "$@" "$(awk -v name="$name" '$1 == name { print $2; exit }' <<<"$programs")" --test-threads=1
    done
}

memcheck() {
    command -v valgrind >/dev/null || { echo "sanitizers: valgrind is missing: apt install valgrind" >&2; exit 1; }
    # Memory that is never freed is how arenas are: leaks are no errors. A fair scheduler, or a spinning thread
    # keeps the one that it waits for from running.
    MANYHANDS_TEST_SHARE="${MANYHANDS_TEST_SHARE:-50}" MANYHANDS_RING_KILLS="${MANYHANDS_RING_KILLS:-100}" \
        each memcheck "-g" valgrind --quiet --error-exitcode=99 --fair-sched=yes --suppressions=ci/memcheck.supp
}

address() {
    # As above of leaks.
    MANYHANDS_RING_KILLS="${MANYHANDS_RING_KILLS:-200}" ASAN_OPTIONS="detect_leaks=0" \
        each address "-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer"
}

thread() {
    MANYHANDS_RING_KILLS="${MANYHANDS_RING_KILLS:-200}" \
        TSAN_OPTIONS="suppressions=$PWD/ci/thread-sanitizer.supp second_deadlock_stack=1" \
        each thread "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
}

for kind in "${@:-memcheck address thread}"; do
    # Unquoted, so that the default is three.
    for one in $kind; do
        case "$one" in
            memcheck | address | thread) "$one" ;;
            *) echo "sanitizers: nothing known of $one" >&2; exit 2 ;;
        esac
    done
done
