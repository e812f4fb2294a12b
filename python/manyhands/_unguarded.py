"""Main modules that start processes without ``if __name__ == "__main__":`` around it.

A child that is not forked runs the main module again, and comes to the same start. It must not start anything: each
child would have children, without end. So the start raises `UnguardedStart` there, which no ``except Exception``
stops, and the module ends where the first child of its family was started: the names above that line are the ones that
the parent had when it asked for the child, and the child goes on with its job.

With ``MANYHANDS_UNGUARDED=error`` in the environment such a start raises the standard library's `RuntimeError` instead.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from types import ModuleType as _Module
else:
    _Module = type(sys)

__all__ = [
    "UnguardedStart",
    "about_to_start",
    "has_ended_early",
    "import_main",
    "is_fork_of_prompt",
    "is_importing_main",
]

#: A main module that catches every error and tries again would do so for ever.
_MOST_ATTEMPTS = 10

_GUARD = 'if __name__ == "__main__":'


class UnguardedStart(BaseException):
    """Ends the main module in a child, at the line where it would start a process."""


def about_to_start() -> None:
    """Call before a process is started that will run the main module again.

    Raises `UnguardedStart` while this process, itself such a child, runs it.
    """
    if _import is not None:
        _import.met_a_start()


def is_importing_main() -> bool:
    """Whether this process, a child, runs the main module again."""
    return _import is not None


def import_main(run_main: Callable[[], object]) -> None:
    """Call ``run_main``, which runs the main module as ``__mp_main__``; the module may end at a start.

    Raises `RuntimeError` when the module has met a start and did not end there.
    """
    global _import
    if os.environ.get("MANYHANDS_UNGUARDED") == "error":
        _note_run(run_main)
        return
    this = _import = _Import()
    before = sys.modules["__main__"]
    try:
        _note_run(run_main)
        cause = None
    except BaseException as error:
        cause = error
        if this.start is None:
            raise
    finally:
        _import = None
    if this.start is None:
        return
    if cause is None or not _has_led_to(cause):
        # In a fork server's children it is to run, and fail, again.
        sys.modules["__main__"] = before
        raise RuntimeError(this.swallowed()) from this.start
    this.keep_modules()


def _note_run(run_main: Callable[[], object]) -> None:
    global run
    before = sys.modules.get("__mp_main__")
    try:
        run_main()
    finally:
        if sys.modules.get("__mp_main__") is not before:
            run = os.urandom(8)


def _has_led_to(error: BaseException) -> bool:
    """Whether the error is an `UnguardedStart`, or was raised while one was on its way: by a ``finally``, say."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        each = ahead.pop()
        if each is None or id(each) in seen:
            continue
        if isinstance(each, UnguardedStart):
            return True
        seen.add(id(each))
        ahead += (each.__context__, each.__cause__)
    return False


class _Import:
    """One run of the main module in a child."""

    def __init__(self) -> None:
        #: The last that was raised.
        self.start: UnguardedStart | None = None
        self._attempts = 0
        self._where = ""
        self._modules: dict[str, ModuleType] = {}

    def met_a_start(self) -> None:
        self._attempts += 1
        if self.start is None:
            self._where = _line_of_main()
            self._modules = _modules_under_way()
        if self._attempts > _MOST_ATTEMPTS:
            sys.stderr.write(f"RuntimeError: {self.swallowed()}\n")
            sys.stderr.flush()
            os._exit(1)
        self.start = UnguardedStart(
            f"{self._where} starts a process without '{_GUARD}' around it; in a child the main module ends here"
        )
        raise self.start

    def swallowed(self) -> str:
        return (
            f"{self._where} starts a process without '{_GUARD}' around it. Each child process runs the main module"
            " again, which would have to end at that line; but an 'except' (or a thread) has taken the exception that"
            f" ends it, and the module went on. Put what is to run once, in the parent only, under '{_GUARD}'."
        )

    def keep_modules(self) -> None:
        """The modules that were being imported stay, with what they had defined; their failed imports took them out."""
        main = self._modules.get("__mp_main__")
        for name, module in self._modules.items():
            if type(module) is _Module:
                module.__class__ = _EndsEarly
                _ends[id(module)] = (
                    f"which ends, in a child, where {self._where} starts a process without '{_GUARD}'"
                )
            if name in sys.modules or module is main:
                continue
            sys.modules[name] = module
            package, _, last = name.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], last, module)
        if main is not None:
            sys.modules["__main__"] = sys.modules["__mp_main__"] = main
            from . import _marks

            names.update(vars(main))
            _marks.last.update(_marks.marks_of(names, False))


def has_ended_early() -> bool:
    """Whether this process, or the one that it is a fork of, ended its run of the main module at a start."""
    return bool(_ends)


def is_fork_of_prompt() -> bool:
    """Whether this process began as a copy of one at a prompt, and not as a child that runs the main module again."""
    return bool(names) and not _ends


_import: _Import | None = None
#: Names of the main module, with what they meant, that are not this process's own doing: of a copy of a process at a
#: prompt, or of a run that ended early. What its parent says later of them holds.
names: dict[str, object] = {}
#: Something new for each process that has run the main module again; its forks have it too.
run: bytes | None = None
#: What the names of modules that have ended early are followed by, by their ids: they live as long as the process.
_ends: dict[int, str] = {}


class _EndsEarly(_Module):
    """A module with only the names above a start.

    Unpickling tells which module it has missed a name in by its `repr`: there is where the user learns why.
    """

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {_ends[id(self)]}: names below that line are missing>"


def _line_of_main() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            return f"{frame.f_code.co_filename}, line {frame.f_lineno},"
        frame = frame.f_back
    return "the main module"


def _modules_under_way() -> dict[str, ModuleType]:
    """The main module, and those that it is just importing."""
    found = {"__mp_main__": sys.modules["__mp_main__"]} if "__mp_main__" in sys.modules else {}
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__dict__", {}).get("__spec__"), "_initializing", False):
            found[name] = module
    return found
