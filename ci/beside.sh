#!/usr/bin/env bash
# beside.sh FIRST SECOND: two targets of make at the same time. The output is that of the first, as it comes, then
# that of the second: as if they had run in turn. When the first fails, the second is ended, and what the first said
# stands last.
set -uo pipefail
log="$(mktemp)"
second=""

end_second() {
    # With all that it has started: it is a group of its own.
    for signal in TERM KILL; do
        [ -n "$second" ] && kill -"$signal" -- "-$second" 2>/dev/null || break
        for _ in $(seq 100); do
            kill -0 -- "-$second" 2>/dev/null || break 2
            sleep 0.1
        done
    done
}

trap 'end_second; rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

set -m
"${MAKE:-make}" --no-print-directory "$2" >"$log" 2>&1 </dev/null &
second=$!
set +m

"${MAKE:-make}" --no-print-directory "$1" || exit
tail --lines=+1 --follow --pid="$second" "$log"
wait "$second"
status=$?
second=""
exit "$status"
