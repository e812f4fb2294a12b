"""Episodes of hostile surroundings: closed descriptors, foreign reapers, and want of everything."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import manyhands
import targets
from starting import starts
from world import World, payload


def closed_descriptors(world: World) -> None:
    """A process closes all descriptors and opens files of its own in their place."""
    ctx, seed = world.ctx, world.rng.randrange(1 << 30)
    queue, lock, pattern = ctx.Queue(), ctx.Lock(), ctx.Array("i", range(300))
    arguments = (world.method, queue, lock, pattern, seed)
    daemon = ctx.Process(target=targets.serve_as_a_daemon, args=arguments)
    daemon.start()
    expected = 0
    while expected < 20:
        expected = world.take(queue, seed, expected, timeout=60)
    world.check(queue.get(timeout=60) == ("child", sum(range(300))), "the sum of the daemon's child")
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
    put: list[int] = []
    queue = ctx.Queue()
    beside = ctx.Array("i", range(1000))
    for size in (1 << 20, 3_000):
        with contextlib.suppress(MemoryError):
            while True:
                queue.put((len(put), payload(seed, len(put)) + bytes(size)))
                put.append(size)
    process = ctx.Process(target=targets.add_up, args=(beside, queue, -1))
    with contextlib.suppress(MemoryError):
        process.start()
        process.join(60)
        world.check(process.exitcode in (0, 1), f"a process beside full memory ended with {process.exitcode}")
    for expected, size in enumerate(put):
        found, body = queue.get(timeout=60)
        world.check(found == expected, f"message {found} came for {expected}")
        world.check(body == payload(seed, expected) + bytes(size), f"message {found} is wrong")
    if process.exitcode == 0:
        world.check(queue.get(timeout=60) == (-1, sum(range(1000))), "the sum beside full memory")
    world.check(queue.empty(), "there is another message")
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
                world.take(queue, 1, number, timeout=60)
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
            except OSError as error:
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

ALL: tuple[Callable[[World], None], ...] = (
    closed_descriptors,
    foreign_reaper,
    full_memory,
    no_descriptors,
    full_table,
)
