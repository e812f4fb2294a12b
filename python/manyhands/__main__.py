"""``python -m manyhands``: run an unmodified program on manyhands, look into one, or run the demonstration.

Usage:

    python -m manyhands script.py [ARG ...]
    python -m manyhands -m module [ARG ...]
    python -m manyhands doctor PID --once
    python -m manyhands demo [DIR]
"""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
    """Carry out the command line; the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0 if argv else 2
    if argv[0] == "demo":
        from .demo import main as demo

        return demo(argv[1:])
    if argv[0] == "doctor":
        from ._doctor import main as doctor

        return doctor(argv[1:])
    return _run(argv)


def _run(argv: list[str]) -> int:
    """Run a script or a module as ``__main__``, with manyhands in place of multiprocessing."""
    import os
    import runpy

    from . import install

    install()
    if argv[0] == "-m":
        if len(argv) < 2:
            print("python -m manyhands -m: which module?", file=sys.stderr)
            return 2
        sys.argv = argv[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        sys.path[0] = os.path.dirname(os.path.abspath(argv[0]))
        runpy.run_path(argv[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
