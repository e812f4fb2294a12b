"""What a spawned child runs first.

Half of the standard library's time to spawn goes into importing its own package and what that imports (pickle,
socket, subprocess, re, ...), which most children never use. Here `multiprocessing` becomes a *lazy package*: its
submodule ``process`` is imported on its own, and the package's body runs when somebody first asks it for a name.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import sys
import threading
from _pickle import load
from importlib.machinery import PathFinder
from types import ModuleType

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PACKAGE = "multiprocessing"


def spawned(slot: int, family: int, job: int, life: int, tracker: int) -> None:
    """The life of a spawned child; its process is ended by ``sys.exit``, as the standard library's."""
    # Nothing that is made before the user's code runs is garbage: no collection has to look at it.
    gc.disable()
    _make_package_lazy(tracker)
    from . import _manyhands

    _manyhands.join_family(family, slot)
    os.close(family)
    process_obj = read_job(job, _prepare)
    gc.freeze()
    gc.enable()
    sys.exit(run(process_obj, life))


def read_job(job: int, prepare: Callable[[dict[str, Any]], None]) -> Any:
    """The process object that the parent has sent, after this process was made ready for it."""
    from multiprocessing import process

    current: Any = process.current_process()
    current._inheriting = True
    try:
        with open(job, "rb") as file:
            file.seek(0)
            installed, method = load(file)
            if installed:
                _install_when_loaded()
            # Before the main module runs again: an unguarded start there must not fall back to another method.
            _force_start_method(method)
            prepare(load(file))
            process_obj = load(file)
            if process_obj._start_method is not None:
                _force_start_method(process_obj._start_method)
            return process_obj
    finally:
        del current._inheriting


#: The start method in force in this child; `manyhands.context` takes it when it is imported.
start_method: str | None = None


def _force_start_method(method: str) -> None:
    global start_method
    start_method = method
    ours = sys.modules.get("manyhands.context")
    if ours is not None:
        ours._force_start_method(method)
    _when_loaded(lambda package: package.context._force_start_method(method))


def run(process_obj: Any, life: int) -> int:
    """Run the process; its exit status."""
    from . import _manyhands

    if process_obj._dies_with_parent and not _manyhands.die_with_parent(life):
        return 1
    _manyhands.note_label(label(process_obj))
    code = _bootstrap(process_obj)(process_obj, life)
    _manyhands.note_exit(code)
    return code


def label(process_obj: Any) -> str:
    """What `manyhands.doctor` shows of a process: its name, and the function that it runs."""
    target = getattr(process_obj, "_target", None)
    if target is None:
        return f"{process_obj.name}: {type(process_obj).__qualname__}"
    if getattr(target, "__module__", "") == "manyhands._worker":
        # What a pool's worker runs, its pool knows.
        return str(process_obj.name)
    return f"{process_obj.name}: {getattr(target, '__qualname__', type(target).__qualname__)}"


def _bootstrap(process_obj: Any) -> Callable[[Any, int], int]:
    """`BaseProcess._bootstrap`, because coverage and others replace it; its light form while nobody has, and nobody
    has imported what it would import."""
    cls = type(process_obj)
    original = getattr(cls._bootstrap, "__qualname__", "") == "BaseProcess._bootstrap"
    original = original and getattr(cls._bootstrap, "__module__", "") == "multiprocessing.process"
    loaded = "multiprocessing.util" in sys.modules or "multiprocessing.context" in sys.modules
    return _bootstrap_lightly if original and not loaded else cls._bootstrap


def _bootstrap_lightly(process_obj: Any, life: int) -> int:
    """The steps of `BaseProcess._bootstrap` that mean something in a fresh interpreter."""
    module: Any = sys.modules["multiprocessing.process"]
    module._process_counter = itertools.count(1)
    module._children = set()
    module._current_process = process_obj
    module._parent_process = module._ParentProcess(process_obj._parent_name, process_obj._parent_pid, life)
    _close_stdin()
    try:
        process_obj.run()
        code = 0
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:
        code = 1
        import traceback

        sys.stderr.write(f"Process {process_obj.name}:\n")
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        _flush_std_streams()
    return code


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    sys.stderr.write(str(error.code) + "\n")
    return 1


def _close_stdin() -> None:
    if sys.stdin is None:
        return
    try:
        sys.stdin.close()
    except (OSError, ValueError):
        pass
    try:
        fd = os.open(os.devnull, os.O_RDONLY)
        sys.stdin = open(fd, encoding="utf-8", closefd=False)  # noqa: SIM115
    except (OSError, ValueError):
        pass


def _flush_std_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            pass


