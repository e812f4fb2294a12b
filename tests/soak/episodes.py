"""The episodes of the soak: each starts something, disturbs it, checks every value, and leaves nothing behind."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
from collections.abc import Callable
from typing import Any

import deaths
import manyhands
import starting
import surroundings
import targets
from world import World, payload


class _Alarm(Exception):
    pass


def raising_handlers(world: World) -> None:
    """A signal handler raises during calls of a pool, which is then closed and joined."""

    def ring(_signal: int, _frame: Any) -> None:
        if ringing:
            raise _Alarm

    ringing, pool = False, world.ctx.Pool(2)
    calls: list[Callable[[], Any]] = [
        lambda: list(pool.imap(targets.square, range(50), 3)) == [n * n for n in range(50)],
        lambda: pool.map(targets.square, range(50)) == [n * n for n in range(50)],
        lambda: pool.apply(targets.square, (7,)) == 49,
        lambda: sorted(pool.imap_unordered(targets.square, range(50))) == [n * n for n in range(50)],
    ]
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.003)
    for _ in range(60):
        try:
            ringing = True
            right = world.rng.choice(calls)()
            ringing = False
        except _Alarm:
            ringing = False
            continue
        world.check(right, "what the pool gave")
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    for call in calls:
        world.check(call(), "what the pool gave when nothing disturbed it any more")
    pool.close()
    pool.join()


def at_once(world: World) -> None:
    """Episodes in several threads of the service at once: one forks in the middle of another's sweep."""
    possible = (starting.starts, mixed_sizes, *deaths.IN_THREADS)
    worlds = [world.beside() for _ in range(3)]
    failed: list[BaseException] = []

    def run(episode: Callable[[World], None], beside: World) -> None:
        try:
            episode(beside)
        except BaseException as error:
            failed.append(error)

    # Not in an executor's threads: a process that one of them forks ends with 1, in the standard library, too.
    running = [threading.Thread(target=run, args=(world.rng.choice(possible), beside)) for beside in worlds]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed:
        raise failed[0]
    world.checked += sum(beside.checked for beside in worlds)


def mixed_sizes(world: World) -> None:
    """Messages of all sizes, some of them held for a while."""
    rng, seed = world.rng, world.rng.randrange(1 << 30)
    queue, first, last = world.ctx.Queue(), 0, 0
    for _ in range(400):
        if last - first < 40 and rng.random() < 0.55:
            queue.put((last, payload(seed, last)))
            last += 1
        elif first < last:
            first = world.take(queue, seed, first, timeout=60)
    while first < last:
        first = world.take(queue, seed, first, timeout=60)


def futures_of_many(world: World) -> None:
    """An executor is shut down over calls that have not begun."""
    executor = manyhands.ProcessPoolExecutor(2, mp_context=world.ctx)
    calls = [executor.submit(targets.square, n) for n in range(300)]
    for number in range(world.rng.randrange(100)):
        world.check(calls[number].result(60) == number * number, f"the square of {number}")
    executor.shutdown(cancel_futures=True)
    concurrent.futures.wait(calls, timeout=60)
    for number, call in enumerate(calls):
        world.check(call.cancelled() or call.result() == number * number, f"the square of {number}")


ALL: tuple[Callable[[World], None], ...] = (
    *starting.ALL,
    *deaths.ALL,
    *surroundings.ALL,
    raising_handlers,
    at_once,
    mixed_sizes,
    futures_of_many,
)
