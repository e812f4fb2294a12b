"""A signal that arrives at any moment of a wait is handled soon, also outside of the very system call: a handler that
raises ends the wait and takes nothing with it, one that returns does not disturb it."""

from __future__ import annotations

import collections
import functools
import os
import signal
import struct
import threading
import time
from typing import Any

import pytest
import targets
from alarms import LONG, SOON, Alarm, alarms, interrupted, raising


def test_get_and_put(ctx: Any) -> None:
    queue = ctx.Queue(1)
    interrupted(queue.get)
    interrupted(lambda: queue.get(timeout=LONG))
    queue.put("there")
    interrupted(lambda: queue.put("no room"))
    assert queue.get(timeout=LONG) == "there"
    queue.put("and after")
    assert queue.get(timeout=LONG) == "and after"


def test_locks_and_their_kin(ctx: Any) -> None:
    lock, semaphore, event = ctx.Lock(), ctx.Semaphore(0), ctx.Event()
    condition, barrier = ctx.Condition(), ctx.Barrier(2)
    lock.acquire()
    interrupted(lock.acquire)
    interrupted(semaphore.acquire)
    interrupted(event.wait)
    lock.release()
    semaphore.release()
    event.set()
    assert lock.acquire(timeout=LONG)
    assert semaphore.acquire(timeout=LONG)
    assert event.wait(LONG)
    with condition:
        interrupted(condition.wait)
        # The lock is held again: else this is an error.
        condition.notify_all()
    interrupted(barrier.wait)
    assert (barrier.broken, barrier.n_waiting) == (False, 0)


def test_join_and_recv(ctx: Any) -> None:
    child = ctx.Process(target=time.sleep, args=(LONG,))
    child.start()
    interrupted(child.join)
    child.terminate()
    child.join(LONG)
    assert child.exitcode == -signal.SIGTERM
    for duplex in (True, False):
        reader, writer = ctx.Pipe(duplex)
        interrupted(reader.recv)
        interrupted(functools.partial(reader.poll, LONG))
        writer.send("whole")
        assert reader.recv() == "whole"
        reader.close()
        writer.close()


def test_a_send_that_waits_for_room(ctx: Any) -> None:
    for duplex in (True, False):
        reader, writer = ctx.Pipe(duplex)
        interrupted(functools.partial(writer.send_bytes, bytes(10_000_000)))
        reader.close()
        writer.close()


def test_the_rest_of_a_frame_that_does_not_come(ctx: Any) -> None:
    half = struct.pack("!i", 100) + b"half"
    # Nothing at all, half of a head, half of a message.
    for part in (b"", half[:2], half):
        for duplex in (True, False):
            for _ in range(3):
                reader, writer = ctx.Pipe(duplex)
                os.write(writer.fileno(), part)
                interrupted(reader.recv_bytes, times=1)
                reader.close()
                writer.close()


def test_loops_that_run_no_code_of_pythons(ctx: Any) -> None:
    queue, many = ctx.Queue(), 1_000_000
    with alarms(raising), pytest.raises(Alarm):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        collections.deque(map(queue.put, range(many)), maxlen=0)
    assert queue.qsize() < many, "it was raised when all was put"
    queue.put_many(range(queue.qsize(), many))
    queue.put(None)
    with alarms(raising), pytest.raises(Alarm):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        collections.deque(iter(queue.get, None), maxlen=0)
    assert not queue.empty(), "it was raised when all was taken"


def test_the_results_of_a_pool(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        slow = pool.map_async(time.sleep, [LONG] * 2)
        interrupted(slow.get)
        interrupted(lambda: slow.wait(LONG))
    with ctx.Pool(2) as pool:
        stream = pool.imap(time.sleep, [0, LONG])
        assert stream.next(timeout=LONG) is None
        interrupted(lambda: next(stream))


def test_results_while_another_thread_does_the_pools_work(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        slow = pool.map_async(time.sleep, [LONG] * 2)
        other = threading.Thread(target=slow.wait, args=(LONG,))
        other.start()
        time.sleep(0.05)  # Mostly it leads by then; that is not what is tested, but where.
        interrupted(slow.get)
        interrupted(functools.partial(slow.wait, LONG))
        pool.terminate()
        other.join()


def test_a_steady_stream_of_answers_hides_no_signal(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        pool.map(abs, range(100))
        job = pool.map_async(abs, range(500_000), chunksize=1)
        with alarms(raising), pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            job.get()
        assert job._number_left > 0, "it was raised when all was done"


def test_handlers_that_return_lose_nothing(ctx: Any) -> None:
    queue, calls = ctx.Queue(4), 0

    def count(number: int, frame: Any) -> None:
        nonlocal calls
        calls += 1

    child = ctx.Process(target=targets.put_all, args=(queue, range(20_000)))
    with alarms(count):
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        child.start()
        assert [queue.get() for _ in range(20_000)] == list(range(20_000))
        child.join()
    assert child.exitcode == 0
    assert calls > 0
    assert queue.empty()


def test_a_handler_that_returns_leaves_the_deadline_where_it_was(ctx: Any) -> None:
    event, began = ctx.Event(), time.monotonic()
    with alarms(lambda number, frame: None):
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        assert event.wait(0.5) is False
    assert 0.5 <= time.monotonic() - began < SOON
