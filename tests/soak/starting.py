"""Episodes of starts: processes side by side, processes in processes, forks of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable

import targets
from world import World, payload


def starts(world: World) -> None:
    """Some processes at once, each with an array and a queue."""
    ctx, rng = world.ctx, world.rng
    results = ctx.Queue()
    arrays = [
        ctx.Array("q", [rng.randrange(1 << 40) for _ in range(rng.randrange(1, 2000))]) for _ in range(3)
    ]
    started = [ctx.Process(target=targets.add_up, args=(array, results, i)) for i, array in enumerate(arrays)]
    for process in started:
        process.start()
    found = dict(results.get(timeout=60) for _ in started)
    for index, array in enumerate(arrays):
        world.check(found[index] == sum(array), f"array {index} adds up to {found[index]}")
    for process in started:
        world.ended(process, 0)


def nested(world: World) -> None:
    """A process has a pool, an executor and a child of its own."""
    results = world.ctx.Queue()
    head = world.ctx.Process(target=targets.lead, args=(world.method, results, 1))
    head.start()
    for kind in ("pool", "executor", "child"):
        world.check(results.get(timeout=60) == (kind, targets.SQUARES), f"the squares of the {kind}")
    world.ended(head, 0)


def forks_of_the_users_own(world: World) -> None:
    """Children of `os.fork` use what they find, and end or are killed."""
    ctx, seed = world.ctx, world.rng.randrange(1 << 30)
    queue, lock, numbers = ctx.Queue(), ctx.Lock(), ctx.RawArray("q", 8)
    for index in range(8):
        pid = os.fork()
        if pid == 0:
            targets.end_with(lambda at=index: targets.mark(queue, lock, numbers, seed, at))  # type: ignore[misc]
        if killed := world.rng.random() < 0.3:
            os.kill(pid, 9)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        world.check(status == 0 or (killed and status == -9), f"a fork ended with {status}")
        marked = numbers[index] == index + 1
        world.check(marked or status != 0, f"number {index} is {numbers[index]}")
        # Killed, it may have put its message and not marked its number.
        if marked or not queue.empty():
            world.check(
                queue.get(timeout=60) == (index, payload(seed, index)), f"the message of fork {index}"
            )


ALL: tuple[Callable[[World], None], ...] = (starts, nested, forks_of_the_users_own)
