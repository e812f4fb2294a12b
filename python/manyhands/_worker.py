"""What a pool worker's process runs. Light to import: a spawned worker imports nothing else of manyhands' Python."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the built-in half of signal, without its imports
import sys

from . import _manyhands
from ._pickler import dumps, dumps_alone

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Address", "call_each", "main", "serve_calls", "unreadable_call"]


class Address:
    """How a worker finds its pool: the pool's handle in shared memory, and the bell's descriptor.

    The descriptor is inherited by ``fork``, and passed on when the address is pickled for a child that is being
    started.
    """

    def __init__(self, pool: tuple[int, int], bell: Any) -> None:
        self.pool = pool
        self.bell = bell

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.context import get_spawning_popen
        from multiprocessing.reduction import DupFd

        passed: Any = DupFd(self.bell)
        popen: Any = get_spawning_popen()
        if popen.method == "spawn":
            # The number itself, which the child has too: the class around it would cost the child its imports.
            passed = passed.detach()
        return Address, (self.pool, passed)

    def descriptor(self) -> int:
        """The bell's descriptor in this process."""
        return self.bell if isinstance(self.bell, int) else int(self.bell.detach())


def main(
    address: Address,
    seat: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    most_tasks: int,
) -> None:
    """Make ready, then work until the pool wants the worker to leave, or for ``most_tasks`` tasks (0: no limit).

    SIGINT is blocked when this begins and does what it does in any program from then on, except that a worker without
    a task does not end of it, and that no worker writes a traceback of Ctrl-C: the pool's process has got it too.
    """
    try:
        from multiprocessing.process import current_process

        if getattr(current_process(), "_lets_sigint_in", False):
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))
        worker = _manyhands.Worker(
            address.pool, seat, address.descriptor(), encode_error, encode_result_error
        )
        if initializer is not None:
            _initialise(worker, initializer, initargs)
        worker.run(most_tasks)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)


#: The exit status of a worker that Ctrl-C ended: as a shell shows it.
INTERRUPTED = 130


def _initialise(
    worker: _manyhands.Worker, initializer: Callable[..., object], initargs: tuple[Any, ...]
) -> None:
    try:
        initializer(*initargs)
    except KeyboardInterrupt:
        # The pool's process has got it too.
        raise
    except BaseException as error:
        worker.unready(encode_error(error))
        sys.exit(1)


def serve_calls(
    address: Address,
    seat: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    most_calls: int,
) -> None:
    """As `main`, for an executor's worker: errors reach futures as the standard library's executor has them."""
    worker = _manyhands.Worker(address.pool, seat, address.descriptor(), _encode_call_error, _encode_refusal)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            from concurrent.futures._base import LOGGER

            LOGGER.critical("Exception in initializer:", exc_info=True)
            worker.unready(encode_error(error))
            sys.exit(1)
    worker.run(most_calls)


def make_unready(process_obj: Any, reason: Exception) -> bool:
    """If that process is a worker: all that it will do is tell its pool why it cannot work."""
    if process_obj._target is not main and process_obj._target is not serve_calls:
        return False
    process_obj._target, process_obj._args = _tell, (*process_obj._args[:2], reason)
    return True


def _tell(address: Address, seat: int, reason: Exception) -> None:
    worker = _manyhands.Worker(address.pool, seat, address.descriptor(), encode_error, encode_result_error)
    worker.unready(encode_error(reason))
    sys.exit(1)


def call(func: Callable[..., Any], args: Any, kwds: Any) -> Any:
    """A call whose arguments are no tuple and dict; perhaps an error."""
    return func(*args, **kwds)


def call_task(whole: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
    """A task as recipes put it into a pool's ``_taskqueue``."""
    func, args, kwds = whole
    return func(*args, **kwds)


def call_with(whole: tuple[Callable[..., Any], Any, bool]) -> Any:
    """A call whose function goes with its item."""
    func, item, star = whole
    return func(*item) if star else func(item)


def call_each(func: Callable[..., Any], groups: list[tuple[Any, ...]]) -> list[Any]:
    """A chunk of an executor's `map`."""
    return [func(*group) for group in groups]


def unreadable_call(error: BaseException) -> BaseException:
    """What a call fails with whose function or arguments cannot be unpickled in the worker; the standard library's
    worker dies of it."""
    from concurrent.futures.process import BrokenProcessPool

    told = BrokenProcessPool(f"the worker cannot unpickle this call: {_shown(error, repr)}")
    told.__cause__ = error
    return told


def _encode_call_error(error: BaseException) -> bytes:
    """As `encode_error`; an exception that cannot be pickled is replaced by the reason why not."""
    try:
        _dumps_of_error(error)
    except BaseException as refused:
        error = refused
    return encode_error(error)


def _encode_refusal(refused: BaseException, _result: object) -> bytes:
    return encode_error(refused)


def encode_error(error: BaseException) -> bytes:
    """An exception as bytes: its pickle and, outside it, its traceback as text, which survives a bad pickle."""
    text = _traceback_of(error)
    try:
        pickled = _dumps_of_error(error)
    except BaseException as refused:
        pickled = dumps_alone(_unsendable(refused, error))
    summary = f"{type(error).__module__}.{type(error).__qualname__}: {_shown(error, str)}"
    return dumps((pickled, text, summary, _fields_of(error)))


def _dumps_of_error(error: BaseException) -> bytes:
    try:
        return dumps_alone(error)
    except KeyboardInterrupt:
        # A signal; or the exception's own doing, and then it comes again.
        return dumps_alone(error)


def _fields_of(error: BaseException) -> dict[str, str]:
    """What not every version of Python pickles with an exception of its own."""
    for kind in (AttributeError, NameError):
        if isinstance(error, kind):
            name = vars(kind)["name"].__get__(error)
            return {"name": name} if type(name) is str else {}
    return {}


def encode_result_error(refused: BaseException, result: object) -> bytes:
    """A result that cannot be pickled, as the exception that says so."""
    wrapped = _unsendable(refused, result)
    return dumps((dumps_alone(wrapped), _traceback_of(refused), str(wrapped), {}))


def _unsendable(refused: BaseException, value: object) -> BaseException:
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    error: BaseException = MaybeEncodingError(_Shown(refused), _Shown(value))
    return error


class _Shown:
    """Something whose ``repr`` may fail: of a result that is nested too deeply, say."""

    def __init__(self, value: object) -> None:
        self._text = _shown(value, repr)

    def __repr__(self) -> str:
        return self._text


def _shown(value: object, how: Callable[[Any], str]) -> str:
    try:
        return how(value)
    except BaseException as error:
        return f"<{type(value).__name__}, whose {how.__name__}() raises {type(error).__name__}>"


def _traceback_of(error: BaseException) -> str:
    import traceback

    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException as refused:
        # The exception will not be looked at (its ``__bool__`` raises, say): where it was raised can be shown.
        frames = "".join(traceback.format_tb(vars(BaseException)["__traceback__"].__get__(error)))
        said = f"{type(error).__name__} (it cannot be shown: {type(refused).__name__})\n"
        return f"Traceback (most recent call last):\n{frames}{said}"
