"""`Semaphore` and `BoundedSemaphore`, as the standard library's documentation has them."""

from __future__ import annotations

import threading
import time
from typing import Any

import lockers
import pytest
from processes import wait_until

pytestmark = pytest.mark.standard

LONG = 30.0


@pytest.fixture(params=["Semaphore", "BoundedSemaphore"])
def make(ctx: Any, request: pytest.FixtureRequest) -> Any:
    """Either class: what both have in common."""
    return getattr(ctx, request.param)


class TestCount:
    def test_begins_at_one(self, make: Any) -> None:
        semaphore = make()
        assert semaphore.get_value() == 1
        assert semaphore.acquire(False) is True
        assert semaphore.get_value() == 0
        assert semaphore.acquire(False) is False

    @pytest.mark.parametrize("value", [0, 1, 2, 7, 1000])
    def test_begins_where_it_is_told(self, make: Any, value: int) -> None:
        assert make(value).get_value() == value
        assert make(value=value).get_value() == value

    def test_goes_down_and_up(self, make: Any) -> None:
        semaphore = make(3)
        for left in 2, 1, 0:
            assert semaphore.acquire() is True
            assert semaphore.get_value() == left
        assert semaphore.acquire(False) is False
        assert semaphore.acquire(timeout=0.05) is False
        for left in 1, 2, 3:
            assert semaphore.release() is None
            assert semaphore.get_value() == left

    def test_of_the_one_without_a_bound_goes_on(self, ctx: Any) -> None:
        semaphore = ctx.Semaphore(2)
        for value in 3, 4, 5:
            semaphore.release()
            assert semaphore.get_value() == value

    def test_of_the_bounded_one_does_not(self, ctx: Any) -> None:
        semaphore = ctx.BoundedSemaphore(2)
        with pytest.raises(ValueError, match="semaphore or lock released too many times"):
            semaphore.release()
        assert semaphore.get_value() == 2
        with semaphore:
            assert semaphore.get_value() == 1
        with pytest.raises(ValueError, match="semaphore or lock released too many times"):
            semaphore.release()

    def test_a_bound_of_nothing(self, ctx: Any) -> None:
        semaphore = ctx.BoundedSemaphore(0)
        assert semaphore.acquire(False) is False
        with pytest.raises(ValueError):
            semaphore.release()

    def test_is_nobodys(self, make: Any, remote: Any) -> None:
        """Whoever has it, anybody may give it back."""
        semaphore = make(1)
        other = remote(semaphore)
        assert semaphore.acquire() is True
        assert semaphore.acquire(False) is False
        other("release")
        assert semaphore.get_value() == 1
        assert other("acquire") is True
        assert lockers.in_thread(semaphore, "acquire", False) is False
        lockers.in_thread(semaphore, "release")
        assert other("get_value") == 1

    def test_the_same_in_all_processes(self, ctx: Any, remote: Any) -> None:
        semaphore = ctx.Semaphore(5)
        others = [remote(semaphore) for _ in range(2)]
        for other in others:
            other("acquire")
        assert semaphore.get_value() == 3
        semaphore.release()
        assert [other("get_value") for other in others] == [4, 4]

    @pytest.mark.parametrize("value", [-1, -100])
    def test_of_less_than_nothing_is_refused(self, make: Any, value: int) -> None:
        with pytest.raises((ValueError, OSError)):
            make(value)

    @pytest.mark.parametrize("value", ["1", 1.5, None])
    def test_that_is_no_whole_number_is_refused(self, make: Any, value: Any) -> None:
        with pytest.raises(TypeError):
            make(value)


