"""What a pool and its results say of themselves and of their errors, in the standard library's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import targets

pytestmark = pytest.mark.standard


def encoding_error(ctx: Any) -> type[Exception]:
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    error: type[Exception] = MaybeEncodingError
    return error


@pytest.mark.parametrize("how", ["apply_async", "map_async", "starmap_async"])
def test_a_result_that_is_not_there_is_not_ready(ctx: Any, file_gate: Path, how: str) -> None:
    with ctx.Pool(1) as pool:
        items = (str(file_gate),)
        result = getattr(pool, how)(targets.until_gone, items if how != "starmap_async" else [items])
        with pytest.raises(ValueError, match=r"^<.* object at 0x[0-9a-f]+> not ready$") as raised:
            result.successful()
        assert str(raised.value) == f"{result!r} not ready"
        file_gate.unlink()
        result.get(30)
        assert result.successful()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_joined_pool_tells_its_size(ctx: Any, end: str) -> None:
    pool = ctx.Pool(3)
    getattr(pool, end)()
    pool.join()
    assert repr(pool).endswith(f"Pool state={end.upper()} pool_size=3>")


@pytest.mark.parametrize(
    ("how", "chunksize", "shown"),
    [
        ("map", 1, "[<refused 1>]"),
        ("map", None, "[<refused 1>]"),
        ("map", 3, "[<refused 1>, <refused 1>, <refused 1>]"),
        ("imap", 1, "<refused 1>"),
        ("imap_unordered", 1, "<refused 1>"),
    ],
)
def test_a_refused_result_is_shown_with_its_chunk(ctx: Any, how: str, chunksize: Any, shown: str) -> None:
    with ctx.Pool(1) as pool:
        with pytest.raises(encoding_error(ctx)) as raised:
            options = {} if chunksize is None else {"chunksize": chunksize}
            list(getattr(pool, how)(targets.refused, [1] * (chunksize or 1), **options))
        assert str(raised.value) == f"Error sending result: '{shown}'. Reason: 'TypeError('not pickled')'"


def test_a_refused_result_of_a_call_is_shown_itself(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        with pytest.raises(encoding_error(ctx), match=r"^Error sending result: '<refused 1>'. "):
            pool.apply(targets.refused, (1,))
        with pytest.raises(encoding_error(ctx), match=r"^Error sending result: '\[<refused 1>\]'. "):
            pool.starmap(targets.refused, [(1,)])


@pytest.mark.ours_only
@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_function_that_raises_stop_iteration_fails(ctx: Any, chunksize: int) -> None:
    """In the standard library the rest of its chunk is missing in the list."""
    with ctx.Pool(1) as pool:
        with pytest.raises(StopIteration, match=r"^2$"):
            pool.map(targets.stop_at_two, range(4), chunksize)
        results = pool.imap(targets.stop_at_two, range(4), chunksize)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(StopIteration, match=r"^2$"):
            next(results)
        assert list(results) == [3]


def test_stop_iteration_ends_who_reads_one_by_one(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        for how in (pool.imap, pool.imap_unordered):
            assert list(how(targets.stop_at_two, range(4))) == [0, 1]
        with pytest.raises(StopIteration, match=r"^2$"):
            pool.apply(targets.stop_at_two, (2,))
