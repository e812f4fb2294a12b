"""`make soak`: a service under each start method, for half an hour, against everything that can go wrong at once.

Each service is a program of its own (`service.py`) that runs episodes in random order: starts, deaths, closed
descriptors, foreign reapers, full tables, full memory, signal handlers that raise. Each episode checks every value that
it gets. Between them the service looks whether its processes, zombies, descriptors, threads and held shared memory are
what they were in the beginning. The random seed is printed, so that a run can be repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

METHODS = ("fork", "forkserver", "spawn")
SERVICE = Path(__file__).with_name("service.py")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="for all start methods together")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--episodes", nargs="+", default=(), help="only these")
    options = parser.parse_args()
    print(f"soak: seed {options.seed}, {options.minutes:g} minutes", flush=True)
    seconds = options.minutes * 60 / len(options.methods)
    failed = [method for method in options.methods if serve(method, seconds, options.seed, options.episodes)]
    print(f"soak: {'0 wrong' if not failed else 'WRONG under ' + ', '.join(failed)}", flush=True)
    return bool(failed)


def serve(method: str, seconds: float, seed: int, episodes: tuple[str, ...]) -> int:
    """Runs one service in a session of its own; its exit status."""
    # Little memory is soon full, and a large block soon has to be put together from small ones.
    environment = {**os.environ, "MANYHANDS_ARENA_MAX": "256M"}
    command = [sys.executable, str(SERVICE), method, str(seconds), str(seed), *episodes]
    service = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return service.wait(seconds + 1200)
    except subprocess.TimeoutExpired:
        print(f"soak: the service under {method} does not end", flush=True)
        return 1
    finally:
        # What it has left, or itself: they are a process group of their own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.pid, signal.SIGKILL)
        service.wait()


if __name__ == "__main__":
    sys.exit(main())
