"""Ctrl-C and alarms at random moments of every wait: one exception each, soon, and nothing is lost or left.

`MANYHANDS_INTERRUPTS` says how many for each start method, and `MANYHANDS_ALARMED_GETS` how many `get`s are made under
alarms (`make proofs`: 1,000 and 1,000,000).
"""

from __future__ import annotations

import itertools
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import interrupts
import pytest
import targets
from alarms import SOON, alarms
from interrupts import Counted, Interrupts
from manyhands.futures import ProcessPoolExecutor

COUNT = int(os.environ.get("MANYHANDS_INTERRUPTS", "90"))
GETS = int(os.environ.get("MANYHANDS_ALARMED_GETS", "50000"))
#: No call here ends by itself within this.
LONG = 600.0


@pytest.fixture
def interrupted(request: pytest.FixtureRequest) -> Iterator[Interrupts]:
    one = Interrupts(os.getpid(), seed=len(request.node.name))
    with one.caught():
        yield one
    one.close()


@contextmanager
def running(ctx: Any, target: Callable[..., Any], *args: Any) -> Iterator[Any]:
    child = ctx.Process(target=target, args=args)
    child.start()
    yield child
    child.kill()
    child.join()
    child.close()


@pytest.fixture(params=[0, 4], ids=["idle", "loaded"])
def load(ctx: Any, request: pytest.FixtureRequest) -> Iterator[int]:
    with ExitStack() as stack:
        for _ in range(request.param):
            stack.enter_context(running(ctx, interrupts.busy))
        yield request.param


