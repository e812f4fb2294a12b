"""Episodes of deaths: whatever a killed process held, the others go on with the right values."""

from __future__ import annotations

import contextlib
import os
import queue as queues
import signal
import time
from collections.abc import Callable
from typing import Any

import manyhands
import targets
from manyhands.forkserver import _forkserver
from starting import starts
from world import World, payload


def killed_holders(world: World) -> None:
    """Processes that hold a lock are killed; what lies beside their numbers stays as it is."""
    ctx, rng = world.ctx, world.rng
    lock, pair, beside = ctx.Lock(), ctx.RawArray("q", 2), ctx.Array("q", range(500))
    workers = [ctx.Process(target=targets.count_under, args=(lock, pair)) for _ in range(3)]
    for worker in workers:
        worker.start()
    if rng.random() < 0.7:
        world.until(lambda: pair[1] > 0, "nobody gets the lock")
    for worker in workers:
        time.sleep(rng.uniform(0, 0.05))
        worker.kill()
        world.ended(worker, -signal.SIGKILL)
    with contextlib.suppress(manyhands.OwnerDied), lock:
        pass
    with lock:
        world.check(pair[0] - pair[1] in (0, 1), f"the numbers are {pair[:]}")
    world.check(beside[:] == list(range(500)), "the array beside it has changed")


def a_death(world: World) -> None:
    """A process is killed that holds a queue."""
    process = world.ctx.Process(target=targets.consume, args=(world.ctx.Queue(), 0, None))
    process.start()
    process.kill()
    world.ended(process, -signal.SIGKILL)


def killed_producer(world: World) -> None:
    """What a producer has put before it was killed arrives whole and in order."""
    ctx, seed = world.ctx, world.rng.randrange(1 << 30)
    queue, returned = ctx.Queue(40), ctx.Value("q", lock=False)
    producer = ctx.Process(target=targets.produce, args=(queue, seed, returned))
    producer.start()
    expected = world.take(queue, seed, 0)
    end = time.monotonic() + world.rng.uniform(0, 0.5)
    while time.monotonic() < end:
        with contextlib.suppress(queues.Empty):
            expected = world.take(queue, seed, expected, timeout=0.1)
    producer.kill()
    world.ended(producer, -signal.SIGKILL)
    with contextlib.suppress(queues.Empty):
        while True:
            expected = world.take(queue, seed, expected, timeout=0.2)
    world.check(expected >= returned.value, f"{expected} of {returned.value} messages came")


def killed_consumers(world: World) -> None:
    """Consumers are killed; each message comes to one of them or to the service, whole."""
    ctx, seed = world.ctx, world.rng.randrange(1 << 30)
    queue, seen = ctx.Queue(), [ctx.Value("q", lock=False) for _ in range(2)]
    consumers = [ctx.Process(target=targets.consume, args=(queue, seed, count)) for count in seen]
    for consumer in consumers:
        consumer.start()
    for number in range(120):
        queue.put((number, payload(seed, number)))
    time.sleep(world.rng.uniform(0, 0.1))
    for consumer in consumers:
        consumer.kill()
        world.ended(consumer, -signal.SIGKILL)
    left = 0
    with contextlib.suppress(queues.Empty):
        while True:
            number, body = queue.get(timeout=0.2)
            world.check(body == payload(seed, number), f"message {number} is wrong")
            left += 1
    # Each consumer may have died with one in its hands.
    total = left + sum(count.value for count in seen)
    world.check(120 - len(seen) <= total <= 120, f"{total} of 120 messages were seen")


def pool_with_deaths(world: World) -> None:
    """A pool whose workers are killed, by their items and from outside."""
    with world.ctx.Pool(2) as pool:
        calls = {n: pool.apply_async(targets.square_or_die, (n,)) for n in range(150)}
        world.rng.choice(pool._pool).kill()
        lost = 0
        for number, call in calls.items():
            try:
                world.check(call.get(60) == number * number, f"the square of {number}")
            except manyhands.WorkerDied:
                lost += 1
        world.check(2 <= lost <= 3, f"{lost} calls were lost")
        world.check(pool.map(targets.square, range(500)) == [n * n for n in range(500)], "map")


