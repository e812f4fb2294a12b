"""Pools in workers, pools in forked children, pools made while other threads hold locks."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import targets
import unruly
from processes import is_running, kill, wait_gone, wait_until

LONG = 50.0


class TestNested:
    def test_a_worker_may_have_a_pool(self, ctx: Any) -> None:
        method = ctx.get_start_method()
        with ctx.Pool(2) as pool:
            calls = [(method, count) for count in range(4)]
            assert pool.map(unruly.pool_inside, calls, 1) == [list(range(count)) for count in range(4)]

    @pytest.mark.parametrize("inner", ["fork", "forkserver", "spawn"])
    def test_of_any_start_method(self, ctx: Any, inner: str) -> None:
        with ctx.Pool(1) as pool:
            assert pool.apply(unruly.pool_inside, ((inner, 10),)) == list(range(10))

    def test_a_worker_may_have_a_process(self, ctx: Any) -> None:
        with ctx.Pool(1) as pool:
            assert pool.apply(unruly.process_inside, (ctx.get_start_method(),)) == (7, True)

    def test_other_daemons_may_not(self, ctx: Any) -> None:
        here, there = ctx.Pipe()
        with here, there:
            child = ctx.Process(target=targets.start_child_and_report, args=(ctx, there), daemon=True)
            child.start()
            assert "daemonic" in here.recv()
            child.join()

    @pytest.mark.parametrize("end", ["kill", "terminate", "close"])
    def test_inner_workers_end_with_theirs(self, ctx: Any, end: str) -> None:
        with ctx.Pool(1) as pool:
            pids = pool.apply(unruly.pool_left_inside, (ctx.get_start_method(),))
            assert len(pids) == 3
            if end == "kill":
                kill(pids[0])
            elif end == "terminate":
                pool.terminate()
            else:
                pool.close()
                pool.join()
            wait_gone(pids)


def in_child(check: Callable[[], None]) -> int:
    """Runs it in a child made by `os.fork`; the child's exit status, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            check()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
class TestForkedChild:
    USES: dict[str, Callable[[Any], Any]] = {
        "map": lambda pool: pool.map(targets.square, [1]),
        "map of nothing": lambda pool: pool.map(targets.square, []),
        "apply": lambda pool: pool.apply(targets.square, (1,)),
        "apply_async": lambda pool: pool.apply_async(targets.square, (1,)),
        "imap": lambda pool: pool.imap(targets.square, [1]),
        "imap of a generator": lambda pool: pool.imap(targets.square, iter([1])),
        "close": lambda pool: pool.close(),
        "terminate": lambda pool: pool.terminate(),
        "join": lambda pool: pool.join(),
    }

    @pytest.fixture
    def pool(self, ctx: Any) -> Iterator[Any]:
        with ctx.Pool(2) as pool:
            pool.map(targets.square, range(10), 1)
            yield pool
            pool.terminate()
            pool.join()

    @pytest.mark.parametrize("use", USES)
    def test_use_is_refused(self, pool: Any, use: str) -> None:
        def check() -> None:
            with pytest.raises(RuntimeError, match="belongs to the parent process"):
                self.USES[use](pool)

        assert in_child(check) == 0
        assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]

    def test_results_are_refused(self, pool: Any) -> None:
        call = pool.apply_async(targets.sleep, (1.0,))
        stream = pool.imap(targets.sleep, [1.0])

        def check() -> None:
            for use in (call.get, call.wait, call.ready, stream.next):
                with pytest.raises(RuntimeError, match="belongs to the parent process"):
                    use()

        assert in_child(check) == 0
        assert (call.get(LONG), stream.next(LONG)) == (1.0, 1.0)

    def test_its_end_leaves_the_parents_workers_alone(self, pool: Any) -> None:
        pids = set(pool.map(targets.pid, range(200), 1))
        call = pool.apply_async(targets.sleep, (0.5,))

        def leave() -> None:
            nonlocal pool
            with contextlib.suppress(SystemExit), pool:
                raise SystemExit
            import atexit
            import gc

            pool = None
            gc.collect()
            atexit._run_exitfuncs()

        assert in_child(leave) == 0
        assert call.get(LONG) == 0.5
        assert all(is_running(pid) for pid in pids)

    def test_while_other_threads_use_the_pool(self, pool: Any) -> None:
        stop = threading.Event()

        def use() -> None:
            while not stop.is_set():
                assert pool.map(targets.square, range(50)) == [n * n for n in range(50)]

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()

        def check() -> None:
            with pytest.raises(RuntimeError, match="belongs to the parent process"):
                pool.map(targets.square, [1])
            with pytest.raises(RuntimeError, match="belongs to the parent process"):
                pool.apply_async(targets.square, (1,), callback=print)

        try:
            assert [in_child(check) for _ in range(20)] == [0] * 20
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_a_child_may_make_its_own(self, pool: Any, ctx: Any) -> None:
        def check() -> None:
            with ctx.Pool(2) as own:
                assert own.map(targets.square, range(10)) == [n * n for n in range(10)]

        assert in_child(check) == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
class TestLocksOfOtherThreads:
    @pytest.fixture
    def held(self) -> Iterator[None]:
        """Another thread holds locks that a careless child would wait for."""
        ready, done = threading.Event(), threading.Event()
        handler = logging.StreamHandler()
        logging.getLogger("held").addHandler(handler)
        assert handler.lock is not None
        locks: list[Any] = [threading.Lock(), threading.RLock(), handler.lock]

        def hold() -> None:
            with contextlib.ExitStack() as stack:
                for lock in locks:
                    stack.enter_context(lock)
                ready.set()
                done.wait(LONG)

        thread = threading.Thread(target=hold)
        thread.start()
        ready.wait(LONG)
        yield
        done.set()
        thread.join()

    def test_a_pool_starts_and_works(self, ctx: Any, held: None) -> None:
        with ctx.Pool(2) as pool:
            assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]
            with pytest.raises(ValueError, match="no luck"):
                pool.apply(targets.fail)
            assert pool.map(unruly.fail_on_odd, [0, 2]) == [0, 2]
            pool.close()
            pool.join()

    def test_while_another_pool_is_busy(self, ctx: Any) -> None:
        # The other pool's locks, the arena's, the interpreter's: whatever a thread holds at the moment of the fork.
        stop = threading.Event()
        with ctx.Pool(2) as other:

            def use() -> None:
                while not stop.is_set():
                    other.map(targets.identity, [bytes(20_000)] * 20, 1)
                    other.apply_async(targets.square, (3,), callback=str).get(LONG)

            thread = threading.Thread(target=use)
            thread.start()
            try:
                for _ in range(10):
                    with ctx.Pool(2) as pool:
                        assert pool.map(targets.identity, [bytes(20_000)] * 5, 1) == [bytes(20_000)] * 5
            finally:
                stop.set()
                thread.join()

    def test_a_worker_is_replaced_meanwhile(self, ctx: Any, held: None) -> None:
        with ctx.Pool(1) as pool:
            before = pool.apply(targets.pid)
            kill(before)
            wait_gone([before])
            started = time.monotonic()
            assert pool.apply(targets.pid) != before
            assert time.monotonic() - started < LONG
            wait_until(lambda: len(pool._pool) == 1)
