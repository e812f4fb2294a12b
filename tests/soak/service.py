"""One service of the soak: `service.py METHOD SECONDS SEED [EPISODE ...]`. It runs episodes and counts what it has."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import gc
import os
import random
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import episodes
import manyhands
from world import World

#: How many episodes there are between two counts of what the service has.
EPISODES_A_ROUND = 12
#: No episode takes longer: against hangs.
EPISODE_SECONDS = 240.0
#: How many processes die holding something before what the service has is counted.
DEATHS_BEFORE_A_COUNT = 4
#: How long what an episode left may take to be gone.
GRACE_SECONDS = 20.0


@dataclass(frozen=True)
class Counters:
    """What a service has between two rounds."""

    processes: int
    zombies: int
    descriptors: int
    threads: int
    held_blocks: int

    @classmethod
    def now(cls, world: World) -> Counters:
        gc.collect()
        manyhands.active_children()  # collects those that have ended
        states = [_state(pid) for pid in _children()]
        return cls(
            processes=len(states),
            zombies=states.count("Z"),
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            held_blocks=_held_blocks(),
        )


def main() -> int:
    method, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    world = World(method, random.Random(f"{seed}/{method}"))
    chosen = [e for e in episodes.ALL if e.__name__ in sys.argv[4:] or not sys.argv[4:]]
    runs: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    try:
        for episode in chosen:  # what is made once is there from here on
            _run(episode, world, runs)
        before = _settled(world)
        rounds = 0
        while time.monotonic() < end:
            for episode in _draw(world.rng, chosen, end):
                _run(episode, world, runs)
            rounds += 1
            now = _settled(world, before)
            if now != before:
                print(manyhands.doctor(), flush=True)
            world.check(now == before, f"the service had {before} in the beginning and has {now}")
    except BaseException:
        traceback.print_exc()
        print(f"{method}: WRONG after {dict(runs)}", flush=True)
        return 1
    print(
        f"{method}: {sum(runs.values())} episodes, {world.checked} values checked, 0 wrong; {rounds} counts of "
        f"{before}; {dict(sorted(runs.items()))}",
        flush=True,
    )
    return 0


def _draw(rng: random.Random, chosen: list[Callable[[World], None]], end: float) -> Iterator[Any]:
    weights = [getattr(episode, "weight", 1.0) for episode in chosen]
    for episode in rng.choices(chosen, weights, k=EPISODES_A_ROUND):
        if time.monotonic() < end:
            yield episode


def _run(episode: Callable[[World], None], world: World, runs: collections.Counter[str]) -> None:
    faulthandler.dump_traceback_later(EPISODE_SECONDS, exit=True)
    runs[episode.__name__] += 1
    if os.environ.get("SOAK_VERBOSE"):
        print(f"{time.strftime('%X')} {world.method} {episode.__name__}", flush=True)
    episode(world)
    faulthandler.cancel_dump_traceback_later()


def _settled(world: World, wanted: Counters | None = None) -> Counters:
    """The counters, once they are as wanted, or stay the same for a while."""
    # A sweep follows some deaths, not each: the more blocks there are, the fewer.
    for _ in range(DEATHS_BEFORE_A_COUNT):
        episodes.a_death(world)
    deadline = time.monotonic() + GRACE_SECONDS
    last, since = Counters.now(world), time.monotonic()
    while time.monotonic() < deadline:
        if last == wanted or (wanted is None and time.monotonic() - since > 2):
            break
        time.sleep(0.1)
        if (now := Counters.now(world)) != last:
            last, since = now, time.monotonic()
    return last


def _children() -> list[int]:
    found = []
    for task in os.listdir("/proc/self/task"):
        # A thread may have ended meanwhile.
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children") as file:
            found += map(int, file.read().split())
    return found


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "gone"


def _held_blocks() -> int:
    found = re.search(r"in ([0-9]+) held block", manyhands.doctor())
    return int(found.group(1)) if found else -1


if __name__ == "__main__":
    sys.exit(main())
