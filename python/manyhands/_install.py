"""`install` and `uninstall`: programs that name the standard library's `multiprocessing` work with what manyhands has.

The standard library's names stay what they are: its modules, classes and functions keep their identity, whoever has
taken them and whenever. What changes is what they do. A class that is called makes ours; a class that is derived from
it is the standard library's, whole. A function has another body. `_patches` does both, module by module, when a module
has been executed (see `_imports`); a module that nobody imports costs nothing. Light to import: each spawned child of a
process that has installed imports this before anything of the user's.
"""

from __future__ import annotations

import _thread
import os
import sys

from . import _imports

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["install", "installed", "starts_what_is_sent_ours", "uninstall"]

#: The standard library's modules in which something changes. (And `multiprocessing.process`, which each child has, with
#: the contexts, without which there is no process to start.)
_MODULES = (
    "multiprocessing.context",
    "multiprocessing",
    "multiprocessing.connection",
    "multiprocessing.forkserver",
    "multiprocessing.pool",
    "multiprocessing.queues",
    "multiprocessing.sharedctypes",
    "multiprocessing.synchronize",
    "concurrent.futures.process",
)

#: Asks for `install` at the start of an interpreter; see `at_startup`.
_VARIABLE = "MANYHANDS_INSTALL"
#: Whether `uninstall` has set it to 0.
_turned_off = False

_installed = False
_starts_what_is_sent_ours = False
#: The lock under which it changes, once there is one. A forked child has none of its parent's, which another thread may
#: have held.
_locks: dict[str, _thread.RLock] = {}
_follows_forks = False


def _lock() -> _thread.RLock:
    global _follows_forks
    if not _follows_forks:
        # Not in each program that forks, and no function of Python's: a child would have to copy its pages.
        os.register_at_fork(after_in_child=_locks.clear)
        _follows_forks = True
    return _locks.setdefault("", _thread.RLock())


def installed() -> bool:
    """Whether manyhands stands in for `multiprocessing` in this process."""
    return _installed


def starts_what_is_sent_ours() -> bool:
    """Whether manyhands starts those processes of the standard library's that are sent something of manyhands'.

    So it is after `uninstall`, here and in all that descends from here: what was made before can be handed on, in
    children of children as well.
    """
    return _starts_what_is_sent_ours


def start_what_is_sent_ours() -> None:
    """From now on `starts_what_is_sent_ours`."""
    global _starts_what_is_sent_ours
    with _lock():
        if not _installed and not _starts_what_is_sent_ours:
            _starts_what_is_sent_ours = True
            _imports.when_executed("multiprocessing.context", _leave)


def install() -> None:
    """Have the standard library's names make what manyhands has, in this interpreter and its children.

    From now on, the classes and functions of `multiprocessing` and its submodules, and
    ``concurrent.futures.ProcessPoolExecutor``, make manyhands' queues, locks, values, connections, pools and executors,
    and processes start as manyhands' do. The names themselves stay the standard library's, so it does not matter who
    has taken them before. Classes derived from them, and objects made before, go on with the standard library's own
    code. Calling it again does nothing. See ``docs/install.md``.
    """
    global _installed, _starts_what_is_sent_ours, _turned_off
    with _lock():
        if _installed:
            return
        _installed, _starts_what_is_sent_ours = True, False
        _imports.drop(_leave)
        if _turned_off:
            os.environ[_VARIABLE] = "1"
            _turned_off = False
        _agree_on_start_method()
        for name in _MODULES:
            _imports.when_executed(name, _patch)


def uninstall() -> None:
    """Undo `install`: from now on the standard library's names make its own objects again.

    Objects that are there stay what they are and go on working, whosever they are; so do running processes. Children
    that are started from now on do not have manyhands installed. Does nothing where nothing is installed.
    """
    global _installed, _turned_off
    with _lock():
        if not _installed:
            return
        # Children that others start would be told to install it.
        if os.environ.get(_VARIABLE) == "1":
            os.environ[_VARIABLE] = "0"
            _turned_off = True
        method = _start_method("multiprocessing.context")
        _imports.drop(_patch)
        patches = sys.modules.get(f"{__package__}._patches")
        _installed = False
        if patches is not None:
            patches.take_back()
        start_what_is_sent_ours()
        ours: Any = sys.modules.get(f"{__package__}.context")
        if ours is not None:
            ours._force_start_method(method)


def at_startup() -> None:
    """What ``manyhands_install.pth`` calls in each interpreter in whose environment ``MANYHANDS_INSTALL`` is set.

    Raises ``ValueError``, which `site` shows, when that is neither 0 nor 1.
    """
    value = os.environ[_VARIABLE]
    if value != "1":
        raise ValueError(f"MANYHANDS_INSTALL is {value!r}: 1 installs manyhands, 0 (or nothing) does not")
    install()


def _patch(module: ModuleType) -> None:
    from . import _patches

    with _lock():
        if _installed:
            _patches.apply(module)


def _leave(contexts: ModuleType) -> None:
    from . import _patches

    with _lock():
        if _starts_what_is_sent_ours:
            _patches.leave(contexts)


def _agree_on_start_method() -> None:
    """A start method that was set before, for either package, holds for both from now on."""
    ours: Any = sys.modules.get(f"{__package__}.context")
    theirs: Any = sys.modules.get("multiprocessing.context")
    if ours is None or theirs is None:
        return
    method = ours._default_context.__dict__.get("_own_context")
    if method is not None and theirs._default_context._actual_context is None:
        theirs._force_start_method(method._name)


def _start_method(name: str) -> str | None:
    """The one that is set in that module, if any."""
    module: Any = sys.modules.get(name)
    context = None if not _imports.is_executed(name) else module._default_context._actual_context
    return None if context is None else context._name
