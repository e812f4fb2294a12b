"""`SharedArray`: what it is without numpy, with it, and in other processes."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from typing import Any

import manyhands
import pickled
import pytest
import sharing

LONG = 30.0

# The family is founded once, and its memory stays.
manyhands.SharedArray(1)


def start(ctx: Any, target: Any, *args: Any) -> Any:
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def finish(*started: Any) -> None:
    for process in started:
        process.join(LONG)
        assert process.exitcode == 0


class TestWithoutNumpy:
    def test_is_a_buffer_of_zeroes(self) -> None:
        array = manyhands.SharedArray((3, 4), "i")
        view = memoryview(array)
        assert (view.format, view.itemsize, view.ndim) == ("i", 4, 2)
        assert (view.shape, view.strides) == ((3, 4), (16, 4))
        assert view.c_contiguous
        assert not view.readonly
        assert view.tolist() == [[0] * 4] * 3
        view[2, 3] = 7
        assert memoryview(array)[2, 3] == 7
        assert bytes(array) == bytes(44) + b"\7\0\0\0"

    def test_says_what_it_is(self) -> None:
        array = manyhands.SharedArray((3, 4), "i")
        assert (array.shape, array.dtype, array.nbytes, len(array)) == ((3, 4), "int32", 48, 3)
        assert repr(array) == "SharedArray((3, 4), 'int32')"
        assert repr(manyhands.SharedArray(5)) == "SharedArray((5,), 'float64')"

    @pytest.mark.parametrize(
        ("dtype", "name", "format"),
        [
            ("float64", "float64", "d"),
            ("d", "float64", "d"),
            ("<f8", "float64", "d"),
            ("f4", "float32", "f"),
            (float, "float64", "d"),
            (int, "int64", "l"),
            (bool, "bool", "?"),
            ("uint8", "uint8", "B"),
            ("q", "int64", "l"),
            ("e", "float16", "e"),
        ],
    )
    def test_names_of_types(self, dtype: Any, name: str, format: str) -> None:
        array = manyhands.SharedArray(2, dtype)
        assert (array.dtype, memoryview(array).format) == (name, format)

    @pytest.mark.parametrize(
        "dtype", ["x", "O", ">f8", "M8[s]", "S4", None, pytest.param(object(), id="object")], ids=repr
    )
    def test_other_types_are_refused(self, dtype: Any) -> None:
        # numpy takes None for a float.
        if dtype is None and "numpy" in sys.modules:
            return
        with pytest.raises(TypeError):
            manyhands.SharedArray(2, dtype)

    def test_shapes(self) -> None:
        assert manyhands.SharedArray(()).nbytes == 8
        assert manyhands.SharedArray((0, 5)).nbytes == 0
        assert memoryview(manyhands.SharedArray((2, 1, 3), "b")).strides == (3, 3, 1)
        for bad in (-1, (2, -1), (1 << 40, 1 << 40)):
            with pytest.raises(ValueError, match=r"negative dimensions|larger than any memory"):
                manyhands.SharedArray(bad)
        for wrong in (1.5, "ab", (1.5,), None):
            with pytest.raises(TypeError):
                manyhands.SharedArray(wrong)  # type: ignore[arg-type]

    def test_no_order_but_its_own(self) -> None:
        ctypes = pytest.importorskip("ctypes")
        flags = {"PyBUF_F_CONTIGUOUS": 0x58, "PyBUF_SIMPLE": 0}
        buffer = ctypes.create_string_buffer(200)
        get = ctypes.pythonapi.PyObject_GetBuffer
        get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
        with pytest.raises(BufferError, match="C order"):
            get(manyhands.SharedArray((2, 2)), buffer, flags["PyBUF_F_CONTIGUOUS"])
        assert get(manyhands.SharedArray((2, 2)), buffer, flags["PyBUF_SIMPLE"]) == 0
        ctypes.pythonapi.PyBuffer_Release(buffer)

    def test_numpy_is_not_imported(self) -> None:
        program = (
            "import sys, manyhands; a = manyhands.SharedArray((2, 2), 'd'); memoryview(a)[1, 1] = 2.5;"
            "assert a.__array_interface__['typestr'] == '<f8'; assert 'numpy' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

    def test_more_than_there_is(self) -> None:
        with pytest.raises(MemoryError, match="no shared memory for 8796093022208 bytes"):
            manyhands.SharedArray(1 << 40)


class TestWithNumpy:
    def test_is_the_same_memory(self) -> None:
        numpy = pytest.importorskip("numpy")
        array = manyhands.SharedArray((100, 3), numpy.float32)
        one, other = numpy.asarray(array), numpy.asarray(array)
        one[:, 1] = numpy.arange(100)
        assert other[99, 1] == 99
        assert (one.dtype, one.shape, one.flags.writeable, one.flags.owndata) == (
            "float32",
            (100, 3),
            True,
            False,
        )
        assert one.__array_interface__["data"] == array.__array_interface__["data"]

    def test_a_view_keeps_the_memory(self) -> None:
        numpy = pytest.importorskip("numpy")
        view = numpy.asarray(manyhands.SharedArray(1_000, "i8"))
        view[:] = 7
        part = view[::10].reshape(10, 10)
        del view
        gc.collect()
        others = [numpy.asarray(manyhands.SharedArray(1_000, "i8")) for _ in range(20)]
        for other in others:
            other[:] = 9
        assert (part == 7).all()

    @pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float16", "complex64", "complex128"])
    def test_types(self, name: str) -> None:
        numpy = pytest.importorskip("numpy")
        array = manyhands.SharedArray(3, numpy.dtype(name))
        assert array.dtype == name
        assert numpy.asarray(array).dtype == numpy.dtype(name)
        assert numpy.dtype(array.__array_interface__["typestr"]) == numpy.dtype(name)


class TestInOtherProcesses:
    def test_children_write_into_it(self, ctx: Any) -> None:
        array = manyhands.SharedArray((4, 5), "d")
        children = [start(ctx, sharing.add_to_rows, (array, row, row + 1)) for row in range(4)]
        finish(*children)
        assert memoryview(array).tolist() == [[float(row)] * 5 for row in range(4)]

    def test_a_pool_works_on_it(self, ctx: Any) -> None:
        array = manyhands.SharedArray((6, 5), "d")
        with ctx.Pool(2) as pool:
            assert pool.map(sharing.add_to_rows, [(array, row, row + 2) for row in (0, 2, 4)]) == [2, 2, 2]
            pool.close()
            pool.join()
        assert memoryview(array).tolist() == [[float(row)] * 5 for row in range(6)]

    def test_through_a_queue(self, ctx: Any) -> None:
        queue, array = ctx.SimpleQueue(), manyhands.SharedArray(3, "i")
        queue.put(array)
        same = queue.get()
        memoryview(same)[2] = 5
        assert memoryview(array).tolist() == [0, 0, 5]
        assert (same.shape, same.dtype) == (array.shape, array.dtype)
        queue.put(manyhands.SharedArray(3, "i"))
        assert memoryview(queue.get()).tolist() == [0, 0, 0]
        queue.close()

    @pytest.mark.methods("spawn")
    def test_a_stale_pickle_says_so(self, ctx: Any) -> None:
        stale = pickled.pickled(manyhands.SharedArray(3))
        gc.collect()
        with pytest.raises(OSError, match="no longer exists"):
            pickle.loads(stale)


@pytest.mark.deadline(240)
class TestLarge:
    """Larger than a size class of the arena, its extents, and what 32 bits count."""

    @pytest.mark.methods("fork", "spawn")
    @pytest.mark.parametrize("mebibytes", [65, 300])
    def test_is_whole(self, ctx: Any, mebibytes: int) -> None:
        size = (mebibytes << 20) // 8
        array = manyhands.SharedArray(size, "d")
        view = memoryview(array)
        assert view[0] == view[size // 2] == view[size - 1] == 0.0
        view[0], view[size // 2], view[size - 1] = 1.0, 2.0, 3.0
        ours, theirs = ctx.Pipe()
        child = start(ctx, sharing.ends_and_middle, array, theirs)
        assert ours.recv() == [1.0, 2.0, 3.0]
        finish(child)
        ours.close()
        theirs.close()

    @pytest.mark.deadline(480)
    @pytest.mark.usefixtures("much_memory")
    def test_beyond_four_gibibytes(self, figure: Any) -> None:
        program = """
