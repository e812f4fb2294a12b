"""The episodes of the soak: each starts something, disturbs it, checks every value, and leaves nothing behind."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue as queues
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import manyhands
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


def killed_holders(world: World) -> None:
    """Processes that hold a lock are killed; what lies beside their numbers stays as it is."""
    ctx, rng = world.ctx, world.rng
    lock, pair, beside = ctx.Lock(), ctx.RawArray("q", 2), ctx.Array("q", range(500))
    workers = [ctx.Process(target=targets.count_under, args=(lock, pair)) for _ in range(3)]
    for worker in workers:
        worker.start()
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
    expected, end = 0, time.monotonic() + world.rng.uniform(0.05, 0.6)
    while time.monotonic() < end:
        with contextlib.suppress(queues.Empty):
            expected = _take(world, queue, seed, expected, timeout=0.1)
    producer.kill()
    world.ended(producer, -signal.SIGKILL)
    with contextlib.suppress(queues.Empty):
        while True:
            expected = _take(world, queue, seed, expected, timeout=0.2)
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
        os.kill(world.rng.choice(pool._pool).pid, signal.SIGKILL)
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


def closed_descriptors(world: World) -> None:
    """A process closes all descriptors and opens files of its own in their place."""
    ctx, seed = world.ctx, world.rng.randrange(1 << 30)
    queue, lock, pattern = ctx.Queue(), ctx.Lock(), ctx.Array("i", range(300))
    daemon = ctx.Process(target=targets.serve_as_a_daemon, args=(queue, lock, pattern, seed))
    daemon.start()
    expected = 0
    while expected < 20:
        expected = _take(world, queue, seed, expected, timeout=60)
    world.ended(daemon, 0)


def foreign_reaper(world: World) -> None:
    """Something else in the program collects every child that ends, in one of three ways."""
    with world.rng.choice((_reaper_thread, _sigchld_handler, _sigchld_ignored))():
        starts(world)
        with world.ctx.Pool(2) as pool:
            world.check(pool.map(targets.square, range(100)) == [n * n for n in range(100)], "map")


@contextlib.contextmanager
def _reaper_thread() -> Iterator[None]:
    done = threading.Event()

    def reap() -> None:
        while not done.wait(0.0005):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)

    thread = threading.Thread(target=reap)
    thread.start()
    yield
    done.set()
    thread.join()


@contextlib.contextmanager
def _sigchld_handler() -> Iterator[None]:
    def reap(_signal: int, _frame: Any) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    before = signal.signal(signal.SIGCHLD, reap)
    yield
    signal.signal(signal.SIGCHLD, before)


@contextlib.contextmanager
def _sigchld_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


def full_memory(world: World) -> None:
    """The shared memory is full while processes start; what lies in it stays whole."""
    ctx, seed = world.ctx, world.rng.randrange(1 << 30)
    queue, number = ctx.Queue(), 0
    beside = ctx.Array("i", range(1000))
    for size in (1 << 20, 3_000):
        with contextlib.suppress(MemoryError):
            while True:
                queue.put((number, payload(seed, number) + bytes(size)))
                number += 1
    process = ctx.Process(target=targets.add_up, args=(beside, queue, -1))
    with contextlib.suppress(MemoryError):
        process.start()
        process.join(60)
        world.check(process.exitcode in (0, 1), f"a process beside full memory ended with {process.exitcode}")
    for expected in range(number):
        found, body = queue.get(timeout=60)
        world.check(found == expected, f"message {found} came for {expected}")
        world.check(body.rstrip(b"\0") == payload(seed, expected).rstrip(b"\0"), f"message {found} is wrong")
    world.check(beside[:] == list(range(1000)), "the array beside it has changed")
    del queue
    starts(world)


def no_descriptors(world: World) -> None:
    """For a while there is no free descriptor: starts fail, everything else goes on."""
    ctx = world.ctx
    queue, lock, array = ctx.Queue(), ctx.Lock(), ctx.Array("i", range(1000))
    with ctx.Pool(2) as pool:
        pool.map(targets.square, range(4))
        with _descriptors_taken():
            process = ctx.Process(target=targets.add_up, args=(array, queue, 0))
            try:
                process.start()
            except OSError:
                pass
            else:
                world.check(queue.get(timeout=60) == (0, sum(range(1000))), "the sum")
                world.ended(process, 0)
            calls = [pool.apply_async(targets.square_or_die, (n,)) for n in (12, 13, 14)]
            for number in range(50):
                with lock:
                    queue.put((number, payload(1, number)))
                    world.check(array[:] == list(range(1000)), "the array has changed")
                _take(world, queue, 1, number, timeout=60)
        for number, call in zip((12, 13, 14), calls, strict=True):
            try:
                world.check(call.get(60) == number * number, f"the square of {number}")
            except manyhands.WorkerDied:
                world.check(number == 13, f"call {number} was lost")
        world.check(pool.map(targets.square, range(9)) == [n * n for n in range(9)], "map")


@contextlib.contextmanager
def _descriptors_taken() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    try:
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def full_table(world: World) -> None:
    """As many processes as a family can have: one more is refused, and when they are gone it is not."""
    queue = world.ctx.Queue()
    forked: list[int] = []
    refused = None
    try:
        for _ in range(4200):
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                while True:
                    signal.pause()
            forked.append(pid)
            if len(forked) < 4090:
                continue
            process = world.ctx.Process(target=targets.square, args=(1,))
            try:
                process.start()
            except BlockingIOError as error:
                refused = error
                break
            world.ended(process, 0)
    finally:
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
        for pid in forked:
            os.waitpid(pid, 0)
    world.check(refused is not None, "4,200 processes are one family")
    queue.put(1)
    world.check(queue.get(timeout=60) == 1, "the queue")
    starts(world)


full_table.weight = 0.03  # type: ignore[attr-defined]


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
    pool.close()
    pool.join()


def mixed_sizes(world: World) -> None:
    """Messages of all sizes, some of them held for a while."""
    rng, seed = world.rng, world.rng.randrange(1 << 30)
    queue, first, last = world.ctx.Queue(), 0, 0
    for _ in range(400):
        if last - first < 40 and rng.random() < 0.55:
            queue.put((last, payload(seed, last)))
            last += 1
        elif first < last:
            first = _take(world, queue, seed, first, timeout=60)
    while first < last:
        first = _take(world, queue, seed, first, timeout=60)


def futures_of_many(world: World) -> None:
    """An executor is shut down over calls that have not begun."""
    executor = manyhands.ProcessPoolExecutor(2, mp_context=world.ctx)
    calls = [executor.submit(targets.square, n) for n in range(300)]
    executor.shutdown(cancel_futures=True)
    concurrent.futures.wait(calls, timeout=60)
    for number, call in enumerate(calls):
        world.check(call.cancelled() or call.result() == number * number, f"the square of {number}")


def _take(world: World, queue: Any, seed: int, expected: int, timeout: float) -> int:
    number, body = queue.get(timeout=timeout)
    world.check(number == expected, f"message {number} came for {expected}")
    world.check(body == payload(seed, number), f"message {number} is wrong")
    return expected + 1


ALL: tuple[Callable[[World], None], ...] = (
    starts,
    killed_holders,
    killed_producer,
    killed_consumers,
    pool_with_deaths,
    executor_with_deaths,
    closed_descriptors,
    foreign_reaper,
    full_memory,
    no_descriptors,
    full_table,
    raising_handlers,
    mixed_sizes,
    futures_of_many,
)
