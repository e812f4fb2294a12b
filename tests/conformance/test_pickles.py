"""Whose reducers make a pickle, and who can read it."""

from __future__ import annotations

import array
import copyreg
import gc
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

numpy: Any = pytest.importorskip("numpy")

LONG = 60.0


@pytest.fixture(scope="module", autouse=True)
def family() -> None:
    """Its memory is there before anybody counts what a test leaves."""
    import manyhands

    manyhands.SimpleQueue().close()


def sent(item: Any) -> bytes:
    """What goes over a connection for it."""
    import manyhands

    ours, theirs = manyhands.Pipe()
    with ours, theirs:
        sender = threading.Thread(target=ours.send, args=(item,))
        sender.start()
        got = theirs.recv_bytes()
        sender.join()
    return bytes(got)


def of_memory() -> Any:
    import manyhands

    return manyhands.asarray(numpy.arange(20_000))


ITEMS: dict[str, Callable[[], Any]] = {
    "array": lambda: array.array("d", range(10_000)),
    "numpy array": lambda: numpy.arange(20_000),
    "array in shared memory": of_memory,
    "view of one": lambda: of_memory()[5:],
    "received array": lambda: through_a_queue(numpy.arange(20_000)),
    "long text": lambda: "x" * 100_000,
    "bytearray": lambda: bytearray(100_000),
}


def through_a_queue(item: Any) -> Any:
    import manyhands

    queue = manyhands.SimpleQueue()
    queue.put(item)
    return queue.get()


class TestOfConnections:
    @pytest.mark.parametrize("name", ITEMS)
    def test_anybody_can_read_them(self, name: str) -> None:
        pickled = sent([ITEMS[name]()])
        assert b"manyhands" not in pickled
        program = "import sys, pickle; print(len(pickle.load(sys.stdin.buffer)[0]))"
        done = subprocess.run(
            [sys.executable, "-I", "-c", program],
            input=pickled,
            capture_output=True,
            check=True,
            timeout=LONG,
        )
        assert int(done.stdout) == len(ITEMS[name]())

    @pytest.mark.parametrize("beside", [1, lambda: 1], ids=["by name", "by value"])
    def test_an_array_in_shared_memory_goes_as_a_copy(self, beside: Any) -> None:
        import manyhands

        ours, theirs = manyhands.Pipe()
        with ours, theirs:
            mine = manyhands.zeros(10)
            ours.send([mine, beside])
            copy = theirs.recv()[0]
            copy[0] = 5.0
            assert mine[0] == 0.0
            # It need not be there any more when it is received.
            ours.send([manyhands.asarray(numpy.ones(5)), beside])
            gc.collect()
            assert theirs.recv()[0].tolist() == [1.0] * 5

    def test_a_queues_reading_end_gives_bytes_that_stand_alone(self) -> None:
        import manyhands

        queue = manyhands.SimpleQueue()
        queue.put(manyhands.asarray(numpy.ones(5)))
        pickled = queue._reader.recv_bytes()
        gc.collect()
        assert pickle.loads(pickled).tolist() == [1.0] * 5


class TestOthersReducers:
    @pytest.mark.parametrize(
        "item", [array.array("d", range(10_000)), numpy.arange(20_000)], ids=["array", "numpy"]
    )
    @pytest.mark.parametrize("beside", [1, lambda: 1], ids=["by name", "by value"])
    def test_copyregs_go_first(self, item: Any, beside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        import manyhands

        manyhands.zeros(1)  # from here on there is a reducer of ours for numpy's arrays
        # `multiprocessing.managers`, once it is imported, has one for arrays, which goes before all others.
        monkeypatch.delitem(ForkingPickler._extra_reducers, type(item), raising=False)
        monkeypatch.setitem(copyreg.dispatch_table, type(item), lambda _item: (list, ((1, 2),)))
        assert through_a_queue([item, beside])[0] == [1, 2]
        assert pickle.loads(sent([item]))[0] == [1, 2]

    def test_an_iterator_over_an_array(self) -> None:
        assert list(through_a_queue(iter(array.array("i", [1, 2, 3])))) == [1, 2, 3]
        assert list(pickle.loads(sent(iter(array.array("i", [1, 2, 3]))))) == [1, 2, 3]


MAIN_BEHIND_LONG_BYTES = """
import manyhands
class Record:
    pass
def count(requests, answers):
    try: answers.put(len(requests.get(timeout=30)[1]))
    except BaseException as error: answers.put(repr(error))
context = manyhands.get_context("{method}")
for long in ("x" * 100, b"x" * 100_000, bytearray(100_000), "x" * 100_000):
    requests, answers = context.Queue(), context.Queue()
    child = context.Process(target=count, args=(requests, answers))
    child.start()
    requests.put([long, [Record() for _ in range(20_000)]])
    print(answers.get(timeout=30))
    child.join()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_the_main_modules_name_is_found_behind_long_bytes(method: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN_BEHIND_LONG_BYTES.format(method=method)],
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert (done.stdout.split(), done.stderr) == (["20000"] * 4, "")
