"""What long objects cost in memory, and what is left of it after an error."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import arrays
import pytest

numpy: Any = pytest.importorskip("numpy")

LONG = 60.0
MIB = 1 << 20
# How long free memory keeps its pages at least.
MOMENT = 0.02


@pytest.fixture(scope="module", autouse=True)
def family() -> None:
    """Its memory is there before anybody counts what a test leaves."""
    import manyhands

    manyhands.SimpleQueue().close()


def outcome(program: str, *, limit_mib: int = 512) -> list[str]:
    """The lines that a program of its own prints, in a family that has no more memory."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MANYHANDS_ARENA_MAX": f"{limit_mib}M",
        },
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


_LOCK = threading.Lock()


def _lock_returner() -> Callable[[], Any]:
    """A function without a name, which goes by value, of something that cannot go at all."""
    lock = _LOCK
    return lambda: lock


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
class TestFailedPuts:
    """They leave nothing, whoever keeps the error, and without the garbage collector."""

    @pytest.mark.parametrize("bad", [threading.Lock(), _lock_returner()], ids=["error", "error by value"])
    @pytest.mark.parametrize("are_kept", [False, True])
    def test_of_a_queue(self, bad: Any, are_kept: bool) -> None:
        import manyhands

        queue, array = manyhands.Queue(), numpy.ones(5 * MIB)
        before, kept = arrays.arena_bytes(), []
        for _ in range(8):
            try:
                queue.put([array, bad])
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                if are_kept:
                    kept.append(error)
        assert len(kept) == (8 if are_kept else 0)
        assert arrays.arena_bytes() - before < 2 * array.nbytes
        queue.close()


class TestWithoutQueues:
    def test_a_loop_does_not_fetch_its_pages_anew(self) -> None:
        program = (
            "import manyhands, resource, time\n"
            "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            "def make(): array = manyhands.empty(8 << 20, 'u1'); array[::4096] = 1\n"
            "make(); before, began = faults(), time.monotonic()\n"
            "for _ in range(40): make()\n"
            "print(faults() - before, time.monotonic() - began)\n"
        )
        faults, seconds = map(float, outcome(program)[0].split())
        # What was not used for a moment goes back: on a busy machine that may happen within the loop.
        assert faults < (20 + seconds / MOMENT) * 2048

    def test_the_last_array_gives_its_pages_back(self) -> None:
        program = (
            "import sys, manyhands; sys.path.append('tests'); from arrays import arena_bytes\n"
            "array = manyhands.zeros(10 << 20); array[:] = 1.0; full = arena_bytes()\n"
            "del array; print(full >> 20, arena_bytes() >> 20)\n"
        )
        full, after = map(int, outcome(program)[0].split())
        assert full >= 80
        assert after < 8


class TestNoMemory:
    @pytest.mark.parametrize("what", ["bytearray(400 << 20)", "'x' * (400 << 20)"])
    def test_for_the_pickle_of_a_connection(self, what: str) -> None:
        program = (
            "import manyhands, resource\n"
            "ours, theirs = manyhands.Pipe(); ours.send(1); theirs.recv()\n"
            f"item = {what}\n"
            "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
            "resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20),) * 2)\n"
            "try: ours.send(item)\n"
            "except MemoryError: print('MemoryError')\n"
            "ours.send(1); print(theirs.recv())\n"
        )
        assert outcome(program) == ["MemoryError", "1"]

    def test_bytes_need_none_to_go_through_a_connection(self) -> None:
        program = (
            "import manyhands, resource\n"
            "ours, theirs = manyhands.Pipe(); ours.send(1); theirs.recv()\n"
            "receive = lambda: print(len(theirs.recv()), flush=True)\n"
            "child = manyhands.get_context('fork').Process(target=receive); child.start()\n"
            "item = bytes(400 << 20)\n"
            "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
            "resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20),) * 2)\n"
            "ours.send(item); child.join(); print(child.exitcode)\n"
        )
        assert outcome(program) == [str(400 << 20), "0"]

    def test_long_bytearrays_take_little_more_than_their_size(self) -> None:
        program = (
            "import manyhands; queue = manyhands.SimpleQueue()\n"
            "queue.put([bytearray(80 << 20), bytearray(80 << 20)]); print([len(item) for item in queue.get()])\n"
        )
        assert outcome(program) == [str([80 << 20, 80 << 20])]
