"""`Condition`, as the standard library's documentation has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import lockers
import pytest
from processes import wait_until

pytestmark = pytest.mark.standard

LONG = 30.0


@pytest.fixture(params=["its own RLock", "a Lock", "an RLock"])
def condition(ctx: Any, request: pytest.FixtureRequest) -> Any:
    if request.param == "its own RLock":
        return ctx.Condition()
    return ctx.Condition(ctx.Lock() if request.param == "a Lock" else ctx.RLock())


def waiters(condition: Any) -> int:
    """How many its `repr` shows."""
    return int(repr(condition).rpartition(", ")[2].rstrip(")>"))


def wait_for_waiters(condition: Any, count: int) -> None:
    """Until so many wait; who is counted is asleep once the lock is free."""
    wait_until(lambda: waiters(condition) == count)


class Threads:
    """Threads that call a function; what each returned."""

    def __init__(self, count: int, function: Callable[..., Any], *args: Any) -> None:
        self.answers: list[Any] = []
        self._threads = [threading.Thread(target=self._run, args=(function, *args)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, function: Callable[..., Any], *args: Any) -> None:
        self.answers.append(function(*args))

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join()
        return self.answers


class TestLock:
    def test_is_that_of_the_condition(self, condition: Any) -> None:
        assert condition.acquire() is True
        assert lockers.in_thread(condition, "acquire", False) is False
        assert condition.release() is None
        with condition as got:
            assert got is True
        assert condition.acquire(False) is True
        condition.release()

    def test_takes_timeouts(self, condition: Any) -> None:
        with condition:
            assert lockers.in_thread(condition, "acquire", True, 0.05) is False
            assert lockers.in_thread(condition, "acquire", True, -1) is False

    def test_may_be_shared_by_conditions(self, ctx: Any) -> None:
        lock = ctx.Lock()
        full, empty = ctx.Condition(lock), ctx.Condition(lock)
        with full:
            assert lockers.in_thread(empty, "acquire", False) is False
            empty.notify()
        with lock:
            assert lockers.in_thread(full, "acquire", False) is False
            full.notify_all()

    def test_of_its_own_is_recursive(self, ctx: Any) -> None:
        condition = ctx.Condition()
        with condition, condition:
            assert lockers.in_thread(condition, "acquire", False) is False

    def test_release_without_it(self, ctx: Any) -> None:
        with pytest.raises(AssertionError, match="attempt to release recursive lock not owned by thread"):
            ctx.Condition().release()
        with pytest.raises(ValueError, match="semaphore or lock released too many times"):
            ctx.Condition(ctx.Lock()).release()


class TestWithoutTheLock:
    def test_wait(self, condition: Any) -> None:
        for timeout in None, 0, 1:
            with pytest.raises(AssertionError, match=r"must acquire\(\) condition before using wait\(\)"):
                condition.wait(timeout)

    def test_wait_for(self, condition: Any) -> None:
        with pytest.raises(AssertionError, match=r"must acquire\(\) condition before using wait\(\)"):
            condition.wait_for(lambda: False)
        # Nothing to wait for: nothing is asserted.
        assert condition.wait_for(lambda: "at once") == "at once"

    def test_notify(self, condition: Any) -> None:
        for call in condition.notify, condition.notify_all, lambda: condition.notify(2):
            with pytest.raises(AssertionError, match="lock is not owned"):
                call()

    def test_with_it_in_another_thread_or_process(self, condition: Any, remote: Any) -> None:
        other = remote(condition)
        other("acquire")
        with pytest.raises(AssertionError, match="lock is not owned"):
            condition.notify()
        with pytest.raises(AssertionError, match=r"must acquire\(\)"):
            condition.wait(0)
        assert isinstance(other("in a thread", "notify"), AssertionError)
        other("release")


class TestWait:
    @pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, 0.02])
    def test_gives_up(self, condition: Any, timeout: float) -> None:
        with condition:
            assert condition.wait(timeout) is False
            assert lockers.in_thread(condition, "acquire", False) is False, "it has the lock again"
        assert waiters(condition) == 0

    def test_with_a_timeout_waits_at_least_that_long(self, condition: Any) -> None:
        with condition:
            started = time.monotonic()
            assert condition.wait(timeout=0.2) is False
            assert time.monotonic() - started >= 0.18

    def test_is_ended_by_notify(self, condition: Any, remote: Any) -> None:
        other = remote(condition)
        for timeout in None, LONG:
            other.begin("wait holding", timeout)
            wait_for_waiters(condition, 1)
            with condition:
                assert condition.notify() is None
            assert other.answer() is True

    def test_has_the_lock_only_when_who_notified_gives_it_back(self, condition: Any, remote: Any) -> None:
        other = remote(condition)
        other.begin("wait holding")
        wait_for_waiters(condition, 1)
        with condition:
            condition.notify()
            assert not other.has_answered(0.05)
        assert other.answer() is True

    def test_here_is_ended_by_another_process(self, condition: Any, remote: Any) -> None:
        other = remote(condition)
        with condition:
            other.begin("notify holding")
            assert condition.wait(LONG) is True
        other.answer()

    def test_gives_a_recursive_lock_back_altogether(self, ctx: Any, remote: Any) -> None:
        condition = ctx.Condition()
        other = remote(condition)
        with condition, condition, condition:
            other.begin("notify holding")
            assert condition.wait(LONG) is True
            assert "<RLock(MainProcess, 3)>" in repr(condition)
        other.answer()
        assert "<RLock(None, 0)>" in repr(condition)

    def test_a_notify_before_it_does_not_count(self, condition: Any) -> None:
        with condition:
            condition.notify()
            condition.notify_all()
            assert condition.wait(0.02) is False

    def test_a_wait_that_gave_up_takes_no_notify(self, condition: Any, remote: Any) -> None:
        other = remote(condition)
        with condition:
            for _ in range(3):
                assert condition.wait(0) is False
        other.begin("wait holding")
        wait_for_waiters(condition, 1)
        with condition:
            condition.notify()
        assert other.answer() is True


class TestNotify:
    def test_wakes_as_many_as_it_is_told(self, condition: Any, remote: Any) -> None:
        others = [remote(condition) for _ in range(5)]
        for other in others:
            other.begin("wait holding")
        wait_for_waiters(condition, 5)
        for count, left in ((1, 4), (2, 2), (7, 0)):
            with condition:
                condition.notify(count)
            wait_until(lambda left=left: sum(not other.has_answered() for other in others) == left)  # type: ignore[misc]
            assert sum(not other.has_answered(0.01) for other in others) == left
        assert all(other.answer() for other in others)

    def test_by_name(self, condition: Any, remote: Any) -> None:
        others = [remote(condition) for _ in range(2)]
        for other in others:
            other.begin("wait holding")
        wait_for_waiters(condition, 2)
        with condition:
            condition.notify(n=2)
        assert [other.answer() for other in others] == [True, True]

    def test_of_nobody(self, condition: Any) -> None:
        with condition:
            for call in condition.notify, condition.notify_all, lambda: condition.notify(0):
                assert call() is None

    def test_all(self, condition: Any, remote: Any) -> None:
        others = [remote(condition) for _ in range(4)]
        threads = Threads(4, lockers.wait_holding, condition)
        for other in others:
            other.begin("wait holding", LONG)
        wait_for_waiters(condition, 8)
        with condition:
            assert condition.notify_all() is None
        assert [other.answer() for other in others] == [True] * 4
        assert threads.join() == [True] * 4

    def test_of_threads(self, condition: Any) -> None:
        threads = Threads(3, lockers.wait_holding, condition)
        wait_for_waiters(condition, 3)
        for left in 2, 1, 0:
            with condition:
                condition.notify()
            wait_until(lambda left=left: len(threads.answers) == 3 - left)  # type: ignore[misc]
        assert threads.join() == [True] * 3

    def test_by_a_thread_of_the_same_process(self, condition: Any) -> None:
        with condition:
            thread = Threads(1, lockers.notify_holding, condition)
            assert condition.wait(LONG) is True
        thread.join()

    def test_some_gave_up_and_others_wait(self, condition: Any, remote: Any) -> None:
        patient, impatient = remote(condition), remote(condition)
        impatient.begin("wait holding", 0.05)
        patient.begin("wait holding")
        assert impatient.answer() is False
        wait_until(lambda: waiters(condition) == 1)
        with condition:
            condition.notify()
        assert patient.answer() is True


class TestWaitFor:
    def test_returns_what_the_predicate_does(self, condition: Any) -> None:
        with condition:
            assert condition.wait_for(lambda: 5) == 5
            assert condition.wait_for(lambda: "yes", timeout=0) == "yes"
            assert condition.wait_for(lambda: 0, timeout=0) == 0
            assert condition.wait_for(list, 0.02) == []
            assert condition.wait_for(lambda: None, -1) is None

    def test_asks_with_the_lock_held(self, condition: Any) -> None:
        with condition:
            assert condition.wait_for(
                lambda: lockers.in_thread(condition, "acquire", False) is False, timeout=0
            )

    def test_asks_again_after_each_notify(self, ctx: Any, condition: Any, remote: Any) -> None:
        value = ctx.RawValue("i", 0)
        other = remote((condition, value))
        other.begin("wait for value", 4)
        for count in range(1, 5):
            wait_for_waiters(condition, 1)
            assert not other.has_answered()
            lockers.add_holding((condition, value))
            assert value.value == count
        assert other.answer() is True

    def test_with_a_timeout_waits_at_least_that_long(self, condition: Any) -> None:
        with condition:
            started = time.monotonic()
            assert condition.wait_for(lambda: False, timeout=0.2) is False
            assert time.monotonic() - started >= 0.18

    def test_notifications_do_not_lengthen_a_timeout(self, ctx: Any, condition: Any, remote: Any) -> None:
        value = ctx.RawValue("i", 0)
        other = remote((condition, value))
        other.begin("wait for value", 10**9, 0.3)
        while not other.has_answered(0.01):
            lockers.notify_all_holding(condition)
        assert other.answer() is False

    def test_what_the_predicate_raises(self, condition: Any) -> None:
        with condition:
            with pytest.raises(ZeroDivisionError):
                condition.wait_for(lambda: 1 / 0)
            assert lockers.in_thread(condition, "acquire", False) is False
        assert condition.acquire(False) is True
        condition.release()

    def test_a_counter_that_processes_raise(self, ctx: Any, condition: Any, remote: Any) -> None:
        value = ctx.RawValue("i", 0)
        others = [remote((condition, value)) for _ in range(4)]
        for other in others:
            other.begin("add holding")
        with condition:
            assert condition.wait_for(lambda: value.value == 4, LONG) is True
        for other in others:
            other.answer()


class TestRepr:
    def test_shows_lock_and_waiters(self, ctx: Any, remote: Any) -> None:
        condition = ctx.Condition()
        assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"
        other = remote(condition)
        other.begin("wait holding")
        wait_for_waiters(condition, 1)
        wait_until(lambda: repr(condition) == "<Condition(<RLock(None, 0)>, 1)>")
        with condition:
            assert repr(condition) == "<Condition(<RLock(MainProcess, 1)>, 1)>"
            condition.notify()
        other.answer()
        assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"

    def test_of_one_with_a_lock(self, ctx: Any) -> None:
        condition = ctx.Condition(ctx.Lock())
        assert repr(condition) == "<Condition(<Lock(owner=None)>, 0)>"
        with condition:
            assert repr(condition) == "<Condition(<Lock(owner=MainProcess)>, 0)>"


class TestUse:
    def test_many_rounds_of_a_relay(self, ctx: Any) -> None:
        """Each of four processes adds one when it is its turn; nobody's wake-up is lost."""
        condition, value, rounds = ctx.Condition(), ctx.RawValue("i", 0), 50
        children = [
            ctx.Process(target=lockers.relay, args=(condition, value, number, 4, rounds))
            for number in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(LONG)
            assert child.exitcode == 0
        assert value.value == 4 * rounds
        assert waiters(condition) == 0
