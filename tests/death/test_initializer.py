"""An initializer that raises fails the pool with that error; the standard library starts workers for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import targets
from processes import descendants, is_helper, wait_until

LONG = 50.0

CALLS: dict[str, Callable[[Any], Any]] = {
    "map": lambda pool: pool.map(targets.square, range(10)),
    "imap_unordered": lambda pool: list(pool.imap_unordered(targets.square, range(10))),
    "apply_async": lambda pool: pool.apply_async(targets.square, (1,)).get(LONG),
}


@pytest.mark.parametrize("call", CALLS)
def test_fails_the_pool_with_its_error(ctx: Any, call: str) -> None:
    before = set(descendants())
    pool = None
    # Whether the constructor already raises it, or the first call, is the pool's affair.
    with pytest.raises(RuntimeError, match="this initializer always raises") as caught:
        pool = ctx.Pool(2, targets.fail_to_initialise)
        CALLS[call](pool)
    assert "in fail_to_initialise" in str(caught.value.__cause__)
    if pool is not None:
        # It stays failed, and starts no more workers.
        with pytest.raises(RuntimeError, match="this initializer always raises"):
            CALLS[call](pool)
        wait_until(lambda: all(is_helper(pid) for pid in set(descendants()) - before), LONG)
        pool.terminate()
        pool.join()
