"""`Pool`, as the standard library's documentation has it: `map`, `imap_unordered`, `apply_async` and its life."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from processes import is_running, wait_gone

pytestmark = pytest.mark.standard

LONG = 30.0
SHORT = 0.05


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


@pytest.fixture
def make(ctx: Any) -> Iterator[Any]:
    """Makes pools that a test may bring to whatever state; they are gone afterwards."""
    made = []

    def pool(*args: Any, **kwargs: Any) -> Any:
        made.append(ctx.Pool(*args, **kwargs))
        return made[-1]

    yield pool
    for each in made:
        each.terminate()
        each.join()
    made.clear()


class TestMap:
    def test_keeps_the_order(self, pool: Any) -> None:
        assert pool.map(targets.slow_square, range(30)) == [n * n for n in range(30)]

    @pytest.mark.parametrize("chunksize", [None, 1, 2, 3, 7, 100, 1000])
    def test_chunk_sizes(self, pool: Any, chunksize: Any) -> None:
        assert pool.map(targets.square, range(100), chunksize) == [n * n for n in range(100)]

    @pytest.mark.parametrize("empty", [[], (), "", {}, range(0)], ids=repr)
    def test_of_nothing(self, pool: Any, empty: Any) -> None:
        assert pool.map(targets.square, empty) == []

    def test_of_one(self, pool: Any) -> None:
        assert pool.map(targets.square, [5]) == [25]

    @pytest.mark.parametrize(
        "iterable",
        [iter([1, 2, 3]), (n for n in (1, 2, 3)), {1: "a", 2: "b", 3: "c"}, range(1, 4), {1, 2, 3}],
        ids=lambda value: type(value).__name__,
    )
    @pytest.mark.methods("fork")
    def test_of_any_iterable(self, pool: Any, iterable: Any) -> None:
        # The iterators are made once for all instances: a list keeps what the first has taken.
        items = list(iterable) or [1, 2, 3]
        assert pool.map(targets.square, iter(items)) == [n * n for n in items]

    def test_of_large_items(self, pool: Any) -> None:
        items = [bytes([n]) * (3 << 20) for n in range(4)]
        assert pool.map(targets.identity, items) == items

    def test_of_many_items(self, pool: Any) -> None:
        assert pool.map(targets.identity, range(20_000)) == list(range(20_000))

    def test_results_of_none_and_exceptions_as_values(self, pool: Any) -> None:
        assert pool.map(targets.nothing, [1, 2]) == [None, None]
        values = pool.map(targets.hand_back_error, ["a", "b"])
        assert [type(value) for value in values] == [ValueError, ValueError]
        assert [value.args for value in values] == [("a",), ("b",)]

    def test_uses_all_workers(self, ctx: Any) -> None:
        with ctx.Pool(2) as pool:
            pids = set(pool.map(targets.pid, range(2000), 1))
        assert os.getpid() not in pids
        assert len(pids) <= 2

    def test_not_of_something_not_iterable(self, pool: Any) -> None:
        with pytest.raises(TypeError):
            pool.map(targets.square, 3)


class TestExceptions:
    def test_is_raised_here(self, pool: Any) -> None:
        with pytest.raises(KeyError) as caught:
            pool.map(targets.fail_on_three, range(10))
        assert caught.value.args == ("item 3",)

    def test_has_the_workers_traceback_as_its_cause(self, pool: Any) -> None:
        with pytest.raises(KeyError) as caught:
            pool.apply_async(targets.fail_on, (3,)).get(LONG)
        cause = caught.value.__cause__
        assert type(cause).__name__ == "RemoteTraceback"
        assert "Traceback (most recent call last)" in str(cause)
        assert "in fail_on" in str(cause)
        assert "KeyError: 'item 3'" in str(cause)

    def test_of_one_item_leaves_the_others(self, pool: Any) -> None:
        results = pool.imap_unordered(targets.fail_on_three, range(10))
        got, errors = [], []
        while True:
            try:
                got.append(next(results))
            except StopIteration:
                break
            except KeyError as error:
                errors.append(error.args)
        assert sorted(got) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert errors == [("item 3",)]

    def test_leaves_the_pool_usable(self, pool: Any) -> None:
        for _ in range(3):
            with pytest.raises(KeyError):
                pool.map(targets.fail_on_three, range(10))
        assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]

    @pytest.mark.parametrize("call", ["map", "imap_unordered"])
    def test_of_the_iterable(self, pool: Any, call: str) -> None:
        with pytest.raises(OverflowError, match="no more numbers"):
            list(getattr(pool, call)(targets.square, targets.numbers_then_fail(5)))
        assert pool.map(targets.square, [4]) == [16]

    def test_of_a_result_that_cannot_be_pickled(self, pool: Any) -> None:
        with pytest.raises(Exception, match="pickle"):
            pool.apply_async(targets.unpicklable, (1,)).get(LONG)
        assert pool.map(targets.square, [4]) == [16]

    def test_sys_exit_is_an_exception_of_the_item(self, make: Any) -> None:
        # The standard library's worker lets SystemExit end the process where it escapes from a task, and the item
        # is never heard of again: what is standard is that exceptions of a task are Exceptions.
        pool = make(1)
        with pytest.raises(ValueError, match="plain"):
            pool.apply_async(targets.fail, ("plain",)).get(LONG)


class TestImapUnordered:
    @pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
    def test_gives_every_result_once(self, pool: Any, chunksize: int) -> None:
        results = pool.imap_unordered(targets.slow_square, range(50), chunksize)
        assert sorted(results) == [n * n for n in range(50)]

    def test_of_nothing(self, pool: Any) -> None:
        assert list(pool.imap_unordered(targets.square, [])) == []

    @pytest.mark.parametrize("chunksize", [0, -1])
    def test_chunksize_must_be_positive(self, pool: Any, chunksize: int) -> None:
        with pytest.raises(ValueError, match=r"Chunksize must be 1\+"):
            pool.imap_unordered(targets.square, range(3), chunksize)

    def test_is_an_iterator(self, pool: Any) -> None:
        results = pool.imap_unordered(targets.square, range(3))
        assert iter(results) is results
        assert sorted([next(results), next(results), next(results)]) == [0, 1, 4]
        with pytest.raises(StopIteration):
            next(results)
        with pytest.raises(StopIteration):
            next(results)

    def test_next_with_a_timeout(self, ctx: Any, pool: Any, file_gate: Path) -> None:
        results = pool.imap_unordered(targets.until_gone, [str(file_gate)])
        with pytest.raises(ctx.TimeoutError):
            results.next(timeout=0.01)
        file_gate.unlink()
        assert results.next(timeout=LONG) == str(file_gate)

    def test_results_come_while_others_are_being_made(self, pool: Any, file_gate: Path) -> None:
        results = pool.imap_unordered(targets.until_gone, [str(file_gate), "nothing"])
        assert next(results) == "nothing"
        file_gate.unlink()
        assert next(results) == str(file_gate)

    def test_two_at_once(self, pool: Any) -> None:
        first = pool.imap_unordered(targets.square, range(100))
        second = pool.imap_unordered(targets.square, range(100, 200))
        assert sorted(second) == [n * n for n in range(100, 200)]
        assert sorted(first) == [n * n for n in range(100)]


class TestApplyAsync:
    def test_get(self, pool: Any) -> None:
        assert pool.apply_async(targets.add, (2, 3)).get(LONG) == 5

    def test_arguments(self, pool: Any) -> None:
        call = pool.apply_async(targets.describe, (1, "two"), {"three": 3.0})
        assert call.get(LONG) == ((1, "two"), {"three": 3.0})
        assert pool.apply_async(targets.describe).get(LONG) == ((), {})

    def test_a_thousand(self, pool: Any) -> None:
        calls = [pool.apply_async(targets.square, (n,)) for n in range(1000)]
        assert [call.get(LONG) for call in calls] == [n * n for n in range(1000)]

    def test_get_with_a_timeout(self, ctx: Any, pool: Any, file_gate: Path) -> None:
        call = pool.apply_async(targets.until_gone, (str(file_gate),))
        with pytest.raises(ctx.TimeoutError):
            call.get(timeout=0.01)
        file_gate.unlink()
        assert call.get(timeout=LONG) == str(file_gate)

    def test_ready_and_successful(self, pool: Any, file_gate: Path) -> None:
        call = pool.apply_async(targets.until_gone, (str(file_gate),))
        assert not call.ready()
        with pytest.raises(ValueError, match="not ready"):
            call.successful()
        file_gate.unlink()
        assert call.wait(LONG) is None
        assert call.ready()
        assert call.successful()
        failing = pool.apply_async(targets.fail)
        failing.wait(LONG)
        assert failing.ready()
        assert not failing.successful()

    def test_get_may_be_repeated(self, pool: Any) -> None:
        call = pool.apply_async(targets.square, (3,))
        assert call.get(LONG) == call.get(LONG) == 9
        failing = pool.apply_async(targets.fail)
        for _ in range(2):
            with pytest.raises(ValueError, match="no luck"):
                failing.get(LONG)

    def test_callback(self, pool: Any) -> None:
        got, done = [], threading.Event()
        call = pool.apply_async(targets.square, (4,), callback=lambda value: (got.append(value), done.set()))
        assert done.wait(LONG)
        assert got == [16]
        assert call.get(LONG) == 16

    def test_error_callback(self, pool: Any) -> None:
        got: list[Any] = []
        wrong: list[Any] = []
        done = threading.Event()
        call = pool.apply_async(
            targets.fail,
            ("oh",),
            callback=wrong.append,
            error_callback=lambda error: (got.append(error), done.set()),
        )
        assert done.wait(LONG)
        assert wrong == []
        assert [type(error) for error in got] == [ValueError]
        with pytest.raises(ValueError, match="oh"):
            call.get(LONG)

    def test_error_callback_is_not_called_for_a_result(self, pool: Any) -> None:
        wrong: list[Any] = []
        assert pool.apply_async(targets.square, (2,), error_callback=wrong.append).get(LONG) == 4
        assert wrong == []


class TestInitializer:
    def test_runs_in_every_worker(self, make: Any) -> None:
        pool = make(2, targets.initialise, ("prepared",))
        assert set(pool.map(targets.initialised, range(50), 1)) == {"prepared"}

    def test_keywords(self, make: Any) -> None:
        pool = make(processes=1, initializer=targets.initialise, initargs=([1, 2],))
        assert pool.map(targets.initialised, range(2)) == [[1, 2], [1, 2]]

    def test_must_be_callable(self, ctx: Any) -> None:
        with pytest.raises(TypeError, match="initializer must be a callable"):
            ctx.Pool(1, "not callable")


class TestSize:
    @pytest.mark.parametrize("processes", [0, -1])
    def test_must_be_positive(self, ctx: Any, processes: int) -> None:
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            ctx.Pool(processes)

    def test_default_is_one_per_processor(self, ctx: Any, make: Any) -> None:
        pool = make()
        size = int(repr(pool).split("pool_size=")[1].rstrip(">"))
        assert 1 <= size <= ctx.cpu_count()

    @pytest.mark.parametrize("processes", [1, 5])
    def test_repr_tells_it(self, make: Any, processes: int) -> None:
        pool = make(processes)
        assert "Pool" in repr(pool)
        assert f"state=RUN pool_size={processes}" in repr(pool)
        pool.close()
        assert "state=CLOSE" in repr(pool)
        pool.terminate()
        assert "state=TERMINATE" in repr(pool)


class TestWorkers:
    def test_are_daemons(self, pool: Any) -> None:
        assert pool.map(targets.is_daemon, range(4)) == [True] * 4

    def test_are_our_children_or_the_fork_servers_and_end(self, ctx: Any) -> None:
        pool = ctx.Pool(2)
        pids = set(pool.map(targets.pid, range(200), 1))
        assert all(is_running(pid) for pid in pids)
        pool.close()
        pool.join()
        wait_gone(pids)


class TestLife:
    CALLS = ("map", "imap_unordered", "apply_async")

    @staticmethod
    def call(pool: Any, name: str) -> Any:
        return (
            pool.apply_async(targets.square, (1,))
            if name == "apply_async"
            else getattr(pool, name)(targets.square, [1])
        )

    @pytest.mark.parametrize("name", CALLS)
    @pytest.mark.parametrize("end", ["close", "terminate"])
    def test_no_calls_after_the_end(self, make: Any, name: str, end: str) -> None:
        pool = make(1)
        getattr(pool, end)()
        with pytest.raises(ValueError, match="Pool not running"):
            self.call(pool, name)

    def test_join_needs_close_or_terminate(self, make: Any) -> None:
        pool = make(1)
        with pytest.raises(ValueError, match="Pool is still running"):
            pool.join()

    def test_close_lets_work_be_done(self, make: Any) -> None:
        pool = make(2)
        calls = [pool.apply_async(targets.slow_square, (n,)) for n in range(50)]
        pool.close()
        pool.join()
        assert [call.get(0) for call in calls] == [n * n for n in range(50)]

    def test_terminate_does_not(self, make: Any) -> None:
        pool = make(2)
        call = pool.apply_async(targets.sleep, (600,))
        pool.terminate()
        pool.join()
        if type(call).__module__.startswith("manyhands"):
            # The standard library's stays unready for ever, and get() hangs.
            with pytest.raises(RuntimeError, match="terminated"):
                call.get(LONG)
        else:
            assert not call.ready()

    def test_terminate_with_much_to_do(self, make: Any) -> None:
        for _ in range(3):
            pool = make(2)
            for number in range(200):
                pool.apply_async(targets.square, (number,))
            pool.terminate()
            pool.join()

    def test_used_by_a_signal_handler_during_a_wait(self, make: Any) -> None:
        pool = make(2)
        got: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda *_: got.append(pool.apply(targets.square, (5,))))
        try:
            waker = threading.Timer(SHORT, os.kill, (os.getpid(), signal.SIGUSR1))
            waker.start()
            pool.apply(targets.sleep, (10 * SHORT,))
            waker.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert got == [25]

    def test_terminate_of_an_idle_one(self, make: Any) -> None:
        pool = make(3)
        pool.terminate()
        pool.join()

    @pytest.mark.parametrize("order", [("close", "close"), ("close", "terminate"), ("terminate", "close")])
    def test_ends_may_be_repeated(self, make: Any, order: tuple[str, str]) -> None:
        pool = make(1)
        for end in order:
            getattr(pool, end)()
        pool.join()
        pool.join()

    def test_context_manager_terminates(self, ctx: Any) -> None:
        started = time.monotonic()
        with ctx.Pool(1) as pool:
            assert pool.map(targets.square, [3]) == [9]
            pool.apply_async(targets.sleep, (600,))
        with pytest.raises(ValueError, match="Pool not running"):
            pool.map(targets.square, [3])
        pool.join()
        assert time.monotonic() - started < 60

    def test_context_manager_of_one_that_has_ended(self, make: Any) -> None:
        pool = make(1)
        pool.close()
        with pytest.raises(ValueError, match="Pool not running"):
            pool.__enter__()

    def test_cannot_be_pickled(self, pool: Any) -> None:
        import pickle

        with pytest.raises(
            NotImplementedError, match="pool objects cannot be passed between processes or pickled"
        ):
            pickle.dumps(pool)

    @pytest.mark.filterwarnings("always::ResourceWarning")
    def test_one_that_is_dropped_warns(self, ctx: Any) -> None:
        pools = [ctx.Pool(1)]
        pids = pools[0].map(targets.pid, range(4))

        def drop() -> None:
            pools.clear()
            gc.collect()

        with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
            drop()
        wait_gone(set(pids), LONG)

    def test_several_one_after_the_other(self, ctx: Any) -> None:
        for _ in range(5):
            with ctx.Pool(2) as pool:
                assert pool.map(targets.square, range(5)) == [0, 1, 4, 9, 16]

    def test_two_at_once(self, make: Any) -> None:
        first, second = make(1), make(1)
        one, two = first.apply_async(targets.pid), second.apply_async(targets.pid)
        assert one.get(LONG) != two.get(LONG)


class TestThreads:
    def test_many_use_one_pool(self, pool: Any) -> None:
        results: dict[int, Any] = {}

        def use(start: int) -> None:
            results[start] = pool.map(targets.square, range(start, start + 50))

        threads = [threading.Thread(target=use, args=(start,)) for start in range(0, 400, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert results == {start: [n * n for n in range(start, start + 50)] for start in range(0, 400, 50)}

    def test_made_and_ended_in_another_thread(self, ctx: Any) -> None:
        got: list[Any] = []

        def use() -> None:
            with ctx.Pool(1) as pool:
                got.extend(pool.map(targets.square, range(3)))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join(LONG)
        assert got == [0, 1, 4]
