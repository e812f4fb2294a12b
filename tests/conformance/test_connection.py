"""Connections, as the standard library's documentation has them."""

from __future__ import annotations

import array
import gc
import multiprocessing.connection
import os
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import connections
import pytest
from connections import LONG, alarm, connection_of, meanwhile

# Most of it has one process: nothing depends on how others are started.
pytestmark = [pytest.mark.standard, pytest.mark.methods("fork")]
every_method = pytest.mark.methods("fork", "forkserver", "spawn")


@pytest.fixture
def ends(ctx: Any) -> Iterator[Any]:
    first, second = ctx.Pipe()
    yield first, second
    first.close()
    second.close()


@pytest.fixture
def one_way(ctx: Any) -> Iterator[Any]:
    reader, writer = ctx.Pipe(duplex=False)
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def echo(ctx: Any) -> Iterator[Any]:
    """One end, whose other end is held by a child that sends everything back."""
    made: list[Any] = []

    def start(target: Any) -> Any:
        mine, theirs = ctx.Pipe()
        child = ctx.Process(target=target, args=(theirs,))
        child.start()
        theirs.close()
        made.append((mine, child, target))
        return mine

    yield start
    for mine, child, target in made:
        (mine.send_bytes if target is connections.echo_bytes else mine.send)(connections.END)
        mine.close()
        child.join(LONG)
        assert child.exitcode == 0
    made.clear()


SIZES = [0, 1, 3, 4, 4092, 4093, 16384, 16385, 65531, 65536, (1 << 20) + 1, 5 << 20]


class TestObjects:
    @every_method
    def test_there_and_back(self, echo: Any) -> None:
        conn = echo(connections.echo_objects)
        for item in (1, None, "text", b"bytes", (1, 2.5), {"a": [1, {2}]}, range(3), ValueError("no")):
            conn.send(item)
            back = conn.recv()
            assert type(back) is type(item)
            assert repr(back) == repr(item)

    def test_a_message_is_a_pickle(self, ends: Any) -> None:
        first, second = ends
        for item in (1, None, "text", b"x" * 100, [1, 2], {"a": (True, 1.5)}, {1, 2}):
            first.send(item)
            assert pickle.loads(second.recv_bytes()) == item

    def test_a_pickle_is_a_message(self, ends: Any) -> None:
        first, second = ends
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            first.send_bytes(pickle.dumps(("text", [1, 2]), protocol))
            assert second.recv() == ("text", [1, 2])

    def test_what_cannot_be_pickled_leaves_the_connection_as_it_was(self, ends: Any) -> None:
        first, second = ends
        with pytest.raises(TypeError, match="pickle"):
            first.send(threading.Lock())
        first.send("next")
        assert second.recv() == "next"

    def test_what_cannot_be_unpickled_costs_its_message(self, ends: Any) -> None:
        first, second = ends
        first.send_bytes(b"this is no pickle")
        first.send("next")
        with pytest.raises(pickle.UnpicklingError):
            second.recv()
        assert second.recv() == "next"

    def test_one_that_is_closed_while_it_pickles(self, ends: Any) -> None:
        first, _second = ends
        # In the standard library it is os.write that does not want None.
        with pytest.raises((OSError, TypeError)):
            first.send(_Closing(first))