def _prepare(data: dict[str, Any]) -> None:
    """The steps of ``multiprocessing.spawn.prepare``, without importing that module before it is needed."""
    if _PACKAGE + ".spawn" in sys.modules:
        sys.modules[_PACKAGE + ".spawn"].prepare(data)
        return
    from multiprocessing import process

    current: Any = process.current_process()
    current.name = data["name"]
    current.authkey = data["authkey"]
    if data.get("log_to_stderr"):
        from multiprocessing import util

        util.log_to_stderr()
    if "log_level" in data:
        from multiprocessing import util

        util.get_logger().setLevel(data["log_level"])
    sys.path = data["sys_path"]
    sys.argv = data["sys_argv"]
    os.chdir(data["dir"])
    process.ORIGINAL_DIR = data["orig_dir"]  # type: ignore[attr-defined]
    if "init_main_from_name" in data:
        from multiprocessing import spawn

        spawn._fixup_main_from_name(data["init_main_from_name"])  # type: ignore[attr-defined]
    elif "init_main_from_path" in data:
        _import_main_from_path(data["init_main_from_path"])


def _import_main_from_path(path: str) -> None:
    """The script is run again as ``__mp_main__``, by the rules of ``multiprocessing.spawn``."""
    name = os.path.splitext(os.path.basename(path))[0]
    if name == "ipython" or getattr(sys.modules["__main__"], "__file__", None) == path:
        return
    if not path.endswith(".py"):
        from multiprocessing import spawn

        spawn._fixup_main_from_path(path)  # type: ignore[attr-defined]
        return
    main = ModuleType("__mp_main__")
    main.__dict__.update(__file__=path, __package__="", __cached__=None, __builtins__=__builtins__)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    sys.modules["__mp_main__"] = main
    exec(code, main.__dict__)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


_hooks: list[Callable[[Any], object]] = []


def _when_loaded(hook: Callable[[Any], object]) -> None:
    """Call ``hook(multiprocessing)`` as soon as the package's body has run."""
    package = sys.modules[_PACKAGE]
    if "__getattr__" not in vars(package):
        hook(package)
    else:
        _hooks.append(hook)


def _install_when_loaded() -> None:
    def install(_package: Any) -> None:
        from . import _install

        _install.install()

    _when_loaded(install)


def _make_package_lazy(tracker: int) -> None:
    """Put `multiprocessing` into ``sys.modules`` without running its body."""
    if _PACKAGE in sys.modules:
        _adopt_tracker(tracker)
        return
    spec = PathFinder.find_spec(_PACKAGE)
    assert spec is not None
    assert spec.loader is not None
    package = ModuleType(_PACKAGE, None)
    package.__dict__.update(
        __spec__=spec,
        __loader__=spec.loader,
        __file__=spec.origin,
        __path__=spec.submodule_search_locations,
        __package__=_PACKAGE,
        __cached__=spec.cached,
    )
    lock = threading.RLock()
    folder = os.path.dirname(spec.origin or "")
    submodules = {entry.partition(".")[0] for entry in os.listdir(folder)}

    def load_body() -> None:
        with lock:
            lazy: dict[str, Any] = {}
            for name in ("__getattr__", "__dir__"):
                if name in vars(package):
                    lazy[name] = vars(package).pop(name)
            if not lazy:
                return
            try:
                spec.loader.exec_module(package)  # type: ignore[union-attr]
            except BaseException:
                vars(package).update(lazy)
                raise
            _adopt_tracker(tracker)
            while _hooks:
                _hooks.pop(0)(package)

    def lazy_getattr(name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name != "__all__":
            raise AttributeError(name)
        if f"{_PACKAGE}.{name}" in sys.modules:
            # A submodule that is just being imported is not in the package yet.
            return sys.modules[f"{_PACKAGE}.{name}"]
        if name in submodules:
            # Not a reason to run the body, which may be waiting for this very import. These three come with the
            # package; others are there when somebody imports them.
            if name in ("context", "process", "reduction"):
                return importlib.import_module(f"{_PACKAGE}.{name}")
            raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
        load_body()
        try:
            return vars(package)[name]
        except KeyError:
            raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}") from None

    def lazy_dir() -> list[str]:
        load_body()
        return sorted(vars(package))

    package.__dict__.update(__getattr__=lazy_getattr, __dir__=lazy_dir)
    sys.modules[_PACKAGE] = package
    __import__(_PACKAGE + ".process")


def _adopt_tracker(descriptor: int) -> None:
    from multiprocessing import resource_tracker

    resource_tracker._resource_tracker._fd = descriptor  # type: ignore[attr-defined]
