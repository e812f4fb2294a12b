"""Ends of a pool, and waits on it, in any order and from anywhere: all of them come to an end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from processes import wait_gone

LONG = 50.0


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


class Unpickles:
    """Calls something when it is unpickled here; a worker hands it back as it came."""

    calls: list[Callable[[], Any]] = []
    got: list[Any] = []

    def __reduce__(self) -> Any:
        return _unpickle, (os.getpid(),)


def _unpickle(_made_by: int) -> Unpickles:
    if Unpickles.calls:
        try:
            Unpickles.got.append(Unpickles.calls.pop()())
        except Exception as error:
            Unpickles.got.append(error)
    return Unpickles()


@pytest.fixture
def when_unpickled() -> Iterator[Callable[[Callable[[], Any]], list[Any]]]:
    """Has something called, in the parent, while a result is unpickled; what it gave."""

    def arrange(call: Callable[[], Any]) -> list[Any]:
        Unpickles.got.clear()
        Unpickles.calls[:] = [call]
        return Unpickles.got

    yield arrange
    Unpickles.calls.clear()
    Unpickles.got.clear()


@pytest.mark.methods("fork")
class TestWithinTheWait:
    """Workers inherit an empty list of calls: only the parent does something."""

    WAITS: dict[str, Callable[[Any], Any]] = {
        "map": lambda pool: pool.map(targets.square, range(5), 1),
        "apply": lambda pool: [pool.apply(targets.square, (n,)) for n in range(5)],
        "imap": lambda pool: list(pool.imap(targets.square, range(5))),
        "with callback": lambda pool: [
            pool.apply_async(targets.square, (n,), callback=str).get(LONG) for n in range(5)
        ],
        "many": lambda pool: pool.map(targets.square, range(10_000), 1)[:5],
    }

    @pytest.mark.parametrize("wait", WAITS)
    def test_may_wait_for_something_else(self, pool: Any, when_unpickled: Any, wait: str) -> None:
        got = when_unpickled(lambda: self.WAITS[wait](pool))
        results = pool.map(targets.identity, [Unpickles()] * 20 + list(range(500)), 1)
        assert got == [[0, 1, 4, 9, 16]]
        assert results[20:] == list(range(500))

    def test_may_wait_for_what_is_being_collected(self, pool: Any, when_unpickled: Any) -> None:
        # The answers of both calls may lie in the same batch.
        for _ in range(20):
            others = [pool.map_async(targets.square, range(200), 1) for _ in range(3)]
            got = when_unpickled(lambda others=others: [other.get(LONG)[5] for other in others])
            pool.apply(targets.identity, (Unpickles(),))
            assert got == [[25, 25, 25]]

    def test_may_not_wait_for_itself(self, pool: Any, when_unpickled: Any) -> None:
        call = pool.map_async(targets.identity, [Unpickles(), 1, 2], 1)
        got = when_unpickled(lambda: call.get())
        assert call.get(LONG)[1:] == [1, 2]
        assert isinstance(got[0], RuntimeError)
        assert "wait would be for itself" in str(got[0])

    def test_may_terminate(self, ctx: Any, when_unpickled: Any) -> None:
        pool = ctx.Pool(2)
        when_unpickled(pool.terminate)
        with pytest.raises(RuntimeError, match="terminated"):
            pool.map(targets.identity, [Unpickles(), *range(100)], 1)
        pool.join()

    def test_may_not_join(self, ctx: Any, when_unpickled: Any) -> None:
        pool = ctx.Pool(2)

        def end() -> None:
            pool.close()
            pool.join()

        got = when_unpickled(end)
        assert pool.map(targets.identity, [Unpickles(), *range(100)], 1)[1:] == list(range(100))
        assert isinstance(got[0], RuntimeError)
        pool.join()

    def test_a_finalizer_may_use_the_pool(self, pool: Any) -> None:
        got: list[Any] = []

        class Cycle:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                with contextlib.suppress(ValueError):
                    got.append(pool.apply(targets.square, (3,)))

        before = gc.get_threshold()
        gc.set_threshold(5)
        try:
            for _ in range(50):
                Cycle()
                assert pool.map(targets.describe, range(20), 1)
        finally:
            gc.set_threshold(*before)
            gc.collect()
        assert set(got) == {9}
        assert len(got) == 50


class TestCallbacks:
    def run(self, pool: Any, act: Callable[[Any], Any]) -> Any:
        """What `act` gives, or raises, inside a callback."""
        got: list[Any] = []
        over = threading.Event()

        def callback(_result: Any) -> None:
            try:
                got.append(act(call))
            except Exception as error:
                got.append(error)
            finally:
                over.set()

        submitted = threading.Event()
        call: Any = None

        def late(result: Any) -> None:
            submitted.wait(LONG)
            callback(result)

        call = pool.apply_async(targets.square, (4,), callback=late)
        submitted.set()
        assert over.wait(LONG)
        return got[0]

    def test_may_use_the_pool(self, pool: Any) -> None:
        assert self.run(pool, lambda _: pool.map(targets.square, range(5))) == [0, 1, 4, 9, 16]
        assert self.run(pool, lambda _: list(pool.imap(targets.square, iter(range(5))))) == [0, 1, 4, 9, 16]

    def test_may_wait_for_a_call_with_a_callback(self, pool: Any) -> None:
        heard: list[int] = []

        def act(_call: Any) -> int:
            result: int = pool.apply_async(targets.square, (5,), callback=heard.append).get(LONG)
            return result

        assert self.run(pool, act) == 25
        assert heard == [25]

    def test_may_ask_for_its_own_result(self, pool: Any) -> None:
        assert self.run(pool, lambda call: call.get()) == 16

    def test_may_close_but_not_join(self, ctx: Any) -> None:
        pool = ctx.Pool(2)

        def act(_call: Any) -> None:
            pool.close()
            pool.join()

        assert isinstance(self.run(pool, act), RuntimeError)
        pool.join()

    def test_may_terminate_and_join(self, ctx: Any) -> None:
        pool = ctx.Pool(2)

        def act(_call: Any) -> str:
            pool.terminate()
            pool.join()
            return "joined"

        assert self.run(pool, act) == "joined"
        pool.join()

    def test_one_that_blocks_does_not_block_the_end(self, ctx: Any) -> None:
        pool = ctx.Pool(2)
        inside, go = threading.Event(), threading.Event()

        def block(_result: Any) -> None:
            inside.set()
            go.wait(LONG)

        pool.apply_async(targets.nothing, callback=block)
        other = pool.apply_async(targets.sleep, (600,))
        assert inside.wait(LONG)
        pool.terminate()
        with pytest.raises(RuntimeError, match="terminated"):
            other.get(LONG)
        go.set()
        pool.join()

    def test_one_may_take_a_lock_that_the_waiter_holds(self, pool: Any) -> None:
        lock = threading.Lock()

        def callback(_result: Any) -> None:
            with lock:
                pass

        with lock:
            calls = [pool.apply_async(targets.square, (n,), callback=callback) for n in range(10)]
            assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]
        for call in calls:
            call.get(LONG)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
    def test_one_that_raises_stops_nothing(self, pool: Any, error: Any) -> None:
        def callback(_result: Any) -> None:
            raise error("in a callback")

        calls = [pool.apply_async(targets.square, (n,), callback=callback) for n in range(5)]
        assert [call.get(LONG) for call in calls] == [0, 1, 4, 9, 16]


class TestThreads:
    def test_ends_while_others_wait(self, ctx: Any) -> None:
        pool = ctx.Pool(2)
        raised: list[Any] = []

        def wait(call: Callable[[], Any]) -> None:
            try:
                call()
            except (RuntimeError, ValueError) as error:
                raised.append(error)

        calls: list[Callable[[], Any]] = [
            lambda: pool.map(targets.sleep, [600] * 4, 1),
            lambda: pool.apply(targets.sleep, (600,)),
            lambda: list(pool.imap(targets.sleep, [600] * 4)),
            lambda: list(pool.imap(targets.sleep, (600 for _ in range(4)))),
            lambda: pool.apply_async(targets.sleep, (600,), callback=print).get(),
        ]
        threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        pool.apply_async(targets.nothing).wait(0.3)
        pool.terminate()
        for thread in threads:
            thread.join(LONG)
        assert len(raised) == len(calls)
        pool.join()

    def test_every_thread_ends_it(self, ctx: Any) -> None:
        pool = ctx.Pool(2)
        for number in range(50):
            pool.apply_async(targets.square, (number,), callback=str)
        errors: list[Any] = []

        def end(how: str) -> None:
            try:
                getattr(pool, how)()
                pool.join()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=end, args=(how,)) for how in ("close", "terminate") * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()
        assert errors == []


class TestSignals:
    @pytest.mark.parametrize("end", ["terminate", "close"])
    def test_a_handler_may_end_the_pool(self, ctx: Any, end: str) -> None:
        pool = ctx.Pool(2)
        before = signal.signal(signal.SIGUSR1, lambda *_: getattr(pool, end)())
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        try:
            timer.start()
            with contextlib.suppress(RuntimeError):
                pool.map(targets.sleep, [0.3] * 4, 1)
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, before)
        pool.join()

    def test_a_handler_that_raises_leaves_the_pool_usable(self, pool: Any) -> None:
        class Enough(BaseException):
            pass

        def stop(*_: Any) -> None:
            raise Enough

        before = signal.signal(signal.SIGUSR1, stop)
        killer = threading.Event()

        def pester() -> None:
            while not killer.wait(0.002):
                os.kill(os.getpid(), signal.SIGUSR1)

        thread = threading.Thread(target=pester)
        interrupted = 0
        try:
            thread.start()
            while interrupted < 100:
                try:
                    while True:
                        pool.map(targets.describe, range(300), 1)
                except Enough:
                    interrupted += 1
        except Enough:
            pass
        finally:
            while thread.is_alive():
                with contextlib.suppress(Enough):
                    killer.set()
                    thread.join()
            signal.signal(signal.SIGUSR1, before)
        assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestGarbage:
    def test_a_pool_that_its_own_things_lead_back_to(self, ctx: Any) -> None:
        class Holder:
            pool: Any = None

            def note(self, _result: Any) -> None:
                """Leads back to the pool while the job is there."""

        holder = Holder()
        pool = ctx.Pool(1, targets.nothing, (weakref.ref,))
        holder.pool = pool
        call = pool.map_async(targets.identity, [1], callback=holder.note)
        call.get(LONG)
        pids = [process.pid for process in pool._pool]
        gone = weakref.ref(pool._core)
        del pool, holder, call
        gc.collect()
        wait_gone(pids)
        gc.collect()
        assert gone() is None

    def test_one_with_work_to_do_is_not_dropped(self, ctx: Any) -> None:
        call = ctx.Pool(2).map_async(targets.sleep, [0.1] * 4, 1)
        gc.collect()
        assert call.get(LONG) == [0.1] * 4

    def test_iterators_keep_it_too(self, ctx: Any) -> None:
        assert list(ctx.Pool(2).imap(targets.square, iter(range(20)))) == [n * n for n in range(20)]

    def test_dropped_in_a_callback(self, ctx: Any) -> None:
        pools = [ctx.Pool(1)]
        pids = [process.pid for process in pools[0]._pool]
        over = threading.Event()

        def drop(_result: Any) -> None:
            pools.clear()
            gc.collect()
            over.set()

        pools[0].apply_async(targets.nothing, callback=drop)
        assert over.wait(LONG)
        gc.collect()
        wait_gone(pids)


EXITS = """
import atexit, os, sys, threading, time
import manyhands
import targets

