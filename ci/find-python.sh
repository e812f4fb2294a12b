#!/usr/bin/env bash
# Prints the path of a CPython >= 3.11 that can make a virtual environment, or says what is missing.
# The first argument is tried first; then the versioned names, because on an older system `python3` may be too old.
set -euo pipefail

fits='
import platform, sys
ok = sys.version_info >= (3, 11) and platform.python_implementation() == "CPython"
ok = ok and getattr(sys, "_is_gil_enabled", lambda: True)()
sys.exit(0 if ok else 1)
'
without_venv=""
for candidate in "${1:-python3}" python3.13 python3.14 python3.12 python3.11 python3.15; do
    path="$(command -v "$candidate" 2>/dev/null)" || continue
    # A version manager's shim may exist and yet not run.
    "$path" -c "$fits" 2>/dev/null || continue
    if "$path" -c 'import venv, ensurepip' 2>/dev/null; then
        # The interpreter itself, not a shim that chooses anew by directory or environment.
        "$path" -c 'import sys; print(sys.executable)'
        exit 0
    fi
    without_venv="${without_venv:-$path}"
done

if [ -n "$without_venv" ]; then
    echo "make: $without_venv cannot make virtual environments: its modules venv or ensurepip are missing." >&2
    echo "make: on Debian and Ubuntu: apt install python3-venv" >&2
else
    echo "make: no CPython 3.11 or later (with the GIL) found; name one with: make PYTHON=/path/to/python3 ..." >&2
fi
exit 1
