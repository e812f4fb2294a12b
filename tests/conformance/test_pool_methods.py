"""The rest of `Pool`'s methods, as the standard library's documentation has them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets

pytestmark = pytest.mark.standard

LONG = 30.0


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


class TestApply:
    def test_returns_the_result(self, pool: Any) -> None:
        assert pool.apply(targets.describe, (1, 2), {"three": 3}) == ((1, 2), {"three": 3})

    def test_raises(self, pool: Any) -> None:
        with pytest.raises(ValueError, match="no luck"):
            pool.apply(targets.fail)


class TestStarmap:
    @pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
    def test_unpacks_items(self, pool: Any, chunksize: Any) -> None:
        pairs = [(n, 2 * n) for n in range(50)]
        assert pool.starmap(targets.add, pairs, chunksize) == [3 * n for n in range(50)]

    def test_of_nothing(self, pool: Any) -> None:
        assert pool.starmap(targets.add, []) == []

    def test_raises(self, pool: Any) -> None:
        with pytest.raises(KeyError):
            pool.starmap(targets.fail_on, [(n, 3) for n in range(10)])

    def test_async(self, pool: Any) -> None:
        assert pool.starmap_async(targets.add, [(1, 2), (3, 4)]).get(LONG) == [3, 7]


class TestMapAsync:
    def test_result(self, pool: Any) -> None:
        call = pool.map_async(targets.square, range(100), 7)
        assert call.get(LONG) == [n * n for n in range(100)]
        assert call.ready()
        assert call.successful()

    def test_times_out(self, ctx: Any, pool: Any, file_gate: Path) -> None:
        call = pool.map_async(targets.until_gone, [str(file_gate)])
        with pytest.raises(ctx.TimeoutError):
            call.get(0.01)
        file_gate.unlink()
        assert call.get(LONG) == [str(file_gate)]

    def test_failing(self, pool: Any) -> None:
        call = pool.map_async(targets.fail_on_three, range(10))
        call.wait(LONG)
        assert call.ready()
        assert not call.successful()
        with pytest.raises(KeyError):
            call.get(LONG)

    @pytest.mark.parametrize("items", [[1, 2, 3], []], ids=len)
    def test_callback(self, pool: Any, items: list[int]) -> None:
        got: list[Any] = []
        call = pool.map_async(targets.square, items, callback=got.append)
        assert call.get(LONG) == [n * n for n in items]
        if items:
            assert got == [[n * n for n in items]]

    def test_error_callback(self, pool: Any) -> None:
        got: list[Any] = []
        call = pool.starmap_async(
            targets.fail_on, [(n, 3) for n in range(10)], callback=got.append, error_callback=got.append
        )
        call.wait(LONG)
        assert [type(error) for error in got] == [KeyError]

    def test_the_result_keeps_the_pool(self, ctx: Any) -> None:
        # Nobody else does.
        assert ctx.Pool(1).map_async(targets.square, range(10)).get(LONG) == [n * n for n in range(10)]


class TestImap:
    @pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
    def test_keeps_the_order(self, pool: Any, chunksize: int) -> None:
        results = pool.imap(targets.slow_square, range(30), chunksize)
        assert list(results) == [n * n for n in range(30)]

    def test_goes_on_behind_an_error(self, pool: Any) -> None:
        results = pool.imap(targets.fail_on_three, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError):
            next(results)
        assert list(results) == [4, 5]

    def test_times_out(self, ctx: Any, pool: Any, file_gate: Path) -> None:
        results = pool.imap(targets.until_gone, [str(file_gate), "nothing"])
        with pytest.raises(ctx.TimeoutError):
            results.next(timeout=0.01)
        file_gate.unlink()
        assert [results.next(LONG), results.next(LONG)] == [str(file_gate), "nothing"]

    def test_of_a_generator(self, pool: Any) -> None:
        assert list(pool.imap(targets.square, (n for n in range(20)))) == [n * n for n in range(20)]

    def test_an_error_of_the_iterable_stands_at_its_place(self, pool: Any) -> None:
        results = pool.imap(targets.square, targets.numbers_then_fail(5))
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(OverflowError, match="no more numbers"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


class TestCallbacks:
    def test_run_in_another_thread(self, pool: Any) -> None:
        # So a lock that the waiting thread holds may be taken by a callback of something else.
        ran: list[int] = []
        for _ in range(20):
            pool.apply_async(targets.nothing, callback=lambda _: ran.append(threading.get_ident()))
        pool.close()
        pool.join()
        assert len(ran) == 20
        assert threading.get_ident() not in ran

    def test_may_submit(self, pool: Any) -> None:
        done = threading.Event()
        later: list[Any] = []

        def more(value: int) -> None:
            later.append(value)
            if len(later) < 50:
                pool.apply_async(targets.add, (value, 1), callback=more)
            else:
                done.set()

        pool.apply_async(targets.add, (0, 1), callback=more)
        assert done.wait(LONG)
        assert later == list(range(1, 51))

    def test_may_terminate(self, ctx: Any) -> None:
        pool = ctx.Pool(2)
        ended = threading.Event()

        def end(_result: Any) -> None:
            pool.terminate()
            ended.set()

        pool.apply_async(targets.nothing, callback=end)
        assert ended.wait(LONG)
        pool.join()

    def test_are_over_when_get_returns(self, pool: Any) -> None:
        for number in range(100):
            got: list[int] = []
            pool.apply_async(targets.square, (number,), callback=got.append).get(LONG)
            assert got == [number * number]

    def test_are_over_when_join_returns(self, ctx: Any) -> None:
        got: list[int] = []
        pool = ctx.Pool(2)
        for number in range(200):
            pool.apply_async(targets.square, (number,), callback=got.append)
        pool.close()
        pool.join()
        assert sorted(got) == [n * n for n in range(200)]


class TestMaxTasksPerChild:
    def test_counts_calls(self, ctx: Any) -> None:
        with ctx.Pool(1, maxtasksperchild=3) as pool:
            pids = [pool.apply(targets.pid) for _ in range(9)]
            assert len(set(pids)) == 3
            assert pids[0] == pids[2] != pids[3]

    def test_counts_chunks(self, ctx: Any) -> None:
        # 16 items, 2 workers: 8 chunks of 2, as many in each run on each machine.
        with ctx.Pool(2, maxtasksperchild=1) as pool:
            pids = pool.map(targets.pid, range(16))
        assert len(set(pids)) == 8
        assert all(pids[n] == pids[n + 1] for n in range(0, 16, 2))

    def test_counts_given_chunks(self, ctx: Any) -> None:
        with ctx.Pool(1, maxtasksperchild=2) as pool:
            pids = pool.map(targets.pid, range(12), chunksize=3)
        assert len(set(pids)) == 2

    @pytest.mark.parametrize("wrong", [0, -1, 1.5])
    def test_must_be_a_positive_int(self, ctx: Any, wrong: Any) -> None:
        with pytest.raises(ValueError, match="maxtasksperchild"):
            ctx.Pool(1, maxtasksperchild=wrong)
