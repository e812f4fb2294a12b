"""`_reader` and `_writer` of queues: not public in the standard library, and yet what programs poll."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import select
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import pytest
import targets
from pickled import another

LONG = 30.0

# Hooks run last registered first: this one comes after ours, which has ended the threads.
FORKING_HOOK = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
seen = []

def threads():
    return len(os.listdir("/proc/self/task"))

def until_alone():
    # The kernel lists a thread that has been joined for a moment longer.
    deadline = time.monotonic() + 5
    while threads() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)

def hook():
    until_alone()
    q._reader.fileno()
    seen.append(threads())

q = None
os.register_at_fork(before=lambda: q is not None and hook())
import manyhands
q = manyhands.get_context(sys.argv[1]).Queue()
q._reader.fileno()
pid = os.fork()
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(*seen, threads())
"""
# The interpreter warns of a fork beside a thread; ours is ended before and started again after it.
pytestmark = [pytest.mark.standard, pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]


@pytest.fixture(params=["Queue", "SimpleQueue", "JoinableQueue"])
def make(request: pytest.FixtureRequest, ctx: Any) -> Iterator[Callable[[], Any]]:
    made = []

    def queue() -> Any:
        made.append(getattr(ctx, request.param)())
        return made[-1]

    yield queue
    for each in made:
        if hasattr(each, "cancel_join_thread"):
            each.cancel_join_thread()
        each.close()


@pytest.fixture
def q(make: Any) -> Any:
    return make()


def start(ctx: Any, target: Any, *args: Any) -> Any:
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def finish(*started: Any) -> None:
    for process in started:
        process.join(LONG)
        assert process.exitcode == 0


def is_readable(descriptor: int, timeout: float = 0.0) -> bool:
    return bool(select.select([descriptor], [], [], timeout)[0])


class TestReader:
    def test_is_readable_while_there_is_something(self, q: Any) -> None:
        descriptor = q._reader.fileno()
        assert not is_readable(descriptor)
        for number in range(3):
            q.put(number)
        for number in range(3):
            assert is_readable(descriptor, LONG)
            assert is_readable(descriptor, LONG), "until it is taken"
            assert q.get() == number
        assert not is_readable(descriptor)
        q.put("again")
        assert is_readable(descriptor, LONG)
        assert q.get() == "again"
        assert not is_readable(descriptor)

    def test_is_readable_when_it_is_asked_for_late(self, q: Any) -> None:
        q.put(1)
        assert is_readable(q._reader.fileno(), LONG)
        assert q.get() == 1

    def test_wait_takes_it_beside_other_things(self, ctx: Any, make: Any) -> None:
        one, other = make(), make()
        ours, theirs = ctx.Pipe()
        everything = [one._reader, other._reader, ours]
        assert connection.wait(everything, 0.01) == []
        other.put(1)
        assert connection.wait(everything, LONG) == [other._reader]
        theirs.send(2)
        ready = connection.wait(everything, LONG)
        assert len(ready) == 2
        assert one._reader not in ready
        assert (other.get(), ours.recv()) == (1, 2)
        ours.close()
        theirs.close()

    def test_wakes_whoever_waits(self, ctx: Any, q: Any) -> None:
        reader = q._reader
        child = start(ctx, targets.put_after_a_while, q, "late", 0.2)
        assert connection.wait([reader], LONG) == [reader]
        assert q.get() == "late"
        finish(child)

    def test_stays_registered_while_items_come_and_go(self, ctx: Any, q: Any) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(q._reader, selectors.EVENT_READ)
            child = start(ctx, targets.put_all, q, range(200))
            got: list[int] = []
            while len(got) < 200:
                assert selector.select(LONG)
                # Readable means that this does not wait: nobody else takes.
                got.append(q.get())
            assert got == list(range(200))
            finish(child)

    def test_poll(self, ctx: Any, q: Any) -> None:
        assert q._reader.poll() is False
        assert q._reader.poll(0.05) is False
        child = start(ctx, targets.put_after_a_while, q, "late", 0.1)
        assert q._reader.poll(LONG) is True
        assert q._reader.poll() is True
        assert q._reader.recv() == "late"
        assert q._reader.poll() is False
        finish(child)

    def test_in_an_event_loop(self, ctx: Any, q: Any) -> None:
        async def collect() -> list[int]:
            loop, got, done = asyncio.get_running_loop(), [], asyncio.Event()

            def take() -> None:
                got.append(q.get())
                if len(got) == 100:
                    done.set()

            loop.add_reader(q._reader.fileno(), take)
            await asyncio.wait_for(done.wait(), LONG)
            loop.remove_reader(q._reader.fileno())
            return got

        child = start(ctx, targets.put_all, q, range(100))
        assert asyncio.run(collect()) == list(range(100))
        finish(child)

    def test_is_closed_with_the_queue(self, q: Any) -> None:
        reader = q._reader
        assert (reader.closed, reader.readable, reader.writable) == (False, True, False)
        q.put(1)
        assert q.get() == 1
        q.close()
        if hasattr(q, "join_thread"):
            # In the standard library the thread that is behind the queue closes it.
            q.join_thread()
        assert reader.closed
        with pytest.raises(OSError, match="closed"):
            reader.fileno()
        with pytest.raises(OSError, match="closed"):
            reader.poll()

    def test_in_a_forked_child(self, q: Any) -> None:
        """A child has its own."""
        q.put("for the parent")
        assert is_readable(q._reader.fileno(), LONG)
        there, back = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if is_readable(q._reader.fileno(), LONG) and q._reader.poll():
                    status = 0
            finally:
                os.write(back, b"!")
                os._exit(status)
        os.read(there, 1)
        assert os.waitpid(pid, 0)[1] == 0
        os.close(there)
        os.close(back)
        assert is_readable(q._reader.fileno(), LONG)
        assert q.get() == "for the parent"


