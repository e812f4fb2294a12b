"""Locks whose holders are killed.

`MANYHANDS_HOLDERS` says how many holders and contenders are killed under each primitive and start method (1,000 in
`make proofs`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import holders
import lockers
import manyhands
import pytest
import targets
from holders import GIVING, INSIDE, OUTSIDE, TAKING, Board
from processes import wait_until

KILLS = int(os.environ.get("MANYHANDS_HOLDERS", "12"))
CONTENDERS = 4
LONG = 30.0


@pytest.fixture
def start(ctx: Any) -> Iterator[Any]:
    """Starts processes; whoever is left at the end is killed."""
    started = []

    def process(target: Any, *args: Any) -> Any:
        started.append(ctx.Process(target=target, args=args))
        started[-1].start()
        return started[-1]

    yield process
    for each in started:
        with contextlib.suppress(ValueError):
            end(each)
    started.clear()


def end(process: Any) -> None:
    """Kills it; ValueError if that was done before. What it held is looked for when its object is closed."""
    process.kill()
    process.join()
    process.close()


@pytest.fixture
def pipe(ctx: Any) -> Iterator[Any]:
    near, far = ctx.Pipe()
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def kill_holder(start: Any, pipe: Any) -> Callable[..., None]:
    """Has a process take a lock, and kills it."""
    near, far = pipe

    def kill(lock: Any, target: Any = holders.hold) -> None:
        process = start(target, lock, far)
        assert near.poll(LONG)
        assert near.recv() == "held"
        end(process)

    return kill


# --- contenders, killed at random ---


class Contest:
    """Four processes at one lock; the killed ones are replaced."""

    def __init__(self, start: Any, lock: Any, kind: str, path: Path, kills: int) -> None:
        self._start, self._lock, self._kind, self._path = start, lock, kind, path
        self._board = Board(path, CONTENDERS + 2 * kills)
        self._records: list[Any] = []
        self.running: dict[int, Any] = {}
        for _ in range(CONTENDERS):
            self.add()

    def add(self) -> None:
        number = len(self._records)
        self._records.append(self._board.record(number))
        self.running[number] = self._start(holders.contend, self._lock, self._kind, str(self._path), number)

    def kill(self, number: int) -> int:
        """Kills one; where it was."""
        end(self.running.pop(number))
        return int(self._records[number].where)

    def where(self, number: int) -> int:
        return int(self._records[number].where)

    def told(self) -> int:
        return sum(record.told for record in self._records)

    def clashes(self) -> int:
        return sum(record.clashes for record in self._records)

    def wait_for_turns(self, count: int = 2) -> None:
        """Until each has had so many more turns: nobody is stuck."""
        goals = {number: self._records[number].turns + count for number in self.running}
        wait_until(lambda: all(self._records[n].turns >= goal for n, goal in goals.items()), LONG)

    def lost_turns(self) -> int:
        """How many turns the guarded counter knows beyond those that were recorded."""
        return self._board.get(1) - sum(record.turns for record in self._records)

    def end(self) -> None:
        for number in list(self.running):
            self.kill(number)
        self._board.close()


@pytest.fixture
def contest(ctx: Any, start: Any, tmp_path: Path) -> Iterator[Any]:
    made = []

    def begin(kind: str, kills: int) -> Contest:
        made.append(Contest(start, getattr(ctx, kind)(), kind, tmp_path / "board", kills))
        return made[-1]

    yield begin
    for each in made:
        each.end()
    made.clear()


@pytest.mark.deadline(60 + 2 * KILLS)
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_contenders_killed_at_random(contest: Any, kind: str, figure: Callable[[str], None]) -> None:
    """One at a time, nobody stuck, and each death of a holder told to exactly one."""
    race, rng = contest(kind, KILLS), random.Random(7)
    race.wait_for_turns()
    deaths = {OUTSIDE: 0, TAKING: 0, INSIDE: 0, GIVING: 0}
    for number in range(KILLS):
        victim = rng.choice(list(race.running))
        if number % 2:
            # Mostly somebody waits when chosen at random: every other victim is one that has it.
            wait_until(lambda victim=victim: race.where(victim) == INSIDE, LONG)  # type: ignore[misc]
        else:
            threading.Event().wait(rng.random() * 0.003)
        before = race.told()
        where = race.kill(victim)
        deaths[where] += 1
        race.wait_for_turns()
        told = race.told() - before
        if kind == "Condition":
            # Inside, it may have been waiting: without the lock.
            assert told <= (where != OUTSIDE), where
        else:
            assert told == 1 if where == INSIDE else told <= (where != OUTSIDE), where
        assert race.clashes() == 0
        race.add()
    figure(
        f"killed inside {deaths[INSIDE]}, taking {deaths[TAKING]}, giving {deaths[GIVING]}; told {race.told()}"
    )
    assert race.clashes() == 0
    assert race.lost_turns() in range(-KILLS, KILLS + 1)


@pytest.mark.deadline(60 + 2 * KILLS)
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_holder_and_next_killed_together(contest: Any, kind: str) -> None:
    """Whoever recovers a lock may be killed at it."""
    kills = max(1, KILLS // 4)
    race, rng = contest(kind, kills), random.Random(11)
    race.wait_for_turns()
    for _ in range(kills):
        victims = rng.sample(list(race.running), 2)
        wait_until(lambda first=victims[0]: race.where(first) == INSIDE, LONG)  # type: ignore[misc]
        before = race.told()
        for victim in victims:
            race.kill(victim)
        race.wait_for_turns()
        assert race.told() - before <= 2
        assert race.clashes() == 0
        race.add()
        race.add()


# --- a lock whose holder was killed ---


@pytest.fixture(params=["Lock", "RLock", "Condition", "Condition with a Lock"])
def guard(ctx: Any, request: pytest.FixtureRequest) -> Any:
    """What has an owner."""
    if request.param == "Condition with a Lock":
        return ctx.Condition(ctx.Lock())
    return getattr(ctx, request.param)()


class TestFoundLater:
    def test_by_one_acquirer(self, guard: Any, kill_holder: Any) -> None:
        """Nobody waited when it happened."""
        for _ in range(3):
            kill_holder(guard)
            with pytest.raises(manyhands.OwnerDied):
                guard.acquire()
            assert guard.acquire() is True
            guard.release()
            with guard:
                pass

    @pytest.mark.parametrize("args", [(True, 5), (False,), (True, 0), (True, -1)])
    def test_by_every_kind_of_acquire(self, guard: Any, kill_holder: Any, args: Any) -> None:
        kill_holder(guard)
        # One that does not wait may first only find that the lock is taken, if death has not been noticed.
        with pytest.raises(manyhands.OwnerDied):
            for _ in range(1000):
                assert guard.acquire(*args) is False
                threading.Event().wait(0.01)
        assert guard.acquire(*args) is True
        guard.release()

    def test_by_with(self, guard: Any, kill_holder: Any) -> None:
        """The block is not run, for nobody has the lock."""
        kill_holder(guard)
        with pytest.raises(manyhands.OwnerDied):
            with guard:
                pytest.fail("this must not run")
        with guard as got:
            assert got is True

    def test_by_a_thread(self, guard: Any, kill_holder: Any) -> None:
        kill_holder(guard)
        assert isinstance(lockers.in_thread(guard, "acquire"), manyhands.OwnerDied)
        assert lockers.in_thread(guard, "acquire", False) is True

    def test_in_each_of_a_hundred(self, ctx: Any, kill_holder: Any) -> None:
        locks = [ctx.Lock() if number % 2 else ctx.RLock() for number in range(100)]
        kill_holder(locks, holders.hold_all)
        for lock in locks:
            with pytest.raises(manyhands.OwnerDied):
                lock.acquire()
            assert lock.acquire(False) is True
            lock.release()

    def test_repr_then(self, ctx: Any, kill_holder: Any) -> None:
        lock = ctx.Lock()
        kill_holder(lock)
        assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"
        with pytest.raises(manyhands.OwnerDied):
            lock.acquire()
        assert repr(lock) == "<Lock(owner=None)>"

    def test_the_error(self, ctx: Any, kill_holder: Any) -> None:
        lock = ctx.Lock()
        kill_holder(lock)
        with pytest.raises(manyhands.OwnerDied) as caught:
            lock.acquire()
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


class TestWaiters:
    """Who waits when it happens."""

    def test_one_is_told_and_the_others_have_it_in_turn(
        self, ctx: Any, guard: Any, start: Any, pipe: Any
    ) -> None:
        near, far = pipe
        holder = start(holders.hold, guard, far)
        assert near.recv() == "held"
        waiting = [lockers.Remote(ctx, guard) for _ in range(3)]
        for each in waiting:
            each.begin("acquire")
        assert not any(each.has_answered(0.02) for each in waiting)
        end(holder)
        told = 0
        while waiting:
            wait_until(lambda: any(each.has_answered() for each in waiting), LONG)
            each = next(each for each in waiting if each.has_answered())
            try:
                assert each.answer() is True
                each("release")
            except manyhands.OwnerDied:
                told += 1
            waiting.remove(each)
            each.end()
        assert told == 1

    def test_that_are_killed_harm_nobody(self, guard: Any, start: Any, pipe: Any) -> None:
        near, far = pipe
        with guard:
            victims = [start(holders.wait_in, guard, "acquire", far) for _ in range(3)]
            for _ in victims:
                assert near.recv() == "there"
            for victim in victims:
                end(victim)
            survivor = start(holders.wait_in, guard, "acquire", far)
            assert near.recv() == "there"
        assert near.poll(LONG)
        assert near.recv() is True
        survivor.join()

    @pytest.mark.parametrize("call", ["acquire", "wait"])
    def test_of_semaphores_and_events_that_are_killed_harm_nobody(
        self, ctx: Any, start: Any, pipe: Any, call: str
    ) -> None:
        near, far = pipe
        thing = ctx.Semaphore(0) if call == "acquire" else ctx.Condition()
        victims = [start(holders.wait_in, thing, call, far) for _ in range(3)]
        for _ in victims:
            assert near.recv() == "there"
        if call == "wait":
            wait_until(lambda: repr(thing).endswith(", 3)>"))
        for victim in victims:
            end(victim)
        survivor = start(holders.wait_in, thing, call, far)
        assert near.recv() == "there"
        if call == "acquire":
            thing.release()
        else:
            # Until it is woken: whether the killed ones are still counted is nobody's business.
            while not near.poll(0.01):
                lockers.notify_all_holding(thing)
        assert near.poll(LONG)
        assert near.recv() is True
        survivor.join()

    def test_of_a_barrier_that_is_killed_breaks_it(self, ctx: Any, start: Any, pipe: Any) -> None:
        """The others would wait for ever for somebody who cannot come again."""
        near, far = pipe
        barrier = ctx.Barrier(3)
        victim = start(holders.wait_in, barrier, "wait", far)
        assert near.recv() == "there"
        wait_until(lambda: barrier.n_waiting == 1)
        end(victim)
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(LONG)
        barrier.reset()
        assert barrier.n_waiting == 0


class TestOnOwnerDeath:
    @pytest.mark.parametrize("kind", ["Lock", "RLock"])
    def test_block(self, ctx: Any, kind: str, kill_holder: Any) -> None:
        """As in the standard library: nobody has it ever again, unless a Lock is released by somebody else."""
        lock = getattr(ctx, kind)(on_owner_death="block")
        kill_holder(lock)
        for _ in range(3):
            assert lock.acquire(True, 0.05) is False
        assert lock.acquire(False) is False
        if kind == "Lock":
            lock.release()
            assert lock.acquire(False) is True
            lock.release()

    @pytest.mark.parametrize("kind", ["Lock", "RLock"])
    def test_recover(self, ctx: Any, kind: str, kill_holder: Any) -> None:
        """Nobody is told."""
        lock = getattr(ctx, kind)(on_owner_death="recover")
        for _ in range(3):
            kill_holder(lock)
            assert lock.acquire(True, LONG) is True
            lock.release()
            kill_holder(lock)
            with lock:
                pass

    @pytest.mark.parametrize("kind", ["Lock", "RLock"])
    def test_raise_is_the_default(self, ctx: Any, kind: str, kill_holder: Any) -> None:
        lock = getattr(ctx, kind)(on_owner_death="raise")
        kill_holder(lock)
        with pytest.raises(manyhands.OwnerDied):
            lock.acquire()

    @pytest.mark.parametrize("kind", ["Lock", "RLock"])
    def test_others_are_refused(self, ctx: Any, kind: str) -> None:
        for wrong in "ignore", "", None, 1:
            with pytest.raises((ValueError, TypeError)):
                getattr(ctx, kind)(on_owner_death=wrong)

    @pytest.mark.parametrize("mode", ["block", "recover", "raise"])
    def test_travels_with_the_lock(self, ctx: Any, mode: str, kill_holder: Any) -> None:
        """It is the lock's, whoever made it."""
        lock = ctx.Lock(on_owner_death=mode)
        other = lockers.Remote(ctx, lock)
        kill_holder(lock)
        if mode == "block":
            assert other("acquire", True, 0.05) is False
        elif mode == "recover":
            assert other("acquire", True, LONG) is True
        else:
            with pytest.raises(manyhands.OwnerDied):
                other("acquire", True, LONG)
        other.end()

    def test_of_a_conditions_lock(self, ctx: Any, kill_holder: Any) -> None:
        condition = ctx.Condition(ctx.RLock(on_owner_death="recover"))
        kill_holder(condition)
        with condition:
            condition.notify()


