"""How a fresh interpreter is started that becomes a child of this family."""

from __future__ import annotations

import io
import os
from multiprocessing import resource_tracker, spawn, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.reduction import ForkingPickler
from multiprocessing.spawn import (
    freeze_support,
    get_executable,
    get_preparation_data,
    set_executable,
)

from . import _install, _manyhands
from .context import _default_context

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["freeze_support", "get_executable", "get_preparation_data", "set_executable"]


def job_of(popen: Any, process_obj: Any) -> int:
    """A descriptor from which the child reads what it needs to know and what it is to do.

    `spawn.get_preparation_data` is asked through its module, because coverage and others replace it.
    """
    preparation = spawn.get_preparation_data(process_obj._name)
    buffer = io.BytesIO()
    set_spawning_popen(popen)
    try:
        ForkingPickler(buffer).dump((_install.installed(), _default_context.get_start_method()))
        ForkingPickler(buffer).dump(preparation)
        ForkingPickler(buffer).dump(process_obj)
    finally:
        set_spawning_popen(None)
    return _manyhands.job_descriptor(buffer.getvalue())


def tracker_descriptor() -> int:
    """The resource tracker's pipe: one tracker serves the whole family, as in the standard library."""
    descriptor = resource_tracker.getfd()
    assert descriptor is not None, "getfd starts the tracker"
    return descriptor


_compiled: int | None = None


def compiled_descriptor() -> int:
    """Memory in which the children of this process keep the compiled main module for one another."""
    global _compiled
    if _compiled is None:
        _compiled = _manyhands.job_descriptor(b"")
    return _compiled


#: Where this package lies: a child must find it before it is told the parent's path.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command(call: str) -> tuple[str, list[str]]:
    """Program and arguments of an interpreter with this one's flags that runs ``call``, a ``module.function(...)``."""
    module = call.partition("(")[0].rpartition(".")[0]
    code = f"import sys; sys.path.append({_HOME!r}); import {module}; {call}"
    executable = os.fsdecode(spawn.get_executable())
    flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return executable, [executable, *flags, "-c", code, "--multiprocessing-fork"]