class TestEachEnd:
    def test_is_one_object(self, q: Any) -> None:
        reader, writer = q._reader, q._writer
        assert reader is q._reader
        assert writer is q._writer
        assert q._reader is q._reader
        q.put(1)
        assert connection.wait([reader], LONG)[0] is q._reader
        assert q.get() == 1

    def test_can_be_assigned(self, q: Any) -> None:
        before, other = q._reader, object()
        q._reader = other
        assert q._reader is other
        q._reader = before
        assert q._reader is before

    def test_a_closed_reader_gets_nothing(self, q: Any) -> None:
        q._reader.close()
        assert q._reader.closed
        assert not q._writer.closed
        for use in (q.get, q.empty, q._reader.poll, q._reader.recv, q._reader.fileno):
            with pytest.raises(OSError, match="closed"):
                use()

    def test_whoever_only_puts_or_only_gets_may_close_the_other_end(
        self, ctx: Any, q: Any, make: Any
    ) -> None:
        results = make()
        child = start(ctx, targets.take_with_writer_closed, q, results)
        q._reader.close()
        q.put("through")
        assert results.get() == "through"
        finish(child)


class TestWriter:
    def test_is_writable(self, q: Any) -> None:
        writer = q._writer
        assert select.select([], [writer], [], LONG)[1] == [writer]
        assert (writer.closed, writer.readable, writer.writable) == (False, False, True)


