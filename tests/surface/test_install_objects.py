"""Where manyhands is installed: objects that were made before, classes that somebody has changed, others' contexts."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import run

METHODS = ["fork", "forkserver", "spawn"]

pytestmark = pytest.mark.deadline(90)


BEFORE = """
import multiprocessing
import multiprocessing.queues
import sys

import manyhands


class Counted(multiprocessing.queues.Queue):
    # As a recipe on the web has it.
    def __init__(self, ctx):
        super().__init__(ctx=ctx)
        self.size = ctx.Value("i", 0)

    def __getstate__(self):
        return {"parent": super().__getstate__(), "size": self.size}

    def __setstate__(self, state):
        super().__setstate__(state["parent"])
        self.size = state["size"]

    def put(self, *args, **kwds):
        super().put(*args, **kwds)
        with self.size.get_lock():
            self.size.value += 1


def use(objects, conn):
    queue, joinable, simple, counted = objects[:4]
    lock, rlock, semaphore, bounded, condition, event, barrier, value, array, raw = objects[4:]
    barrier.wait(30)
    with lock, rlock, semaphore, bounded, condition, value.get_lock():
        value.value += 1
        array[0] += 1
        raw.value += 1
        condition.notify_all()
    event.set()
    for each in (queue, joinable, simple, counted):
        each.put(each.get())
    joinable.task_done()
    conn.send([type(each).__module__ for each in objects])
    # No process of the standard library's may leave before its queues' threads have sent what was put.
    for each in (queue, joinable, counted):
        each.close()
        each.join_thread()


def make(ctx):
    return (
        ctx.Queue(3), ctx.JoinableQueue(), ctx.SimpleQueue(), Counted(ctx),
        ctx.Lock(), ctx.RLock(), ctx.Semaphore(2), ctx.BoundedSemaphore(2), ctx.Condition(), ctx.Event(),
        ctx.Barrier(2), ctx.Value("i", 0), ctx.Array("i", 2), ctx.RawValue("i", 0),
    )


def check(ctx, objects, process):
    queue, joinable, simple, counted, *_, event, barrier, value, array, raw = objects
    mine, theirs = ctx.Pipe()
    value.value = array[0] = raw.value = counted.size.value = 0
    event.clear()
    child = process or ctx.Process(target=use, args=(objects, theirs))
    if process is not None:
        process._args = (objects, theirs)
    for each in (queue, joinable, simple, counted):
        each.put("item")
    child.start()
    barrier.wait(30)
    assert event.wait(30)
    there = mine.recv()
    for each in (queue, joinable, simple, counted):
        assert each.get() == "item"
    joinable.task_done()
    joinable.join()
    assert (value.value, array[0], raw.value) == (1, 1, 1), (value.value, array[0], raw.value)
    assert counted.size.value == 2
    child.join()
    assert child.exitcode == 0
    return there


if __name__ == "__main__":
    ctx = multiprocessing.get_context(sys.argv[1])
    objects, process = make(ctx), ctx.Process(target=use)
    pool, executor = ctx.Pool(1), __import__("concurrent.futures").futures.ProcessPoolExecutor(1, ctx)
    assert pool.map(abs, [-1]) == [1] and executor.submit(abs, -1).result() == 1
    manyhands.install()
    for started in (process, None):
        # Raw values and arrays have `ctypes` classes.
        there = check(ctx, objects, started)
        assert not any(module.startswith("manyhands") for module in there[:11]), there
    there = check(ctx, make(ctx), None)
    main = Counted.__module__ if sys.argv[1] == "fork" else "__mp_main__"
    assert [module for module in there if not module.startswith("manyhands")] == [main, "ctypes"], there
    assert pool.map(abs, [-1]) == [1] and executor.submit(abs, -1).result() == 1
    pool.close()
    pool.join()
    executor.shutdown()
    print("well")
