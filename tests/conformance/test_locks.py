"""`Lock` and `RLock`, as the standard library's documentation has them."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import lockers
import pytest
from processes import wait_until

pytestmark = pytest.mark.standard

LONG = 30.0

KINDS = ["Lock", "RLock"]


@pytest.fixture(params=KINDS)
def lock(ctx: Any, request: pytest.FixtureRequest) -> Any:
    """One of each kind: what both have in common."""
    return getattr(ctx, request.param)()


def kind_of(lock: Any) -> str:
    return type(lock).__name__


class TestAcquire:
    def test_returns_true(self, lock: Any) -> None:
        assert lock.acquire() is True
        assert lock.release() is None

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((True,), {}),
            ((False,), {}),
            ((1,), {}),
            ((), {"block": True}),
            ((), {"block": False}),
            ((True, None), {}),
            ((True, 0), {}),
            ((True, 1.5), {}),
            ((True, -1), {}),
            ((), {"block": True, "timeout": None}),
            ((), {"timeout": 3}),
            ((), {"timeout": -0.5}),
            ((False, 5), {}),
        ],
        ids=str,
    )
    def test_of_a_free_one_by_every_signature(self, lock: Any, args: Any, kwargs: Any) -> None:
        assert lock.acquire(*args, **kwargs) is True
        lock.release()

    @pytest.mark.parametrize(
        "args", [(False,), (0,), (True, 0), (True, 0.0), (True, -1), (True, -0.5), (True, 0.05), (False, 5)]
    )
    def test_of_a_held_one_gives_up(self, lock: Any, args: Any) -> None:
        lock.acquire()
        assert lockers.in_thread(lock, "acquire", *args) is False
        lock.release()

    def test_with_a_timeout_waits_at_least_that_long(self, lock: Any) -> None:
        lock.acquire()
        started = time.monotonic()
        assert lockers.in_thread(lock, "acquire", True, 0.2) is False
        assert time.monotonic() - started >= 0.18
        lock.release()

    @pytest.mark.parametrize("timeout", ["soon", [], object()], ids=["text", "list", "object"])
    def test_with_a_timeout_that_is_no_number(self, lock: Any, timeout: Any) -> None:
        with pytest.raises(TypeError):
            lock.acquire(True, timeout)
        assert lock.acquire(False) is True
        lock.release()

    @pytest.mark.parametrize("kwargs", [{"blocking": True}, {"seconds": 1}])
    def test_refuses_other_names(self, lock: Any, kwargs: Any) -> None:
        with pytest.raises(TypeError):
            lock.acquire(**kwargs)

    def test_refuses_more_arguments(self, lock: Any) -> None:
        with pytest.raises(TypeError):
            lock.acquire(True, 1, 1)
        with pytest.raises(TypeError):
            lock.release(1)

    def test_waits_for_the_release_of_another_thread(self, lock: Any, remote: Any) -> None:
        other = remote(lock)
        lock.acquire()
        other.begin("acquire")
        assert not other.has_answered(0.05)
        lock.release()
        assert other.answer() is True
        assert lock.acquire(False) is False
        other("release")
        assert lock.acquire(True, LONG) is True
        lock.release()

    def test_waits_with_a_timeout_for_a_release(self, lock: Any, remote: Any) -> None:
        other = remote(lock)
        lock.acquire()
        other.begin("acquire", timeout=LONG)
        lock.release()
        assert other.answer() is True
        other("release")

    def test_of_one_that_another_process_holds_gives_up(self, lock: Any, remote: Any) -> None:
        other = remote(lock)
        other("acquire")
        assert lock.acquire(False) is False
        assert lock.acquire(True, 0.05) is False
        assert lock.acquire(timeout=-1) is False
        other("release")
        assert lock.acquire() is True
        lock.release()

    def test_goes_to_each_waiter_in_turn(self, lock: Any, remote: Any) -> None:
        others = [remote(lock) for _ in range(3)]
        lock.acquire()
        for other in others:
            other.begin("acquire")
        lock.release()
        while others:
            wait_until(lambda: any(other.has_answered() for other in others))
            (holder,) = (other for other in others if other.has_answered())
            assert holder.answer() is True
            others.remove(holder)
            holder("release")


class TestWith:
    def test_holds_it_inside(self, lock: Any) -> None:
        with lock as got:
            assert got is True
            assert lockers.in_thread(lock, "acquire", False) is False
        assert lock.acquire(False)
        lock.release()

    def test_gives_it_back_when_something_is_raised(self, lock: Any, remote: Any) -> None:
        other = remote(lock)
        with pytest.raises(KeyError):
            other("enter and raise")
        with pytest.raises(KeyError):
            lockers.enter_and_raise(lock)
        assert lock.acquire(False)
        lock.release()

    def test_exit_returns_nothing(self, lock: Any) -> None:
        lock.__enter__()
        assert lock.__exit__(None, None, None) is None
        lock.__enter__()
        assert lock.__exit__() is None


class TestRepr:
    def test_free(self, ctx: Any) -> None:
        assert repr(ctx.Lock()) == "<Lock(owner=None)>"
        assert repr(ctx.RLock()) == "<RLock(None, 0)>"

    def test_mine(self, ctx: Any) -> None:
        lock, rlock = ctx.Lock(), ctx.RLock()
        with lock, rlock:
            assert repr(lock) == "<Lock(owner=MainProcess)>"
            assert repr(rlock) == "<RLock(MainProcess, 1)>"
            with rlock:
                assert repr(rlock) == "<RLock(MainProcess, 2)>"
        assert repr(lock) == "<Lock(owner=None)>"
        assert repr(rlock) == "<RLock(None, 0)>"

    def test_another_thread_of_mine(self, ctx: Any) -> None:
        lock, rlock = ctx.Lock(), ctx.RLock()
        lock.acquire()
        rlock.acquire()
        assert lockers.in_thread(lock, "__repr__") == "<Lock(owner=SomeOtherThread)>"
        assert lockers.in_thread(rlock, "__repr__") == "<RLock(SomeOtherThread, nonzero)>"
        lock.release()
        rlock.release()

    def test_of_a_thread_has_its_name(self, ctx: Any) -> None:
        lock, rlock = ctx.Lock(), ctx.RLock()

        class Held:
            def look(self, of: Any) -> str:
                with of:
                    return repr(of)

        assert lockers.in_thread(Held(), "look", lock) == "<Lock(owner=MainProcess|Other)>"
        assert lockers.in_thread(Held(), "look", rlock) == "<RLock(MainProcess|Other, 1)>"

    def test_another_process(self, ctx: Any, remote: Any) -> None:
        lock, rlock = ctx.Lock(), ctx.RLock()
        other, third = remote(lock, rlock), remote(lock, rlock)
        other("set name", "Ada")
        other("acquire")
        other("acquire", of=1)
        other("acquire", of=1)
        for text in repr(lock), third("repr"):
            assert text == "<Lock(owner=SomeOtherProcess)>"
        assert repr(rlock) == "<RLock(SomeOtherProcess, nonzero)>"
        assert third("__repr__", of=1) == "<RLock(SomeOtherProcess, nonzero)>"
        assert other("repr") == "<Lock(owner=Ada)>"
        assert other("__repr__", of=1) == "<RLock(Ada, 2)>"
        assert other("repr in a thread") == "<Lock(owner=SomeOtherThread)>"


class TestLock:
    def test_is_not_recursive(self, ctx: Any) -> None:
        lock = ctx.Lock()
        lock.acquire()
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=0.05) is False
        lock.release()

    def test_release_of_a_free_one(self, ctx: Any) -> None:
        lock = ctx.Lock()
        with pytest.raises(ValueError, match="semaphore or lock released too many times"):
            lock.release()
        with lock:
            pass
        with pytest.raises(ValueError, match="semaphore or lock released too many times"):
            lock.release()
        assert lock.acquire(False)
        lock.release()

    def test_release_of_a_free_one_by_another_process(self, ctx: Any, remote: Any) -> None:
        with pytest.raises(ValueError, match="semaphore or lock released too many times"):
            remote(ctx.Lock())("release")

    def test_release_by_another_thread(self, ctx: Any) -> None:
        lock = ctx.Lock()
        lock.acquire()
        assert lockers.in_thread(lock, "release") is None
        assert lock.acquire(False) is True
        lock.release()

    def test_release_by_another_process(self, ctx: Any, remote: Any) -> None:
        lock = ctx.Lock()
        other, third = remote(lock), remote(lock)
        lock.acquire()
        third.begin("acquire")
        other("release")
        assert third.answer() is True
        lock.release()
        assert other("acquire", False) is True
        third("release")
        with pytest.raises(ValueError):
            lock.release()

    def test_handed_back_and_forth(self, ctx: Any, remote: Any) -> None:
        """Two locks as signals: one side takes what the other gives."""
        mine, theirs = ctx.Lock(), ctx.Lock()
        mine.acquire()
        theirs.acquire()
        other = remote(theirs, mine)
        for _ in range(20):
            other.begin("acquire")
            theirs.release()
            assert other.answer() is True
            other("release", of=1)
            assert mine.acquire(True, LONG) is True


class TestRLock:
    def test_is_recursive(self, ctx: Any) -> None:
        rlock = ctx.RLock()
        for _ in range(100):
            assert rlock.acquire() is True
        assert rlock.acquire(False) is True
        assert rlock.acquire(True, 0) is True
        for _ in range(101):
            rlock.release()
        assert lockers.in_thread(rlock, "acquire", False) is False
        rlock.release()
        with pytest.raises(AssertionError):
            rlock.release()

    def test_nested_with(self, ctx: Any) -> None:
        rlock = ctx.RLock()
        with rlock, rlock, rlock:
            assert lockers.in_thread(rlock, "acquire", False) is False
        with pytest.raises(AssertionError):
            rlock.release()

    def test_release_of_a_free_one(self, ctx: Any) -> None:
        with pytest.raises(AssertionError, match="attempt to release recursive lock not owned by thread"):
            ctx.RLock().release()

    def test_release_by_another_thread(self, ctx: Any) -> None:
        rlock = ctx.RLock()
        with rlock:
            error = lockers.in_thread(rlock, "release")
            assert isinstance(error, AssertionError)
            assert str(error) == "attempt to release recursive lock not owned by thread"
            assert repr(rlock) == "<RLock(MainProcess, 1)>"

    def test_release_by_another_process(self, ctx: Any, remote: Any) -> None:
        rlock = ctx.RLock()
        other = remote(rlock)
        with rlock:
            with pytest.raises(AssertionError, match="attempt to release recursive lock not owned by thread"):
                other("release")
            assert other("acquire", False) is False
        assert other("acquire", True, LONG) is True

    def test_is_free_only_after_the_last_release(self, ctx: Any, remote: Any) -> None:
        rlock = ctx.RLock()
        other = remote(rlock)
        rlock.acquire()
        rlock.acquire()
        rlock.release()
        assert other("acquire", False) is False
        other.begin("acquire")
        rlock.release()
        assert other.answer() is True
        assert other("acquire") is True
        assert rlock.acquire(False) is False
        other("release")
        assert rlock.acquire(False) is False
        other("release")
        assert rlock.acquire(True, LONG) is True
        rlock.release()

    def test_recursion_in_processes_and_threads(self, ctx: Any) -> None:
        rlock = ctx.RLock()
        near, far = ctx.Pipe()
        children = [ctx.Process(target=lockers.nested_take, args=(rlock, far, depth)) for depth in (1, 5, 40)]
        for child in children:
            child.start()
        looks = []
        for _ in range(2 * len(children)):
            assert near.poll(LONG)
            looks.append(near.recv())
        for child in children:
            child.join()
            assert child.exitcode == 0
            name = child.name
            depth = [1, 5, 40][children.index(child)]
            assert f"<RLock({name}, {depth})>" in looks
        near.close()
        far.close()
        assert repr(rlock) == "<RLock(None, 0)>"


class TestTravel:
    def test_excludes_processes(self, ctx: Any, lock: Any) -> None:
        counter = ctx.RawArray("i", 1)
        children = [ctx.Process(target=lockers.count_under, args=(lock, counter, 500)) for _ in range(4)]
        for child in children:
            child.start()
        lockers.count_under(lock, counter, 500)
        for child in children:
            child.join(LONG)
            assert child.exitcode == 0
        assert counter[0] == 5 * 500

    def test_excludes_threads(self, lock: Any) -> None:
        counter = [0]

        threads = [threading.Thread(target=lockers.count_under, args=(lock, counter, 500)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counter[0] == 4 * 500

    def test_to_a_child_while_it_is_held(self, lock: Any, remote: Any) -> None:
        """The child has the same lock, and does not hold it."""
        lock.acquire()
        other = remote(lock)
        assert other("acquire", False) is False
        assert (
            other("repr")
            == {
                "Lock": "<Lock(owner=SomeOtherProcess)>",
                "RLock": "<RLock(SomeOtherProcess, nonzero)>",
            }[kind_of(lock)]
        )
        lock.release()
        assert other("acquire", True, LONG) is True
        other("release")

    def test_to_a_child_and_on_to_its_child(self, ctx: Any, lock: Any) -> None:
        near, far = ctx.Pipe()
        counter = ctx.RawArray("i", 1)
        child = ctx.Process(target=lockers.count_in_grandchild, args=(ctx, lock, counter, far))
        child.start()
        lockers.count_under(lock, counter, 200)
        assert near.poll(LONG)
        assert near.recv() == 0
        child.join()
        assert counter[0] == 3 * 200
        near.close()
        far.close()

    @pytest.mark.methods("fork")
    @pytest.mark.ours_only
    def test_inherited_by_os_fork(self, lock: Any) -> None:
        """The child did not take it, so it does not hold it. In the standard library it believes that it does."""
        there, answer = os.pipe()
        lock.acquire()
        pid = os.fork()
        if pid == 0:
            with os.fdopen(answer, "w") as file:
                file.write(f"{lock.acquire(False)} {lock!r}")
            os._exit(0)
        os.close(answer)
        with os.fdopen(there) as file:
            text = file.read()
        os.waitpid(pid, 0)
        other = {"Lock": "<Lock(owner=SomeOtherProcess)>", "RLock": "<RLock(SomeOtherProcess, nonzero)>"}
        assert text == f"False {other[kind_of(lock)]}"
        lock.release()

    @pytest.mark.methods("fork")
    def test_os_fork_while_it_is_free(self, lock: Any) -> None:
        there, answer = os.pipe()
        pid = os.fork()
        if pid == 0:
            lock.acquire()
            os.write(answer, b"x")
            lock.release()
            os._exit(0)
        assert os.read(there, 1) == b"x"
        os.waitpid(pid, 0)
        os.close(there)
        os.close(answer)
        assert lock.acquire(True, LONG)
        lock.release()

    def test_of_a_child_that_ended_in_an_orderly_way_while_it_held_it(self, ctx: Any, remote: Any) -> None:
        """A lock belongs to nobody: who ends has not been killed, and the next one may still release it."""
        lock = ctx.Lock()
        other = remote(lock)
        other("acquire")
        other.end()
        assert lock.acquire(True, 0.05) is False
        lock.release()
        assert lock.acquire(False) is True
        lock.release()

    def test_many(self, ctx: Any, remote: Any) -> None:
        """Each is its own."""
        locks = [ctx.Lock() for _ in range(50)]
        other = remote(*locks)
        for lock in locks[::2]:
            lock.acquire()
        assert [other("acquire", False, of=number) for number in range(50)] == [False, True] * 25
        for lock in locks:
            lock.release()