class _Closing:
    """Closes a connection when it is pickled."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def __reduce__(self) -> Any:
        self._conn.close()
        return str, ()


class TestBytes:
    @pytest.mark.parametrize("size", SIZES)
    def test_sizes(self, ends: Any, size: int) -> None:
        first, second = ends
        message = os.urandom(size)
        with meanwhile(first.send_bytes, message):
            assert second.recv_bytes() == message

    @pytest.mark.parametrize("size", SIZES)
    def test_sizes_one_way(self, one_way: Any, size: int) -> None:
        reader, writer = one_way
        message = os.urandom(size)
        with meanwhile(writer.send_bytes, message):
            assert reader.recv_bytes() == message

    @every_method
    def test_sixteen_mebibytes_to_a_child_and_back(self, echo: Any) -> None:
        conn = echo(connections.echo_bytes)
        message = b"X" * (16 << 20)
        conn.send_bytes(message)
        assert conn.recv_bytes() == message

    @every_method
    def test_many_in_order(self, echo: Any) -> None:
        conn = echo(connections.echo_bytes)
        for number in range(300):
            conn.send_bytes(b"%d" % number)
        assert [conn.recv_bytes() for _ in range(300)] == [b"%d" % number for number in range(300)]

    def test_offset_and_size(self, ends: Any) -> None:
        first, second = ends
        letters = b"abcdefghijklmnopqrstuvwxyz"
        for arguments, sent in (
            ((), letters),
            ((5,), letters[5:]),
            ((7, 8), letters[7:15]),
            ((26,), b""),
            ((26, 0), b""),
            ((0, None), letters),
        ):
            first.send_bytes(letters, *arguments)
            assert second.recv_bytes() == sent

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ((-1,), "offset is negative"),
            ((27,), "buffer length < offset"),
            ((4, -1), "size is negative"),
            ((22, 5), r"buffer length < offset \+ size"),
            ((26, 1), r"buffer length < offset \+ size"),
        ],
    )
    def test_offset_and_size_out_of_range(self, ends: Any, arguments: Any, text: str) -> None:
        with pytest.raises(ValueError, match=text):
            ends[0].send_bytes(b"abcdefghijklmnopqrstuvwxyz", *arguments)

    @pytest.mark.parametrize(
        "buffer",
        [bytearray(b"abcd"), memoryview(b"abcd"), array.array("i", [1, 2, 3]), array.array("d"), b""],
        ids=lambda buffer: type(buffer).__name__,
    )
    def test_buffers(self, ends: Any, buffer: Any) -> None:
        first, second = ends
        first.send_bytes(buffer)
        assert second.recv_bytes() == bytes(buffer)

    def test_offset_and_size_are_of_bytes(self, ends: Any) -> None:
        first, second = ends
        numbers = array.array("i", [1, 2, 3])
        first.send_bytes(numbers, 4, 4)
        assert second.recv_bytes() == numbers.tobytes()[4:8]

    def test_no_buffer(self, ends: Any) -> None:
        with pytest.raises(TypeError, match="bytes-like object is required"):
            ends[0].send_bytes("text")

    def test_a_buffer_in_pieces(self, ends: Any) -> None:
        with pytest.raises((BufferError, TypeError)):
            ends[0].send_bytes(memoryview(b"abcdefgh")[::2])

    def test_maxlength(self, ends: Any) -> None:
        first, second = ends
        first.send_bytes(b"four")
        assert second.recv_bytes(4) == b"four"
        with pytest.raises(ValueError, match="negative maxlength"):
            second.recv_bytes(-1)

    def test_longer_than_maxlength(self, ends: Any) -> None:
        first, second = ends
        first.send_bytes(b"eight...")
        with pytest.raises(OSError, match="bad message length"):
            second.recv_bytes(4)
        assert not second.readable
        with pytest.raises(OSError, match="write-only"):
            second.recv_bytes()
        second.send("still")
        assert first.recv() == "still"

    def test_longer_than_maxlength_one_way(self, one_way: Any) -> None:
        reader, writer = one_way
        writer.send_bytes(b"eight...")
        with pytest.raises(OSError, match="bad message length"):
            reader.recv_bytes(4)
        assert reader.closed


class TestInto:
    def test_numbers(self, ends: Any) -> None:
        first, second = ends
        numbers, buffer = array.array("i", range(4)), array.array("i", [0] * 10)
        for offset in (0, 3 * buffer.itemsize):
            first.send_bytes(numbers)
            assert second.recv_bytes_into(buffer, offset) == 4 * buffer.itemsize
        assert list(buffer) == [0, 1, 2, 0, 1, 2, 3, 0, 0, 0]

    @pytest.mark.parametrize("size", SIZES)
    def test_sizes(self, ends: Any, size: int) -> None:
        first, second = ends
        message, buffer = os.urandom(size), bytearray(size + 2)
        with meanwhile(first.send_bytes, message):
            assert second.recv_bytes_into(buffer, 1) == size
        assert buffer == b"\0" + message + b"\0"

    def test_too_short(self, ends: Any) -> None:
        first, second = ends
        buffer = bytearray(b" " * 40)
        first.send_bytes(b"hello world" * 10)
        first.send_bytes(b"next")
        with pytest.raises(multiprocessing.BufferTooShort) as caught:
            second.recv_bytes_into(buffer)
        assert caught.value.args == (b"hello world" * 10,)
        assert buffer == b" " * 40
        assert second.recv_bytes() == b"next"

    def test_offsets_out_of_range(self, ends: Any) -> None:
        first, second = ends
        first.send_bytes(b"x")
        with pytest.raises(ValueError, match="negative offset"):
            second.recv_bytes_into(bytearray(4), -1)
        with pytest.raises(ValueError, match="offset too large"):
            second.recv_bytes_into(bytearray(4), 5)
        assert second.recv_bytes() == b"x"

    def test_what_cannot_be_written_to(self, ends: Any) -> None:
        first, second = ends
        first.send_bytes(b"x")
        with pytest.raises(TypeError, match="read-write bytes-like object"):
            second.recv_bytes_into(b"1234")


class TestEnds:
    def test_duplex(self, ends: Any) -> None:
        for end in ends:
            assert (end.readable, end.writable, end.closed) == (True, True, False)
            assert type(end.fileno()) is int
            assert not os.get_inheritable(end.fileno())

    def test_one_way(self, one_way: Any) -> None:
        reader, writer = one_way
        assert (reader.readable, reader.writable) == (True, False)
        assert (writer.readable, writer.writable) == (False, True)
        for call in (lambda: reader.send(1), lambda: reader.send_bytes(b"")):
            with pytest.raises(OSError, match="connection is read-only"):
                call()
        for call in (writer.recv, writer.recv_bytes, writer.poll):
            with pytest.raises(OSError, match="connection is write-only"):
                call()

    @pytest.mark.parametrize("duplex", [True, False, 1, 0, None, "", "yes", []])
    def test_duplex_may_be_anything(self, ctx: Any, duplex: Any) -> None:
        for make in (ctx.Pipe, connection_of(ctx).Pipe):
            first, second = make(duplex)
            with first, second:
                assert first.readable
                assert second.writable
                assert first.writable is second.readable is bool(duplex)

    def test_closed(self, ends: Any) -> None:
        first, _second = ends
        first.close()
        first.close()
        assert first.closed
        calls: list[Any] = [first.recv, first.recv_bytes, first.poll, first.fileno]
        calls += [lambda: first.send(1), lambda: first.send_bytes(b"x")]
        calls += [lambda: first.recv_bytes_into(bytearray(3))]
        for call in calls:
            with pytest.raises(OSError, match="handle is closed"):
                call()

    def test_with(self, ctx: Any) -> None:
        first, second = ctx.Pipe()
        with first as entered, second:
            assert entered is first
            first.send(1729)
            assert second.recv() == 1729
        assert first.closed
        assert second.closed

    def test_dropped_is_closed(self, ctx: Any) -> None:
        first, second = ctx.Pipe()
        del first
        gc.collect()
        with pytest.raises(EOFError):
            second.recv()
        second.close()

    def test_is_a_standard_connection(self, ctx: Any, ends: Any) -> None:
        assert isinstance(ends[0], multiprocessing.connection.Connection)
        assert isinstance(ends[0], connection_of(ctx).Connection)

    def test_of_a_descriptor(self, ctx: Any) -> None:
        read, write = os.pipe()
        make = connection_of(ctx).Connection
        with make(read, writable=False) as reader, make(write, readable=False) as writer:
            assert (reader.fileno(), writer.fileno()) == (read, write)
            writer.send("through")
            assert reader.recv() == "through"

    def test_of_no_descriptor(self, ctx: Any) -> None:
        make = connection_of(ctx).Connection
        with pytest.raises(ValueError, match="invalid handle"):
            make(-1)
        with pytest.raises(ValueError, match="at least one of"):
            make(0, readable=False, writable=False)
        conn = make(44977608)
        conn.poll()
        with pytest.raises(OSError, match="Bad file descriptor"):
            conn.send(1)
        with pytest.raises(OSError, match="Bad file descriptor"):
            conn.recv()
        with pytest.raises(OSError, match="Bad file descriptor"):
            conn.close()

    def test_the_other_end_is_gone(self, ends: Any) -> None:
        first, second = ends
        first.send("last")
        first.close()
        assert second.poll()
        assert second.recv() == "last"
        with pytest.raises(EOFError):
            second.recv()
        with pytest.raises(EOFError):
            second.recv_bytes()
        with pytest.raises(BrokenPipeError, match="Broken pipe"):
            second.send(1)

    def test_no_reader(self, one_way: Any) -> None:
        reader, writer = one_way
        reader.close()
        with pytest.raises(BrokenPipeError):
            writer.send(1)

    def test_one_that_does_not_wait(self, ends: Any) -> None:
        first, second = ends
        os.set_blocking(second.fileno(), False)
        with pytest.raises(BlockingIOError):
            second.recv()
        first.send("later")
        assert second.recv() == "later"


class TestPoll:
    def test_nothing_there(self, ends: Any) -> None:
        for timeout in (0, 0.0, -1, 0.01):
            assert ends[0].poll(timeout) is False

    def test_something_there(self, ends: Any) -> None:
        first, second = ends
        first.send_bytes(b"")
        for _ in range(2):
            assert second.poll() is True
            assert second.poll(LONG) is True
            assert second.poll(None) is True
        assert second.recv_bytes() == b""
        assert second.poll() is False

    def test_waits(self, ends: Any) -> None:
        first, second = ends
        timer = threading.Timer(0.2, first.send, ("come",))
        timer.start()
        assert second.poll(None) is True
        timer.join()
        assert second.recv() == "come"

    def test_keeps_messages_apart(self, ends: Any) -> None:
        first, second = ends
        for message in (b"a", b"b", b"cd"):
            first.send_bytes(message)
        for message in (b"a", b"b", b"cd"):
            assert second.poll(1.0)
            assert second.recv_bytes() == message


class TestSignals:
    """A handler runs while a call waits; the call goes on, or raises what the handler raised."""

    def test_receiving_goes_on(self, ends: Any) -> None:
        first, second = ends
        seen = []
        with alarm(lambda *_: (seen.append("signal"), first.send("come"))):
            assert second.recv() == "come"
        assert seen == ["signal"]

    def test_a_long_message_goes_on(self, ends: Any) -> None:
        first, second = ends
        message, seen = os.urandom(8 << 20), []
        reading = threading.Event()

        def read() -> None:
            reading.wait(LONG)
            assert second.recv_bytes() == message

        with alarm(lambda *_: (seen.append("signal"), reading.set())), meanwhile(read):
            first.send_bytes(message)
        assert seen == ["signal"]

    @pytest.mark.parametrize("call", ["recv", "recv_bytes", "poll", "wait", "send_bytes"])
    def test_a_handler_that_raises(self, ctx: Any, ends: Any, call: str) -> None:
        first, _second = ends

        def raises(*_: Any) -> None:
            raise KeyboardInterrupt

        calls: dict[str, Any] = {
            "recv": first.recv,
            "recv_bytes": first.recv_bytes,
            "poll": lambda: first.poll(None),
            "wait": lambda: connection_of(ctx).wait([first]),
            "send_bytes": lambda: first.send_bytes(bytes(16 << 20)),
        }
        with pytest.raises(KeyboardInterrupt), alarm(raises):
            calls[call]()

    def test_other_threads_run_meanwhile(self, ends: Any) -> None:
        first, second = ends
        with meanwhile(second.recv):
            assert sum(range(1000)) == 499500
            first.send("go on")
