"""Which executor belongs to a context."""

from __future__ import annotations

import concurrent.futures.process
from typing import Any


def executor_of(ctx: Any) -> Any:
    """The executor that belongs to a context."""
    if type(ctx).__module__.startswith("manyhands"):
        import manyhands

        return manyhands.ProcessPoolExecutor
    return concurrent.futures.process.ProcessPoolExecutor


def is_ours(ctx: Any) -> bool:
    return executor_of(ctx).__module__ == "manyhands.futures"