import manyhands, time
size = (4 << 30) + 4096
began = time.monotonic()
array = manyhands.SharedArray(size, "u1")
made = time.monotonic() - began
view = memoryview(array)
for at in (0, (2 << 30) - 1, 2 << 30, (4 << 30) - 1, 4 << 30, size - 1):
    assert view[at] == 0
    view[at] = 7
    assert view[at] == 7
print(f"{made:.2f} s for 4 GiB")
"""
        if _free_bytes() < 8 << 30:
            # A machine that has it not says so, and nothing worse.
            with pytest.raises((MemoryError, AssertionError)):
                manyhands.SharedArray(1 << 40, "u1")
            return
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        figure(done.stdout.strip())


def _free_bytes() -> int:
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) << 10


def test_the_limit_is_named() -> None:
    program = """
import manyhands
try:
    manyhands.SharedArray(100 << 20, "u1")
except MemoryError as error:
    print(error)
manyhands.SharedArray(1 << 20, "u1")
try:
    manyhands.Array("d", 200_000_000)
except MemoryError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MANYHANDS_ARENA_MAX": "64M"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert "104857600 bytes" in first
    assert "1600000000 bytes" in second
    for line in (first, second):
        assert "limit is 67108864 bytes (MANYHANDS_ARENA_MAX)" in line
