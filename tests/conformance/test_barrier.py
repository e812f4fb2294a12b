"""`Barrier`, as the standard library's documentation has it."""

from __future__ import annotations

import threading
import time
from typing import Any

import lockers
import pytest
from processes import wait_until

pytestmark = pytest.mark.standard

LONG = 30.0


def wait_for_waiters(barrier: Any, count: int) -> None:
    wait_until(lambda: barrier.n_waiting == count)


class TestPassing:
    @pytest.mark.parametrize("parties", [2, 5])
    def test_each_gets_an_index_of_its_own(self, ctx: Any, remote: Any, parties: int) -> None:
        barrier = ctx.Barrier(parties)
        others = [remote(barrier) for _ in range(parties - 1)]
        for _ in range(3):
            for other in others:
                other.begin("wait")
            wait_for_waiters(barrier, parties - 1)
            indices = [barrier.wait(), *(other.answer() for other in others)]
            assert sorted(indices) == list(range(parties))
            assert indices[0] == parties - 1, "the last to come has the last index"
            assert barrier.n_waiting == 0

    def test_nobody_passes_before_the_last(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(3)
        others = [remote(barrier) for _ in range(2)]
        for count, other in enumerate(others, 1):
            other.begin("wait")
            wait_for_waiters(barrier, count)
            assert not any(each.has_answered(0.01) for each in others[:count])
        assert barrier.wait() == 2
        assert sorted(other.answer() for other in others) == [0, 1]

    def test_of_one_party(self, ctx: Any) -> None:
        barrier = ctx.Barrier(1)
        assert [barrier.wait() for _ in range(3)] == [0, 0, 0]

    def test_many_rounds(self, ctx: Any) -> None:
        """Nobody gets ahead by a round, or there would be two of the same index."""
        parties, rounds = 4, 50
        barrier = ctx.Barrier(parties)
        near, far = ctx.Pipe()
        children = [
            ctx.Process(target=lockers.pass_barrier, args=(barrier, far, rounds)) for _ in range(parties)
        ]
        for child in children:
            child.start()
        found = []
        for _ in children:
            assert near.poll(LONG)
            found.append(near.recv())
        for child in children:
            child.join()
        for indices in zip(*found, strict=True):
            assert sorted(indices) == list(range(parties))
        near.close()
        far.close()

    def test_threads(self, ctx: Any) -> None:
        barrier, indices = ctx.Barrier(4), []
        threads = [threading.Thread(target=lambda: indices.append(barrier.wait())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(indices) == [0, 1, 2, 3]

    def test_a_timeout_that_passes_while_the_action_runs(self, ctx: Any) -> None:
        """Everybody is there: the one whose time is over waits for the action, asleep."""
        barrier = ctx.Barrier(2, lockers.doze)
        near, far = ctx.Pipe()
        process = ctx.Process(target=lockers.wait_while_it_acts, args=(barrier, 0.3, far))
        process.start()
        wait_for_waiters(barrier, 1)
        assert barrier.wait() == 1
        assert near.poll(LONG)
        index, seconds = near.recv()
        assert index == 0
        assert seconds < 0.2
        process.join()
        near.close()
        far.close()

    def test_with_a_timeout_that_does_not_pass(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(2, timeout=LONG)
        other = remote(barrier)
        other.begin("wait")
        assert barrier.wait(LONG) in (0, 1)
        assert other.answer() in (0, 1)


class TestAttributes:
    def test_parties(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(7)
        assert barrier.parties == 7
        assert (barrier.n_waiting, barrier.broken) == (0, False)

    def test_n_waiting_is_seen_by_all(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(3)
        other, third = remote(barrier), remote(barrier)
        other.begin("wait")
        wait_until(lambda: third("__getattribute__", "n_waiting") == 1)
        third.begin("wait")
        wait_for_waiters(barrier, 2)
        barrier.wait()
        other.answer()
        third.answer()


class TestAction:
    def test_is_called_once_by_one_of_them_before_anybody_passes(self, ctx: Any, remote: Any) -> None:
        value = ctx.RawValue("i", 0)
        barrier = ctx.Barrier(3, lockers.Adding(value))
        others = [remote(barrier) for _ in range(2)]
        for count in 1, 2, 3:
            for other in others:
                other.begin("wait")
            barrier.wait()
            assert value.value == count
            for other in others:
                other.answer()
        assert value.value == 3

    def test_is_called_by_whichever_process_comes_last(self, ctx: Any, remote: Any) -> None:
        called = ctx.RawValue("i", 0)
        barrier = ctx.Barrier(2, action=lockers.NotingPid(called))
        other = remote(barrier)
        threads = [threading.Thread(target=barrier.wait)]
        for thread in threads:
            thread.start()
        wait_for_waiters(barrier, 1)
        assert other("wait") == 1
        for thread in threads:
            thread.join()
        assert called.value == other.process.pid

    def test_that_raises_breaks_it(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(2, lockers.raise_key_error)
        other = remote(barrier)
        other.begin("wait")
        wait_for_waiters(barrier, 1)
        with pytest.raises(KeyError):
            barrier.wait()
        with pytest.raises(threading.BrokenBarrierError):
            other.answer()
        assert barrier.broken is True


class TestBreaking:
    def test_a_timeout_breaks_it(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(3)
        other = remote(barrier)
        other.begin("wait")
        wait_for_waiters(barrier, 1)
        started = time.monotonic()
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(0.2)
        assert time.monotonic() - started >= 0.18
        with pytest.raises(threading.BrokenBarrierError):
            other.answer()
        assert barrier.broken is True
        assert other("__getattribute__", "broken") is True

    @pytest.mark.parametrize("timeout", [0, -1, 0.02])
    def test_of_its_own_timeout(self, ctx: Any, timeout: float) -> None:
        barrier = ctx.Barrier(2, timeout=timeout)
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
        assert barrier.broken

    def test_a_timeout_of_the_call_goes_before_its_own(self, ctx: Any) -> None:
        barrier = ctx.Barrier(2, None, LONG)
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(timeout=0.02)

    def test_nobody_passes_a_broken_one(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(2)
        other = remote(barrier)
        assert barrier.abort() is None
        for _ in range(2):
            with pytest.raises(threading.BrokenBarrierError):
                barrier.wait()
            with pytest.raises(threading.BrokenBarrierError):
                other("wait", 0)
        assert barrier.n_waiting == 0

    def test_abort_ends_all_waits(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(5)
        others = [remote(barrier) for _ in range(3)]
        for other in others:
            other.begin("wait")
        wait_for_waiters(barrier, 3)
        barrier.abort()
        for other in others:
            with pytest.raises(threading.BrokenBarrierError):
                other.answer()
        assert barrier.broken
        wait_for_waiters(barrier, 0)

    def test_abort_by_another_process(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(2)
        other = remote(barrier)
        other.begin("abort")
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(LONG)
        other.answer()


class TestReset:
    def test_of_a_broken_one(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(2)
        other = remote(barrier)
        for _ in range(3):
            barrier.abort()
            assert barrier.broken
            assert barrier.reset() is None
            assert barrier.broken is False
            other.begin("wait")
            barrier.wait(LONG)
            other.answer()

    def test_of_one_where_nobody_waits(self, ctx: Any) -> None:
        barrier = ctx.Barrier(2)
        barrier.reset()
        assert (barrier.broken, barrier.n_waiting) == (False, 0)

    def test_ends_the_waits_and_leaves_it_usable(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(3)
        others = [remote(barrier) for _ in range(2)]
        for other in others:
            other.begin("wait")
        wait_for_waiters(barrier, 2)
        barrier.reset()
        for other in others:
            with pytest.raises(threading.BrokenBarrierError):
                other.answer()
        assert barrier.broken is False
        for other in others:
            other.begin("wait")
        barrier.wait(LONG)
        assert sorted(other.answer() for other in others) in ([0, 1], [0, 2], [1, 2])

    def test_by_another_process(self, ctx: Any, remote: Any) -> None:
        barrier = ctx.Barrier(2)
        other = remote(barrier)
        barrier.abort()
        other("reset")
        assert not barrier.broken


class TestRepr:
    def test_says_how_many_wait(self, ctx: Any, remote: Any) -> None:
        """The standard library's has its class's name, its place in memory and this."""
        barrier = ctx.Barrier(2)
        assert repr(barrier).endswith(" waiters=0/2>")
        other = remote(barrier)
        other.begin("wait")
        wait_for_waiters(barrier, 1)
        assert repr(barrier).endswith(" waiters=1/2>")
        barrier.abort()
        assert repr(barrier).endswith(" broken>")
        with pytest.raises(threading.BrokenBarrierError):
            other.answer()

    def test_its_class_is_a_barrier_of_threads_too(self, ctx: Any) -> None:
        assert isinstance(ctx.Barrier(1), threading.Barrier)
