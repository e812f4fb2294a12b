"""Where manyhands is installed, what modules take out of `multiprocessing` makes ours in every child, too.

In children of children, in those of a fork server that was there before, whatever is imported first. See
`test_install_walk.py` for every name.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import run

METHODS = ["fork", "forkserver", "spawn"]

pytestmark = pytest.mark.deadline(90)


NAMES = """
import sys
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
    with ProcessPoolExecutor(1) as executor:
        return [type(executor).__module__, type(Queue()).__module__, Process.__module__]


def nest(queue, depth):
    queue.put(kinds())
    if depth:
        child = Process(target=nest, args=(queue, depth - 1))
        child.start()
        child.join()
        assert child.exitcode == 0


if __name__ == "__main__":
    set_start_method(sys.argv[1])
    here = kinds()
    assert here == ["manyhands.futures", "manyhands.queues", "multiprocessing.context"], here
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


@pytest.mark.parametrize("method", METHODS)
def test_names_of_the_main_module(method: str, tmp_path: Path) -> None:
    run(tmp_path, NAMES, method, launched=True)


#: What a program imports first, and an object that is made of it.
FIRST = [
    "from concurrent.futures import ProcessPoolExecutor as X; make = lambda: X(1)",
    "import concurrent.futures.process; from concurrent.futures.process import ProcessPoolExecutor as X;"
    " make = lambda: X(1)",
    "import concurrent.futures.process; from multiprocessing.queues import Queue as X; make = lambda: X(ctx=context())",
    "from multiprocessing.pool import Pool as X; make = lambda: X(1)",
    "from multiprocessing import queues; make = lambda: queues.SimpleQueue(ctx=context())",
    "from multiprocessing.synchronize import Condition as X; make = lambda: X(ctx=context())",
    "from multiprocessing.context import _default_context as X; make = lambda: X.Queue()",
    "import multiprocessing.popen_spawn_posix; from multiprocessing.context import SpawnContext as X;"
    " make = lambda: X().Lock()",
    "from multiprocessing.connection import Pipe as X; make = lambda: X()[0]",
    "from multiprocessing.sharedctypes import Value as X; make = lambda: X('i')",
    "from multiprocessing.managers import SyncManager; from multiprocessing.queues import JoinableQueue as X;"
    " make = lambda: X(ctx=context())",
    "from multiprocessing.forkserver import _forkserver as X; make = lambda: ours(X)",
    "from multiprocessing import *; make = lambda: Queue()",
]

ONE = """

import sys


def context():
    import multiprocessing

    return multiprocessing.get_context()


def ours(server):
    import manyhands.forkserver

    manyhands.forkserver.ensure_running()
    pid, theirs = server._forkserver_pid, manyhands.forkserver._forkserver
    assert pid is not None and pid == theirs._forkserver_pid
    server._stop()
    assert server._forkserver_pid is None
    return theirs


def tell(queue):
    queue.put(type(make()).__module__)


if __name__ == "__main__":
    method = sys.argv[1]
    import multiprocessing

    this = multiprocessing.get_context(method)
    queue = this.SimpleQueue()
    child = this.Process(target=tell, args=(queue,))
    child.start()
    here = type(make()).__module__
    assert here.startswith("manyhands."), here
    assert queue.get() == here
    child.join()
    print("well")
"""


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_whatever_is_imported_first(method: str, first: str, tmp_path: Path) -> None:
    run(tmp_path, first + ONE, method, launched=True)


LATE = """
import sys
import manyhands


def tell(queue):
    import multiprocessing
    from multiprocessing.context import Process

    assert multiprocessing.Process is Process
    queue.put(type(multiprocessing.Queue()).__module__)


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
        assert queue.get() == "manyhands.queues"
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
    run(tmp_path, LATE, method)
