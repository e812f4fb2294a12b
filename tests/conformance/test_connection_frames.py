"""What connections write and read, byte by byte: the other end need not be a connection."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from typing import Any

import connections
import pytest
from connections import LONG, meanwhile

pytestmark = [pytest.mark.standard, pytest.mark.methods("fork")]


@pytest.fixture(params=["duplex", "one way"])
def ends(ctx: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """To read from, to write to."""
    reader, writer = ctx.Pipe(duplex=request.param == "duplex")
    yield reader, writer
    reader.close()
    writer.close()


def raw(writer: Any, *parts: bytes) -> None:
    for part in parts:
        assert os.write(writer.fileno(), part) == len(part)


class TestFrames:
    @pytest.mark.parametrize("size", [0, 1, 255, 256, 40000])
    def test_written(self, ends: Any, size: int) -> None:
        reader, writer = ends
        message = os.urandom(size)
        writer.send_bytes(message)
        assert os.read(reader.fileno(), size + 100) == struct.pack("!i", size) + message

    def test_read(self, ends: Any) -> None:
        reader, writer = ends
        raw(writer, struct.pack("!i", 5), b"hello")
        assert reader.recv_bytes() == b"hello"

    def test_read_in_crumbs(self, ends: Any) -> None:
        reader, writer = ends
        frame = struct.pack("!i", 300) + bytes(range(256)) + b"x" * 44
        with meanwhile(lambda: raw(writer, *(frame[at : at + 1] for at in range(len(frame))))):
            assert reader.recv_bytes() == frame[4:]

    def test_the_long_form(self, ends: Any) -> None:
        reader, writer = ends
        raw(writer, struct.pack("!i", -1), struct.pack("!Q", 5), b"hello")
        assert reader.recv_bytes() == b"hello"

    def test_nothing_is_read_beyond_a_frame(self, ends: Any) -> None:
        reader, writer = ends
        writer.send_bytes(b"one")
        writer.send_bytes(b"two")
        assert reader.poll()
        assert reader.recv_bytes() == b"one"
        assert os.read(reader.fileno(), 100) == struct.pack("!i", 3) + b"two"


class TestEndsWithin:
    @pytest.mark.parametrize(
        ("bytes_before", "error", "text"),
        [
            (b"", EOFError, "^$"),
            (b"\0\0", OSError, "got end of file during message"),
            (b"\0\0\0\5", EOFError, "^$"),
            (b"\0\0\0\5he", OSError, "got end of file during message"),
            (b"\xff\xff\xff\xff", EOFError, "^$"),
            (b"\xff\xff\xff\xff\0\0", OSError, "got end of file during message"),
            # A gibibyte that never comes: memory is taken as bytes come.
            (b"\x40\0\0\0....", OSError, "got end of file during message"),
        ],
    )
    @pytest.mark.parametrize("call", ["recv", "recv_bytes"])
    def test_of_a_frame(self, ends: Any, call: str, bytes_before: bytes, error: Any, text: str) -> None:
        reader, writer = ends
        raw(writer, bytes_before)
        writer.close()
        with pytest.raises(error, match=text) as caught:
            getattr(reader, call)()
        assert caught.type is error

    @pytest.mark.methods("fork", "forkserver", "spawn")
    def test_a_sender_that_is_killed_in_a_message(self, ctx: Any) -> None:
        reader, writer = ctx.Pipe(duplex=False)
        arguments = (writer, struct.pack("!i", 1000) + b"only the beginning")
        child = ctx.Process(target=connections.say_then_die, args=arguments)
        child.start()
        writer.close()
        with pytest.raises(OSError, match="got end of file during message"):
            reader.recv_bytes()
        child.join(LONG)
        reader.close()


class TestHostile:
    def test_more_than_there_is_memory(self, ends: Any) -> None:
        reader, writer = ends
        raw(writer, struct.pack("!i", -1), struct.pack("!Q", 1 << 60))
        with pytest.raises(MemoryError):
            reader.recv_bytes()

    @pytest.mark.ours_only
    @pytest.mark.parametrize("length", [-2, -(1 << 31)])
    @pytest.mark.parametrize("call", ["recv", "recv_bytes", "recv_bytes_into"])
    def test_a_length_below_zero(self, ends: Any, call: str, length: int) -> None:
        """In the standard library it is an empty message."""
        reader, writer = ends
        raw(writer, struct.pack("!i", length))
        with pytest.raises(OSError, match="bad message length"):
            getattr(reader, call)(*([bytearray(4)] if call == "recv_bytes_into" else []))
        assert reader.closed or not reader.readable

    @pytest.mark.ours_only
    @pytest.mark.parametrize("length", [1 << 46, 1 << 60, 1 << 62])
    @pytest.mark.parametrize("call", ["recv", "recv_bytes", "recv_bytes_into"])
    def test_after_more_than_there_is_memory(self, ends: Any, call: str, length: int) -> None:
        """In the standard library the next message begins within the one that was refused."""
        reader, writer = ends
        raw(writer, struct.pack("!i", -1), struct.pack("!Q", length), struct.pack("!i", 1), b"x")
        with pytest.raises(MemoryError):
            getattr(reader, call)(*([bytearray(4)] if call == "recv_bytes_into" else []))
        assert reader.closed or not reader.readable
        with pytest.raises(OSError, match=r"write-only|closed"):
            reader.recv_bytes()

    @pytest.mark.ours_only
    @pytest.mark.parametrize("length", [(1 << 63) - 20, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
    def test_a_length_beyond_all(self, ends: Any, length: int) -> None:
        """In the standard library it is an `OverflowError`."""
        reader, writer = ends
        raw(writer, struct.pack("!i", -1), struct.pack("!Q", length))
        with pytest.raises(OSError, match="bad message length"):
            reader.recv_bytes()
        assert reader.closed or not reader.readable

    def test_whatever_comes(self, ctx: Any) -> None:
        """Bytes that nobody meant: a message, or an exception of those that are documented."""
        dice = random.Random(20)
        for _ in range(200):
            reader, writer = ctx.Pipe(duplex=False)
            with reader:
                with writer:
                    head = struct.pack("!i", dice.choice([-1, 0, 3, 60, 1 << 24]))
                    raw(writer, (head + dice.randbytes(dice.randrange(60)))[: dice.randrange(1, 64)])
                for _ in range(20):
                    try:
                        assert type(reader.recv_bytes(1 << 20)) is bytes
                    except (EOFError, OSError, MemoryError, OverflowError):
                        break
                else:
                    pytest.fail("more messages than bytes")
