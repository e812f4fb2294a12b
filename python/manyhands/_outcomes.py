"""What workers send that is no result, made into exceptions for whoever waits; the other half of `_worker`."""

from __future__ import annotations

import pickle
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from typing import Any

from .errors import TaskError

__all__ = ["decode_error", "undecodable"]


def decode_error(encoded: bytes) -> BaseException:
    """An exception that a worker sent, with the worker's traceback as its cause.

    One that cannot be unpickled, or that would end this program instead of the wait for the item (``SystemExit``,
    ``KeyboardInterrupt``), becomes a `TaskError`.
    """
    pickled, text, summary = pickle.loads(encoded)
    error: BaseException
    try:
        error = _unpickled(pickled)
        if not isinstance(error, BaseException):
            raise TypeError(f"not an exception but {type(error).__name__}")
        if not isinstance(error, Exception):
            error = TaskError(summary, text, None, error)
        error.__cause__ = RemoteTraceback(f'\n"""\n{text}"""')
    except Exception as refused:
        error = TaskError(summary, text, f"{type(refused).__name__}: {_shown(refused)}")
        error.__cause__ = RemoteTraceback(f'\n"""\n{text}"""')
    return error


def _unpickled(pickled: bytes) -> Any:
    """What was pickled. An exception class may raise anything when it is made again; a signal's handler may, too."""
    try:
        return pickle.loads(pickled)
    except Exception:
        raise
    except BaseException:
        try:
            pickle.loads(pickled)
        except BaseException as refused:
            # Again: it is the class's own doing.
            raise TypeError(f"unpickling it raises {type(refused).__name__}") from None
        raise


def undecodable(refused: BaseException) -> BaseException:
    """What an item fails with whose result cannot be unpickled here."""
    error = RuntimeError(f"the result of this item cannot be unpickled here: {_shown(refused)}")
    error.__cause__ = refused
    return error


def _shown(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:
        return f"<{type(error).__name__}, whose repr() fails>"