"""


@pytest.mark.parametrize("method", METHODS)
def test_made_before(method: str, tmp_path: Path) -> None:
    run(tmp_path, BEFORE, method)


CHANGED = """
import multiprocessing.pool as mpp
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pipe, Pool, get_context, queues
from multiprocessing.connection import Connection


def add(a, b):
    return a + b


def istarmap(self, func, iterable, chunksize=1):
    self._check_running()
    batches = mpp.Pool._get_tasks(func, iterable, chunksize)
    result = mpp.IMapIterator(self)
    tasks = self._guarded_task_generation(result._job, mpp.starmapstar, batches)
    self._taskqueue.put((tasks, result._set_length))
    return (item for chunk in result for item in chunk)


def module(made):
    return type(made).__module__


if __name__ == "__main__":
    first, where = sys.argv[1] == "first", sys.argv[2]
    if not first:
        import manyhands

        manyhands.install()
        with Pool(1) as pool:
            assert module(pool) == "manyhands.pool"
    mpp.Pool.istarmap = istarmap
    put, send, submit, traced = queues.Queue.put, Connection.send, ProcessPoolExecutor.submit, []
    queues.Queue.put = lambda self, *args, **kwds: (traced.append("put"), put(self, *args, **kwds))[1]
    Connection.send = lambda self, *args, **kwds: (traced.append("send"), send(self, *args, **kwds))[1]
    ProcessPoolExecutor.submit = lambda self, *args, **kwds: (traced.append("submit"), submit(self, *args, **kwds))[1]
    if first:
        import manyhands

        manyhands.install()
    with Pool(1) as pool:
        assert list(pool.istarmap(add, [(1, 2), (3, 4)])) == [3, 7]
    queue = get_context().Queue()
    queue.put(1)
    assert queue.get() == 1
    mine, theirs = Pipe()
    theirs.send(2)
    assert mine.recv() == 2
    with ProcessPoolExecutor(1) as executor:
        assert executor.submit(add, 1, 2).result() == 3
    # The executor's own queues put and send, too.
    assert {"put", "send", "submit"} == set(traced)
    # Nobody has changed these.
    assert module(get_context().SimpleQueue()) == "manyhands.queues"
    assert module(get_context().Lock()) == "manyhands.synchronize"
    print("well")
"""


@pytest.mark.parametrize("when", ["first", "then"])
def test_classes_that_somebody_has_changed(when: str, tmp_path: Path) -> None:
    run(tmp_path, CHANGED, when, "fork")


MOCKED = """
import multiprocessing
from unittest import mock

with mock.patch("multiprocessing.pool.Pool") as fake:
    assert multiprocessing.Pool(3) is fake.return_value
with mock.patch("multiprocessing.Process") as fake:
    assert multiprocessing.Process(target=print) is fake.return_value
with mock.patch("multiprocessing.connection.Pipe", return_value=(1, 2)):
    assert multiprocessing.Pipe() == (1, 2)
with mock.patch("multiprocessing.synchronize.Lock") as fake:
    assert multiprocessing.Lock() is fake.return_value
assert type(multiprocessing.Lock()).__module__ == "manyhands.synchronize"
print("well")
"""


def test_names_that_somebody_has_replaced(tmp_path: Path) -> None:
    run(tmp_path, MOCKED, launched=True)


FOREIGN = """
import multiprocessing
import multiprocessing.context as contexts
import multiprocessing.pool


class OddProcess(contexts.ForkProcess):
    _start_method = "odd"


class OddContext(contexts.ForkContext):
    _name = "odd"
    Process = OddProcess


contexts._concrete_contexts["odd"] = OddContext()

import manyhands

manyhands.install()


def tell(queue):
    queue.put((multiprocessing.get_start_method(), type(multiprocessing.current_process()).__name__))