class TestEndsThatAreNoDeath:
    @pytest.mark.parametrize("way", ["return", "sys.exit", "exception"])
    def test_a_holder_that_ends_in_an_orderly_way(
        self, ctx: Any, start: Any, way: str, tmp_path: Path
    ) -> None:
        """A lock may be released by somebody else, so who ends and leaves it is no accident; it stays taken."""
        lock = ctx.Lock()
        start(targets.with_output, str(tmp_path / "errors"), holders.hold_and_end, lock, way).join()
        assert lock.acquire(True, 0.05) is False
        lock.release()
        assert lock.acquire(False) is True
        lock.release()

    @pytest.mark.parametrize("way", ["os._exit", "exec"])
    def test_a_holder_that_ends_without_farewell(self, ctx: Any, start: Any, way: str) -> None:
        """What happened to it cannot be told from a death."""
        lock = ctx.Lock()
        start(holders.hold_and_end, lock, way).join()
        with pytest.raises(manyhands.OwnerDied):
            lock.acquire(True, LONG)
        assert lock.acquire(False) is True
        lock.release()

    def test_a_thread_that_ends_while_it_holds_it(self, ctx: Any, start: Any, pipe: Any) -> None:
        """Its process lives, so nothing is recovered; with the process it is."""
        near, far = pipe
        lock = ctx.Lock()
        process = start(holders.hold_in_a_thread_that_ends, lock, far)
        assert near.recv() == "held"
        assert lock.acquire(True, 0.1) is False
        end(process)
        with pytest.raises(manyhands.OwnerDied):
            lock.acquire(True, LONG)

    def test_a_lock_that_was_handed_on_is_not_lost_with_its_first_holder(
        self, ctx: Any, start: Any, pipe: Any
    ) -> None:
        """Taken there, released here, taken here: the owner is this process."""
        near, far = pipe
        lock = ctx.Lock()
        process = start(holders.hold, lock, far)
        assert near.recv() == "held"
        lock.release()
        assert lock.acquire() is True
        end(process)
        assert lockers.in_thread(lock, "acquire", True, 0.1) is False
        lock.release()
        assert lock.acquire(False) is True
        lock.release()