class TestAcquire:
    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((), {}),
            ((True,), {}),
            ((False,), {}),
            ((True, None), {}),
            ((True, 0), {}),
            ((True, -1), {}),
            ((True, 2.5), {}),
            ((), {"block": True, "timeout": 3}),
            ((), {"block": False, "timeout": 3}),
            ((), {"timeout": None}),
        ],
        ids=str,
    )
    def test_by_every_signature(self, make: Any, args: Any, kwargs: Any) -> None:
        semaphore = make(2)
        assert semaphore.acquire(*args, **kwargs) is True
        assert semaphore.get_value() == 1

    @pytest.mark.parametrize("args", [(False,), (True, 0), (True, -1), (True, 0.05), (False, 5)])
    def test_gives_up(self, make: Any, args: Any) -> None:
        assert make(1).acquire(*args) is True
        assert make(0).acquire(*args) is False

    def test_with_a_timeout_waits_at_least_that_long(self, make: Any) -> None:
        semaphore = make(0)
        started = time.monotonic()
        assert semaphore.acquire(True, 0.2) is False
        assert time.monotonic() - started >= 0.18

    def test_a_timeout_that_is_no_number(self, make: Any) -> None:
        semaphore = make(1)
        with pytest.raises(TypeError):
            semaphore.acquire(True, "soon")
        assert semaphore.get_value() == 1

    def test_waits_for_a_release(self, ctx: Any, remote: Any) -> None:
        semaphore = ctx.Semaphore(0)
        others = [remote(semaphore) for _ in range(3)]
        for other in others:
            other.begin("acquire")
        semaphore.release()
        semaphore.release()
        semaphore.release()
        assert [other.answer() for other in others] == [True] * 3
        assert semaphore.get_value() == 0

    def test_each_release_lets_one_pass(self, ctx: Any, remote: Any) -> None:
        semaphore = ctx.Semaphore(0)
        others = [remote(semaphore) for _ in range(3)]
        for other in others:
            other.begin("acquire", timeout=LONG)
        semaphore.release()
        wait_until(lambda: any(other.has_answered() for other in others))
        assert sum(other.has_answered(0.02) for other in others) == 1
        semaphore.release()
        semaphore.release()
        assert all(other.answer() for other in others)

    def test_a_release_by_a_child_ends_a_wait_here(self, ctx: Any, remote: Any) -> None:
        semaphore = ctx.Semaphore(0)
        other = remote(semaphore)
        other.begin("release")
        assert semaphore.acquire() is True
        assert other.answer() is None


class TestWith:
    def test_takes_one_and_gives_it_back(self, make: Any) -> None:
        semaphore = make(2)
        with semaphore as got:
            assert got is True
            assert semaphore.get_value() == 1
            with semaphore:
                assert semaphore.get_value() == 0
        assert semaphore.get_value() == 2

    def test_gives_it_back_when_something_is_raised(self, make: Any) -> None:
        semaphore = make(1)
        with pytest.raises(KeyError):
            lockers.enter_and_raise(semaphore)
        assert semaphore.get_value() == 1


class TestRepr:
    def test_shows_the_value(self, ctx: Any, remote: Any) -> None:
        semaphore = ctx.Semaphore(3)
        assert repr(semaphore) == "<Semaphore(value=3)>"
        with semaphore:
            assert repr(semaphore) == "<Semaphore(value=2)>"
            assert remote(semaphore)("repr") == "<Semaphore(value=2)>"

    def test_shows_the_bound(self, ctx: Any, remote: Any) -> None:
        semaphore = ctx.BoundedSemaphore(3)
        assert repr(semaphore) == "<BoundedSemaphore(value=3, maxvalue=3)>"
        with semaphore:
            assert repr(semaphore) == "<BoundedSemaphore(value=2, maxvalue=3)>"
            assert remote(semaphore)("repr") == "<BoundedSemaphore(value=2, maxvalue=3)>"

    def test_of_a_subclass(self, ctx: Any) -> None:
        class Places(type(ctx.Semaphore())):  # type: ignore[misc]
            pass

        assert repr(Places(3, ctx=ctx)) == "<Places(value=3)>"


class TestUse:
    def test_a_bounded_buffer(self, ctx: Any) -> None:
        """Two semaphores count the room and what is there; producers and consumers never meet the end of either."""
        places, times = 4, 200
        room, filled, lock = ctx.Semaphore(places), ctx.Semaphore(0), ctx.Lock()
        items = ctx.RawArray("i", 4)
        children = [
            ctx.Process(target=target, args=(items, room, lock, filled, times))
            for target in (lockers.produce, lockers.produce, lockers.consume, lockers.consume)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(LONG)
            assert child.exitcode == 0
        left, most, put, taken = items
        assert (left, put, taken) == (0, 2 * times, 2 * times)
        assert most <= places
        assert (room.get_value(), filled.get_value()) == (places, 0)

    def test_a_limit(self, ctx: Any, make: Any) -> None:
        limit, lock, seen = make(2), ctx.Lock(), ctx.RawArray("i", 2)
        children = [ctx.Process(target=lockers.within_limit, args=(limit, lock, seen, 100)) for _ in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(LONG)
            assert child.exitcode == 0
        assert seen[0] == 0
        assert 1 <= seen[1] <= 2
        assert limit.get_value() == 2

    def test_threads(self, ctx: Any) -> None:
        limit, seen = ctx.Semaphore(2), [0, 0]
        threads = [
            threading.Thread(target=lockers.within_limit, args=(limit, threading.Lock(), seen, 100))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen[0] == 0
        assert seen[1] <= 2

    def test_never_recovers_what_a_killed_process_had(self, ctx: Any, remote: Any) -> None:
        """A semaphore counts; it knows no holders, and what was taken stays taken."""
        semaphore = ctx.Semaphore(2)
        other = remote(semaphore)
        other("acquire")
        other.process.kill()
        other.process.join()
        assert semaphore.get_value() == 1
        assert semaphore.acquire(False) is True
        assert semaphore.acquire(True, 0.05) is False
