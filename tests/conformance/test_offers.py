"""Descriptors in messages that are not sent, or that nobody will take: nothing of them stays, and the other end of a
pipe sees its end."""

from __future__ import annotations

import functools
import gc
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import manyhands
import offers
import pytest

LONG = 30.0


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def no_sharer() -> Iterator[None]:
    """The thread that hands out descriptors is the standard library's, and stays until it is told to stop."""
    yield
    from multiprocessing import resource_sharer

    resource_sharer.stop(timeout=LONG)  # type: ignore[attr-defined]


@pytest.fixture
def pipe(ctx: Any) -> Any:
    """Two ends; the sharer of this process has its thread and its socket already."""
    first, second = ctx.Pipe()
    warm = ctx.SimpleQueue()
    warm.put(first)
    warm.get().close()
    warm.close()
    yield first, second
    first.close()
    second.close()


def ended(end: Any) -> bool:
    """Whether nobody has the other end any more."""
    assert end.poll(LONG)
    with pytest.raises((EOFError, OSError)):
        end.recv()
    return True


def full_queue(ctx: Any) -> Any:
    q = ctx.Queue(1)
    q.put(0)
    return q


def full_nowait(ctx: Any, thing: Any) -> None:
    with pytest.raises(queue.Full):
        full_queue(ctx).put_nowait(thing)


def full_in_time(ctx: Any, thing: Any) -> None:
    with pytest.raises(queue.Full):
        full_queue(ctx).put(thing, timeout=0.01)


def many_full(ctx: Any, thing: Any) -> None:
    q = ctx.Queue(2)
    with pytest.raises(queue.Full):
        q.put_many([0, 0, thing, thing], timeout=0.01)


def shut(ctx: Any, thing: Any) -> None:
    q = ctx.SimpleQueue()
    q.shutdown()
    for put in (q.put, lambda thing: q.put_many([thing])):
        with pytest.raises(manyhands.ShutDown):
            put(thing)


def shut_meanwhile(ctx: Any, thing: Any) -> None:
    q = full_queue(ctx)
    thread = threading.Thread(target=lambda: (time.sleep(0.1), q.shutdown()))
    thread.start()
    with pytest.raises(manyhands.ShutDown):
        q.put(thing, timeout=LONG)
    thread.join()


def closed(ctx: Any, thing: Any) -> None:
    q = ctx.Queue()
    q.close()
    with pytest.raises(ValueError, match="closed"):
        q.put(thing)


def unpicklable_part(ctx: Any, thing: Any) -> None:
    q = ctx.Queue()
    for put in (q.put, lambda it: q.put_many([it]), ctx.SimpleQueue().put):
        with pytest.raises(KeyError, match="refused"):
            put([thing, offers.Refuses()])


def by_value_and_unpicklable(ctx: Any, thing: Any) -> None:
    with pytest.raises(AttributeError, match="local object"):
        ctx.Queue().put([thing, lambda: 1, offers.Refuses()])


