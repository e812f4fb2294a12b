"""What was made while manyhands was installed is handed on after `uninstall`, in children of children, by any way."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import run

METHODS = ["fork", "forkserver", "spawn"]

pytestmark = pytest.mark.deadline(120)

HANDED_ON = """
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import manyhands


class Worker(multiprocessing.Process):
    def __init__(self, *given):
        super().__init__()
        self.given = given

    def run(self):
        use(*self.given)


def use(things, depth, methods, way):
    queue, lock, value, conn = things
    with lock, value.get_lock():
        value.value += 1
    queue.put((depth, type(multiprocessing.Queue()).__module__))
    conn.send(depth)
    if depth:
        hand_on(things, depth - 1, methods[1:], way)


def keep(*given):
    global kept
    kept = given


def use_kept():
    use(*kept)


def hand_on(things, depth, methods, way):
    ctx = multiprocessing.get_context(methods[0])
    given = things, depth, methods, way
    if way == "executor":
        with ProcessPoolExecutor(1, mp_context=ctx, initializer=keep, initargs=given) as executor:
            executor.submit(use_kept).result()
    elif way == "pool":
        with ctx.Pool(1, keep, given) as pool:
            pool.apply(use_kept)
    else:
        if way == "subclass":
            multiprocessing.set_start_method(methods[0], force=True)
        child = Worker(*given) if way == "subclass" else ctx.Process(target=use, args=given)
        child.start()
        child.join()
        assert child.exitcode == 0


if __name__ == "__main__":
    way, *methods = sys.argv[1:]
    manyhands.install()
    mine, theirs = multiprocessing.Pipe()
    things = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i", 0), theirs
    manyhands.uninstall()
    # A pool of the standard library's lets its workers have no children.
    depth = 0 if way == "pool" else len(methods) - 1
    hand_on(things, depth, methods, way)
    for expected in range(depth, -1, -1):
        assert things[0].get(timeout=30) == (expected, "multiprocessing.queues")
        assert mine.recv() == expected
    assert things[2].value == depth + 1
    print("well")
"""


@pytest.mark.parametrize(
    "methods", [*([method] * 3 for method in METHODS), METHODS, METHODS[::-1]], ids=" ".join
)
@pytest.mark.parametrize("way", ["process", "subclass", "executor", "pool"])
def test_after_uninstall(way: str, methods: list[str], tmp_path: Path) -> None:
    run(tmp_path, HANDED_ON, way, *methods)


IN_A_CHILD = """
import multiprocessing
import sys

import manyhands


def ask(queue):
    queue.put(type(multiprocessing.Queue()).__module__)


def hand_on(queue, method):
    # Here it was installed by the parent, and nothing has been imported for it so far.
    manyhands.uninstall()
    for what in (manyhands.install, manyhands.uninstall):
        child = multiprocessing.get_context(method).Process(target=ask, args=(queue,))
        child.start()
        child.join()
        assert child.exitcode == 0
        what()


if __name__ == "__main__":
    manyhands.install()
    ctx = multiprocessing.get_context(sys.argv[1])
    queue = ctx.SimpleQueue()
    child = ctx.Process(target=hand_on, args=(queue, sys.argv[1]))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert [queue.get(), queue.get()] == ["multiprocessing.queues", "manyhands.queues"]
    print("well")
"""


@pytest.mark.parametrize("method", METHODS)
def test_uninstalled_in_a_child(method: str, tmp_path: Path) -> None:
    run(tmp_path, IN_A_CHILD, method)


REFUSED = """
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import manyhands


def tell(queue):
    queue.put("here")


if __name__ == "__main__":
    # Nothing was installed: what the standard library starts is its own.
    ctx = multiprocessing.get_context(sys.argv[1])
    for thing in (manyhands.Queue(), manyhands.SimpleQueue(), manyhands.Lock(), manyhands.Value("i", 1)):
        try:
            ctx.Process(target=print, args=(thing,)).start()
        except RuntimeError as error:
            assert "only to a process that manyhands starts" in str(error), error
        else:
            raise SystemExit(f"{thing} was sent")
    executor = ProcessPoolExecutor(1, mp_context=ctx, initializer=tell, initargs=(manyhands.Queue(),))
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        assert "only to a process that manyhands starts" in str(error), error
    else:
        raise SystemExit("sent by the executor")
    manyhands.install()
    queue = manyhands.Queue()
    child = ctx.Process(target=tell, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == "here"
    child.join()
    print("well")
"""


@pytest.mark.parametrize("method", METHODS[1:])
def test_where_nothing_was_installed(method: str, tmp_path: Path) -> None:
    run(tmp_path, REFUSED, method)
