"""`return_exceptions` and `fail_fast`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import manyhands
import pytest
import targets
import unruly

LONG = 50.0


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


def described(results: Any) -> list[Any]:
    return [(type(r), r.args) if isinstance(r, BaseException) else r for r in results]


EXPECTED = [(ValueError, (n,)) if n % 2 else n for n in range(41)]


class TestReturnExceptions:
    @pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
    def test_map(self, pool: Any, chunksize: Any) -> None:
        results = pool.map(unruly.fail_on_odd, range(41), chunksize, return_exceptions=True)
        assert described(results) == EXPECTED
        assert "in fail_on_odd" in str(results[1].__cause__)

    def test_starmap(self, pool: Any) -> None:
        results = pool.starmap(unruly.fail_on_odd, [(n,) for n in range(41)], return_exceptions=True)
        assert described(results) == EXPECTED

    def test_map_async(self, pool: Any) -> None:
        got: list[Any] = []
        call = pool.map_async(unruly.fail_on_odd, range(41), callback=got.append, return_exceptions=True)
        assert described(call.get(LONG)) == EXPECTED
        assert call.successful()
        assert described(got[0]) == EXPECTED

    def test_starmap_async(self, pool: Any) -> None:
        call = pool.starmap_async(unruly.fail_on_odd, [(n,) for n in range(41)], return_exceptions=True)
        assert described(call.get(LONG)) == EXPECTED

    @pytest.mark.parametrize("chunksize", [1, 3, 100])
    def test_imap(self, pool: Any, chunksize: int) -> None:
        results = pool.imap(unruly.fail_on_odd, range(41), chunksize, return_exceptions=True)
        assert described(results) == EXPECTED

    def test_imap_unordered(self, pool: Any) -> None:
        results = pool.imap_unordered(unruly.fail_on_odd, iter(range(41)), return_exceptions=True)
        assert sorted(described(results), key=str) == sorted(EXPECTED, key=str)

    def test_many(self, pool: Any) -> None:
        assert pool.map(targets.square, range(20_000), return_exceptions=True) == [
            n * n for n in range(20_000)
        ]

    @pytest.mark.parametrize("chunksize", [1, 4, 10])
    def test_a_death_takes_one_place(self, pool: Any, chunksize: int) -> None:
        results = pool.map(unruly.die_on_three, range(10), chunksize, return_exceptions=True)
        assert [r for r in results if not isinstance(r, Exception)] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert isinstance(results[3], manyhands.WorkerDied)
        assert results[3].item == 3

    def test_a_terminated_pool_raises_all_the_same(self, pool: Any) -> None:
        call = pool.map_async(targets.sleep, [600, 600], return_exceptions=True)
        results = pool.imap(targets.sleep, [600, 600], return_exceptions=True)
        pool.terminate()
        for get in (call.get, results.next):
            with pytest.raises(RuntimeError, match="terminated"):
                get(LONG)


class TestFailFast:
    def run(self, pool: Any, folder: Path, chunksize: Any, count: int = 2000) -> set[int]:
        """The items that were begun; all of them would take ten seconds."""
        items = [(str(folder), number, 5) for number in range(count)]
        with pytest.raises(KeyError):
            pool.map(unruly.note_then_fail_at, items, chunksize, fail_fast=True)
        # Nothing is begun after that; the pool does other things.
        assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]
        begun = set(os.listdir(folder))
        time.sleep(0.2)
        assert set(os.listdir(folder)) == begun
        return {int(name) for name in begun}

    @pytest.mark.parametrize("chunksize", [None, 1, 10, 1000])
    def test_drops_what_was_not_begun(self, pool: Any, tmp_path: Path, chunksize: Any) -> None:
        begun = self.run(pool, tmp_path, chunksize)
        assert 5 in begun
        # Not at once: the error travels while items go on.
        assert len(begun) < 1500

    def test_the_other_jobs_go_on(self, pool: Any, tmp_path: Path) -> None:
        others = [pool.map_async(targets.square, range(100), 3) for _ in range(5)]
        stream = pool.imap(targets.square, range(100))
        self.run(pool, tmp_path, 1, 200)
        others.append(pool.map_async(targets.square, range(100), 3))
        assert all(other.get(LONG) == [n * n for n in range(100)] for other in others)
        assert list(stream) == [n * n for n in range(100)]

    def test_async_calls_back_at_once(self, pool: Any, tmp_path: Path) -> None:
        heard: list[Any] = []
        items = [((str(tmp_path), number, 0),) for number in range(2000)]
        call = pool.starmap_async(
            unruly.note_then_fail_at, items, error_callback=heard.append, fail_fast=True
        )
        call.wait(LONG)
        assert [type(error) for error in heard] == [KeyError]
        assert len(os.listdir(tmp_path)) < 1500

    def test_a_death_ends_it(self, pool: Any) -> None:
        with pytest.raises(manyhands.WorkerDied):
            pool.map(unruly.die_on_three, range(100), fail_fast=True)
        assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]

    def test_an_item_that_stays_ends_it(self, pool: Any) -> None:
        items = [unruly.Argument("parent" if number == 5 else "", number) for number in range(20)]
        with pytest.raises(ValueError, match="item 5"):
            pool.map(targets.identity, items, 1, fail_fast=True)

    def test_without_failure(self, pool: Any) -> None:
        assert pool.map(targets.square, range(5000), fail_fast=True) == [n * n for n in range(5000)]

    def test_excludes_return_exceptions(self, pool: Any) -> None:
        with pytest.raises(ValueError, match="exclude"):
            pool.map(targets.square, range(5), return_exceptions=True, fail_fast=True)

    def test_close_and_join_after_it(self, ctx: Any, tmp_path: Path) -> None:
        pool = ctx.Pool(2)
        self.run(pool, tmp_path, 3)
        pool.close()
        pool.join()