def share(of: int, parts: int) -> range:
    return range(max(3, of // parts))


def in_turn(interrupted: Interrupts, figure: Any, calls: dict[str, Callable[[], Any]], count: int) -> None:
    for _ in share(count, len(calls)):
        for name, call in calls.items():
            interrupted.interrupt(name, call)
    figure(interrupted.figures())
    assert max(itertools.chain.from_iterable(interrupted.late.values())) < SOON


@pytest.mark.deadline(120 + COUNT)
def test_waits_for_what_does_not_come(ctx: Any, load: int, interrupted: Interrupts, figure: Any) -> None:
    empty, full, joinable = ctx.Queue(), ctx.Queue(1), ctx.JoinableQueue()
    full.put("there")
    joinable.put("not done with")
    lock, condition, semaphore = ctx.Lock(), ctx.Condition(), ctx.Semaphore(0)
    event, held, enough = ctx.Event(), ctx.Event(), ctx.Event()
    pipes = [ctx.Pipe(duplex) for duplex in (True, False)]
    (socket_in, socket_out), (pipe_in, pipe_out) = pipes
    torn = [ctx.Pipe(duplex) for duplex in (True, False)]
    for _, writer in torn:
        # Of a message of 100 bytes.
        os.write(writer.fileno(), struct.pack("!i", 100) + b"half")

    def wait_for_condition() -> None:
        with condition:
            condition.wait()

    with running(ctx, interrupts.hold, lock, held, enough) as child:
        held.wait()
        calls: dict[str, Callable[[], Any]] = {
            "get": empty.get,
            "get with a timeout": lambda: empty.get(timeout=LONG),
            "get_many": empty.get_many,
            "put": lambda: full.put("no room"),
            "put_many": lambda: full.put_many(["no room"] * 5),
            "joinable join": joinable.join,
            "acquire": lock.acquire,
            "acquire with a timeout": lambda: lock.acquire(timeout=LONG),
            "semaphore": semaphore.acquire,
            "event": event.wait,
            "condition": wait_for_condition,
            "join": child.join,
            "recv": socket_in.recv,
            "recv from a pipe": pipe_in.recv,
            "poll": lambda: pipe_in.poll(LONG),
            "send": lambda: socket_out.send_bytes(bytes(1 << 23)),
            "send to a pipe": lambda: pipe_out.send_bytes(bytes(1 << 23)),
        }
        in_turn(interrupted, figure, calls, COUNT)
        for reader, _ in torn:
            interrupted.interrupt("the rest of a frame", reader.recv_bytes)
        enough.set()
        child.join()
    assert (empty.empty(), full.get(), full.empty()) == (True, "there", True)
    assert lock.acquire(timeout=LONG)
    lock.release()
    for end in itertools.chain.from_iterable(pipes + torn):
        end.close()


@pytest.mark.deadline(120 + COUNT)
def test_the_work_of_pools(ctx: Any, load: int, interrupted: Interrupts, figure: Any) -> None:
    texts = [(number, "text" * 5) for number in range(100_000)]
    stream: list[Any] = []

    def submit() -> None:
        while True:
            pool.map_async(len, texts, 100).wait()

    def short() -> None:
        while True:
            pool.map(abs, range(2_000), 1)

    def results() -> None:
        while True:
            stream.append(pool.imap(abs, range(2_000)))
            for _ in stream[-1]:
                pass

    def applied() -> None:
        while True:
            pool.apply(abs, (1,))

    def executed() -> None:
        while True:
            executor.submit(abs, 1).result()

    # One of them alone may be over before a signal that is late.
    def waited_for() -> None:
        while True:
            pool.map(time.sleep, [0.7, 0.7], 1)

    def result() -> None:
        while True:
            executor.submit(time.sleep, 0.8).result()

    with ctx.Pool(2) as pool, ProcessPoolExecutor(2, mp_context=ctx) as executor:
        # Forks its workers. What a handler raises in the hooks of a fork is lost, as in the standard library, if a
        # thread of somebody else's (pytest's plugins) has taken the signal.
        assert executor.submit(abs, -1).result() == 1
        slow = pool.map_async(time.sleep, [1.0, 0.0])
        calls: dict[str, Callable[[], Any]] = {
            "map": waited_for,
            "map of short items": short,
            "submit": submit,
            "imap": results,
            "apply": applied,
            "executor": executed,
            "result": result,
        }
        # Each leaves work behind that takes a second.
        for _ in share(COUNT // 3, len(calls)):
            for name, call in calls.items():
                interrupted.interrupt(name, call)
        assert slow.get() == [None, None]
        # What was interrupted goes on: beside it, and behind it, everything is right.
        assert pool.map(abs, range(-1000, 0)) == list(range(1000, 0, -1))
        assert executor.submit(abs, -1).result() == 1
        for some in stream:
            # The rest of a stream whose reader was interrupted: in order, and nothing twice.
            rest = list(some)
            assert rest == list(range(2_000))[2_000 - len(rest) :]
        pool.close()
        pool.join()
        assert (pool._cache, pool._core.outstanding) == ({}, 0)
    figure(interrupted.figures())
    assert max(itertools.chain.from_iterable(interrupted.late.values())) < SOON


@pytest.mark.deadline(120 + COUNT)
@pytest.mark.parametrize("way", ["queue", "socket", "pipe"])
def test_what_is_received_meanwhile_is_all_there(
    ctx: Any, way: str, interrupted: Interrupts, figure: Any
) -> None:
    queue = ctx.Queue(64)
    reader, writer = ctx.Pipe(way == "socket")
    receive, send = (queue.get, queue.put) if way == "queue" else (reader.recv, writer.send)
    got: list[int] = []
    with running(ctx, interrupts.number_all, send):
        # The child has begun.
        got.append(receive())
        # In the interpreter's own loop nothing comes between a call's return and what it returned being kept.
        calls = {way: lambda: got.extend(iter(receive, None))}
        in_turn(interrupted, figure, calls, COUNT // 3)
    assert got == list(range(len(got)))
    assert len(got) > 1
    for end in (reader, writer):
        end.close()


@pytest.mark.deadline(120 + COUNT)
@pytest.mark.parametrize("way", ["queue", "socket", "pipe"])
def test_what_was_sent_meanwhile_is_known(ctx: Any, way: str, interrupted: Interrupts, figure: Any) -> None:
    queue = ctx.Queue(64)
    reader, writer = ctx.Pipe(way == "socket")
    receive, send = (queue.get, queue.put) if way == "queue" else (reader.recv, writer.send)
    answers, told = ctx.Pipe()
    counted = Counted()
    with running(ctx, interrupts.collect, receive, told):
        in_turn(interrupted, figure, {way: lambda: counted.pass_all(send)}, COUNT // 3)
        send(None)
        assert answers.recv() == counted.passed
    assert len(counted.passed) > 0
    for end in (reader, writer, answers, told):
        end.close()


@pytest.mark.deadline(120 + GETS // 2000)
def test_gets_under_alarms_that_return(ctx: Any, figure: Any) -> None:
    queue, calls, last, longest = ctx.Queue(1000), 0, 0.0, 0.0

    def count(number: int, frame: Any) -> None:
        nonlocal calls, last, longest
        calls, now = calls + 1, time.monotonic()
        longest, last = max(longest, now - last if last else 0.0), now

    with running(ctx, targets.put_all, queue, range(GETS)), alarms(count):
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        began = time.monotonic()
        assert [queue.get() for _ in range(GETS)] == list(range(GETS))
        elapsed = time.monotonic() - began
        signal.setitimer(signal.ITIMER_REAL, 0)
    figure(
        f"{GETS} gets in {elapsed:.2f} s, {calls} alarms, at most {longest * 1000:.1f} ms between two of their handlers"
    )
    assert queue.empty()