if __name__ == "__main__":
    odd = multiprocessing.get_context("odd")
    assert type(odd) is OddContext and odd is contexts._concrete_contexts["odd"]
    multiprocessing.set_start_method("odd")
    assert multiprocessing.get_start_method() == manyhands.get_start_method() == "odd"
    queue = multiprocessing.Queue()
    assert type(queue).__module__ == "manyhands.queues"
    child = odd.Process(target=tell, args=(queue,))
    child.start()
    assert queue.get() == ("odd", "OddProcess")
    child.join()
    # A context that starts processes in a way of its own gets the standard library's pool, which makes no demands.
    with odd.Pool(1) as pool:
        assert type(pool) is multiprocessing.pool.Pool and pool.map(abs, [-3]) == [3]
    print("well")
"""


def test_contexts_of_others(tmp_path: Path) -> None:
    run(tmp_path, FOREIGN)


WORKERS = """
import multiprocessing
import sys
from multiprocessing import Pool, Process


def grandchild(queue):
    queue.put("from below")


class Derived(Process):
    pass


def work(kind):
    # A worker of a pool may have children; they end with it.
    queue = multiprocessing.SimpleQueue()
    child = {"Process": Process, "Derived": Derived}[kind](target=grandchild, args=(queue,))
    child.start()
    answer = queue.get()
    child.join()
    return answer, child.exitcode, multiprocessing.current_process().daemon


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with Pool(1) as pool:
        for kind in ("Process", "Derived"):
            assert pool.apply(work, (kind,)) == ("from below", 0, True)
    print("well")
"""


@pytest.mark.parametrize("method", METHODS)
def test_workers_have_children(method: str, tmp_path: Path) -> None:
    run(tmp_path, WORKERS, method, launched=True)


IDLE = """
import sys


def tell(queue):
    queue.put([name for name in sys.modules if name.partition(".")[0] in ("manyhands", "multiprocessing")])


if __name__ == "__main__":
    {package}

    ctx = mp.get_context("spawn")
    queue = ctx.SimpleQueue()
    child = ctx.Process(target=tell, args=(queue,))
    child.start()
    print(*sorted(queue.get()))
    child.join()
"""


def test_an_idle_child(tmp_path: Path) -> None:
    """It imports what a child of a plain program does, and the module that has installed."""
    modules = (
        "manyhands manyhands._child manyhands._imports manyhands._kin manyhands._lazy manyhands._manyhands"
        " manyhands._unguarded manyhands.process manyhands.queues multiprocessing multiprocessing.process\n"
    )
    run(tmp_path, IDLE.replace("{package}", "import manyhands as mp"), expected=modules)
    installed = modules.replace("_imports", "_imports manyhands._install")
    run(
        tmp_path, IDLE.replace("{package}", "import multiprocessing as mp"), launched=True, expected=installed
    )


PRELOAD = """
import multiprocessing
import sys
from multiprocessing import forkserver

import manyhands


def tell(queue):
    queue.put("colorsys" in sys.modules)


if __name__ == "__main__":
    ctx = multiprocessing.get_context("forkserver")
    {before}
    manyhands.install()
    {after}
    queue = ctx.SimpleQueue()
    child = ctx.Process(target=tell, args=(queue,))
    child.start()
    assert queue.get()
    child.join()
    pid = forkserver._forkserver._forkserver_pid
    assert pid is not None and multiprocessing.forkserver._forkserver is forkserver._forkserver
    forkserver.ensure_running()
    assert forkserver._forkserver._forkserver_pid == pid
    manyhands.uninstall()
    assert forkserver._forkserver._forkserver_pid is None
    print("well")
"""
SET = ["multiprocessing", "ctx", "forkserver", "manyhands"]


@pytest.mark.parametrize("by", SET)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_the_fork_server_preloads(by: str, when: str, tmp_path: Path) -> None:
    call = f"{by}.set_forkserver_preload(['colorsys'])"
    run(tmp_path, PRELOAD.replace(f"{{{when}}}", call).replace("{before}", "").replace("{after}", ""))
