"""Ctrl-C (SIGINT) during each blocking call of a lock: KeyboardInterrupt at once, and the object goes on."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import lockers
import pytest
from processes import stat, wait_until

pytestmark = pytest.mark.standard

LONG = 30.0
#: Without a timeout, and with one that is far off: the two may wait in different ways.
TIMEOUTS = [None, 1000.0]


def interrupt(other: Any) -> None:
    """Sends the signal once the process sleeps in the call that it has begun, and has what it raises."""
    assert not other.has_answered(0.02)
    wait_until(lambda: asleep(other.process.pid))
    other.interrupt()
    with pytest.raises(KeyboardInterrupt):
        other.answer()


def asleep(pid: int) -> bool:
    found = stat(pid)
    return found is not None and found.state == "S"


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_acquire(ctx: Any, remote: Any, kind: str, timeout: float | None) -> None:
    lock = getattr(ctx, kind)()
    lock.acquire()
    other = remote(lock)
    for _ in range(3):
        other.begin("acquire", True, timeout)
        interrupt(other)
    assert other("acquire", False) is False
    lock.release()
    assert other("acquire", True, LONG) is True
    other("release")
    assert lock.acquire(False) is True
    lock.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_with(ctx: Any, remote: Any, kind: str) -> None:
    lock = getattr(ctx, kind)()
    lock.acquire()
    other = remote(lock)
    other.begin("sleep holding")
    interrupt(other)
    lock.release()
    # And in the block itself: it gives the lock back on its way out.
    other.begin("sleep holding")
    wait_until(lambda: "SomeOther" in repr(lock))
    interrupt(other)
    assert lock.acquire(True, LONG) is True
    lock.release()


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_condition_wait(ctx: Any, remote: Any, kind: str, timeout: float | None) -> None:
    condition = ctx.Condition(getattr(ctx, kind)())
    other, third = remote(condition), remote(condition)
    for _ in range(3):
        other.begin("wait holding", timeout)
        wait_until(lambda: repr(condition).endswith(", 1)>"))
        interrupt(other)
        with condition:
            condition.notify()
    third.begin("wait holding", timeout)
    wait_until(lambda: repr(condition).endswith(", 1)>"))
    with condition:
        condition.notify()
    assert third.answer() is True


def test_condition_wait_has_the_lock_back(ctx: Any, remote: Any) -> None:
    """As after any other end of a wait."""
    condition = ctx.Condition()
    other = remote(condition)
    other("acquire")
    other.begin("wait")
    interrupt(other)
    assert condition.acquire(False) is False
    other("release")
    assert condition.acquire(True, LONG) is True
    condition.release()


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_condition_wait_for(ctx: Any, remote: Any, timeout: float | None) -> None:
    condition, value = ctx.Condition(), ctx.RawValue("i", 0)
    other = remote((condition, value))
    other.begin("wait for value", 1, timeout)
    wait_until(lambda: repr(condition).endswith(", 1)>"))
    interrupt(other)
    assert condition.acquire(True, LONG) is True
    condition.release()


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_event_wait(ctx: Any, remote: Any, timeout: float | None) -> None:
    event = ctx.Event()
    other, third = remote(event), remote(event)
    third.begin("wait", timeout)
    for _ in range(3):
        other.begin("wait", timeout)
        interrupt(other)
    event.set()
    assert third.answer() is True
    assert other("wait") is True


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_barrier_wait(ctx: Any, remote: Any, timeout: float | None) -> None:
    """Who is interrupted waits no longer, and does not count; the barrier is whole."""
    barrier = ctx.Barrier(2)
    other = remote(barrier)
    for _ in range(3):
        other.begin("wait", timeout)
        wait_until(lambda: barrier.n_waiting == 1)
        interrupt(other)
        assert (barrier.n_waiting, barrier.broken) == (0, False)
    other.begin("wait")
    barrier.wait(LONG)
    other.answer()


class Handled(Exception):
    """What a signal's handler raises."""


@pytest.fixture
def alarms() -> Any:
    """Calls a function in this process's main thread, while it waits."""
    before = signal.getsignal(signal.SIGUSR1)
    timers: list[threading.Timer] = []

    def soon(function: Any) -> None:
        signal.signal(signal.SIGUSR1, lambda *_args: function())
        main = threading.main_thread().ident
        assert main is not None
        timers.append(threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1)))
        timers[-1].start()

    yield soon
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGUSR1, before)


class TestHandlers:
    """Of signals, in the thread that waits."""

    @pytest.fixture(params=["Lock", "RLock", "Semaphore"])
    def held(self, ctx: Any, remote: Any, request: pytest.FixtureRequest) -> Any:
        lock = getattr(ctx, request.param)()
        other = remote(lock)
        other("acquire")
        return lock, other

    def test_that_raises_ends_the_wait(self, held: Any, alarms: Any) -> None:
        lock, other = held

        def fail() -> None:
            raise Handled

        alarms(fail)
        with pytest.raises(Handled):
            lock.acquire()
        other("release")
        assert lock.acquire(True, LONG) is True
        lock.release()

    def test_that_returns_does_not(self, held: Any, alarms: Any) -> None:
        lock, other = held
        ran = []
        alarms(lambda: (ran.append(1), other.begin("release")))
        assert lock.acquire() is True
        assert ran == [1]
        other.answer()
        lock.release()

    def test_that_returns_does_not_lengthen_a_timeout(self, held: Any, alarms: Any) -> None:
        lock, _other = held
        ran = []
        alarms(lambda: ran.append(1))
        started = time.monotonic()
        assert lock.acquire(True, 0.2) is False
        assert time.monotonic() - started >= 0.18
        assert ran == [1]

    def test_may_use_another_lock(self, ctx: Any, held: Any, alarms: Any) -> None:
        lock, other = held
        mine = ctx.Lock()
        alarms(lambda: (lockers.acquire_for_a_moment(mine), other.begin("release")))
        assert lock.acquire(True, LONG) is True
        other.answer()
        lock.release()

    @pytest.mark.ours_only
    def test_sets_the_event_that_is_waited_for(self, ctx: Any, alarms: Any) -> None:
        """In the standard library `set` waits until the wait that it interrupted has woken: for ever."""
        event = ctx.Event()
        alarms(event.set)
        assert event.wait(LONG) is True

    def test_releases_the_semaphore_that_is_waited_for(self, ctx: Any, alarms: Any) -> None:
        semaphore = ctx.Semaphore(0)
        alarms(semaphore.release)
        assert semaphore.acquire() is True
        assert semaphore.get_value() == 0
