"""`install`: our contexts, processes, queues and pools in place of the standard library's."""

from __future__ import annotations

from typing import Any

__all__ = ["install", "installed"]

_installed = False


def installed() -> bool:
    """Whether `install` was called in this process, or in one it descends from."""
    return _installed


def install() -> None:
    """Put what manyhands has in place of the standard library's, in this interpreter and its children.

    Replaced are the contexts, ``Process``, ``Queue``, ``SimpleQueue`` and ``Pool``, wherever the ``multiprocessing``
    package and its submodules name them; everything else stays. Call it before other modules take names out of
    ``multiprocessing``. Calling it again does nothing.
    """
    global _installed
    if _installed:
        return
    # The standard library's executor is built on its own queues: it must have taken them before they are replaced.
    import concurrent.futures.process  # noqa: F401
    import multiprocessing
    import multiprocessing.context
    import multiprocessing.forkserver
    import multiprocessing.pool
    import multiprocessing.process
    import multiprocessing.queues

    from . import context, forkserver, pool, process, queues

    _installed = True
    _take_over_start_method(multiprocessing.context, context)
    _replace(multiprocessing.context, context, _CONTEXT_NAMES)
    _replace(multiprocessing.process, process, ["active_children", "current_process", "parent_process"])
    _replace(multiprocessing.queues, queues, ["Queue", "SimpleQueue"])
    _replace(multiprocessing.pool, pool, _POOL_NAMES)
    _replace(multiprocessing.forkserver, forkserver, _FORKSERVER_NAMES)
    default = context._default_context
    for name in multiprocessing.__all__:
        setattr(multiprocessing, name, getattr(default, name))


_CONTEXT_NAMES = [
    "BaseContext",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "SpawnContext",
    "SpawnProcess",
    "_concrete_contexts",
    "_default_context",
    "_force_start_method",
]
_POOL_NAMES = ["ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "Pool"]
_FORKSERVER_NAMES = [
    "ForkServer",
    "_forkserver",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
]


def _replace(module: Any, ours: Any, names: list[str]) -> None:
    for name in names:
        setattr(module, name, getattr(ours, name))


def _take_over_start_method(module: Any, ours: Any) -> None:
    """A start method that was set before holds on."""
    actual = module._default_context._actual_context
    if actual is not None and ours._default_context._actual_context is None:
        ours._force_start_method(actual.get_start_method())
