"""What a spawned child runs first.

Half of the standard library's time to spawn goes into importing its own package and what that imports (pickle,
socket, subprocess, re, ...), which most children never use. Here `multiprocessing` becomes a *lazy module* (see
`_lazy`): its submodule ``process`` is imported on its own, and the package's body runs when somebody first asks it
for a name.
"""

from __future__ import annotations

import _functools  # type: ignore[import-not-found]
import _imp
import _signal  # type: ignore[import-not-found]
import marshal
import os
import sys

from . import _imports, _lazy, _unguarded

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

_PACKAGE = "multiprocessing"
_HASH_KEY = 0x6D61_6E79_6861_6E64


def spawned(place: int, family: int, job: int, life: int, tracker: int, main: int) -> None:
    """The life of a spawned child; its process is ended by ``sys.exit``, as the standard library's."""
    # Nothing that is made before the user's code runs is garbage: no collection has to look at it.
    import gc

    gc.disable()
    _make_package_lazy(tracker)
    from . import _manyhands

    _manyhands.join_family(family, place)
    os.close(family)
    process_obj = read_job(job, lambda data: _prepare(data, main))
    gc.freeze()
    gc.enable()
    code = run(process_obj, life)
    # The interpreter's end makes a C long of it, or -1.
    _manyhands.note_exit((code if -1 << 63 <= code < 1 << 63 else -1) & 0xFF)
    sys.exit(code)


def read_job(job: int, prepare: Callable[[dict[str, Any]], None]) -> Any:
    """The process object that the parent has sent, after this process was made ready for it."""
    from _pickle import load
    from multiprocessing import process

    from . import _manyhands

    current: Any = process.current_process()
    current._inheriting = True
    try:
        with open(job, "rb") as file:
            file.seek(0)
            installed, starts_what_is_sent_ours, method = load(file)
            _agree_on_install(installed, starts_what_is_sent_ours)
            # Before the main module runs again: an unguarded start there must not fall back to another method.
            _force_start_method(method)
            data, refused = load(file), None
            try:
                prepare(data)
            except Exception as error:
                refused = error
            process_obj = _obtain(file, refused)
            _manyhands.unpack()
            if process_obj._start_method is not None:
                _force_start_method(process_obj._start_method)
            return process_obj
    finally:
        del current._inheriting


def _agree_on_install(wanted: bool, starts_what_is_sent_ours: bool) -> None:
    """Manyhands is installed here as it is in the parent, or was."""
    if wanted:
        from . import _install

        _install.install()
    elif f"{__package__}._install" in sys.modules:
        # By the start-up hook.
        sys.modules[f"{__package__}._install"].uninstall()
    if starts_what_is_sent_ours:
        from . import _install

        _install.start_what_is_sent_ours()


def _is_installed() -> bool:
    install = sys.modules.get(f"{__package__}._install")
    return install is not None and install.installed()


def _obtain(file: Any, refused: Exception | None) -> Any:
    """The process object; of a child that could not be made ready only a pool's worker, which tells its pool why."""
    from _pickle import load

    if refused is None:
        return load(file)
    try:
        process_obj = load(file)
    except Exception:
        raise refused from refused.__cause__
    worker = sys.modules.get(f"{__package__}._worker")
    if worker is None or not worker.make_unready(process_obj, refused):
        raise refused
    return process_obj


#: The start method in force in this child; contexts, ours and the standard library's, take it when they are imported.
start_method: str | None = None


def _force_start_method(method: str) -> None:
    global start_method
    first, start_method = start_method is None, method
    if "manyhands._pickler" in sys.modules:
        # Waits for a thread that imports it just now.
        from . import _pickler

        _pickler.note_fresh_children()
    ours = sys.modules.get("manyhands.context")
    if ours is not None:
        ours._force_start_method(method)
    if first:
        _imports.when_executed("multiprocessing.context", _tell_start_method)
    elif _imports.is_executed("multiprocessing.context"):
        _tell_start_method(sys.modules["multiprocessing.context"])


def _tell_start_method(context: Any) -> None:
    if start_method in context._concrete_contexts:
        context._force_start_method(start_method)


def run(process_obj: Any, life: int) -> int:
    """Run the process; its exit code."""
    from . import _manyhands, process

    if process.dies_with_parent(process_obj) and not _manyhands.die_with_parent(life):
        return 1
    _manyhands.note_label(process.label(process_obj))
    return process.run(process_obj, life)


def _prepare(data: dict[str, Any], compiled: int) -> None:
    """The steps of ``multiprocessing.spawn.prepare``, without importing that module before it is needed."""
    if _PACKAGE + ".spawn" in sys.modules:
        os.close(compiled)
        _unguarded.import_main(lambda: sys.modules[_PACKAGE + ".spawn"].prepare(data))
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
    if "init_main_from_path" in data:
        path = data["init_main_from_path"]
        _unguarded.import_main(lambda: import_main_from_path(path, compiled))
        return
    # Before the main module runs: afterwards the number may be a file of its own.
    os.close(compiled)
    if "init_main_from_name" in data:
        from multiprocessing import spawn

        name = data["init_main_from_name"]
        _unguarded.import_main(lambda: spawn._fixup_main_from_name(name))  # type: ignore[attr-defined]


