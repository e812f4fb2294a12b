"""Locks and what is made of them, sent where the standard library refuses to send them: by queues, pools, results."""

from __future__ import annotations

import gc
import pickle
import re
from typing import Any

import lockers
import manyhands
import pytest
import targets
from pickled import pickled

LONG = 30.0

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]


def make(ctx: Any, kind: str) -> Any:
    return ctx.Barrier(2) if kind == "Barrier" else getattr(ctx, kind)()


def use(kind: str, near: Any, far: lockers.Remote) -> None:
    """Shows that what one process has and what the other got are the same."""
    if kind == "Event":
        far("set")
        assert near.is_set()
        near.clear()
    elif kind == "Barrier":
        far.begin("wait")
        near.wait(LONG)
        far.answer()
    else:
        assert far("acquire") is True
        assert near.acquire(False) is False
        far("release")
        assert near.acquire(True, LONG) is True
        near.release()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestQueues:
    def test_to_a_process_that_runs_already(self, ctx: Any, kind: str, remote: Any) -> None:
        queue, thing = ctx.Queue(), make(ctx, kind)
        other = remote(queue)
        queue.put(thing)
        other("take and keep")
        other.keeps()
        use(kind, thing, other)

    def test_and_back(self, ctx: Any, kind: str) -> None:
        there, back = ctx.Queue(), ctx.SimpleQueue()
        child = ctx.Process(target=targets.echo, args=(there, back))
        child.start()
        thing = make(ctx, kind)
        there.put([thing, {"again": thing}])
        first, second = back.get()
        assert first is second["again"]
        there.put(None)
        child.join()
        assert type(first) is type(thing)
        if kind == "Event":
            first.set()
            assert thing.is_set()
        elif kind == "Barrier":
            first.abort()
            assert thing.broken
        else:
            first.acquire()
            assert lockers.in_thread(thing, "acquire", False) is False
            first.release()

    def test_a_message_keeps_it(self, ctx: Any, kind: str) -> None:
        queue = ctx.Queue()
        queue.put(make(ctx, kind))
        gc.collect()
        thing = queue.get(timeout=LONG)
        if kind == "Event":
            thing.set()
            assert thing.wait(0)
        elif kind == "Barrier":
            assert thing.parties == 2
        else:
            with thing:
                pass

    def test_many_at_once(self, ctx: Any, kind: str) -> None:
        queue = ctx.SimpleQueue()
        things = [make(ctx, kind) for _ in range(200)]
        queue.put(things)
        assert len(queue.get()) == 200

    def test_is_the_same_lock_in_this_process_too(self, ctx: Any) -> None:
        queue = ctx.SimpleQueue()
        rlock = ctx.RLock()
        queue.put(rlock)
        again = queue.get()
        with rlock, again:
            assert repr(again) == "<RLock(MainProcess, 2)>"
        assert repr(rlock) == "<RLock(None, 0)>"


class TestPools:
    def test_as_an_argument(self, ctx: Any) -> None:
        lock, rlock = ctx.Lock(), ctx.RLock()
        with ctx.Pool(2) as pool:
            assert pool.map(lockers.acquire_for_a_moment, [lock, rlock] * 20) == [True] * 40
            with lock:
                assert pool.apply(lockers.try_acquire, (lock,)) is False

    def test_as_a_result(self, ctx: Any) -> None:
        lock, event = ctx.Lock(), ctx.Event()
        with ctx.Pool(2) as pool:
            lock.acquire()
            back = pool.apply(lockers.released, (lock,))
            assert back.acquire(False) is True
            assert lock.acquire(False) is False
            assert pool.apply(lockers.set_event, (event,)).is_set()
            assert event.is_set()

    def test_made_in_a_worker(self, ctx: Any) -> None:
        """It outlives the worker."""
        with ctx.Pool(1) as pool:
            lock = pool.apply(lockers.make_lock, (ctx.get_start_method(),))
        assert lock.acquire(False) is True
        lock.release()

    def test_in_a_partial_and_a_closure(self, ctx: Any) -> None:
        lock, counter = ctx.Lock(), ctx.RawArray("i", 1)

        def count(_item: int) -> None:
            with lock:
                counter[0] += 1

        with ctx.Pool(2) as pool:
            pool.map(count, range(200))
        assert counter[0] == 200

    def test_through_an_executor(self, ctx: Any) -> None:
        from executors import executor_of

        lock = ctx.Lock()
        with executor_of(ctx)(2, mp_context=ctx) as executor:
            assert list(executor.map(lockers.acquire_for_a_moment, [lock] * 20)) == [True] * 20


class TestPipes:
    def test_a_message_of_a_pipe(self, ctx: Any, kind: str) -> None:
        """A pipe keeps nothing alive: its sender has to."""
        near, far = ctx.Pipe()
        thing = make(ctx, kind)
        near.send(thing)
        assert type(far.recv()) is type(thing)
        near.close()
        far.close()


class TestPickles:
    def test_one_that_is_gone_cannot_be_opened(self, ctx: Any, kind: str) -> None:
        thing = make(ctx, kind)
        text = pickled(thing)
        assert type(pickle.loads(text)) is type(thing)
        del thing
        gc.collect()
        with pytest.raises((RuntimeError, OSError, ValueError)):
            pickle.loads(text)

    def test_of_a_nonsense_handle(self, ctx: Any) -> None:
        lock = ctx.Lock()
        state = lock._handle()
        for wrong in (0, 0), (1 << 40, 1), (state[0], state[1] + 1), (state[0] + 64, state[1]):
            with pytest.raises((RuntimeError, OSError, ValueError)):
                type(lock).__new__(type(lock)).__setstate__(wrong)
        semaphore = ctx.Semaphore()
        with pytest.raises((RuntimeError, OSError, ValueError)):
            type(semaphore).__new__(type(semaphore)).__setstate__(state)


def blocks_held() -> int:
    gc.collect()
    found = re.search(r"in (\d+) held block", manyhands.doctor() or "")
    assert found is not None
    return int(found[1])


class TestLifetime:
    def test_goes_with_its_last_holder(self, ctx: Any, kind: str) -> None:
        kept = make(ctx, "Lock")
        before = blocks_held()
        queue = ctx.SimpleQueue()
        things = [make(ctx, kind) for _ in range(20)]
        queue.put(things)
        again = queue.get()
        assert blocks_held() > before
        del things
        assert blocks_held() > before
        del again, queue
        assert blocks_held() == before
        with kept:
            pass

    def test_is_kept_for_a_child_that_was_given_it(self, ctx: Any, remote: Any) -> None:
        lock = ctx.Lock()
        other = remote(lock)
        del lock
        gc.collect()
        assert other("acquire") is True
        other("release")

    def test_taken_and_dropped_it_stays_taken(self, ctx: Any, remote: Any) -> None:
        """Who drops a lock that it holds has not been killed."""
        lock = ctx.Lock()
        other = remote(lock)
        lock.acquire()
        del lock
        gc.collect()
        assert other("acquire", True, 0.05) is False
        other("release")
        assert other("acquire", False) is True
