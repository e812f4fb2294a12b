"""``python -m manyhands``: run an unmodified program on manyhands, look into one, or run the demonstration.

Usage:

    python -m manyhands script.py [ARG ...]
    python -m manyhands -m module [ARG ...]
    python -m manyhands doctor PID --once
    python -m manyhands demo [DIR]
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from types import ModuleType


def main(argv: list[str]) -> int:
    """Carry out the command line; the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0 if argv else 2
    if argv[0] == "demo":
        from .demo import main as demo

        return demo(argv[1:])
    if argv[0] == "doctor":
        from ._doctor import main as doctor

        return doctor(argv[1:])
    return _run(argv)


def _run(argv: list[str]) -> int:
    """Run a script or a module as ``__main__``, with manyhands in place of multiprocessing."""
    from . import install

    install()
    if argv[0] == "-m":
        if len(argv) < 2:
            print("python -m manyhands -m: which module?", file=sys.stderr)
            return 2
        sys.argv = argv[1:]
        _put_on_path(os.getcwd())
        _run_module(argv[1], alter_argv=True)
    else:
        sys.argv = argv
        _run_path(argv[0])
    return 0


def _run_path(path: str) -> None:
    """A script, a compiled one, or a folder or zip file with a ``__main__.py`` in it."""
    import pkgutil
    from importlib.machinery import SourceFileLoader, SourcelessFileLoader

    if pkgutil.get_importer(path) is not None:
        _put_on_path(path, always=True)
        _run_module("__main__", alter_argv=False)
        return
    _put_on_path(os.path.dirname(os.path.realpath(path)))
    file = os.path.abspath(path)
    with io.open_code(file) as opened:
        code = pkgutil.read_code(opened)
        loader: type = SourcelessFileLoader
        if code is None:
            opened.seek(0)
            code = compile(opened.read(), file, "exec", dont_inherit=True)
            loader = SourceFileLoader
    names = vars(_new_main())
    names.update(__file__=file, __cached__=None, __loader__=loader("__main__", file))
    exec(code, names)


def _run_module(name: str, alter_argv: bool) -> None:
    import runpy

    _new_main()
    # What the interpreter itself calls for `-m`.
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _new_main() -> ModuleType:
    """A main module for the program, in place of this one; children name it by its second name, too."""
    main = type(sys)("__main__")
    vars(main)["__builtins__"] = __builtins__
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main


def _put_on_path(folder: str, always: bool = False) -> None:
    """Where the interpreter would have put the program's folder, it has put its own guess for this one."""
    if not sys.flags.safe_path:
        sys.path[0] = folder
    elif always:
        sys.path.insert(0, folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
