"""One service of the soak: `service.py METHOD SECONDS SEED [EPISODE ...]`. It runs episodes and counts what it has."""

from __future__ import annotations

import collections
import faulthandler
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import episodes
import manyhands
import manyhands.futures
import manyhands.pool
import manyhands.queues
import manyhands.sharedctypes

# All that is imported when it is first used: a process that is forked beside another thread's import waits for that for
# ever, as in the standard library.
import manyhands.synchronize
from counters import own_memory, settled, threads
from world import World

#: How many episodes there are between two counts of what the service has.
EPISODES_A_ROUND = 40
#: No episode takes longer: against hangs. (On a loaded machine, thousands of forks may take minutes.)
EPISODE_SECONDS = 900.0
#: The service's own memory may grow by so many MiB: the interpreter keeps some of what it had.
MOST_GROWTH = 64


def main() -> int:
    method, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    world = World(method, random.Random(f"{seed}/{method}"))
    runs: collections.Counter[str] = collections.Counter()
    try:
        said = serve(world, _chosen(method, sys.argv[4:]), time.monotonic() + seconds, runs)
    except BaseException:
        traceback.print_exc()
        faulthandler.dump_traceback()
        print(manyhands.doctor(), threads(), sep="\n", flush=True)
        print(f"{method}: WRONG after {dict(runs)}", flush=True)
        os._exit(1)  # without waiting for what is there still: `__main__` ends it
    print(f"{method}: {runs.total()} episodes, {world.checked} values checked, 0 wrong; {said}", flush=True)
    print(f"{method}: {dict(sorted(runs.items()))}", flush=True)
    return 0


def serve(
    world: World, chosen: list[Callable[[World], None]], end: float, runs: collections.Counter[str]
) -> str:
    """Runs episodes until then; what was counted."""
    for episode in chosen:  # what is made once is there from here on
        _run(episode, world, runs)
    before, _ = settled(world)
    rounds, most_deaths, grown, memory = 0, 0, 0, own_memory()
    while time.monotonic() < end:
        for episode in _draw(world.rng, chosen, end):
            _run(episode, world, runs)
        rounds += 1
        now, died = settled(world, before)
        most_deaths = max(most_deaths, died)
        world.check(now == before, f"the service had {before} in the beginning and has {now}")
        grown = own_memory() - memory
        world.check(grown < MOST_GROWTH, f"the service has {grown} MiB more than in the beginning")
    return f"{rounds} counts of {before}, {most_deaths} deaths before a sweep at most; {memory} MiB, {grown:+} MiB"


def _chosen(method: str, names: list[str]) -> list[Callable[[World], None]]:
    possible = [e for e in episodes.ALL if method in getattr(e, "methods", (method,))]
    return [e for e in possible if e.__name__ in names or not names]


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


if __name__ == "__main__":
    sys.exit(main())
