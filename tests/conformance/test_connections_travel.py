"""Connections, sockets and descriptors on their way to other processes."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Iterator
from typing import Any

import connections
import pytest
from connections import LONG, connection_of

pytestmark = pytest.mark.standard


@pytest.fixture(autouse=True)
def no_sharer() -> Iterator[None]:
    """The thread that hands out what was pickled is started when something is, and ends when it is told."""
    yield
    from multiprocessing import resource_sharer

    resource_sharer.stop(timeout=LONG)  # type: ignore[attr-defined]


@pytest.fixture
def pipes(ctx: Any) -> Iterator[Any]:
    """Makes pipes; they are closed afterwards."""
    made: list[Any] = []

    def pipe(duplex: bool = True) -> Any:
        made.extend(ctx.Pipe(duplex))
        return made[-2:]

    yield pipe
    for end in made:
        end.close()


def run(ctx: Any, target: Any, *args: Any) -> Any:
    child = ctx.Process(target=target, args=args)
    child.start()
    return child


def finish(*children: Any) -> None:
    for child in children:
        child.join(LONG)
        assert child.exitcode == 0


def test_closed_right_after_the_start(ctx: Any, pipes: Any) -> None:
    mine, theirs = pipes()
    child = run(ctx, connections.echo_bytes, theirs)
    theirs.close()
    mine.send_bytes(b"hello")
    assert mine.recv_bytes() == b"hello"
    mine.send_bytes(connections.END)
    finish(child)


def test_both_directions_through_a_pipe(ctx: Any, pipes: Any) -> None:
    mine, theirs = pipes()
    child = run(ctx, connections.receive_and_use, theirs)
    reader, writer = pipes(duplex=False)
    mine.send(writer)
    writer.close()
    assert reader.recv() == "from afar"
    with pytest.raises(EOFError):
        reader.recv()
    finish(child)
    child = run(ctx, connections.receive_and_use, theirs)
    reader, writer = pipes(duplex=False)
    mine.send(reader)
    reader.close()
    writer.send("to there")
    assert mine.recv() == "to there"
    finish(child)


@pytest.mark.ours_only
def test_through_a_queue(ctx: Any, pipes: Any) -> None:
    mine, theirs = pipes()
    queue = ctx.Queue()
    child = run(ctx, connections.use_from_queue, queue)
    queue.put(theirs)
    theirs.close()
    assert mine.recv() == "from afar"
    finish(child)
    queue.close()


def test_as_an_argument_of_a_pools_call(ctx: Any, pipes: Any) -> None:
    mine, theirs = pipes()
    with ctx.Pool(1) as pool:
        pid = pool.apply(connections.send_through, (theirs,))
        theirs.close()
        assert mine.recv() == pid
        pool.close()
        pool.join()


def test_a_socket(ctx: Any, pipes: Any) -> None:
    mine, theirs = pipes()
    child = run(ctx, connections.echo_objects, theirs)
    theirs.close()
    one, other = socket.socketpair()
    with one, other:
        mine.send(other)
        with mine.recv() as back:
            assert (back.family, back.type) == (other.family, other.type)
            back.sendall(b"round trip")
            assert one.recv(100) == b"round trip"
    mine.send(connections.END)
    finish(child)


def test_a_descriptor(ctx: Any, pipes: Any) -> None:
    implementation = connection_of(ctx).__name__.partition(".")[0]
    mine, theirs = pipes()
    child = run(ctx, connections.write_to_received, theirs, f"{implementation}.reduction")
    read, write = os.pipe()
    import importlib

    importlib.import_module(f"{implementation}.reduction").send_handle(mine, write, child.pid)
    os.close(write)
    assert os.read(read, 100) == b"handed over"
    os.close(read)
    finish(child)


def test_bytes_without_a_descriptor(ctx: Any, pipes: Any) -> None:
    from multiprocessing import reduction

    mine, theirs = pipes()
    os.write(mine.fileno(), b"\0")
    with pytest.raises(RuntimeError):
        reduction.recv_handle(theirs)  # type: ignore[attr-defined]


@pytest.mark.ours_only
def test_queues_locks_and_values_through_a_pipe(ctx: Any, pipes: Any) -> None:
    """Somebody must keep them until they are received: here this process does."""
    mine, theirs = pipes()
    child = run(ctx, connections.put_into_received, theirs)
    queue, lock, value = ctx.Queue(), ctx.Lock(), ctx.Value("i", 6)
    mine.send((queue, lock, value))
    assert queue.get(timeout=LONG) == "done"
    with lock:
        assert value.value == 7
    finish(child)
    queue.close()


@pytest.mark.ours_only
def test_one_that_nobody_kept(ctx: Any, pipes: Any) -> None:
    """Nobody knows when a message is read, so a message in a pipe keeps nothing."""
    mine, theirs = pipes()
    mine.send(ctx.Queue())
    with pytest.raises(OSError, match=r"gone|stale|no longer"):
        theirs.recv()


@pytest.mark.ours_only
def test_a_function_without_a_name(ctx: Any, pipes: Any) -> None:
    mine, theirs = pipes()
    number = 4
    mine.send(lambda factor: factor * number)
    assert theirs.recv()(3) == 12


@pytest.fixture
def word(ctx: Any) -> Iterator[Any]:
    """A queue by which a child is told to end."""
    made = ctx.SimpleQueue()
    yield made
    # For the child of a test that has failed.
    made.put("end")
    made.close()


@pytest.mark.ours_only
class TestTheEndComes:
    """Beside something without a name, a connection is pickled twice, and goes to the receiver once."""

    def test_as_an_argument(self, ctx: Any, pipes: Any, word: Any) -> None:
        mine, theirs = pipes()
        child = run(ctx, connections.close_then_wait, theirs, word, lambda: None)
        theirs.close()
        assert mine.poll(LONG)
        with pytest.raises(EOFError):
            mine.recv()
        word.put("end")
        finish(child)

    def test_several_as_arguments(self, ctx: Any, pipes: Any, word: Any) -> None:
        """Each stays itself."""
        (mine, theirs), (first, second) = pipes(), pipes()
        child = run(ctx, connections.close_then_wait, theirs, word, second, lambda: None, os.getpid)
        theirs.close()
        second.close()
        assert mine.poll(LONG)
        with pytest.raises(EOFError):
            mine.recv()
        assert not first.poll()
        word.put("end")
        finish(child)
        with pytest.raises(EOFError):
            first.recv()

    def test_through_a_queue(self, ctx: Any, pipes: Any, word: Any) -> None:
        queue = ctx.Queue()
        # A forked one shall not have the pipe already.
        child = run(ctx, connections.take_one_and_wait, queue, word)
        mine, theirs = pipes()
        queue.put((theirs, lambda: None))
        theirs.close()
        assert mine.poll(LONG)
        with pytest.raises(EOFError):
            mine.recv()
        word.put("end")
        finish(child)
        queue.close()

    def test_after_what_cannot_be_sent(self, ctx: Any, pipes: Any) -> None:
        mine, theirs = pipes()
        queue = ctx.Queue()
        # The first error says nothing of a name, the second does.
        for other in (threading.Lock(), [lambda: None, threading.Lock()]):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                queue.put((theirs, other))
        theirs.close()
        assert mine.poll(LONG)
        with pytest.raises(EOFError):
            mine.recv()
        queue.close()

    def test_a_descriptor_that_somebody_keeps(self, ctx: Any) -> None:
        """It was offered before, by the program itself, and still is."""
        from multiprocessing import reduction

        read, write = os.pipe()
        offer = reduction.DupFd(write)
        queue = ctx.Queue()
        child = run(ctx, connections.write_to_descriptor, queue, b"written")
        queue.put((offer, lambda: None))
        finish(child)
        assert os.read(read, 100) == b"written"
        os.close(read)
        os.close(write)
        queue.close()
