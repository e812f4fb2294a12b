#!/usr/bin/env bash
# setup.sh PYTHON VENV: makes the environment that every other target uses. Run by make when its inputs changed.
set -euo pipefail
cd "$(dirname "$0")/.."
python="$(ci/find-python.sh "$1")"
venv="$2"

# An environment whose interpreter has gone, or is another version, is made anew; otherwise packages are only brought up to date.
wanted="$("$python" -c 'import sys; print(sys.version_info[:2])')"
present="$("$venv/bin/python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null || true)"
if [ "$wanted" != "$present" ]; then
    echo "make: creating $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r ci/requirements.txt