def executor_with_deaths(world: World) -> None:
    """The same with an executor."""
    with manyhands.ProcessPoolExecutor(2, mp_context=world.ctx) as executor:
        calls = {n: executor.submit(targets.square_or_die, n) for n in range(150)}
        lost = 0
        for number, call in calls.items():
            try:
                world.check(call.result(60) == number * number, f"the square of {number}")
            except manyhands.WorkerDied:
                lost += 1
        world.check(lost == 2, f"{lost} calls were lost")


def killed_hoarders(world: World) -> None:
    """A process is killed that makes queues, arrays and locks, some of which lie in messages of others."""
    ctx, seed = world.ctx, world.rng.randrange(1 << 30)
    home = ctx.Queue()
    hoarder = ctx.Process(target=targets.hoard, args=(world.method, home, seed))
    hoarder.start()
    found = [home.get(timeout=60)]
    time.sleep(world.rng.uniform(0, 0.2))
    hoarder.kill()
    world.ended(hoarder, -signal.SIGKILL)
    with contextlib.suppress(queues.Empty):
        while True:
            found.append(home.get(timeout=0.2))
    for expected, (number, queue, numbers) in enumerate(found):
        world.check(number == expected, f"hoard {number} came for {expected}")
        world.check(queue.get(timeout=60) == payload(seed, number), f"what lies in hoard {number}")
        world.check(numbers[:] == [number] * 100, f"the numbers of hoard {number}")


def killed_waiters(world: World) -> None:
    """Of those who wait for a condition, an event and at a barrier one is killed; the others are told."""
    ctx = world.ctx
    condition, event, barrier, results = ctx.Condition(), ctx.Event(), ctx.Barrier(4), ctx.Queue()
    waiters = [
        ctx.Process(target=targets.wait_for_all, args=(condition, event, barrier, results)) for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    for stage, tell in (("condition", condition.notify_all), ("event", event.set)):
        for _ in waiters:
            world.check(results.get(timeout=60) == f"before the {stage}", f"the one at the {stage}")
        time.sleep(world.rng.uniform(0, 0.05))
        if stage == "event":
            _kill(world, waiters.pop())
        # The holder of the condition has said so before it waits.
        with condition:
            tell()
    for _ in waiters:
        world.check(results.get(timeout=60) == "before the barrier", "the one at the barrier")
    world.until(lambda: barrier.n_waiting == len(waiters), "not all come to the barrier")
    _kill(world, waiters.pop())
    for waiter in waiters:
        world.check(results.get(timeout=60) == "broken", "what the others at the barrier are told")
        world.ended(waiter, 0)


def _kill(world: World, process: Any) -> None:
    process.kill()
    world.ended(process, -signal.SIGKILL)


def killed_head(world: World) -> None:
    """A process is killed that has a pool, an executor and a child: they end with it."""
    results = world.ctx.Queue()
    head = world.ctx.Process(target=targets.lead, args=(world.method, results, 1 << 30))
    head.start()
    kinds = ("pool", "executor", "child")
    for number in range(world.rng.randrange(1, 9)):
        kind = kinds[number % 3]
        world.check(results.get(timeout=60) == (kind, targets.SQUARES), f"the squares of the {kind}")
    _kill(world, head)


def killed_server(world: World) -> None:
    """The fork server is killed: its children run on, and the next start makes another."""
    results, orders = world.ctx.Queue(), world.ctx.Queue()
    process = world.ctx.Process(target=targets.echo, args=(orders, results))
    process.start()
    pid = _forkserver._forkserver_pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    starts(world)
    for number in range(3):
        orders.put(number)
        world.check(results.get(timeout=60) == number, "what comes back")
    orders.put(None)
    world.ended(process, 0)


killed_server.methods = ("forkserver",)  # type: ignore[attr-defined]

ALL: tuple[Callable[[World], None], ...] = (
    killed_holders,
    killed_producer,
    killed_consumers,
    killed_hoarders,
    killed_waiters,
    killed_head,
    killed_server,
    pool_with_deaths,
    executor_with_deaths,
)
#: Those that may run beside others.
IN_THREADS = (killed_holders, killed_consumers, killed_hoarders, pool_with_deaths, executor_with_deaths)