def a_handler_raises(ctx: Any, thing: Any) -> None:
    def handler(_signal: int, _frame: Any) -> None:
        raise KeyError("handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyError, match="handler"):
            full_queue(ctx).put(thing, timeout=LONG)
    finally:
        signal.signal(signal.SIGALRM, before)


def no_reader(ctx: Any, thing: Any) -> None:
    one, other = ctx.Pipe()
    other.close()
    with one, pytest.raises(OSError):
        one.send(thing)


def unpicklable_over_a_pipe(ctx: Any, thing: Any) -> None:
    one, other = ctx.Pipe()
    with one, other, pytest.raises(KeyError, match="refused"):
        one.send([thing, offers.Refuses()])


def dropped_with_its_queue(ctx: Any, thing: Any) -> None:
    for kind in ("Queue", "SimpleQueue", "JoinableQueue"):
        q = getattr(ctx, kind)()
        for _ in range(3):
            q.put([thing])
        if kind == "Queue":
            q.put_many([thing, [thing]])
            q.cancel_join_thread()
        q.close()


def a_message_inside_a_message(ctx: Any, thing: Any) -> None:
    """What is sent while the outer message is pickled has nothing to do with it."""

    class Sends:
        def __reduce__(self) -> Any:
            inner.put("inner")
            raise KeyError("refused")

    inner = ctx.SimpleQueue()
    with pytest.raises(KeyError, match="refused"):
        ctx.SimpleQueue().put([thing, Sends()])
    assert inner.get() == "inner"


WAYS = [
    full_nowait,
    full_in_time,
    many_full,
    shut,
    shut_meanwhile,
    closed,
    unpicklable_part,
    by_value_and_unpicklable,
    a_handler_raises,
    no_reader,
    unpicklable_over_a_pipe,
    dropped_with_its_queue,
    a_message_inside_a_message,
]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_nothing_stays_of_what_nobody_gets(ctx: Any, pipe: Any, way: Callable[[Any, Any], None]) -> None:
    first, second = pipe
    before = descriptors()
    for _ in range(3):
        way(ctx, first)
    assert descriptors() <= before
    first.close()
    assert ended(second)


@pytest.mark.methods("fork")
def test_a_socket_is_withdrawn_too(ctx: Any) -> None:
    first, second = socket.socketpair()
    ctx.SimpleQueue().put(first)
    before = descriptors()
    full_nowait(ctx, first)
    full_in_time(ctx, first)
    assert descriptors() <= before
    first.close()
    assert second.recv(1) == b""
    second.close()


def test_what_is_sent_after_that_arrives(ctx: Any, pipe: Any) -> None:
    first, second = pipe
    q, back = ctx.Queue(1), ctx.Queue()
    q.put(0)
    for _ in range(20):
        with pytest.raises(queue.Full):
            q.put(first, timeout=0.001)
    assert q.get() == 0
    child = ctx.Process(target=offers.say_hello, args=(q, back))
    child.start()
    q.put(first)
    assert second.recv() == "hello"
    assert back.get(timeout=LONG) == "done"
    child.join()
    first.close()
    assert ended(second)


def test_calls_and_results_of_pools(ctx: Any, pipe: Any) -> None:
    first, second = pipe
    with ctx.Pool(1) as pool:
        assert pool.apply(offers.take, (first,)) == "done"
        assert second.recv() == "hello"
        before = descriptors()
        with pytest.raises(KeyError, match="refused"):
            pool.apply(offers.take, (first, offers.Refuses()))
        with pytest.raises(KeyError, match="refused"):
            pool.map(offers.take, [[first, offers.Refuses()]])
        assert descriptors() <= before
        assert pool.map(offers.take, [first]) == ["done"]
        assert second.recv() == "hello"
    first.close()
    assert ended(second)


def test_an_offer_of_ones_own_may_be_asked_for_later(ctx: Any) -> None:
    """When its queue is gone, too."""
    from multiprocessing import reduction

    read, write = os.pipe()
    queue = ctx.SimpleQueue()
    queue.put(reduction.DupFd(write))
    os.close(write)
    offer = queue.get()
    queue.close()
    del queue
    gc.collect()
    taken = offer.detach()
    os.write(taken, b"written")
    os.close(taken)
    assert os.read(read, 100) == b"written"
    assert os.read(read, 100) == b""
    os.close(read)


def test_a_function_with_a_connection_goes_to_every_worker(ctx: Any, pipe: Any) -> None:
    first, second = pipe
    tell = functools.partial(offers.tell, first)
    with ctx.Pool(2) as pool:
        assert pool.map(tell, range(4), chunksize=1) == [0, 1, 2, 3]
        assert pool.starmap(tell, [(5,)]) == [5]
        assert list(pool.imap(tell, [6, 7])) == [6, 7]
        assert sorted(pool.imap_unordered(tell, iter([8, 9]))) == [8, 9]
        assert sorted(second.recv() for _ in range(9)) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        pool.close()
        pool.join()
    del tell
    first.close()
    assert ended(second)


def test_tasks_that_no_worker_took(ctx: Any, pipe: Any) -> None:
    first, second = pipe
    with ctx.Pool(1) as pool:
        busy = pool.apply_async(time.sleep, (LONG,))
        for _ in range(3):
            pool.apply_async(offers.take, (first,))
        pool.terminate()
        pool.join()
        del busy
    first.close()
    assert ended(second)