@pytest.mark.ours_only
class TestWhatIsOurs:
    @staticmethod
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_follows_what_others_take(self, ctx: Any, q: Any, make: Any) -> None:
        results = make()
        q.put(None)
        descriptor = q._reader.fileno()
        assert is_readable(descriptor)
        finish(start(ctx, targets.take_until_none, q, results))
        self.until(lambda: not is_readable(descriptor))
        assert results.get() == []

    def test_tells_of_the_end(self, q: Any) -> None:
        descriptor = q._reader.fileno()
        q.shutdown()
        assert is_readable(descriptor)
        assert q._reader.poll()

    def test_a_closed_writer_puts_nothing(self, q: Any) -> None:
        q.put(1)
        q._writer.close()
        assert q._writer.closed
        assert not q._reader.closed
        for use in (lambda: q.put(2), q._writer.fileno, lambda: q._writer.send(2)):
            with pytest.raises(OSError, match="closed"):
                use()
        assert q.get() == 1
        assert q._closed is False

    def test_a_closed_reader_may_still_put(self, q: Any) -> None:
        other = another(q)
        descriptor = q._reader.fileno()
        q._reader.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        q.put(1)
        assert other.get() == 1

    def test_many_items_at_once_keep_to_the_ends(self, ctx: Any) -> None:
        q = ctx.Queue()
        q._reader.close()
        q.put_many([1])
        with pytest.raises(OSError, match="closed"):
            q.get_many()
        q._writer.close()
        with pytest.raises(OSError, match="closed") as caught:
            q.put_many([1])
        assert caught.value.items_put == 0  # type: ignore[attr-defined]

    def test_the_descriptor_is_silent_whichever_object_took_the_last(self, q: Any) -> None:
        other = another(q)
        descriptor = q._reader.fileno()
        for number in range(300):
            q.put(number)
            assert is_readable(descriptor, LONG)
            # So that its thread sleeps until the queue is empty.
            time.sleep(0.0005)
            assert other.get() == number
            assert not is_readable(descriptor)

    def test_a_signal_that_came_before_the_sleep_ends_poll(
        self, q: Any, late_signal: Callable[[], None]
    ) -> None:
        with pytest.raises(OverflowError):
            late_signal()
            q._reader.poll(None)

    def test_the_queue_goes_with_its_last_name(self, ctx: Any) -> None:
        before = self.threads()
        q = ctx.Queue()
        reader = q._reader
        gone = weakref.ref(q)
        reader.fileno()
        gc.disable()
        try:
            del q
            assert gone() is reader._queue
            del reader
            assert gone() is None, "no cycle holds it"
        finally:
            gc.enable()
        self.until(lambda: self.threads() == before)

    def test_the_thread_ends_with_the_queue(self, make: Any) -> None:
        before = self.threads()
        q = make()
        q._reader.fileno()
        assert self.threads() == before + 1
        q._reader.fileno()
        assert self.threads() == before + 1
        q.close()
        # The kernel lists a thread that has been joined for a moment longer.
        self.until(lambda: self.threads() == before)

    def test_goes_on_after_a_fork_by_the_same_descriptor(self, q: Any) -> None:
        descriptor = q._reader.fileno()
        before = self.threads()
        for number in range(5):
            pid = os.fork()
            if pid == 0:
                # Of the parent's threads none is here, and its descriptor neither.
                os._exit(0 if self.threads() == 1 and q._reader.fileno() >= 0 and self.threads() == 2 else 1)
            assert os.waitpid(pid, 0)[1] == 0
            assert q._reader.fileno() == descriptor
            self.until(lambda: self.threads() == before)
            q.put(number)
            assert is_readable(descriptor, LONG)
            assert q.get() == number

    def test_no_thread_begins_while_a_fork_is_under_way(self, ctx: Any) -> None:
        command = [sys.executable, "-c", FORKING_HOOK, ctx.get_start_method()]
        run = subprocess.run(command, capture_output=True, text=True, timeout=2 * LONG)
        assert (run.returncode, run.stdout, run.stderr) == (0, "1 2\n", "")

    def test_items_are_read_and_written_as_pickles(self, q: Any) -> None:
        q._writer.send_bytes(pickle.dumps({"a": 1}))
        q._writer.send([2])
        assert q.get() == {"a": 1}
        assert pickle.loads(q._reader.recv_bytes()) == [2]

    def test_many_wait_in_one_process(self, make: Any) -> None:
        made = [make() for _ in range(10)]
        readers = [each._reader for each in made]
        thread = threading.Thread(target=lambda: (time.sleep(0.1), made[7].put(7)))
        thread.start()
        assert connection.wait(readers, LONG) == [readers[7]]
        assert made[7].get() == 7
        thread.join()
