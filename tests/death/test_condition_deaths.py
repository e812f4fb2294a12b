"""Waiters, notifiers, holders and parties that are killed: nobody else waits for them.

`MANYHANDS_MEETING_DEATHS` says how many are killed at random moments in each test, under each start method (1,000 in a
long run).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import manyhands
import meetings
import pytest
from processes import kill, wait_until

DEATHS = int(os.environ.get("MANYHANDS_MEETING_DEATHS", "6"))

pytestmark = pytest.mark.deadline(120 + 2 * DEATHS)


@contextmanager
def crew(
    ctx: Any, count: int, target: Callable[..., None], *args: Any
) -> Iterator[Callable[[random.Random], None]]:
    """Keeps `count` processes running; call what it gives to have one killed and replaced."""

    def start() -> Any:
        process = ctx.Process(target=target, args=args, daemon=True)
        process.start()
        return process

    processes = [start() for _ in range(count)]

    def kill_one(rng: random.Random) -> None:
        victim = processes.pop(rng.randrange(count))
        time.sleep(rng.random() / 200)
        kill(victim.pid)
        victim.join()
        victim.close()
        processes.append(start())

    try:
        yield kill_one
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()


def notified(condition: Any) -> bool:
    """Waits on a condition on which others pass notifications on."""
    while True:
        try:
            with condition:
                return bool(condition.wait(60))
        except manyhands.OwnerDied:
            continue


class TestCondition:
    @pytest.mark.parametrize("lock", ["RLock", "Lock"])
    def test_waiters_and_notifiers_killed_at_random(self, ctx: Any, lock: str) -> None:
        rng = random.Random(DEATHS)
        condition = ctx.Condition(getattr(ctx, lock)())
        with crew(ctx, 4, meetings.pass_on, condition, 1) as kill_one:
            for _ in range(DEATHS):
                kill_one(rng)
                assert notified(condition)

    def test_a_dead_waiter_costs_no_more_than_one_notification(self, ctx: Any) -> None:
        condition, told = ctx.Condition(), ctx.Queue()
        waiters = [
            ctx.Process(target=meetings.wait_for_notification, args=(condition, told)) for _ in range(3)
        ]
        for process in waiters:
            process.start()
            assert told.get() == "waits"
        # In `wait`, since the lock can be had.
        with condition:
            kill(waiters[1].pid)
            waiters[1].join()
        # Of the same group, those who live take what is given, the dead one what is left.
        for _ in range(3):
            with condition:
                condition.notify()
        assert (told.get(), told.get()) == (True, True)
        waiters[0].join()
        waiters[2].join()
        late = ctx.Process(target=meetings.wait_for_notification, args=(condition, told))
        late.start()
        assert told.get() == "waits"
        with condition:
            condition.notify()
        assert told.get() is True
        late.join()

    @pytest.mark.parametrize("what", ["raise", "recover"])
    def test_a_notifier_killed_with_the_lock(self, ctx: Any, what: str) -> None:
        condition, told = ctx.Condition(ctx.RLock(on_owner_death=what)), ctx.Queue()
        waiter = ctx.Process(target=meetings.wait_for_notification, args=(condition, told))
        waiter.start()
        assert told.get() == "waits"
        notifier = ctx.Process(target=meetings.notify_and_die_holding, args=(condition,))
        notifier.start()
        notifier.join()
        assert notifier.exitcode == -signal.SIGKILL
        assert told.get() == ("OwnerDied" if what == "raise" else True)
        waiter.join()
        with condition:
            condition.notify()


class TestBarrier:
    def test_parties_killed_at_random(self, ctx: Any) -> None:
        rng = random.Random(DEATHS)
        barrier = ctx.Barrier(3)

        def start() -> Any:
            process = ctx.Process(target=meetings.meet_for_ever, args=(barrier,), daemon=True)
            process.start()
            return process

        others = [start(), start()]
        for _ in range(DEATHS):
            for _ in range(5):
                barrier.wait(60)
            victim = others.pop(rng.randrange(2))
            killer = threading.Timer(rng.random() / 200, kill, (victim.pid,))
            killer.start()
            with pytest.raises(threading.BrokenBarrierError):
                while True:
                    # One that is killed between two waits was no party: then the others' time is over.
                    barrier.wait(1)
            killer.join()
            victim.join()
            barrier.reset()
            others.append(start())
        for process in others:
            process.kill()
            process.join()

    def test_a_party_that_waits_is_killed(self, ctx: Any) -> None:
        barrier, told = ctx.Barrier(3), ctx.Queue()
        parties = [ctx.Process(target=meetings.meet, args=(barrier, told)) for _ in range(2)]
        for process in parties:
            process.start()
        wait_until(lambda: barrier.n_waiting == 2)
        kill(parties[0].pid)
        assert told.get() == "BrokenBarrierError"
        assert barrier.broken
        for process in parties:
            process.join()

    def test_the_only_party_that_waits_is_killed(self, ctx: Any) -> None:
        barrier, told = ctx.Barrier(2), ctx.Queue()
        party = ctx.Process(target=meetings.meet, args=(barrier, told))
        party.start()
        wait_until(lambda: barrier.n_waiting == 1)
        kill(party.pid)
        party.join()
        # The last one to come does not look closely at those who came just before.
        time.sleep(0.01)
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()

    def test_the_one_that_runs_the_action_is_killed(self, ctx: Any) -> None:
        barrier, told = ctx.Barrier(2, meetings.die), ctx.Queue()
        waits = ctx.Process(target=meetings.meet, args=(barrier, told))
        waits.start()
        wait_until(lambda: barrier.n_waiting == 1)
        acts = ctx.Process(target=meetings.meet, args=(barrier, told))
        acts.start()
        acts.join()
        assert told.get() == "BrokenBarrierError"
        waits.join()


class TestEvent:
    def test_waiters_killed_at_random(self, ctx: Any) -> None:
        rng = random.Random(DEATHS)
        event, told = ctx.Event(), ctx.Queue()
        waiters = {
            name: ctx.Process(target=meetings.hear, args=(event, told, name), daemon=True)
            for name in range(3)
        }
        for process in waiters.values():
            process.start()
        for death in range(DEATHS):
            event.set()
            heard = {told.get() for _ in waiters}
            assert heard == set(waiters)
            event.clear()
            # Each has seen that it is down again.
            assert {told.get() for _ in waiters} == {-1 - name for name in waiters}
            name = rng.choice(list(waiters))
            time.sleep(rng.random() / 200)
            kill(waiters[name].pid)
            waiters.pop(name).join()
            waiters[3 + death] = ctx.Process(target=meetings.hear, args=(event, told, 3 + death), daemon=True)
            waiters[3 + death].start()
        for process in waiters.values():
            process.kill()
            process.join()

    def test_setters_killed_at_random(self, ctx: Any) -> None:
        rng = random.Random(DEATHS)
        event = ctx.Event()
        with crew(ctx, 2, meetings.set_and_clear_for_ever, event) as kill_one:
            for _ in range(DEATHS):
                kill_one(rng)
                # However short the flag is up.
                assert event.wait(60)


class TestSent:
    """The standard library refuses these."""

    def test_through_a_queue(self, ctx: Any) -> None:
        queue, event, condition, barrier = ctx.Queue(), ctx.Event(), ctx.Condition(ctx.Lock()), ctx.Barrier(2)
        process = ctx.Process(target=meetings.send_through, args=(queue,))
        process.start()
        with condition:
            queue.put((event, condition, barrier))
            assert condition.wait(60)
        barrier.wait(60)
        assert event.wait(60)
        process.join()

    def test_through_a_pool(self, ctx: Any) -> None:
        with ctx.Pool(2) as pool:
            barrier, event = ctx.Barrier(2), ctx.Event()
            results = pool.map_async(meetings.wait_in_worker, [(barrier, event)] * 2, chunksize=1)
            event.set()
            assert sorted(results.get(60)) == [0, 1]
            pool.close()
            pool.join()


def test_interrupted_waits_leave_no_trace(ctx: Any) -> None:
    condition, barrier, event = ctx.Condition(), ctx.Barrier(2), ctx.Event()

    class Called(Exception):
        pass

    def call(_signal: int, _frame: Any) -> None:
        raise Called

    before = signal.signal(signal.SIGUSR1, call)
    try:
        for wait in (condition.wait, barrier.wait, event.wait):
            timer = threading.Timer(
                0.1, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            )
            timer.start()
            with pytest.raises(Called), condition:
                try:
                    wait()
                finally:
                    assert condition._lock._is_mine()
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (condition._waiters, barrier.n_waiting, barrier.broken) == (0, 0, False)
