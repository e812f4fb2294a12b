"""What workers send that is no result, made into exceptions for whoever waits; the other half of `_worker`."""

from __future__ import annotations

import io
import pickle
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from typing import Any

from . import _handlers
from .errors import TaskError

__all__ = ["cause_of", "decode_error", "set_cause", "shown", "undecodable"]


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """What ``raise error from cause`` does: the exception's own class has no say in it, and may refuse attributes."""
    _CAUSE.__set__(error, cause)


def cause_of(error: BaseException) -> Any:
    """The cause, whatever the exception's own class says."""
    return _CAUSE.__get__(error)


_CAUSE: Any = vars(BaseException)["__cause__"]


def decode_error(encoded: bytes) -> BaseException:
    """An exception that a worker sent, with the worker's traceback as its cause.

    One that cannot be unpickled, or that would end this program instead of the wait for the item (``SystemExit``,
    ``KeyboardInterrupt``), becomes a `TaskError`. What a signal's handler raises meanwhile is raised.
    """
    pickled, text, summary, fields = pickle.loads(encoded)
    error: BaseException
    interrupt: BaseException | None = None
    try:
        error = _unpickled(pickled)
        if not isinstance(error, BaseException):
            raise TypeError(f"not an exception but {type(error).__name__}")
        _set_missing(error, fields)
        if not isinstance(error, Exception):
            error = TaskError(summary, text, None, error)
    except _Interrupted as interrupted:
        interrupt = interrupted.by
    except Exception as refused:
        error = TaskError(summary, text, f"{type(refused).__name__}: {shown(refused)}")
    if interrupt is not None:
        # Who called this calls it once more.
        raise interrupt
    set_cause(error, RemoteTraceback(f'\n"""\n{text}"""'))
    return error


def _unpickled(pickled: bytes) -> Any:
    """What was pickled. An exception class may raise anything when it is made again; a signal's handler may, too."""
    try:
        return _load(pickled)
    except (Exception, _Interrupted):
        raise
    except BaseException:
        try:
            _load(pickled)
        except BaseException as refused:
            # Again: it is the class's own doing.
            raise TypeError(f"unpickling it raises {type(refused).__name__}") from None
        raise


def _load(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except Exception as refused:
        first = refused
    if _handlers.may_have_raised(first) and _can_be_loaded(pickled):
        raise _Interrupted(first)
    # It may have refused to be given its attributes: a frozen dataclass does.
    return _Unpickler(io.BytesIO(pickled)).load()


def _can_be_loaded(pickled: bytes) -> bool:
    try:
        pickle.loads(pickled)
    except Exception:
        return False
    return True


class _Interrupted(BaseException):
    """A signal's handler has raised in the middle."""

    def __init__(self, by: BaseException) -> None:
        super().__init__()
        self.by = by


#: The pickler in Python, whose steps can be overridden.
_InPython: Any = pickle._Unpickler


class _Unpickler(_InPython):  # type: ignore[misc]
    """Gives an exception its state as the interpreter would, and not by the class's own ``__setattr__``."""

    def load_build(self) -> None:
        error, state = self.stack[-2:]
        own = getattr(type(error), "__setstate__", None) is not BaseException.__setstate__
        if own or not isinstance(error, BaseException) or not isinstance(state, dict):
            super().load_build()
            return
        self.stack.pop()
        for name, value in state.items():
            BaseException.__setattr__(error, name, value)

    dispatch: dict[int, Any] = {**_InPython.dispatch, pickle.BUILD[0]: load_build}


def _set_missing(error: BaseException, fields: dict[str, Any]) -> None:
    """Sets fields of the interpreter's own that this version does not pickle with the exception."""
    for kind in (AttributeError, NameError):
        if isinstance(error, kind):
            for name, value in fields.items():
                field: Any = vars(kind)[name]
                if field.__get__(error) is None:
                    field.__set__(error, value)


def undecodable(refused: BaseException) -> BaseException:
    """What an item fails with whose result cannot be unpickled here."""
    error = RuntimeError(f"the result of this item cannot be unpickled here: {shown(refused)}")
    set_cause(error, refused)
    return error


def shown(error: BaseException) -> str:
    try:
        return repr(error)
    except BaseException:
        return f"<{type(error).__name__}, whose repr() fails>"
