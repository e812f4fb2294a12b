"""Where manyhands is installed: contexts with processes of their own; what a pool's worker makes; logging's set-up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scripts import run

pytestmark = pytest.mark.deadline(90)

FOREIGN = """
import concurrent.futures
import multiprocessing
import multiprocessing.context as contexts
import sys

import manyhands


class OddProcess(contexts.SpawnProcess):
    _start_method = "odd"

    @staticmethod
    def _Popen(process_obj):
        from multiprocessing.popen_spawn_posix import Popen

        return Popen(process_obj)


class OddContext(contexts.SpawnContext):
    _name = sys.argv[1] if __name__ == "__main__" else "odd"
    Process = OddProcess


contexts._concrete_contexts["odd"] = OddContext()

MADE = {name: () for name in "Lock RLock Condition Event Queue JoinableQueue SimpleQueue".split()}
MADE |= {name: (1,) for name in "Semaphore BoundedSemaphore Barrier".split()}
MADE |= {name: ("i", 1) for name in "Value RawValue".split()}
MADE |= {name: ("i", [1, 1]) for name in "Array RawArray".split()}


def use(made, conn):
    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"):
        with made[name]:
            pass
    made["Event"].set()
    made["Barrier"].wait(10)
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        made[name].put(name)
    for name in ("Value", "RawValue"):
        made[name].value += 1
    for name in ("Array", "RawArray"):
        made[name][1] += 1
    conn.send("all of it")


if __name__ == "__main__":
    for name in ("context", "queues", "synchronize", "sharedctypes")[: int(sys.argv[2])]:
        __import__(f"multiprocessing.{name}")
    manyhands.install()
    odd = multiprocessing.get_context("odd")
    made = {name: getattr(odd, name)(*args) for name, args in MADE.items()}
    for thing in made.values():
        assert not type(thing).__module__.startswith("manyhands"), thing
    mine, theirs = odd.Pipe()
    child = odd.Process(target=use, args=(made, theirs))
    child.start()
    assert mine.recv() == "all of it"
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        assert made[name].get() == name
    child.join()
    assert made["Event"].is_set() and made["Value"].value == made["RawValue"].value == 2
    assert made["Array"][:] == made["RawArray"][:] == [1, 2]
    with odd.Pool(1) as pool:
        assert type(pool).__module__ == "multiprocessing.pool" and pool.map(abs, [-3]) == [3]
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=odd) as executor:
        assert type(executor).__module__ == "concurrent.futures.process"
        assert executor.submit(abs, -2).result() == 2
    # All others have ours.
    assert type(multiprocessing.Queue()).__module__ == "manyhands.queues"
    assert type(multiprocessing.RawValue("i")) is type(manyhands.RawValue("i"))
    with multiprocessing.Pool(1) as pool:
        assert type(pool).__module__ == "manyhands.pool"
    # What is the standard library's is sent to children of ours as well.
    child = multiprocessing.get_context("spawn").Process(target=use, args=(made, theirs))
    child.start()
    assert mine.recv() == "all of it"
    child.join()
    print("well")
"""


@pytest.mark.parametrize("loaded", ["0", "4"])
@pytest.mark.parametrize("name", ["odd", "spawn"])
def test_a_context_that_starts_its_own_processes(name: str, loaded: str, tmp_path: Path) -> None:
    run(tmp_path, FOREIGN, name, loaded)


IN_A_WORKER = """
import multiprocessing
import multiprocessing.pool
import sys

import manyhands


class Own(multiprocessing.pool.Pool):
    def _setup_queues(self):
        super()._setup_queues()


def kinds(_=None):
    made = multiprocessing.SimpleQueue()
    made.put(3)
    assert made.get() == 3
    return type(made).__module__, type(multiprocessing.Lock()).__module__


if __name__ == "__main__":
    ctx = multiprocessing.get_context(sys.argv[1])
    # The standard library's pools: one made before, whose workers install, and one that is derived.
    with ctx.Pool(1, manyhands.install) as pool:
        assert pool.apply(kinds) == ("manyhands.queues", "manyhands.synchronize"), pool.apply(kinds)
    manyhands.install()
    with Own(1, context=ctx) as pool:
        assert type(pool._inqueue).__module__ == "multiprocessing.queues"
        assert pool.map(kinds, range(2)) == [("manyhands.queues", "manyhands.synchronize")] * 2
    print("well")
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_of_a_standard_pool_makes_ours(method: str, tmp_path: Path) -> None:
    """A worker that was forked while the pool was made has that at the bottom of its stack."""
    run(tmp_path, IN_A_WORKER, method)


LOGGING = """
import logging
import logging.config
import multiprocessing
import sys

import manyhands

installed, method = sys.argv[1:]


def configure(queue):
    handler = {"class": "logging.handlers.QueueHandler", "queue": queue}
    logging.config.dictConfig({"version": 1, "handlers": {"q": handler}, "root": {"handlers": ["q"], "level": "INFO"}})


def log(queue):
    configure(queue)
    logging.info("from a child")


if __name__ == "__main__":
    package = multiprocessing if installed == "installed" else manyhands
    if installed == "installed":
        manyhands.install()
    ctx = package.get_context(method)
    with ctx.Manager() as manager:
        for queue in (ctx.Queue(), ctx.JoinableQueue(), manager.Queue(), manager.JoinableQueue()):
            configure(queue)
            logging.info("from the parent")
            child = ctx.Process(target=log, args=(queue,))
            child.start()
            assert [queue.get(timeout=30).getMessage() for _ in range(2)] == ["from the parent", "from a child"]
            child.join()
            assert child.exitcode == 0
            for handler in logging.root.handlers[:]:
                logging.root.removeHandler(handler)
    print("well")
"""


@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 4), reason="there, none but queue.Queue is taken")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("installed", ["installed", "plain"])
def test_logging_is_configured_with_our_queues(installed: str, method: str, tmp_path: Path) -> None:
    run(tmp_path, LOGGING, installed, method)
