"""Where manyhands is installed, every way to every name leads to the same object, and that does what it should.

The walk: module x way of import x process (parent, child, grandchild; forked, of a fork server, of one that has
preloaded the module, spawned) x `install` before or after the import. At each place, for each name ``X``: it is the
standard library's, ``X()`` makes ours, and ``class Y(X)`` is the standard library's, whole, travels to a child and back
by name, and works there.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import run

pytestmark = pytest.mark.deadline(150)

#: Name, how it is made of `X` and a context, and the module of ours that it comes from.
CLASSES = {
    "multiprocessing.queues": [
        ("Queue", "X(3, ctx=ctx)", "queues"),
        ("JoinableQueue", "X(ctx=ctx)", "queues"),
        ("SimpleQueue", "X(ctx=ctx)", "queues"),
    ],
    "multiprocessing.synchronize": [
        ("Lock", "X(ctx=ctx)", "synchronize"),
        ("RLock", "X(ctx=ctx)", "synchronize"),
        ("Semaphore", "X(2, ctx=ctx)", "synchronize"),
        ("BoundedSemaphore", "X(2, ctx=ctx)", "synchronize"),
        ("Condition", "X(ctx=ctx)", "synchronize"),
        ("Event", "X(ctx=ctx)", "synchronize"),
        ("Barrier", "X(2, ctx=ctx)", "synchronize"),
    ],
    "multiprocessing.connection": [
        ("Connection", "X(os.dup(1))", "connection"),
        ("Listener", "X()", "connection"),
    ],
    "multiprocessing.sharedctypes": [
        ("SynchronizedBase", "X(ctypes.c_int(1), ctx=ctx)", "sharedctypes"),
        ("Synchronized", "X(ctypes.c_int(1), ctx=ctx)", "sharedctypes"),
        ("SynchronizedArray", "X((ctypes.c_int * 2)(), ctx=ctx)", "sharedctypes"),
        ("SynchronizedString", "X((ctypes.c_char * 2)(), ctx=ctx)", "sharedctypes"),
    ],
    "multiprocessing.pool": [("Pool", "X(1, context=ctx)", "pool")],
    "concurrent.futures.process": [("ProcessPoolExecutor", "X(1, mp_context=ctx)", "futures")],
}
FUNCTIONS = {
    "multiprocessing.connection": [("Pipe", "X()[0]", "connection")],
    "multiprocessing.sharedctypes": [
        ("Value", "X('i', 1)", "sharedctypes"),
        ("Array", "X('i', 2)", "sharedctypes"),
    ],
}
OF_CONTEXTS = [
    ("Queue", "X()", "queues"),
    ("JoinableQueue", "X(1)", "queues"),
    ("SimpleQueue", "X()", "queues"),
    ("Lock", "X()", "synchronize"),
    ("Lock", "X(on_owner_death='block')", "synchronize"),
    ("RLock", "X()", "synchronize"),
    ("Semaphore", "X(1)", "synchronize"),
    ("BoundedSemaphore", "X()", "synchronize"),
    ("Condition", "X()", "synchronize"),
    ("Event", "X()", "synchronize"),
    ("Barrier", "X(2)", "synchronize"),
    ("Pipe", "X(False)[1]", "connection"),
    ("Value", "X('d')", "sharedctypes"),
    ("Array", "X('b', 3)", "sharedctypes"),
    ("Pool", "X(1)", "pool"),
]

TAKEN = '''
"""Takes names in one way, when it is imported."""
import ctypes
import importlib
import os
import sys

TAKEN = {}
{takes}


def there(module, name):
    return getattr(importlib.import_module(module), name)


class NotOurs(Exception):
    pass


def end(made):
    for how in ("terminate", "shutdown", "close"):
        if hasattr(made, how):
            getattr(made, how)()
            break


def faults(ctx):
    """What is wrong in this process."""
    found = []
    for (module, name), X in TAKEN.items():
        if X is not there(module, name):
            found.append(f"{module}.{name} is another object")
    for module, rows in CLASSES.items():
        for name, make, ours in rows:
            X = TAKEN.get((module, name)) or there(module, name)
            made = eval(make, {"X": X, "ctx": ctx, "os": os, "ctypes": ctypes})
            if type(made).__module__ != f"manyhands.{ours}":
                found.append(f"{module}.{name}() is {type(made)}")
            end(made)
            Y = globals().get("Y" + name)
            if Y is None:
                continue
            if Y.__mro__[1] is not X:
                found.append(f"{Y} is derived from another {name}")
            of_them = eval(make, {"X": Y, "ctx": ctx, "os": os, "ctypes": ctypes})
            if type(of_them) is not Y or any(m.__module__.startswith("manyhands") for m in Y.__mro__):
                found.append(f"{Y}() is {type(of_them)}")
            for part in ("_rlock", "_semlock", "_sem", "_inqueue", "_cond", "_lock"):
                inside = getattr(of_them, part, None)
                if type(inside).__module__.startswith("manyhands"):
                    found.append(f"{Y} has {inside} inside")
            end(of_them)
    for module, rows in FUNCTIONS.items():
        for name, make, ours in rows:
            X = TAKEN.get((module, name)) or there(module, name)
            found += fault_of(f"{module}.{name}", make, ours, X)
    package = importlib.import_module("multiprocessing")
    for name, make, ours in OF_CONTEXTS:
        X = TAKEN.get(("multiprocessing", name)) or getattr(package, name)
        found += fault_of(f"multiprocessing.{name}", make, ours, X)
        found += fault_of(f"{ctx}.{name}", make, ours, getattr(ctx, name))
        found += fault_of(f"get_context().{name}", make, ours, getattr(package.get_context(), name))
    current = package.current_process()
    known = {package.Process, *(package.get_context(m).Process for m in ("fork", "forkserver", "spawn"))}
    if package.parent_process() is not None and type(current) not in known and type(current).__name__ != "YProcess":
        found.append(f"this is {type(current)}")
    return found


def fault_of(where, make, ours, X):
    made = eval(make, {"X": X})
    end(made)
    return [] if type(made).__module__ == f"manyhands.{ours}" else [f"{where}() is {type(made)}"]
'''

#: How a module takes its names; ``Y`` of each class is derived in the same way.
WAYS = {
    "import m": lambda module, name: f"import {module}\nX = {module}.{name}\n",
    "from m import X": lambda module, name: f"from {module} import {name} as X\n",
    "attribute": lambda module, name: (
        f"import {module.split('.')[0]}, {module}\nX = {module}.{name}\n"
        if module.startswith("concurrent")
        else f"import multiprocessing\nmultiprocessing.Queue\nX = multiprocessing.{module.partition('.')[2]}.{name}\n"
        if module != "multiprocessing"
        else f"import multiprocessing as mp\nX = mp.{name}\n"
    ),
    "from package import module": lambda module, name: (
        f"from {module.rpartition('.')[0] or module} import {module.rpartition('.')[2]} as m\nX = m.{name}\n"
        if "." in module
        else f"from multiprocessing import {name} as X\n"
    ),
    "nothing": lambda _module, _name: "",
}

MAIN = """
import sys
{before}