class TestNeverRecovered:
    def test_a_semaphore_as_a_bounded_buffer(self, ctx: Any, start: Any, pipe: Any) -> None:
        """A producer that is killed has filled places; that it will not empty them is not an error."""
        near, far = pipe
        room, filled = ctx.Semaphore(5), ctx.BoundedSemaphore(5)
        for count, left in ((2, 3), (3, 0)):
            process = start(holders.take_places, room, far, count)
            assert near.recv() == "taken"
            end(process)
            assert room.get_value() == left
        process = start(holders.take_places, filled, far, 5)
        assert near.recv() == "taken"
        end(process)
        for semaphore in room, filled:
            for _ in range(3):
                assert semaphore.acquire(False) is False
                assert semaphore.acquire(True, 0.05) is False
            for _ in range(5):
                semaphore.release()
            assert semaphore.get_value() == 5
            assert semaphore.acquire(False) is True

    def test_an_event(self, ctx: Any, start: Any, pipe: Any) -> None:
        near, far = pipe
        event = ctx.Event()
        process = start(holders.set_and_stay, event, far)
        assert near.recv() == "set"
        end(process)
        assert event.is_set()
        assert event.wait(0) is True


# --- nothing adds up ---


def held() -> int:
    """How many blocks of the arena somebody has."""
    gc.collect()
    found = re.search(r"in (\d+) held block", manyhands.doctor() or "")
    assert found is not None
    return int(found[1])


class TestNothingAddsUp:
    @pytest.mark.methods("fork")
    def test_locks_made_and_dropped(self, ctx: Any) -> None:
        ctx.Lock()
        before = held()
        for kind in "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event", "Condition":
            make = getattr(ctx, kind)
            for _ in range(100_000 if kind == "Lock" else 10_000):
                make()
        for _ in range(10_000):
            ctx.Barrier(2)
        assert held() == before

    def test_locks_of_killed_processes(self, ctx: Any, kill_holder: Any) -> None:
        kill_holder(ctx.Lock())
        before = held()
        for _ in range(3):
            kill_holder([ctx.Lock() for _ in range(50)], holders.hold_all)
        assert held() == before
