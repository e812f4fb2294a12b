#!/usr/bin/env bash
# step.sh NAME COMMAND...: a heading, the command, how long it took; on failure the target to type again.
set -uo pipefail
name="$1"
shift
echo
echo "== $name"
started=$SECONDS
"$@"
status=$?
if [ "$status" -ne 0 ]; then
    echo "== $name: FAILED after $((SECONDS - started)) s; to run it alone: make $name" >&2
elif [ "$name" != pytest ]; then
    echo "== $name: passed in $((SECONDS - started)) s"
fi
exit "$status"
