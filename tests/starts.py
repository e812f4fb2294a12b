"""What workers run in the tests of starts, and pools of kinds of their own: importable by spawned children."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from manyhands.pool import Pool


def number(item: int) -> int:
    return item


def slow_number(item: int) -> int:
    time.sleep(0.01)
    return item


def die(_item: object = None) -> None:
    os._exit(3)


def die_at_20(item: int) -> int:
    if item == 20:
        os._exit(3)
    time.sleep(0.01)
    return item


#: Whether no worker of a `RefusedPool` can be started at the moment, and how often one could not be.
refusing: OSError | MemoryError | None = None
refused = 0


def _refuse() -> None:
    global refused
    refused += 1
    assert refusing is not None
    raise refusing


class RefusedPool(Pool):
    """A pool whose workers cannot be started while `refusing` says so."""

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        process = ctx.Process(*args, **kwds)
        if refusing is not None:
            process.start = _refuse
        return process


def no_descriptor() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def wrapped(target: Any, args: tuple[Any, ...]) -> None:
    """What the workers of a `WrappingPool` run."""
    os.environ["WRAPPED"] = "yes"
    target(*args)


def environment(name: str) -> str | None:
    return os.environ.get(name)


class WrappingPool(Pool):
    @staticmethod
    def Process(ctx: Any, *args: Any, target: Any = None, **kwds: Any) -> Any:
        inner = kwds.pop("args")
        process = ctx.Process(*args, target=wrapped, args=(target, inner), **kwds)
        process.name = "Process of its own"
        return process


def process_names(_item: object = None) -> tuple[str, bool]:
    from multiprocessing import current_process

    return current_process().name, current_process().daemon


def nested(count: int, method: str) -> list[int]:
    import manyhands

    with manyhands.get_context(method).Pool(2) as pool:
        return pool.map(number, range(count))


def grandchild(method: str) -> int | None:
    """A process of a worker that is no daemon may have children by any start method."""
    import manyhands

    process = manyhands.get_context(method).Process(target=number, args=(1,))
    process.start()
    process.join()
    return process.exitcode


def forever(path: str) -> None:
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    while True:
        time.sleep(1)
