"""Whether what came up in the middle of the pool's work was raised by the handler of a signal."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import threading
from typing import Any

__all__ = ["may_have_raised", "surely_raised"]


def _own() -> list[Any]:
    """The handlers of the program's own; none in a thread that runs none."""
    if threading.get_ident() != threading.main_thread().ident:
        return []
    handlers = map(_signal.getsignal, range(1, _signal.NSIG))
    return [each for each in handlers if callable(each) and each is not _signal.default_int_handler]


def may_have_raised(error: BaseException) -> bool:
    """Whether it may be a handler's: what is no `Exception` (`KeyboardInterrupt`, or `SystemExit`); anything at all in
    the thread that runs handlers, if the program has some of its own."""
    return not isinstance(error, Exception) or bool(_own())


def surely_raised(error: BaseException) -> bool:
    """Whether it has come through the code of a handler that is a function or a method."""
    codes = {getattr(getattr(each, "__func__", each), "__code__", None) for each in _own()} - {None}
    at = error.__traceback__ if codes else None
    while at is not None:
        if at.tb_frame.f_code in codes:
            return True
        at = at.tb_next
    return False
