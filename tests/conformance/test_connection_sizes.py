"""Messages of every size through a connection: short, longer than a pipe holds, in pieces, one within the other."""

from __future__ import annotations

import gc
import multiprocessing.connection
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from connections import LONG, meanwhile

pytestmark = [pytest.mark.standard, pytest.mark.methods("fork")]

KIB = 1 << 10
#: Around what a pipe holds, what is written apart from its head, and what memory is kept for.
EDGES = [
    0,
    1,
    4 * KIB,
    16 * KIB,
    64 * KIB,
    128 * KIB,
    208 * KIB,
    256 * KIB,
    1024 * KIB,
    1088 * KIB,
    4096 * KIB,
]
SIZES = sorted({max(0, edge + step) for edge in EDGES for step in (-1, 0, 1)})


@pytest.fixture(params=["duplex", "one way"])
def ends(ctx: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """To read from, to write to."""
    reader, writer = ctx.Pipe(duplex=request.param == "duplex")
    yield reader, writer
    reader.close()
    writer.close()


def pattern(size: int) -> bytes:
    """Bytes of which each piece is at its place only."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.fixture
def standard_ends(ends: Any) -> Iterator[Any]:
    """The same descriptors, by the standard library's connections."""
    reader, writer = ends
    read = multiprocessing.connection.Connection(reader.fileno(), writable=False)
    write = multiprocessing.connection.Connection(writer.fileno(), readable=False)
    yield read, write
    # They are not theirs to close.
    read._handle = write._handle = None


@pytest.mark.deadline(120)
def test_bytes_of_every_size(ends: Any) -> None:
    reader, writer = ends
    for size in SIZES:
        message = pattern(size)
        with meanwhile(writer.send_bytes, message):
            assert reader.recv_bytes() == message
        room = bytearray(size + 7)
        with meanwhile(writer.send_bytes, message):
            assert reader.recv_bytes_into(room, 7) == size
        assert room[7:] == message
        with meanwhile(writer.send, message):
            assert reader.recv() == message


@pytest.mark.deadline(120)
def test_objects_of_every_size(ends: Any) -> None:
    reader, writer = ends
    for size in SIZES:
        sent = [bytearray(pattern(size)), "é" * size, size, pattern(size)]
        with meanwhile(writer.send, sent):
            assert reader.recv() == sent


@pytest.mark.deadline(120)
@pytest.mark.parametrize("who", ["reads", "writes"])
def test_the_standard_library_at_the_other_end(ends: Any, standard_ends: Any, who: str) -> None:
    reader, writer = (standard_ends[0], ends[1]) if who == "reads" else (ends[0], standard_ends[1])
    for size in SIZES:
        sent = [bytearray(pattern(size)), size, pattern(size)]
        with meanwhile(writer.send, sent):
            assert reader.recv() == sent
        with meanwhile(writer.send_bytes, sent[0]):
            assert reader.recv_bytes() == sent[0]


@pytest.mark.deadline(120)
def test_more_pieces_than_the_kernel_takes_at_once(ends: Any) -> None:
    reader, writer = ends
    one, other = b"1" * 64 * KIB, b"2" * 64 * KIB
    sent = [Fresh(one if n % 2 else other) for n in range(600)]
    with meanwhile(writer.send, sent):
        got = reader.recv()
    assert [fresh.data[0] for fresh in got] == [fresh.data[0] for fresh in sent]


class Fresh:
    """Bytes that the pickler meets anew each time, and so writes again: three pieces for each."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return Fresh, (bytes(bytearray(self.data)),)


def test_what_was_received_is_its_receivers_alone(ends: Any) -> None:
    # Whatever memory messages are received in, the next message does not change what the last one has become.
    reader, writer = ends
    kept = []
    for n in range(5):
        with meanwhile(writer.send, bytearray([n]) * (256 * KIB)):
            kept.append(reader.recv())
    kept[0][0] = 77
    assert [array[-1] for array in kept] == [0, 1, 2, 3, 4]
    assert [array[0] for array in kept] == [77, 1, 2, 3, 4]
    arrays = pytest.importorskip("numpy")
    got = []
    for n in range(5):
        with meanwhile(writer.send, arrays.full(32 * KIB, n)):
            got.append(reader.recv())
    got[0][0] = 77
    assert [int(array[-1]) for array in got] == [0, 1, 2, 3, 4]
    assert [int(array[0]) for array in got] == [77, 1, 2, 3, 4]


class Receives:
    """Receives a message while it is being unpickled, from the connection that ``others`` has."""

    others: Any = None

    def __reduce__(self) -> Any:
        return receive_another, (bytes(200 * KIB),)


def receive_another(before: bytes) -> Any:
    return before, Receives.others.recv(), bytes(10)


def test_a_message_within_a_message(ctx: Any, ends: Any) -> None:
    reader, writer = ends
    Receives.others, other_writer = ctx.Pipe(duplex=False)
    with Receives.others, other_writer:
        inner, behind = bytearray(b"i") * (300 * KIB), bytearray(b"b") * (500 * KIB)
        with meanwhile(other_writer.send, inner), meanwhile(writer.send, [Receives(), behind]):
            got, last = reader.recv()
    assert got == (bytes(200 * KIB), inner, bytes(10))
    assert last == behind


def test_one_that_cannot_be_unpickled_leaves_the_connection_as_it_was(ends: Any) -> None:
    reader, writer = ends
    cut_short = b"\x80\x05\x96" + (400 * KIB).to_bytes(8, "little") + pattern(300 * KIB)
    with meanwhile(writer.send_bytes, cut_short), pytest.raises(pickle.UnpicklingError):
        reader.recv()
    gc.collect()
    with meanwhile(writer.send, bytearray(300 * KIB)):
        assert reader.recv() == bytearray(300 * KIB)


@pytest.mark.deadline(120)
def test_several_threads_at_once(ctx: Any) -> None:
    failed: list[Any] = []

    def pass_on(number: int) -> None:
        reader, writer = ctx.Pipe(duplex=number % 2 == 0)
        with reader, writer:
            for n in range(20):
                sent = bytearray([number * 20 + n]) * ((64 + 100 * number) * KIB + n)
                with meanwhile(writer.send, sent):
                    if reader.recv() != sent:
                        failed.append((number, n))

    threads = [threading.Thread(target=pass_on, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert failed == []