method, preload = sys.argv[1], sys.argv[2:]


class YProcess({process}):
    def __init__(self, *args, **kwds):
        super().__init__(*args, **kwds)
        self.extra = "state"

    def run(self):
        assert self.extra == "state"
        super().run()


def look(out, depth, queue, lock, kinds):
    import taken

    ctx = multiprocessing.get_context(method)
    found = taken.faults(ctx)
    for kind in kinds:
        if kind is not getattr(taken, kind.__name__):
            found.append(f"{kind} came as another class")
    if queue is not None:
        with lock:
            queue.put(type(queue).__name__)
    out.put((found, list(kinds)))
    if depth:
        child = ctx.Process(target=look, args=(out, depth - 1, queue, lock, kinds))
        child.start()
        child.join()
        assert child.exitcode == 0


def main():
    import taken

    multiprocessing.set_start_method(method)
    if preload:
        multiprocessing.set_forkserver_preload(preload)
    ctx = multiprocessing.get_context()
    assert (found := taken.faults(ctx)) == [], found
    kinds = [kind for name, kind in vars(taken).items() if name[0] == "Y" and isinstance(kind, type)]
    queue = taken.YQueue(ctx=ctx) if kinds else None
    lock = taken.YLock(ctx=ctx) if kinds else None
    out = ctx.SimpleQueue()
    for cls in (multiprocessing.Process, YProcess):
        child = cls(target=look, args=(out, 1, queue, lock, kinds))
        child.start()
        for _ in range(2):
            found, back = out.get()
            assert found == [], found
            assert back == kinds and all(a is b for a, b in zip(back, kinds))
            assert queue is None or queue.get(timeout=60) == "YQueue"
        child.join()
        assert child.exitcode == 0
    with ctx.Pool(1) as pool:
        found, back = pool.apply(ask, (kinds,))
        assert found == [] and all(a is b for a, b in zip(back, kinds)), found
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        found, back = executor.submit(ask, kinds).result()
        assert found == [] and all(a is b for a, b in zip(back, kinds)), found
    print("well")


def ask(kinds):
    import taken

    # A worker of a pool may have children, and one of an executor is no daemon.
    return taken.faults(multiprocessing.get_context(method)), kinds


if __name__ == "__main__":
    main()
"""

INSTALL = "import manyhands\nmanyhands.install()\n"
IMPORTS = "import multiprocessing\nimport concurrent.futures\nimport taken\n"


def taken_module(way: str) -> str:
    takes = ""
    for table in (CLASSES, FUNCTIONS, {"multiprocessing": OF_CONTEXTS}):
        for module, rows in table.items():
            for name, _make, _ours in rows:
                lines = WAYS[way](module, name)
                if not lines or f"[{module!r}, {name!r}]" in takes:
                    continue
                takes += f"{lines}TAKEN[{module!r}, {name!r}] = X\n"
                if table is CLASSES and name not in ("Listener",):
                    takes += f"class Y{name}(X):\n    pass\n"
    takes += f"CLASSES, FUNCTIONS, OF_CONTEXTS = {CLASSES!r}, {FUNCTIONS!r}, {OF_CONTEXTS!r}\n"
    return TAKEN.replace("{takes}", takes)


@pytest.mark.parametrize("when", ["before", "after", "launcher"])
@pytest.mark.parametrize("start", ["fork", "forkserver", "preloaded", "spawn"])
@pytest.mark.parametrize("way", WAYS)
def test_walk(way: str, start: str, when: str, tmp_path: Path) -> None:
    (tmp_path / "taken.py").write_text(taken_module(way))
    # A submodule is no attribute of the standard library's package before somebody has imported it.
    loaded = "".join(f"import {module}\n" for module in (*CLASSES, *FUNCTIONS)) if way == "attribute" else ""
    before = {"before": INSTALL + IMPORTS, "after": loaded + IMPORTS + INSTALL, "launcher": IMPORTS}[when]
    text = MAIN.replace("{before}", before).replace("{process}", "multiprocessing.Process")
    method, preload = ("forkserver", ["taken"]) if start == "preloaded" else (start, [])
    run(tmp_path, text, method, *preload, launched=when == "launcher", seconds=140)
