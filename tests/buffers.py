"""`python buffers.py MODULE`: buffers of every kind sent by `send_bytes`, received into by `recv_bytes_into`, and set
as slices of shared arrays; what comes of it, as JSON. `conformance/test_buffers.py` compares two modules."""

from __future__ import annotations

import array
import ctypes
import importlib
import json
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double)]


def buffers(module: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Eight items at least, so that a message of 8 bytes finds room in most."""
    yield "bytes", lambda: b"12345678"
    yield "bytearray", lambda: bytearray(b"12345678")
    yield "empty", lambda: b""
    yield "view", lambda: memoryview(bytearray(range(16)))
    yield "slice of a view", lambda: memoryview(bytearray(range(16)))[3:12]
    yield "every other byte", lambda: memoryview(bytearray(range(16)))[::2]
    yield "backwards", lambda: memoryview(bytearray(range(16)))[::-1]
    for form in "bBcihqHIQdf?":
        yield f"view cast to {form}", lambda form=form: memoryview(bytearray(range(16))).cast(form)
    yield "every other number", lambda: memoryview(bytearray(range(32))).cast("i")[::2]
    yield "table of numbers", lambda: memoryview(bytearray(range(32))).cast("i", [2, 4])
    yield "no number", lambda: memoryview(bytearray()).cast("i")
    for code in "bBhHiIlLqQfd":
        yield f"array of {code}", lambda code=code: array.array(code, range(8))
    yield "array of u", lambda: array.array("u", "12345678")
    yield "empty array", lambda: array.array("i")
    for kind in (
        ctypes.c_ubyte,
        ctypes.c_byte,
        ctypes.c_int,
        ctypes.c_double,
        ctypes.c_char,
        ctypes.c_bool,
        Pair,
    ):
        yield f"ctypes array of {kind.__name__}", lambda kind=kind: (kind * 8)()
        yield f"ctypes {kind.__name__}", lambda kind=kind: kind()
    yield "ctypes array of nothing", lambda: (ctypes.c_int * 0)()
    yield "big-endian ctypes array", lambda: (ctypes.c_int.__ctype_be__ * 4)(1, 2, 3, 4)
    yield "ctypes table", lambda: ((ctypes.c_int * 2) * 3)()
    yield "string buffer", lambda: ctypes.create_string_buffer(b"abcdefghi")
    yield "RawArray", lambda: module.RawArray("d", 4)
    yield "RawArray of bytes", lambda: module.RawArray("B", 9)
    yield "RawValue", lambda: module.RawValue("d", 4)
    yield "Array", lambda: module.Array("i", 4).get_obj()
    yield "mmap", lambda: mmap.mmap(-1, 16)
    for form in ("u1", "i4", ">i4", "f8", ">f8", "?", "c16", "S3", "M8[s]", "i4,f8"):
        yield f"numpy {form}", lambda form=form: numpy.zeros(8, form)
        yield f"numpy {form}, 0-d", lambda form=form: numpy.zeros((), form)
        yield f"numpy {form}, every other", lambda form=form: numpy.zeros(8, form)[::2]
        yield f"numpy {form}, none", lambda form=form: numpy.zeros(0, form)
    yield "numpy 2-d", lambda: numpy.arange(6, dtype="i4").reshape(2, 3)
    yield (
        "numpy 2-d in Fortran's order",
        lambda: numpy.asfortranarray(numpy.arange(6, dtype="i4").reshape(2, 3)),
    )
    yield "numpy 2-d, none", lambda: numpy.zeros((0, 3), "i4")
    yield "numpy read-only", lambda: numpy.frombuffer(bytes(16), "u1")
    yield "numpy scalar", lambda: numpy.float64(2)
    yield "numpy date", lambda: numpy.datetime64("2020")
    yield "objects", lambda: numpy.array([1, 2], object)
    yield "text", lambda: "12345678"
    yield "number", lambda: 5
    yield "list", lambda: [1, 2]


def outcome(call: Callable[[], Any]) -> str:
    try:
        return repr(call())
    except Exception as error:
        return type(error).__name__


def sent(module: Any, data: Any, *part: int) -> bytes:
    reader, writer = module.Pipe(False)
    with reader, writer:
        writer.send_bytes(data, *part)
        return reader.recv_bytes() if reader.poll(20) else b"nothing came"


def received(module: Any, into: Any, message: bytes, *offset: int) -> tuple[int, bytes]:
    reader, writer = module.Pipe(False)
    with reader, writer:
        writer.send_bytes(message)
        count = reader.recv_bytes_into(into, *offset)
        return count, memoryview(into).tobytes()


def assigned(module: Any, code: str, source: Any, part: slice) -> list[Any]:
    target = module.Array(code, 8)
    target[part] = source
    return [repr(item) for item in target[:]]


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    results = {}
    for name, make in buffers(module):
        for part in (
            ()
            if name == "objects"
            else ((), (0,), (4,), (1, 2), (0, 8), (0, 9), (3, 0), (-1,), (100,), (0, -1))
        ):
            results[f"send {name} {part}"] = outcome(lambda make=make, part=part: sent(module, make(), *part))
        # Bytes from a pipe are no references to objects.
        for message in () if name == "objects" else (b"", b"12345678"):
            for offset in ((), (0,), (8,), (-1,), (1000,)):
                results[f"receive {message!r} into {name} {offset}"] = outcome(
                    lambda make=make, message=message, offset=offset: received(
                        module, make(), message, *offset
                    )
                )
        for code in "bBhHiIlLqQfdc":
            for part in (slice(None), slice(0, 4), slice(None, None, -1), slice(0, 8, 2)):
                results[f"Array({code!r})[{part.start}:{part.stop}:{part.step}] = {name}"] = outcome(
                    lambda make=make, code=code, part=part: assigned(module, code, make(), part)
                )
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
