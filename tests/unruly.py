"""Functions for workers whose exceptions and results misbehave. As `targets`, imported by name in spawned processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing import process as processes
from typing import Any


class NeedsTwo(Exception):
    """Its pickle has one argument; it takes two."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")


class RaisesWhenUnpickled(Exception):
    def __reduce__(self) -> Any:
        return _raise, (ValueError, "not again")


class ExitsWhenUnpickled(Exception):
    def __reduce__(self) -> Any:
        return _raise, (SystemExit, 3)


class BecomesNonsense(Exception):
    def __reduce__(self) -> Any:
        return int, ("42",)


class CannotBePickled(Exception):
    def __init__(self) -> None:
        super().__init__("with a lock inside")
        self.lock = threading.Lock()


class CannotBeShown(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class ExitsWhenPickled(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit("not this way")


def _raise(cls: type[BaseException], argument: Any) -> None:
    raise cls(argument)


EXCEPTIONS: dict[str, Any] = {
    "needs two": lambda: NeedsTwo("this", "that"),
    "raises when unpickled": lambda: RaisesWhenUnpickled("original words"),
    "exits when unpickled": lambda: ExitsWhenUnpickled("original words"),
    "becomes nonsense": lambda: BecomesNonsense("original words"),
    "cannot be pickled": CannotBePickled,
    "cannot be shown": CannotBeShown,
    "exits when pickled": lambda: ExitsWhenPickled("original words"),
    "sys.exit": lambda: SystemExit(7),
    "sys.exit with words": lambda: SystemExit("leaving"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
}


def unruly_exception(kind: str) -> str:
    """Raises one of them; fine if `kind` is none of theirs."""
    if kind in EXCEPTIONS:
        raise EXCEPTIONS[kind]()
    return kind


class Result:
    """Pickled and unpickled as its class says."""

    def __init__(self, reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced() if callable(self.reduced) else self.reduced


def _nested(depth: int) -> Any:
    item: Any = ()
    for _ in range(depth):
        item = (item,)
    return item


def _refuse() -> Any:
    raise ValueError("will not be pickled")


def _recurse(depth: int = 0) -> Any:
    return _recurse(depth + 1)


RESULTS: dict[str, Any] = {
    "a lock": threading.Lock,
    "too deep": lambda: _nested(100_000),
    "__reduce__ raises": lambda: Result(_refuse),
    "__reduce__ exits": lambda: Result(lambda: sys.exit(1)),
    "unpickling raises": lambda: Result((_raise, (ValueError, "not here"))),
    "unpickling exits": lambda: Result((_raise, (SystemExit, 5))),
    "unpickling recurses": lambda: Result((_recurse, ())),
    "no result but too deep a call": _recurse,
}


def unruly_result(kind: str) -> Any:
    """Returns one of them; `kind` itself if it is none of theirs."""
    return RESULTS[kind]() if kind in RESULTS else kind


class Argument:
    """An item that a worker, or already the parent, cannot read."""

    def __init__(self, where: str, number: int) -> None:
        self.where, self.number = where, number

    def __reduce__(self) -> Any:
        if self.where == "parent":
            raise ValueError(f"item {self.number} stays here")
        if self.where == "worker":
            return _raise, (ValueError, f"item {self.number} does not arrive")
        return int, (str(self.number),)


def note_then_fail_at(item: tuple[str, int, int]) -> int:
    """Leaves a file for each item that is begun; fails at one of them, the others take a while."""
    folder, number, bad = item
    with open(os.path.join(folder, str(number)), "w"):
        pass
    if number == bad:
        raise KeyError(number)
    time.sleep(0.01)
    return number


def die_on_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_on_odd(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


def pool_inside(args: tuple[str, int]) -> list[int]:
    """A pool in a worker of a pool."""
    import manyhands

    method, count = args
    with manyhands.get_context(method).Pool(2) as pool:
        return pool.map(abs, range(count))


def process_inside(method: str) -> Any:
    import manyhands

    process = manyhands.get_context(method).Process(target=os._exit, args=(7,))
    process.start()
    process.join()
    return process.exitcode, processes.current_process().daemon


_kept: list[Any] = []


def pool_left_inside(method: str) -> list[int]:
    """Leaves a pool behind in the worker; its workers' pids."""
    import manyhands

    pool = manyhands.get_context(method).Pool(2)
    _kept.append(pool)
    return [os.getpid(), *(process.pid for process in pool._pool if process.pid)]


def sigint_handler(_item: Any = None) -> tuple[str, bool]:
    return str(signal.getsignal(signal.SIGINT)), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def interrupt_self(_item: Any = None) -> str:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except KeyboardInterrupt:
        return "interrupted"
    return "not interrupted"


def wait_to_be_interrupted(ready: Any) -> None:
    try:
        ready.set()
        time.sleep(60)
    except KeyboardInterrupt:
        os._exit(9)


def count_for_ever(number: int) -> None:
    while True:
        number += 1