if __name__ == "__main__":
    method, how = sys.argv[1:]
    ctx = manyhands.get_context(method)
    if how == "atexit":
        atexit.register(lambda: pool.terminate())
    if how == "atexit join":
        atexit.register(lambda: (pool.close(), pool.join()))
    pool = ctx.Pool(2)
    call = pool.map_async(targets.sleep, [0.2 if how == "atexit join" else 600] * 4, 1, callback=print)
    stream = pool.imap(targets.square, iter(int, 1))
    if how == "atexit join":
        stream = None
        pool = ctx.Pool(2)
    if how == "callback":
        pool.apply_async(abs, (1,), callback=lambda _: time.sleep(600))
    if how == "thread":
        threading.Thread(target=lambda: list(stream), daemon=True).start()
        threading.Thread(target=lambda: pool.map(targets.sleep, [600], 1), daemon=True).start()
    time.sleep(0.3)
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        raise ValueError("the end")
    if how == "module":
        sys.modules["kept"] = pool
    if how == "deleted":
        del pool, call, stream
"""


@pytest.mark.parametrize(
    "how", ["end", "exit", "raise", "atexit", "atexit join", "callback", "thread", "module", "deleted"]
)
def test_interpreter_exit(ctx: Any, tmp_path: Path, how: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(EXITS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), ctx.get_start_method(), how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == {"exit": 3, "raise": 1}.get(how, 0), done.stderr
    assert done.stderr.count("Traceback") == (how == "raise"), done.stderr