def import_main_from_path(path: str, compiled: int | None = None) -> None:
    """The script is run again as ``__mp_main__``, by the rules of ``multiprocessing.spawn``; closes ``compiled``."""
    name = os.path.splitext(os.path.basename(path))[0]
    runs = name != "ipython" and getattr(sys.modules["__main__"], "__file__", None) != path
    try:
        code = _main_code(path, compiled) if runs and path.endswith(".py") else None
    finally:
        if compiled is not None:
            os.close(compiled)
    if not runs:
        return
    if code is None:
        from multiprocessing import spawn

        spawn._fixup_main_from_path(path)  # type: ignore[attr-defined]
        return
    main = type(sys)("__mp_main__")
    main.__dict__.update(__file__=path, __package__="", __cached__=None, __builtins__=__builtins__)
    sys.modules["__mp_main__"] = main
    # The package's body gives that name to what is `__main__` when it runs; dataclasses look the name up meanwhile.
    _imports.when_executed(_PACKAGE, lambda _package: sys.modules.update(__mp_main__=main))
    exec(code, main.__dict__)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def _main_code(path: str, compiled: int | None) -> CodeType:
    """The script's code, from what another child of the same parent has compiled, or else for the next one.

    Python keeps no compiled file of a script, and so each child would compile it again. What lies behind the
    descriptor ``compiled`` is a hash of the rest, the rest's length, a hash of what was compiled, and the code. Several
    children may write it at once, and one may be killed while it does: then the first hash does not fit.
    """
    with open(path, "rb") as file:
        source = file.read()
    if compiled is None or not _is_notebook(compiled):
        return _compile(source, path)
    about = f"{path}\0{sys.version}\0{sys.flags.optimize}\0".encode("utf-8", "surrogateescape")
    key = _imp.source_hash(_HASH_KEY, about + source)
    found = os.pread(compiled, os.fstat(compiled).st_size, 0)
    known = found[16 : 16 + int.from_bytes(found[8:16], "little")]
    if known[:8] == key and found[:8] == _imp.source_hash(_HASH_KEY, known):
        code: CodeType = marshal.loads(known[8:])
        return code
    code = _compile(source, path)
    known = key + marshal.dumps(code)
    head = _imp.source_hash(_HASH_KEY, known) + len(known).to_bytes(8, "little")
    try:
        os.pwrite(compiled, head + known, 0)
    except OSError:
        # Beyond a limit of files' sizes, say. What was written does not fit its hash: the next child compiles again.
        return code
    return code


def _is_notebook(compiled: int) -> bool:
    from . import _manyhands

    return _manyhands.is_notebook(compiled)


def _compile(source: bytes, path: str) -> CodeType:
    from . import _manyhands

    if b"\0" in source:
        # For the error that says so.
        return compile(source, path, "exec", dont_inherit=True)
    # The interpreter's own function of that name prepares for syntax trees as arguments, for a millisecond or two.
    return _manyhands.compile_source(source, os.fsencode(path))


def _make_package_lazy(tracker: int) -> None:
    """Put `multiprocessing` into ``sys.modules`` without running its body, and import its submodule ``process``."""
    # What the child's first imports would import, and most children never use.
    _lazy.put("functools", vars(_functools).__getitem__)
    signal = _lazy.put("signal")
    # As the package's body does: pickles name what is defined in the main module either way.
    sys.modules["__mp_main__"] = sys.modules["__main__"]
    _lazy.put(_PACKAGE, _submodule)
    _imports.when_executed("multiprocessing.resource_tracker", lambda module: _adopt_tracker(module, tracker))
    if signal is None:
        __import__(_PACKAGE + ".process")
        return
    # That submodule lists the signals' names; taken from the module in C, they do not make it run signal's body.
    numbers = {name: number for name, number in vars(_signal).items() if name.startswith("SIG")}
    vars(signal).update(numbers)
    __import__(_PACKAGE + ".process")
    if "__getattr__" in vars(signal):
        for name in numbers:
            del vars(signal)[name]


def _submodule(name: str) -> Any:
    """A submodule of `multiprocessing` is no reason to run the package's body, which may be waiting for its import."""
    if f"{_PACKAGE}.{name}" in sys.modules:
        # One that is just being imported is not in the package yet.
        return sys.modules[f"{_PACKAGE}.{name}"]
    if name in ("context", "process", "reduction"):
        # These three come with the package; others are there when somebody imports them.
        return __import__(f"{_PACKAGE}.{name}", fromlist=["*"])
    if _is_installed():
        from . import _IMPORTED_LATER, _patches

        if name in _IMPORTED_LATER:
            return _patches.submodule(name)
    folder = sys.modules[_PACKAGE].__path__[0]
    if os.path.exists(f"{folder}/{name}.py") or os.path.isdir(f"{folder}/{name}"):
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
    raise KeyError(name)


def _adopt_tracker(module: Any, descriptor: int) -> None:
    module._resource_tracker._fd = descriptor
