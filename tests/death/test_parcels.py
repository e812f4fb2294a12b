"""Memory of long messages: reused while there are some, given back afterwards, recovered from who was killed.

`MANYHANDS_ARRAYS` says how many arrays of 8 MiB are streamed (10,000 in `make proofs`), `MANYHANDS_PARCEL_KILLS` how
many receivers are killed.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import arrays
import pytest
from arrays import arena_bytes
from processes import wait_until

numpy: Any = pytest.importorskip("numpy")

ARRAYS = int(os.environ.get("MANYHANDS_ARRAYS", "300"))
KILLS = int(os.environ.get("MANYHANDS_PARCEL_KILLS", "8"))
MIB = 1 << 20
LONG = 30.0
#: What is kept for reuse at most; see `arena/keep.rs`.
CAP = 256 * MIB
#: What nobody counts: the arena's own tables, short messages, the first page of each block.
SMALL = 8 * MIB


class Peak:
    """The most that the family's memory takes while this is in force, looked at a hundred times a second."""

    def __enter__(self) -> Peak:
        self.bytes, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, arena_bytes())

    def __exit__(self, *_exception: object) -> None:
        self._done.set()
        self._thread.join()


@pytest.fixture
def before() -> Iterator[int]:
    gc.collect()
    wait_until(lambda: arena_bytes() < CAP, 5)
    return arena_bytes()


@pytest.mark.deadline(60 + ARRAYS // 10)
class TestStreams:
    @pytest.mark.methods("spawn")
    def test_through_a_queue(self, ctx: Any, figure: Any, before: int) -> None:
        queue, answers = ctx.Queue(4), ctx.SimpleQueue()
        child = ctx.Process(target=arrays.sums, args=(queue, answers))
        child.start()
        with Peak() as peak:
            array = numpy.ones(MIB)
            for number in range(ARRAYS):
                array[0] = float(number)
                queue.put(array)
                if number >= 8:
                    assert answers.get() == MIB - 1 + number - 8
            queue.put(None)
            child.join(LONG)
        assert child.exitcode == 0
        figure(f"{ARRAYS} arrays of 8 MiB: {peak.bytes / MIB:.0f} MiB of memory at most")
        assert peak.bytes < before + CAP + 8 * 10 * MIB
        queue.close()
        answers.close()
        del queue, answers
        gc.collect()
        assert wait_until(lambda: arena_bytes() <= before + SMALL, LONG) < LONG

    @pytest.mark.methods("fork")
    def test_through_a_pool(self, ctx: Any, figure: Any, before: int) -> None:
        with Peak() as peak, ctx.Pool(2) as pool:
            array, total = numpy.ones(MIB), 0
            for result in pool.imap_unordered(arrays.fill_pair, ((array, -1.0) for _ in range(ARRAYS))):
                assert result[0] == 1.0
                assert result[1][7] == -1.0
                total += 1
            pool.close()
            pool.join()
        assert total == ARRAYS
        figure(f"{ARRAYS} arrays of 8 MiB there and back: {peak.bytes / MIB:.0f} MiB of memory at most")
        del pool, result
        gc.collect()
        assert wait_until(lambda: arena_bytes() <= before + SMALL, LONG) < LONG

    @pytest.mark.methods("fork")
    def test_is_given_back_while_a_receiver_waits(self, ctx: Any, before: int) -> None:
        queue, answers = ctx.Queue(), ctx.SimpleQueue()
        child = ctx.Process(target=arrays.sums, args=(queue, answers))
        child.start()
        for _ in range(10):
            queue.put(numpy.ones(MIB))
            answers.get()
        queue.put(numpy.ones(8))
        answers.get()
        # Nobody ends, nobody sends: the child sleeps.
        assert wait_until(lambda: arena_bytes() <= before + SMALL, LONG) < LONG
        queue.put(None)
        child.join(LONG)
        answers.close()


class TestKilled:
    def test_receivers_leave_nothing(self, ctx: Any, before: int) -> None:
        for _ in range(KILLS):
            queue = ctx.Queue()
            child = ctx.Process(target=arrays.hold_and_die, args=(queue, 5))
            child.start()
            for number in range(6):
                queue.put(numpy.full(MIB, float(number)))
            child.join(LONG)
            assert child.exitcode == -9
            # What it had not taken is there, as it was sent.
            assert (queue.get(timeout=LONG) == 5.0).all()
            del queue, child
        gc.collect()
        assert wait_until(lambda: arena_bytes() <= before + CAP + SMALL, LONG) < LONG
        # Another one's end is when things are looked after.
        time.sleep(0.1)
        last = ctx.Process(target=int)
        last.start()
        last.join(LONG)
        assert wait_until(lambda: arena_bytes() <= before + SMALL, LONG) < LONG

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_workers_leave_nothing(self, ctx: Any, before: int) -> None:
        import manyhands

        pool = ctx.Pool(2)
        for _ in range(3):
            with pytest.raises(manyhands.WorkerDied):
                pool.apply(arrays.die_in_a_task, (numpy.zeros(MIB),))
            before_it, back = pool.apply(arrays.fill_pair, ((numpy.zeros(MIB), 3.0),))
            assert (before_it, back[-1]) == (0.0, 3.0)
        del back
        pool.close()
        pool.join()
        del pool
        gc.collect()
        assert wait_until(lambda: arena_bytes() <= before + SMALL, LONG) < LONG

    @pytest.mark.methods("fork")
    def test_a_dead_sender_leaves_what_it_sent(self, ctx: Any) -> None:
        queue = ctx.Queue()
        child = ctx.Process(target=arrays.put_arrays, args=(queue, 1_000_000, MIB))
        child.start()
        got = [queue.get(timeout=LONG) for _ in range(3)]
        child.kill()
        child.join(LONG)
        while not queue.empty():
            got.append(queue.get(timeout=LONG))
        assert [float(array[0]) for array in got] == [float(number) for number in range(len(got))]
        assert all(array[0] == array[-1] for array in got)
