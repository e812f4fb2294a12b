"""`_reader` and `_writer` of queues: not public in the standard library, and yet what programs poll."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import pytest
import targets

LONG = 30.0
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

    def test_items_are_read_and_written_as_pickles(self, q: Any) -> None:
        import pickle

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
