"""Where manyhands is installed, names that modules take out of `multiprocessing` are ours in every child, too.

In the main module, in modules that a fork server preloads, in children of children, whatever is imported first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ["fork", "forkserver", "spawn"]

pytestmark = pytest.mark.deadline(90)


def run(folder: Path, text: str, *arguments: str, installed: bool = True) -> None:
    script = folder / "script.py"
    script.write_text(text)
    here = ["-m", "manyhands"] if installed else []
    argv = [sys.executable, *here, str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=80, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


PRELOADED = """
import multiprocessing as mp
import multiprocessing.queues
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Event, Lock, Pipe, Pool, Process, Queue, Value, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext, ForkServerContext, SpawnProcess
from multiprocessing.pool import Pool as PoolClass
from multiprocessing.queues import Queue as QueueClass
from multiprocessing.synchronize import Lock as LockClass


class Sub(Process):
    pass


class SubQueue(mp.queues.Queue):
    pass


def kinds():
    functions = [Event, Lock, Pipe, Pool, Queue, Value, get_context]
    classes = [ProcessPoolExecutor, Process, Connection, BaseContext, ForkServerContext, SpawnProcess]
    classes += [PoolClass, QueueClass, LockClass, Sub.__mro__[1], SubQueue.__mro__[1], mp.Process]
    return [type(f.__self__).__module__ for f in functions] + [c.__module__ for c in classes]
"""

NAMES = """
import sys
import preloaded_by_test
from multiprocessing import Pool, Process, Queue
from multiprocessing import set_forkserver_preload, set_start_method
from concurrent.futures import ProcessPoolExecutor


class Worker(Process):
    def __init__(self, queue):
        super().__init__()
        self.queue = queue

    def run(self):
        self.queue.put(kinds())


def kinds():
    return [Process.__module__, ProcessPoolExecutor.__module__, *preloaded_by_test.kinds()]


def nest(queue, depth):
    queue.put(kinds())
    if depth:
        child = Process(target=nest, args=(queue, depth - 1))
        child.start()
        child.join()
        assert child.exitcode == 0


if __name__ == "__main__":
    set_start_method(sys.argv[1])
    if sys.argv[2:]:
        set_forkserver_preload(sys.argv[2:])
    here = kinds()
    assert all(module.startswith("manyhands.") for module in here), here
    queue = Queue()
    children = [Worker(queue), Process(target=nest, args=(queue, 2)), Worker(queue)]
    for child in children:
        child.start()
    for _ in range(5):
        assert queue.get(timeout=60) == here
    for child in children:
        child.join()
        assert child.exitcode == 0
    with Pool(1) as pool:
        assert pool.apply(kinds) == here
    with ProcessPoolExecutor(1) as executor:
        assert executor.submit(kinds).result() == here
    print("well")
"""


@pytest.mark.parametrize("preload", [(), ("preloaded_by_test",), ("__main__", "preloaded_by_test")])
@pytest.mark.parametrize("method", METHODS)
def test_names(method: str, preload: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "preloaded_by_test.py").write_text(PRELOADED)
    run(tmp_path, NAMES, method, *preload)


FIRST = [
    "from concurrent.futures import ProcessPoolExecutor as X",
    "import concurrent.futures.process; from concurrent.futures.process import ProcessPoolExecutor as X",
    "import concurrent.futures.process; from multiprocessing.queues import Queue as X",
    "from multiprocessing.pool import Pool as X",
    "from multiprocessing import queues; X = queues.SimpleQueue",
    "from multiprocessing.synchronize import Condition as X",
    "from multiprocessing.context import Process as X",
    "import multiprocessing.popen_spawn_posix; from multiprocessing.context import SpawnContext as X",
    "from multiprocessing.connection import wait as X",
    "from multiprocessing.sharedctypes import Synchronized as X",
    "from multiprocessing.managers import SyncManager; from multiprocessing.queues import JoinableQueue as X",
    "from multiprocessing.forkserver import ForkServer as X",
    "from multiprocessing import *; X = Process",
]

ONE = """

import sys


def tell(queue):
    queue.put(X.__module__)


if __name__ == "__main__":
    import multiprocessing

    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    child = context.Process(target=tell, args=(queue,))
    child.start()
    assert queue.get() == X.__module__ and X.__module__.startswith("manyhands."), X.__module__
    child.join()
    print("well")
"""


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_whatever_is_imported_first(method: str, first: str, tmp_path: Path) -> None:
    run(tmp_path, first + ONE, method)


LATE = """
import sys
import manyhands


def tell(queue):
    import multiprocessing
    from multiprocessing.context import Process

    queue.put((multiprocessing.Process.__module__, Process.__module__))


def nest(queue):
    # Nothing has asked this child for a name of the standard library's: its own children have manyhands all the same.
    child = manyhands.get_context("spawn").Process(target=tell, args=(queue,))
    child.start()
    child.join()


def leave(gate):
    gate.get()
    sys.exit(3)


if __name__ == "__main__":
    method = sys.argv[1]
    context = manyhands.get_context(method)
    queue, gate = context.SimpleQueue(), context.SimpleQueue()
    early = context.Process(target=leave, args=(gate,))
    early.start()
    manyhands.install()
    import multiprocessing

    for target in (tell, nest):
        child = multiprocessing.get_context(method).Process(target=target, args=(queue,))
        child.start()
        assert queue.get() == ("manyhands.process", "manyhands.process")
        child.join()
        assert child.exitcode == 0
    # Its server tells how it ends, though it starts nothing any more.
    gate.put(None)
    early.join()
    assert early.exitcode == 3
    print("well")
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_server_that_was_started_before(method: str, tmp_path: Path) -> None:
    run(tmp_path, LATE, method, installed=False)
